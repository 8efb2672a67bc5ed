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

// While Redis is away, what ends waits for it, for as long as a reader may hope to find it, and not longer: an outage
// may last, and what waits takes memory.
func TestWhatRedisWillNeverHaveIsNotHeldForIt(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	l := DefaultLeases
	l.Renew, l.Probe = 50*time.Millisecond, 50*time.Millisecond
	h, err := Open(Options{Grace: 2 * time.Second, Retention: 2 * time.Second, Leases: l},
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
	require.Eventually(t, func() bool { return waiting() == 20 }, time.Minute, time.Millisecond)
	require.Eventually(t, func() bool { return waiting() == 0 }, time.Minute, 10*time.Millisecond)
}

// Invariant: a slow node gets no more than it can take.
func TestRoundsFindTheSizeThatTheirNodeTakesInTime(t *testing.T) {
	t.Parallel()
	s := new(store)
	const perSecond = 100 << 10
	l := &lane{limit: mostBytes}
	late := 0
	for backlog := 3 << 20; backlog > 0; {
		require.Less(t, late, 100, "it never drains")
		size := min(l.limit, backlog)
		took := time.Duration(size) * time.Second / perSecond
		if took > redisconn.CallTimeout {
			late++
			s.adapt(l, size, redisconn.CallTimeout, context.DeadlineExceeded)
			continue
		}
		s.adapt(l, size, took, nil)
		backlog -= size
	}
	require.Equal(t, 4, late, "1024, 512, 256 and 128 KiB take longer than a second, and none is tried again")
	for range 20 {
		s.adapt(l, l.limit, redisconn.CallTimeout, context.DeadlineExceeded)
	}
	require.Equal(t, leastBytes, l.limit)
	s.adapt(l, 1000, redisconn.CallTimeout, context.DeadlineExceeded)
	require.Equal(t, leastBytes, l.limit)
	for range 20 {
		s.adapt(l, l.limit, time.Millisecond, nil)
	}
	require.Equal(t, mostBytes, l.limit, "when the node is quick again, so are the rounds")
	s.adapt(l, 100<<10, redisconn.CallTimeout, context.DeadlineExceeded)
	require.Equal(t, 50<<10, l.limit, "of a small round that was too much, half is less than half of what is allowed")
}
