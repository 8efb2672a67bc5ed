package stream_test

import (
	"context"
	"iter"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/redisconn"
	"github.com/websopy/relay/internal/redistest"
	"github.com/websopy/relay/internal/stream"
)

// lockstep says a word each time the follower has had the one before: a hand-off per chunk, as when
// a provider is slower than the network.
func lockstep(t testing.TB, h *stream.Hub) (next func(), stop func()) {
	turn := make(chan struct{})
	text := []byte("@@1763800000000000000@@ token ")
	f, _, err := h.Start(context.Background(),
		stream.Request{Produce: func(ctx context.Context) iter.Seq2[chat.Chunk, error] {
			return func(yield func(chat.Chunk, error) bool) {
				for range turn {
					if !yield(chat.Chunk{Type: chat.Content, Text: text}, nil) {
						return
					}
				}
			}
		}})
	require.NoError(t, err)
	chunk, done := iter.Pull2(f.Chunks(context.Background()))
	return func() {
			turn <- struct{}{}
			if _, err, ok := chunk(); err != nil || !ok {
				t.Error(err, ok)
			}
		}, func() {
			done()
			f.Close()
			close(turn)
		}
}

func TestAChunkThroughTheMemoryLogAllocatesNothing(t *testing.T) {
	h := stream.New(options())
	defer closeNow(h)
	next, stop := lockstep(t, h)
	defer stop()
	const chunks = 10_000
	perRun := testing.AllocsPerRun(1, func() {
		for range chunks {
			next()
		}
	})
	require.Less(t, perRun/chunks, 0.01, "a block for a thousand chunks is all")
}

func BenchmarkChunkThroughMemory(b *testing.B) {
	h := stream.New(options())
	defer closeNow(h)
	benchmark(b, h)
}

func BenchmarkChunkThroughMemoryWithRedis(b *testing.B) {
	h, err := stream.Open(options(), redisconn.Options{URL: redistest.Start(b).URL()})
	require.NoError(b, err)
	defer closeNow(h)
	benchmark(b, h)
}

func benchmark(b *testing.B, h *stream.Hub) {
	next, stop := lockstep(b, h)
	defer stop()
	b.ReportAllocs()
	for b.Loop() {
		next()
	}
}
