package stream_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/redistest"
	"github.com/websopy/relay/internal/stream"
)

// startChat starts a stream of a chat of owner's.
func startChat(t *testing.T, h *stream.Hub, owner, chat string, p *provider) *stream.Follower {
	t.Helper()
	f, _, err := h.Start(background(t), stream.Request{Owner: owner, Chat: chat, Produce: p.produce})
	require.NoError(t, err)
	return f
}

// newest is where a chat leads to, and whether its end was read.
func newest(t *testing.T, h *stream.Hub, chat string) (id string, read bool) {
	t.Helper()
	id, read, err := h.Chat(background(t), "me", chat)
	require.NoError(t, err)
	return id, read
}

func chats(t *testing.T, with replicas) {
	a, b := with(t, options())
	first, second := newProvider(), newProvider()
	f := startChat(t, a, "me", "c", first)
	defer f.Close()
	for _, h := range []*stream.Hub{a, b} {
		id, read := newest(t, h, "c")
		require.Equal(t, f.ID(), id)
		require.False(t, read)
		id, _, _ = h.Chat(background(t), "somebody", "c")
		require.Empty(t, id, "another's chat")
		id, _ = newest(t, h, "d")
		require.Empty(t, id)
	}

	await(t, first.running, "the provider")
	other := startChat(t, b, "somebody", "c", newProvider())
	defer other.Close()
	g := startChat(t, b, "me", "c", second)
	defer g.Close()
	await(t, first.gone, "the end of the stream before")
	require.Equal(t, chat.FinishStopped, read(t, attach(t, a, f.ID(), 0)).done.FinishReason)
	for _, h := range []*stream.Hub{a, b} {
		id, _ := newest(t, h, "c")
		require.Equal(t, g.ID(), id)
	}
	second.say <- stop
	require.Equal(t, chat.FinishStop, read(t, attach(t, b, g.ID(), 0)).done.FinishReason, "it was not stopped")
}

func chatsRead(t *testing.T, with replicas) {
	a, b := with(t, options())
	f := startChat(t, a, "me", "read", newProvider())
	defer f.Close()
	b.ReadChat(background(t), "me", "read", "of another stream")
	b.ReadChat(background(t), "somebody", "read", f.ID())
	_, read := newest(t, a, "read")
	require.False(t, read)
	b.ReadChat(background(t), "me", "read", f.ID())
	for _, h := range []*stream.Hub{a, b} {
		id, read := newest(t, h, "read")
		require.Equal(t, f.ID(), id)
		require.True(t, read)
	}
	g := startChat(t, b, "me", "read", newProvider())
	defer g.Close()
	for _, h := range []*stream.Hub{a, b} {
		id, read := newest(t, h, "read")
		require.Equal(t, g.ID(), id)
		require.False(t, read)
	}
}

func TestOfManyWhoAskInOneChatOneGoesOn(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	hubs := []*stream.Hub{open(t, options(), s.URL()), open(t, options(), s.URL())}
	var all sync.WaitGroup
	followers := make([]*stream.Follower, 20)
	for i := range followers {
		all.Go(func() { followers[i] = startChat(t, hubs[i%2], "me", "c", newProvider()) })
	}
	all.Wait()
	last, _ := newest(t, hubs[0], "c")
	for _, f := range followers {
		if f.ID() != last {
			require.Equal(t, chat.FinishStopped, read(t, f).done.FinishReason)
			continue
		}
		defer f.Close()
	}
	eventually(t, "all but one have ended", func() bool { return hubs[0].Stats().Live+hubs[1].Stats().Live == 1 })
}

func TestAChatIsKeptAsLongAsItsStream(t *testing.T) {
	t.Parallel()
	o := options()
	o.Retention = 50 * time.Millisecond
	h := stream.New(o)
	t.Cleanup(func() { closeNow(h) })
	empty := stream.Counted(h)
	p := newProvider()
	f := startChat(t, h, "me", "c", p)
	p.say <- stop
	read(t, f)
	eventually(t, "the chat is forgotten", func() bool { id, _ := newest(t, h, "c"); return id == "" })
	require.Equal(t, empty, stream.Counted(h))
}

func TestAChatIsFoundWhereItBeganWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	way := redistest.Through(t, s.Addr)
	h := open(t, options(), "redis://"+way.Addr)
	before := startChat(t, h, "me", "c", newProvider())
	defer before.Close()
	way.Cut()
	away(t, h, true)
	f := startChat(t, h, "me", "c", newProvider())
	defer f.Close()
	id, _ := newest(t, h, "c")
	require.Equal(t, f.ID(), id)
	_, _, err := h.Chat(background(t), "me", "of another replica")
	requireCode(t, chat.Overloaded, err)
	way.Heal()
	away(t, h, false)
	id, _ = newest(t, h, "c")
	require.Equal(t, f.ID(), id, "Redis knows the stream before only")
}
