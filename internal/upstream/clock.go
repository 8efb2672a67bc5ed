package upstream

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/websopy/relay/internal/chat"
)

var (
	errFirstChunk = &chat.Error{Code: chat.UpstreamTimeout, Phase: chat.PhaseFirstChunk, Message: "the provider did not begin to answer in time"}
	errIdle       = &chat.Error{Code: chat.UpstreamTimeout, Phase: chat.PhaseIdle, Message: "the provider stopped in mid-answer"}

	// errGraceOver ends the wait after a finish reason: the answer is complete.
	errGraceOver = errors.New("upstream: no terminator after the finish reason")
)

// clock cancels an attempt when a deadline passes. The deadline moves with every chunk, so moving it
// further away only stores a time: the timer finds out when it fires, and sleeps on. Times are since epoch.
type clock struct {
	timer *time.Timer

	mu       sync.Mutex    // guards the rest
	fires    time.Duration // when the timer fires next
	deadline time.Duration
	cause    error
}

// epoch is what the clocks count from: a time.Time is three times as large as a Duration.
var epoch = time.Now()

// start returns a context that ends with parent, or with errFirstChunk after d. stop frees the clock and
// ends the context.
func (c *clock) start(parent context.Context, d time.Duration) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline, c.cause = time.Since(epoch)+d, errFirstChunk
	c.fires = c.deadline
	c.timer = time.AfterFunc(d, func() { c.expire(cancel) })
	return ctx, func() {
		c.timer.Stop()
		cancel(nil)
	}
}

// set moves the deadline to d from now.
func (c *clock) set(d time.Duration, cause error) {
	c.mu.Lock()
	c.deadline, c.cause = time.Since(epoch)+d, cause
	if c.deadline < c.fires {
		c.fires = c.deadline
		c.timer.Reset(d)
	}
	c.mu.Unlock()
}

func (c *clock) expire(cancel context.CancelCauseFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if left := c.deadline - time.Since(epoch); left > 0 {
		c.fires = c.deadline
		c.timer.Reset(left)
		return
	}
	cancel(c.cause)
}
