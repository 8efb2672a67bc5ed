package stream_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/redistest"
	"github.com/websopy/relay/internal/stream"
)

// Invariants: what is alive comes back; one key, one question.
func TestStreamsThatBeginWithoutRedisAreKeptWithTheirKeysAndPublished(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	a, b := open(t, options(), s.URL()), open(t, options(), s.URL())
	away(t, a, false)
	away(t, b, false)
	s.Kill()
	away(t, a, true)
	away(t, b, true)
	asked := map[*stream.Hub]*provider{a: newProvider(), b: newProvider()}
	ids := map[*stream.Hub]string{}
	asks := func(h *stream.Hub) stream.Request {
		return stream.Request{Owner: "me", Key: "k", Produce: asked[h].produce}
	}
	var reads sync.WaitGroup
	for h, p := range asked {
		for i := range 50 {
			f, replayed, err := h.Start(background(t), asks(h))
			require.NoError(t, err)
			require.Equal(t, i > 0, replayed)
			if i == 0 {
				ids[h] = f.ID()
				reads.Go(func() { require.Equal(t, "whole", read(t, f).text) })
				continue
			}
			require.Equal(t, ids[h], f.ID())
			f.Close()
		}
		require.True(t, strings.HasPrefix(ids[h], "m"), ids[h])
		p.say <- "whole"
		await(t, p.running, "a question")
		require.Equal(t, int32(1), p.asked.Load(), "a retry asks nobody")
	}
	other := map[*stream.Hub]*stream.Hub{a: b, b: a}
	for h, id := range ids { // which the other replica can't know, nor ask for
		f := attach(t, other[h], id, 0)
		require.Equal(t, 1, other[h].Stats().Held)
		reads.Go(func() { require.Equal(t, "whole", read(t, f).text) })
	}

	s.Restart(t)
	eventually(t, "both streams in Redis", func() bool {
		for _, id := range ids {
			if s.Do("EXISTS", "relay:{"+id+"}") != "1" {
				return false
			}
		}
		return true
	})
	lost := func() uint64 { return a.Stats().KeysLost + b.Stats().KeysLost }
	eventually(t, "one of them without its key", func() bool { return lost() == 1 })
	for h := range ids {
		require.NotZero(t, h.Stats().Published)
	}
	winner := strings.Fields(s.Do("GET", keyOf("me", "k")))[0]
	require.Contains(t, []string{ids[a], ids[b]}, winner)
	for h := range ids {
		f, replayed, err := h.Start(background(t), asks(h))
		require.NoError(t, err)
		require.True(t, replayed)
		require.Equal(t, winner, f.ID(), "from now on everybody is led to the same answer")
		f.Close()
	}
	for _, p := range asked {
		p.say <- stop
	}
	reads.Wait()
	require.Zero(t, a.Stats().Held+b.Stats().Held)
	require.EqualValues(t, 1, lost())
}

// Invariant: not found is not gone.
func TestAReaderOfAStreamThatMayComeIsHeldForTheGraceTimeAndNoLonger(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	o := options()
	o.Grace = time.Second
	h := open(t, o, s.URL())
	away(t, h, false)
	began := time.Now()
	r := read(t, attach(t, h, "m"+strings.Repeat("0", 32), 7))
	require.ErrorIs(t, r.err, stream.ErrHeld)
	require.GreaterOrEqual(t, time.Since(began), o.Grace)
	require.Zero(t, h.Stats().Held)
}

// Invariant: not found is not gone. How many readers wait is bounded, though.
func TestOnlySoManyReadersAreHeld(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	h := open(t, options(), s.URL())
	away(t, h, false)
	id := "m" + strings.Repeat("0", 32)
	var all []*stream.Follower
	for range 1000 {
		all = append(all, attach(t, h, id, 0))
	}
	_, err := h.Attach(background(t), "me", id, 0)
	requireCode(t, chat.Overloaded, err)
	require.NotZero(t, chat.AsError(err).RetryAfter, "it is told to come again, and not that the stream is gone")
	require.Equal(t, 1000, h.Stats().Held)
	for _, f := range all {
		f.Close()
	}
	require.Zero(t, h.Stats().Held)
	attach(t, h, id, 0).Close()
}

// Without room in memory either, an answer is still to be had, without resumability.
func TestWithoutRedisAndWithoutRoomInMemoryAStreamIsNotResumable(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	o := options()
	o.MaxBytes = 200 << 10 // three live streams
	h := open(t, o, s.URL())
	away(t, h, false)
	s.Kill()
	away(t, h, true)
	for range 4 {
		f, _, err := h.Start(background(t), stream.Request{Owner: "me", Produce: newProvider().produce})
		if err != nil {
			require.ErrorIs(t, err, stream.ErrUnavailable)
			return
		}
		defer f.Close()
	}
	require.Fail(t, "there is room for everything")
}

// How a stream ended is told when Redis has its end. One that gives way before that will never be there.
func TestAStreamThatGivesWayBeforeRedisHasItsEndIsStillTold(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	way := redistest.Through(t, s.Addr)
	o := options()
	o.MaxBytes = 200 << 10 // three live streams
	h := open(t, o, "redis://"+way.Addr)
	away(t, h, false)
	p := newProvider()
	told := make(chan struct{})
	f, _, err := h.Start(background(t), stream.Request{
		Owner: "me", Produce: p.produce, Ended: func(stream.Outcome) { close(told) },
	})
	require.NoError(t, err)
	way.Cut()
	p.say <- strings.Repeat("x", 50<<10)
	p.say <- stop
	require.NotNil(t, read(t, f).done)
	select {
	case <-told:
		require.Fail(t, "told, although Redis may say something else")
	default:
	}
	for range 3 {
		f, _, err := h.Start(background(t), stream.Request{Owner: "me", Produce: newProvider().produce})
		if err == nil {
			defer f.Close()
		}
	}
	require.NotZero(t, h.Stats().Evicted)
	await(t, told, "its outcome")
}
