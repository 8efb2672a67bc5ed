package stream

import (
	"context"
	"iter"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
)

// A reader comes at the moment at which the grace time is over. Both wait for the lock here, the timer first, and
// for so long that a sync.Mutex hands itself over in that order: a timer that decides, unlocks and then acts
// is overtaken. In no other way does this happen often enough for a test.
func TestAStreamThatHasAFollowerIsNotGivenUp(t *testing.T) {
	h := New(Options{Retention: time.Minute})
	const starving = 3 * time.Millisecond // the mutex's own limit is one
	for range 10 {
		g := &generation{hub: h, id: newID(), started: time.Now(), live: true}
		var both sync.WaitGroup
		attended := false
		g.mu.Lock()
		both.Go(g.abandon)
		time.Sleep(starving)
		both.Go(func() {
			g.attach(0)
			_, ended := g.log.end()
			attended = !ended
		})
		time.Sleep(starving)
		g.mu.Unlock()
		g.mu.Lock()
		time.Sleep(starving)
		g.mu.Unlock()
		both.Wait()
		if _, ended := g.log.end(); ended {
			g.retention.Stop()
			require.False(t, attended, "somebody follows it, and it was given up all the same")
		}
	}
}

func TestAPanicInEndedIsToldAndEndsNothingElse(t *testing.T) {
	told := make(chan error, 1)
	h := New(Options{Grace: time.Minute, Retention: time.Minute, Panicked: func(err error) { told <- err }})
	f, _, err := h.Start(context.Background(), Request{
		Produce: func(context.Context) iter.Seq2[chat.Chunk, error] {
			return func(yield func(chat.Chunk, error) bool) {
				yield(chat.Chunk{Type: chat.Done, Done: &chat.Completion{}}, nil)
			}
		},
		Ended: func(Outcome) { panic("a bug") },
	})
	require.NoError(t, err)
	require.ErrorContains(t, <-told, "a bug")
	for _, err := range f.Chunks(context.Background()) {
		require.NoError(t, err)
	}
	f.Close()
	h.Close(context.Background())
	require.Zero(t, h.Stats().Live)
}

// With many streams each cache line of one that a chunk needs is fetched anew.
func TestWhatAChunkNeedsOfAStreamLiesTogether(t *testing.T) {
	var g generation
	const line, header = 64, 8 // bytes of a cache line, and of what the allocator puts before
	require.LessOrEqual(t, header+unsafe.Offsetof(g.bytes)+unsafe.Sizeof(g.bytes), uintptr(3*line))
}
