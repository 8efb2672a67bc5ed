package stream_test

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/stream"
)

func oneCall(t *testing.T, with replicas) {
	a, b := with(t, options())
	var calls atomic.Int32
	var replays atomic.Int32
	var ids sync.Map
	var all sync.WaitGroup
	for i := range 100 {
		h := []*stream.Hub{a, b}[i%2]
		all.Go(func() {
			f, replayed, err := h.Start(background(t), stream.Request{Owner: "me", Key: t.Name(), Body: [32]byte{1},
				Produce: func(ctx context.Context) iter.Seq2[chat.Chunk, error] {
					calls.Add(1)
					return words(50)(ctx)
				}})
			if err != nil {
				t.Error(err)
				return
			}
			if replayed {
				replays.Add(1)
			}
			ids.Store(f.ID(), true)
			if r := read(t, f); r.text != wordsText(0, 50) || r.done == nil {
				t.Errorf("%+v", r)
			}
		})
	}
	all.Wait()
	require.Equal(t, int32(1), calls.Load())
	require.Equal(t, int32(99), replays.Load())
	n := 0
	ids.Range(func(any, any) bool { n++; return true })
	require.Equal(t, 1, n)

	f, replayed, err := a.Start(background(t), stream.Request{Owner: "you", Key: t.Name(), Body: [32]byte{1},
		Produce: words(1)})
	require.NoError(t, err)
	require.False(t, replayed, "keys are the owner's")
	read(t, f)
}

func otherBody(t *testing.T, with replicas) {
	a, b := with(t, options())
	f, _, err := a.Start(background(t), stream.Request{Owner: "me", Key: t.Name(), Body: [32]byte{1},
		Produce: words(1)})
	require.NoError(t, err)
	read(t, f)
	for _, h := range []*stream.Hub{a, b} {
		_, _, err = h.Start(background(t), stream.Request{Owner: "me", Key: t.Name(), Body: [32]byte{2},
			Produce: words(1)})
		requireCode(t, chat.IdempotencyMismatch, err)
	}
}

func keyAgain(t *testing.T, with replicas) {
	o := options()
	o.Retention = 50 * time.Millisecond
	a, b := with(t, o)
	ask := func(h *stream.Hub) (id string) {
		f, _, err := h.Start(background(t), stream.Request{Owner: "me", Key: t.Name(), Produce: words(1)})
		require.NoError(t, err)
		if r := read(t, f); r.err != nil { // it may go just between being found and being read
			return ""
		}
		return f.ID()
	}
	first := ask(a)
	eventually(t, "a second stream with the key", func() bool { return ask(b) != first })
}

func keyFree(t *testing.T, with replicas) {
	a, b := with(t, options())
	ask := func(h *stream.Hub, says ...any) (r reading, replayed bool) {
		p := newProvider()
		for _, s := range says {
			p.say <- s
		}
		f, replayed, err := h.Start(background(t), stream.Request{Owner: "me", Key: t.Name(), Produce: p.produce})
		require.NoError(t, err)
		return read(t, f), replayed
	}
	_, _ = ask(a, &chat.Error{Code: chat.UpstreamError})
	r, replayed := ask(a, &chat.Error{Code: chat.UpstreamTimeout})
	require.False(t, replayed)
	requireCode(t, chat.UpstreamTimeout, r.err)
	eventually(t, "a second replica's hearing of it", func() bool {
		r, replayed = ask(b, "all", stop)
		return !replayed
	})
	for _, h := range []*stream.Hub{a, b} {
		again, replayed := ask(h, "another", stop)
		require.True(t, replayed)
		require.Equal(t, "all", again.text)
	}
}

func retention(t *testing.T, with replicas) {
	o := options()
	o.Retention = 50 * time.Millisecond
	a, b := with(t, o)
	f := start(t, a, words(3))
	read(t, f)
	for _, h := range []*stream.Hub{a, b} {
		eventually(t, "its being gone", func() bool {
			f, err := h.Attach(background(t), "me", f.ID(), 0)
			if err == nil {
				f.Close()
			}
			return err != nil && chat.AsError(err).Code == chat.StreamNotFound
		})
	}
	eventually(t, "memory given back", func() bool { return a.Stats().Bytes == 0 })
}

func tooLong(t *testing.T, with replicas) {
	o := options()
	o.MaxStreamBytes = 100
	a, b := with(t, o)
	f := start(t, a, words(50))
	r := read(t, f)
	requireCode(t, chat.StreamTooLong, r.err)
	require.Equal(t, wordsText(0, 18), r.text, "10 words of 5 bytes with their heads and 8 of 6")
	require.Equal(t, r, read(t, attach(t, b, f.ID(), 0)))
}

func tooSlow(t *testing.T, with replicas) {
	o := options()
	o.MaxDuration = 30 * time.Millisecond
	a, _ := with(t, o)
	p := newProvider()
	r := read(t, start(t, a, p.produce))
	requireCode(t, chat.StreamTooLong, r.err)
	eventually(t, "the provider's return", func() bool { return a.Stats().Live == 0 })
}

func closing(t *testing.T, with replicas) {
	a, _ := with(t, options())
	quick, stuck := newProvider(), newProvider()
	f, g := start(t, a, quick.produce), start(t, a, stuck.produce)
	ctx, cancel := context.WithCancel(context.Background())
	closed := aside(func() bool { a.Close(ctx); return true })
	eventually(t, "new streams being refused", func() bool {
		f, _, err := a.Start(background(t), stream.Request{Produce: words(1)})
		if err == nil {
			f.Close()
			return false
		}
		return chat.AsError(err).Code == chat.Draining
	})
	quick.say <- "in time"
	quick.say <- stop
	r := read(t, f)
	require.NotNil(t, r.done)
	stuck.say <- "half"
	cancel()
	r = read(t, g)
	requireCode(t, chat.ServerShutdown, r.err)
	require.True(t, <-closed)
	require.Zero(t, a.Stats().Live)
	require.Zero(t, a.Stats().Bytes, fmt.Sprint(a.Stats()))
}
