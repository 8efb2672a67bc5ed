package stream_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/redistest"
	"github.com/websopy/relay/internal/stream"
)

// Invariant: one truth.
func TestAFencedProducerThatNobodyReadsIsCancelledAndCountedAsSuch(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	way := redistest.Through(t, s.Addr)
	a, b := open(t, options(), "redis://"+way.Addr), open(t, options(), s.URL())
	p, ended := newProvider(), newProvider()
	outcomes := make(chan stream.Outcome, 2)
	begin := func(p *provider, key string) *stream.Follower {
		f, _, err := a.Start(background(t), stream.Request{
			Owner: "me", Key: key, Produce: p.produce, Ended: func(o stream.Outcome) { outcomes <- o },
		})
		require.NoError(t, err)
		p.say <- "half"
		require.Equal(t, "half", readUntilText(t, b, f.ID(), "half"))
		return f
	}
	unread, complete := begin(p, "unread"), begin(ended, "complete")

	way.Cut()
	unread.Close()
	ended.say <- stop
	require.NotNil(t, read(t, complete).done, "its reader here has a whole answer")
	for _, f := range []*stream.Follower{unread, complete} {
		r := read(t, attach(t, b, f.ID(), 0))
		require.Equal(t, "half", r.text)
		requireCode(t, chat.ProducerLost, r.err)
	}
	require.Empty(t, outcomes, "while Redis may say otherwise, nothing is told")

	way.Heal()
	await(t, p.gone, "the end of the provider's context")
	for range 2 {
		o := <-outcomes
		require.True(t, o.Fenced, "what was lost there is not completed here")
	}
	require.EqualValues(t, 2, a.Stats().Fenced)
	for key, f := range map[string]*stream.Follower{"unread": unread, "complete": complete} {
		r := read(t, attach(t, a, f.ID(), 0))
		require.Equal(t, "half", r.text, "new readers get what everybody gets")
		requireCode(t, chat.ProducerLost, r.err)
		again, replayed, err := a.Start(background(t), stream.Request{Owner: "me", Key: key, Produce: words(1)})
		require.NoError(t, err)
		require.True(t, replayed)
		require.Equal(t, f.ID(), again.ID(), "and so do those who come with its key")
		again.Close()
	}
}

// Invariants: one truth; who reads on has a whole answer. When the last reader here leaves, nobody ever comes again.
func TestAFencedProducerIsCancelledWhenItsLastReaderLeaves(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	way := redistest.Through(t, s.Addr)
	a, b := open(t, options(), "redis://"+way.Addr), open(t, options(), s.URL())
	p := newProvider()
	f := start(t, a, p.produce)
	p.say <- "half"
	require.Equal(t, "half", readUntilText(t, b, f.ID(), "half"))
	way.Cut()
	requireCode(t, chat.ProducerLost, read(t, attach(t, b, f.ID(), 0)).err)
	way.Heal()
	eventually(t, "the fence", func() bool { return a.Stats().Fenced == 1 })
	select {
	case <-p.gone:
		require.Fail(t, "cancelled, although somebody reads it")
	default:
	}
	requireCode(t, chat.ProducerLost, read(t, attach(t, a, f.ID(), 0)).err) // what everybody gets who comes now
	f.Close()
	await(t, p.gone, "the end of the provider's context")
}
