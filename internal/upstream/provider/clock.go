package provider

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/websopy/relay/internal/chat"
)

var (
	errFirstChunk = &chat.Error{Code: chat.UpstreamTimeout, Phase: chat.PhaseFirstChunk,
		Message: "the provider did not begin to answer in time"}
	errIdle = &chat.Error{Code: chat.UpstreamTimeout, Phase: chat.PhaseIdle,
		Message: "the provider stopped in mid-answer"}

	// errGraceOver ends the wait after a finish reason: the answer is complete.
	errGraceOver = errors.New("upstream: no terminator after the finish reason")
)

// clock cancels an attempt when a deadline passes. The deadline moves with every chunk, so moving it
// further away only stores a time: the timer finds out when it fires, and sleeps on. Times are since epoch.
//
// It does not run while a chunk is passed on: a client that takes it slowly does not make the model a dead one.
type clock struct {
	timer   *time.Timer
	passing atomic.Bool // a chunk is passed on

	mu       sync.Mutex    // guards the rest
	fires    time.Duration // when the timer fires next
	deadline time.Duration
	wait     time.Duration // how long it was to the deadline when it was set
	cause    error
	cancel   context.CancelCauseFunc // when the deadline passes; behind what each chunk needs
}

// epoch is what the clocks count from: a time.Time is three times as large as a Duration.
var epoch = time.Now()

// start returns a context that ends with parent, or with errFirstChunk after d. The clock must be stopped.
func (c *clock) start(parent context.Context, d time.Duration) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel = cancel
	c.wait, c.deadline, c.cause = d, time.Since(epoch)+d, errFirstChunk
	c.fires = c.deadline
	c.timer = time.AfterFunc(d, c.expire)
	return ctx
}

// stop frees the clock and ends its context.
func (c *clock) stop() {
	c.timer.Stop()
	c.cancel(nil)
}

// over is why the context has ended before the answer was complete, nil if it has not. While a chunk is passed on the
// clock does not end it.
func (c *clock) over(ctx context.Context) error {
	c.mu.Lock() // expire may have seen that none was passed on yet
	defer c.mu.Unlock()
	if cause := context.Cause(ctx); cause != errGraceOver {
		return cause
	}
	return nil
}

// set moves the deadline to d from now.
func (c *clock) set(d time.Duration, cause error) {
	c.mu.Lock()
	c.wait, c.deadline, c.cause = d, time.Since(epoch)+d, cause
	if c.deadline < c.fires {
		c.fires = c.deadline
		c.timer.Reset(d)
	}
	c.mu.Unlock()
}

func (c *clock) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.passing.Load() {
		c.deadline = time.Since(epoch) + c.wait
	}
	if left := c.deadline - time.Since(epoch); left > 0 {
		c.fires = c.deadline
		c.timer.Reset(left)
		return
	}
	c.cancel(c.cause)
}
