package upstream

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/limit"
	"github.com/websopy/relay/internal/upstream/trace"
)

// Limit keeps the number of open requests to an upstream below what it, or a contract, allows. Those beyond it
// wait in line for a short while: a place may become free, and a provider's refusal is worse than a second's
// silence. Places and line are shared fairly by those who ask (see limit.Places and Trace.Caller).
type Limit struct {
	next   chat.Streamer
	places *limit.Places
}

// NewLimit returns a chat.Streamer that has at most open requests to next at a time. So many as line says may wait,
// each up to timeout; without either none does. What does not get a place ends with chat.Overloaded.
func NewLimit(next chat.Streamer, open, line int, timeout time.Duration) *Limit {
	return &Limit{next, limit.NewPlaces(limit.PlacesOptions{Places: open, Line: line, Wait: timeout})}
}

// Stream implements chat.Streamer.
func (l *Limit) Stream(ctx context.Context, req *chat.Request) iter.Seq2[chat.Chunk, error] {
	return func(yield func(chat.Chunk, error) bool) {
		place, err := l.places.Take(ctx, trace.Caller(ctx))
		if full, ok := errors.AsType[*limit.Full](err); ok {
			err = &chat.Error{Code: chat.Overloaded,
				Message: "too many answers are being generated (UPSTREAM_MAX_STREAMS)", RetryAfter: full.After}
		}
		if err != nil {
			yield(chat.Chunk{}, err)
			return
		}
		defer place.Give()
		l.next.Stream(ctx, req)(yield)
	}
}
