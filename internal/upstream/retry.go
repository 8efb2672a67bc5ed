package upstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/report"
)

// Back-off between attempts: full jitter below a limit that doubles, as AWS's "Exponential Backoff And
// Jitter" found best for many clients that were refused together.
const (
	firstBackoff = 250 * time.Millisecond
	maxBackoff   = 4 * time.Second
)

// maxPatience is how long a provider may ask the relay to wait while there is another one to ask, maxLonePatience how
// long when there is none: beyond that nobody waits, and the client can decide better.
const (
	maxPatience     = 2 * time.Second
	maxLonePatience = 30 * time.Second
)

// maxUnseen is how long a server that refuses connections is waited for when it has never answered: it may be
// starting, like the relay itself, but the address may be wrong as well.
const maxUnseen = 10 * time.Second

// noteLife notes whether the candidate is there at all.
func (c *Candidate) noteLife(err error) {
	if err == nil || report.StatusOf(err) > 0 {
		c.Load.see()
	}
}

// isStarting reports whether the only provider is a server that starts, or starts again, and may yet answer in time:
// it refuses connections, or says that it loads its model. That it is asked again meanwhile counts neither as a
// retry nor against it.
func (s *search) isStarting(c *Candidate, err error) bool {
	e, ok := errors.AsType[*chat.Error](err)
	if !ok || time.Until(s.giveUp) < 2*maxStartPause || s.hasNext() || s.hasFailed() {
		return false
	}
	if report.IsLoading(e) {
		return true
	}
	waited := s.Budget - time.Until(s.giveUp)
	return errors.Is(e, syscall.ECONNREFUSED) && (c.Load.wasSeen() || waited < maxUnseen)
}

const maxStartPause = 500 * time.Millisecond

// startPause is how long to wait before a server that starts is asked again.
func startPause() time.Duration { return maxStartPause/2 + rand.N(maxStartPause/2) }

// worth says what can be done about a failure before the first chunk: ask the same provider again, ask
// another one. What is the request's own fault is worth neither: it would fail everywhere. A key that is
// refused, an answer that can't be read and a full queue will be the same in a moment, but are one
// provider's matter.
func worth(e *chat.Error) (again, another bool) {
	switch e.Code {
	case chat.UpstreamUnreachable, chat.UpstreamTimeout, chat.UpstreamRateLimited, chat.UpstreamError,
		chat.UpstreamTruncated:
		return true, true
	case chat.UpstreamAuth, chat.UpstreamMalformed, chat.Overloaded:
		return false, true
	}
	return false, report.WorthAnother(e)
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
