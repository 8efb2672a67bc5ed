package handler_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
)

// sink is a response that costs nothing and can do what a server's can.
type sink struct {
	header http.Header
	writes int
}

func (s *sink) Header() http.Header              { return s.header }
func (s *sink) WriteHeader(int)                  {}
func (s *sink) Write(p []byte) (int, error)      { s.writes++; return len(p), nil }
func (s *sink) FlushError() error                { return nil }
func (s *sink) SetWriteDeadline(time.Time) error { return nil }

func TestWritingAChunkDoesNotAllocate(t *testing.T) {
	for _, typ := range []chat.Type{chat.Content, chat.Reasoning} {
		run := func(chunks int) float64 {
			text := chat.Chunk{Type: typ, Text: []byte("an ordinary \"token\"\n")}
			end := done(chat.FinishStop)
			r := newRelay(handler.Options{Heartbeat: time.Hour, MaxStreamBytes: 1 << 30,
				Router: answering{
					provider(func(_ context.Context, _ *chat.Request, yield func(chat.Chunk, error) bool) {
						for range chunks {
							yield(text, nil)
						}
						yield(end, nil)
					})}})
			return testing.AllocsPerRun(20, func() {
				w := &sink{header: make(http.Header)}
				r.ServeHTTP(w, newPost(question))
				if w.writes != chunks+1 {
					t.Fatal(w.writes)
				}
			})
		}
		require.InDelta(t, run(10), run(1000), 4, "990 more chunks cost no more allocations")
	}
}
