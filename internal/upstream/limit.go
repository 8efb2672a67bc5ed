package upstream

import (
	"context"
	"iter"
	"sync/atomic"
	"time"

	"github.com/websopy/relay/internal/chat"
)

// Limit keeps the number of open requests to an upstream below what it, or a contract, allows. Those
// beyond it wait in the order in which they came, for a short while: a place may become free, and a
// provider's refusal is worse than a second's silence.
type Limit struct {
	next    Streamer
	timeout time.Duration
	places  chan struct{} // a value for each open request
	waiting atomic.Int64
}

// NewLimit returns a Streamer that has at most open requests to next at a time. As many again may wait,
// each up to timeout; zero means that none does. What does not get a place ends with chat.Overloaded.
func NewLimit(next Streamer, open int, timeout time.Duration) *Limit {
	return &Limit{next: next, timeout: timeout, places: make(chan struct{}, open)}
}

// Stream implements Streamer.
func (l *Limit) Stream(ctx context.Context, req *chat.Request) iter.Seq2[chat.Chunk, error] {
	return func(yield func(chat.Chunk, error) bool) {
		if err := l.enter(ctx); err != nil {
			yield(chat.Chunk{}, err)
			return
		}
		defer func() { <-l.places }()
		l.next.Stream(ctx, req)(yield)
	}
}

// enter takes a place.
func (l *Limit) enter(ctx context.Context) error {
	select {
	case l.places <- struct{}{}:
		return nil
	default:
	}
	full := &chat.Error{Code: chat.Overloaded, Message: "too many answers are being generated", RetryAfter: time.Second}
	if l.timeout <= 0 {
		return full
	}
	defer l.waiting.Add(-1)
	if l.waiting.Add(1) > int64(cap(l.places)) {
		return full
	}
	timer := time.NewTimer(l.timeout)
	defer timer.Stop()
	select {
	case l.places <- struct{}{}:
		return nil
	case <-timer.C:
		return full
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
