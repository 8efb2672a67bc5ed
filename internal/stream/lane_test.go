package stream

import (
	"context"
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/redisconn"
	"github.com/websopy/relay/internal/redistest"
)

// While Redis is away, what ends waits for it, for as long as a reader may hope to find it, and not longer: an outage may
// last, and what waits takes memory.
func TestWhatRedisWillNeverHaveIsNotHeldForIt(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	l := DefaultLeases
	l.Renew, l.Probe = 50*time.Millisecond, 50*time.Millisecond
	h, err := Open(Options{Grace: 500 * time.Millisecond, Retention: 500 * time.Millisecond, Leases: l},
		redisconn.Options{URL: s.URL()})
	require.NoError(t, err)
	defer h.Close(context.Background())
	waiting := func() (n int) {
		h.store.mu.Lock()
		defer h.store.mu.Unlock()
		for _, l := range h.store.lanes {
			n += len(l.ready) + len(l.beats)
		}
		return n
	}
	s.Kill()
	for range 20 {
		f, _, err := h.Start(context.Background(), Request{
			Produce: func(context.Context) iter.Seq2[chat.Chunk, error] {
				return func(yield func(chat.Chunk, error) bool) {
					yield(chat.Chunk{Type: chat.Done, Done: &chat.Completion{FinishReason: chat.FinishStop}}, nil)
				}
			},
		})
		require.NoError(t, err)
		f.Close()
	}
	require.Eventually(t, func() bool { return waiting() == 20 }, 10*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return waiting() == 0 }, 10*time.Second, 10*time.Millisecond)
}
