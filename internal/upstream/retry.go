package upstream

import (
	"context"
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

// maxPatience is how long a provider may ask the relay to wait while there is another one to ask.
const maxPatience = 2 * time.Second

// worth says what can be done about a failure before the first chunk: ask the same provider again, ask
// another one. What is the request's own fault is worth neither: it would fail everywhere. A key that is
// refused, an answer that can't be read and a full queue will be the same in a moment, but are one
// provider's matter.
func worth(e *chat.Error) (again, another bool) {
	switch e.Code {
	case chat.UpstreamUnreachable, chat.UpstreamTimeout, chat.UpstreamRateLimited, chat.UpstreamError, chat.UpstreamTruncated:
		return true, true
	case chat.UpstreamAuth, chat.UpstreamMalformed, chat.Overloaded:
		return false, true
	}
	return false, worthAnother(e)
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
