package upstream

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/websopy/relay/internal/chat"
)

// A breaker opens after breakerLimit requests in a row to which the provider did not begin to answer,
// their retries included, and lets one request through again after breakerPause.
const (
	breakerLimit = 10
	breakerPause = 15 * time.Second
)

// errOpen is the cause of the error with which a request to an upstream is refused while it is skipped.
var errOpen = errors.New("upstream: skipped after repeated failures")

// BreakerState is what a Breaker does with requests.
type BreakerState int

// The states, in the order of severity.
const (
	BreakerClosed   BreakerState = iota // lets requests through
	BreakerHalfOpen                     // lets one through, which decides
	BreakerOpen                         // lets none through
)

// String names the state.
func (s BreakerState) String() string { return gobreaker.State(s).String() }

// Breaker keeps requests away from an upstream that fails all the time, and tries now and then whether
// it still does. What speaks against a provider is that it can't be reached, does not begin to answer,
// fails or turns requests away; not what it rejects, nor what happens after the first chunk.
type Breaker struct {
	gate    *gobreaker.TwoStepCircuitBreaker[struct{}]
	probe   atomic.Int64          // when an open breaker lets one through, in ns since 1970
	failure atomic.Pointer[error] // the last one
}

// NewBreaker returns a closed breaker. onChange, which may be nil, is called with each new state and the
// last failure before it; it must not block, nor call the breaker.
func NewBreaker(onChange func(state BreakerState, failure error)) *Breaker {
	b := new(Breaker)
	b.gate = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Timeout:      breakerPause,
		ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= breakerLimit },
		IsSuccessful: func(err error) bool { return !speaksAgainst(err) },
		IsExcluded:   saysNothing,
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if to == gobreaker.StateOpen {
				b.probe.Store(time.Now().Add(breakerPause).UnixNano())
			}
			if onChange != nil {
				onChange(BreakerState(to), *b.failure.Load())
			}
		},
	})
	return b
}

// State tells what the breaker does with requests now.
func (b *Breaker) State() BreakerState { return BreakerState(b.gate.State()) }

func (b *Breaker) open() bool { return b != nil && b.State() == BreakerOpen }

// allow lets a request through or says, with an error of cause errOpen, when to come back. What came of
// the request must be reported.
func (b *Breaker) allow() (*pass, error) {
	if b == nil {
		return new(pass), nil
	}
	done, err := b.gate.Allow()
	if err != nil {
		const soon = time.Second // a request is on its way that decides
		return nil, &chat.Error{Code: chat.UpstreamUnreachable, Message: "the provider has failed repeatedly and is not asked for a while",
			RetryAfter: max(time.Until(time.Unix(0, b.probe.Load())), soon), Err: fmt.Errorf("%w, the last of them: %w", errOpen, *b.failure.Load())}
	}
	return &pass{b, done}, nil
}

// pass is a request that a breaker has let through.
type pass struct {
	breaker *Breaker
	done    func(error)
}

// report tells the breaker what came of the request. Only the first report counts.
func (p *pass) report(err error) {
	if p.done == nil {
		return
	}
	if speaksAgainst(err) {
		failure := err // not err itself, which would then be allocated for every success as well
		p.breaker.failure.Store(&failure)
	}
	p.done(err)
	p.done = nil
}

// speaksAgainst reports whether err, of a request that had no first chunk, is the provider's failure.
func speaksAgainst(err error) bool {
	e, ok := errors.AsType[*chat.Error](err)
	if !ok {
		return false
	}
	switch e.Code {
	case chat.UpstreamUnreachable, chat.UpstreamTimeout, chat.UpstreamRateLimited, chat.UpstreamError, chat.UpstreamTruncated, chat.UpstreamMalformed:
		return true
	}
	return false
}

// saysNothing reports whether err is no sign of the provider's health, good or bad: it was not asked, or
// nobody waited for its answer.
func saysNothing(err error) bool {
	if err == nil || err == errNoContent || speaksAgainst(err) {
		return false
	}
	e, ok := errors.AsType[*chat.Error](err)
	return !ok || e.Code != chat.UpstreamRejected && e.Code != chat.UpstreamAuth && e.Code != chat.ContentFiltered
}
