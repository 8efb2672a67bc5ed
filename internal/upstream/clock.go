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
// further away only stores a time: the timer finds out when it fires, and sleeps on. Times are since it began.
type clock struct {
	cancel context.CancelCauseFunc
	began  time.Time

	mu       sync.Mutex // guards the rest
	timer    *time.Timer
	fires    time.Duration // when the timer fires next
	deadline time.Duration
	cause    error
}

// start returns a context that ends with parent, or with errFirstChunk after d.
func (c *clock) start(parent context.Context, d time.Duration) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel, c.began = cancel, time.Now()
	c.fires, c.deadline, c.cause = d, d, errFirstChunk
	c.timer = time.AfterFunc(d, c.expire)
	return ctx
}

// set moves the deadline to d from now.
func (c *clock) set(d time.Duration, cause error) {
	c.mu.Lock()
	c.deadline, c.cause = time.Since(c.began)+d, cause
	if c.deadline < c.fires {
		c.fires = c.deadline
		c.timer.Reset(d)
	}
	c.mu.Unlock()
}

func (c *clock) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if left := c.deadline - time.Since(c.began); left > 0 {
		c.fires = c.deadline
		c.timer.Reset(left)
		return
	}
	c.cancel(c.cause)
}

// stop frees the clock and ends its context.
func (c *clock) stop() {
	c.timer.Stop()
	c.cancel(nil)
}
