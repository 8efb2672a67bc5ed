package upstream

import (
	"context"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/websopy/relay/internal/chat"
)

// Back-off between attempts: full jitter below a limit that doubles, as AWS's "Exponential Backoff And
// Jitter" found best for many clients that were refused together.
const (
	firstBackoff = 250 * time.Millisecond
	maxBackoff   = 4 * time.Second
)

var errBudget = &chat.Error{Code: chat.UpstreamTimeout, Phase: chat.PhaseTotal, Message: "no provider began to answer in time"}

// Retry asks Next again when it fails before its first chunk. After the first chunk it never does: what
// the client has seen can't be taken back.
type Retry struct {
	Next    Streamer
	Retries int           // further attempts
	Budget  time.Duration // for all attempts and waits together, up to the first chunk
}

// Stream implements Streamer.
func (r *Retry) Stream(parent context.Context, req *chat.Request) iter.Seq2[chat.Chunk, error] {
	return func(yield func(chat.Chunk, error) bool) {
		ctx, cancel := context.WithCancelCause(parent)
		defer cancel(nil)
		giveUp := time.Now().Add(r.Budget)
		budget := time.AfterFunc(r.Budget, func() { cancel(errBudget) })
		defer budget.Stop()
		for attempt := 0; ; attempt++ {
			var failed error
			committed := false
			for c, err := range r.Next.Stream(ctx, req) {
				if err != nil && !committed {
					failed = err
					break
				}
				if !committed {
					committed = true
					budget.Stop()
				}
				if !yield(c, err) {
					return
				}
			}
			if failed == nil {
				return
			}
			wait := backoff(attempt, chat.AsError(failed).RetryAfter)
			if attempt == r.Retries || !chat.AsError(failed).Code.Retryable() || ctx.Err() != nil || time.Until(giveUp) < wait {
				yield(chat.Chunk{}, failed)
				return
			}
			if !sleep(ctx, wait) {
				yield(chat.Chunk{}, context.Cause(ctx))
				return
			}
		}
	}
}

// backoff is how long to wait after a failed attempt. What the provider asks for is a minimum.
func backoff(attempt int, retryAfter time.Duration) time.Duration {
	limit := min(firstBackoff<<min(attempt, 10), maxBackoff)
	return retryAfter + rand.N(limit)
}

// sleep reports whether the whole time passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
