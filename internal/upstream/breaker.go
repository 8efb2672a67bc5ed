package upstream

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/report"
)

// A breaker opens after breakerLimit requests in a row that speak against the provider, their retries included,
// and lets one request through again after breakerPause. Who has asked within breakerWindow counts as somebody
// who asks.
const (
	breakerLimit  = 10
	breakerPause  = 15 * time.Second
	breakerWindow = 30 * time.Second
)

// maxCircuits bounds the models of one upstream that have a state: callers make up names.
const maxCircuits = 256

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
func (s BreakerState) String() string { return [...]string{"closed", "half-open", "open"}[s] }

// Breaker keeps requests away from an upstream that fails all the time, and tries now and then whether it still
// does. Each model has a state of its own.
//
// It is no weapon in the hands of one caller: what a request can bring about by itself (a failure of the server's
// code, a time-out) counts only when a second caller has seen it too. While one caller alone asks it counts as
// well, but keeps only that caller away.
type Breaker struct {
	onChange func(model string, state BreakerState, failure error)

	mu       sync.Mutex // guards the rest
	circuits map[string]*circuit
}

// NewBreaker returns a closed breaker. onChange, which may be nil, is called with each new state of a model and
// the last failure before it; it must not block, nor call the breaker.
func NewBreaker(onChange func(model string, state BreakerState, failure error)) *Breaker {
	return &Breaker{onChange: onChange, circuits: make(map[string]*circuit)}
}

// circuit is the state of one model.
type circuit struct {
	model   string
	state   BreakerState
	turn    int       // counts changes of state: what began before the last one decides nothing
	probe   time.Time // when an open circuit lets one through
	probing bool      // it is on its way
	failure error     // the last one

	// Failures in a row. suspect is who saw the first of those that a request can bring about, and shared
	// says that another caller has seen one since.
	certain, caused int
	suspect         string
	shared          bool

	lastFailed string // whose failure opened it
	lone       bool   // it is open for lastFailed only, because nobody else asked

	asked [2]asker // the last two callers
}

// asker is a caller, and when it asked last.
type asker struct {
	caller string
	at     time.Time
}

// State is the most severe one of all models.
func (b *Breaker) State() (worst BreakerState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for _, c := range b.circuits {
		worst = max(worst, c.stateAt(now))
	}
	return worst
}

func (c *circuit) stateAt(now time.Time) BreakerState {
	if c.state == BreakerOpen && !now.Before(c.probe) {
		return BreakerHalfOpen
	}
	return c.state
}

// open reports whether the caller would be turned away for some time.
func (b *Breaker) open(model, caller string) bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.circuits[model]
	return c != nil && c.stateAt(time.Now()) == BreakerOpen && c.concerns(caller)
}

// concerns reports whether the caller is one of those that an open circuit keeps away.
func (c *circuit) concerns(caller string) bool { return !c.lone || caller == c.lastFailed }

// allow lets a request through or says, with an error of cause errOpen, when to come back. What came of the
// request must be reported.
func (b *Breaker) allow(model, caller string) (*pass, error) {
	if b == nil {
		return new(pass), nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	c := b.circuit(model)
	c.note(caller, now)
	p := &pass{breaker: b, circuit: c, caller: caller}
	if c.state != BreakerClosed && c.concerns(caller) {
		if c.stateAt(now) == BreakerOpen || c.probing || c.isForOthers(caller, now) {
			return nil, c.refusal(now)
		}
		if c.state == BreakerOpen {
			b.change(c, BreakerHalfOpen)
		}
		c.probing, p.probe = true, true
	}
	p.turn = c.turn
	return p, nil
}

// isForOthers reports whether the caller is not the one to probe: it has opened the circuit by what a request can
// bring about, and could keep it open so.
func (c *circuit) isForOthers(caller string, now time.Time) bool {
	return caller == c.lastFailed && c.caused > 0 && c.othersAsk(caller, now)
}

func (c *circuit) refusal(now time.Time) error {
	const soon = time.Second // a request is on its way that decides
	code := chat.UpstreamUnreachable
	if e := chat.AsError(c.failure); e.Code == chat.UpstreamAuth {
		code = e.Code // the caller can do no more about it now than before
	}
	return &chat.Error{Code: code, Message: "the provider has failed repeatedly and is not asked for a while",
		RetryAfter: max(c.probe.Sub(now), soon), Err: fmt.Errorf("%w, the last of them: %w", errOpen, c.failure)}
}

// circuit returns a model's state. For a new one it makes room, at the cost of the closed one that was not asked
// for longest; if all are open, of one of them.
func (b *Breaker) circuit(model string) *circuit {
	if c := b.circuits[model]; c != nil {
		return c
	}
	if len(b.circuits) >= maxCircuits {
		var oldest *circuit
		for _, c := range b.circuits {
			if oldest == nil || c.lessWorthThan(oldest) {
				oldest = c
			}
		}
		delete(b.circuits, oldest.model)
	}
	c := &circuit{model: model}
	b.circuits[model] = c
	return c
}

func (c *circuit) lessWorthThan(other *circuit) bool {
	if closed := c.state == BreakerClosed; closed != (other.state == BreakerClosed) {
		return closed
	}
	return c.asked[0].at.Before(other.asked[0].at)
}

// note keeps when a caller asked.
func (c *circuit) note(caller string, now time.Time) {
	if c.asked[0].caller != caller {
		c.asked[1] = c.asked[0]
	}
	c.asked[0] = asker{caller, now}
}

// othersAsk reports whether another caller has asked lately.
func (c *circuit) othersAsk(caller string, now time.Time) bool {
	for _, a := range c.asked {
		if a.caller != caller && !a.at.IsZero() && now.Sub(a.at) < breakerWindow {
			return true
		}
	}
	return false
}

// change enters a state.
func (b *Breaker) change(c *circuit, to BreakerState) {
	c.turn++
	c.state, c.probing = to, false
	switch to {
	case BreakerOpen:
		c.probe = time.Now().Add(breakerPause)
	case BreakerClosed:
		c.lone = false
	}
	if b.onChange != nil {
		b.onChange(c.model, to, c.failure)
	}
}

// pass is a request that a breaker has let through.
type pass struct {
	breaker *Breaker // nil: there is none, or the request is reported
	circuit *circuit
	caller  string
	turn    int
	probe   bool
}

// report tells the breaker what came of the request. Only the first report counts.
func (p *pass) report(err error) {
	b, c := p.breaker, p.circuit
	if b == nil {
		return
	}
	p.breaker = nil
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.turn != c.turn {
		return
	}
	if p.probe {
		c.probing = false
	}
	switch says := evidenceOf(err); says {
	case saysNothing:
	case saysAlive:
		c.certain, c.caused, c.shared = 0, 0, false
		if c.state != BreakerClosed {
			b.change(c, BreakerClosed)
		}
	default:
		c.failure = err
		c.count(says, p.caller)
		if enough, lone := c.enough(time.Now()); enough {
			c.lastFailed, c.lone = p.caller, lone
			b.change(c, BreakerOpen)
		}
	}
}

func (c *circuit) count(says evidence, caller string) {
	switch {
	case says == saysDown:
		c.certain++
	case c.caused == 0:
		c.caused, c.suspect, c.shared = 1, caller, false
	default:
		c.caused++
		c.shared = c.shared || caller != c.suspect
	}
}

// enough reports whether the failures suffice to open the circuit, and if only for the one caller who asks.
func (c *circuit) enough(now time.Time) (enough, lone bool) {
	switch {
	case c.certain >= breakerLimit:
		return true, false
	case c.certain+c.caused < breakerLimit:
		return false, false
	case c.caused > 0 && !c.shared:
		lone = !c.othersAsk(c.suspect, now)
		return lone, lone
	}
	return true, false
}

// evidence is what the outcome of a request says of its provider.
type evidence int

const (
	saysNothing evidence = iota // it was not asked, or nobody waited for its answer
	saysAlive
	saysFailed // it failed, perhaps because of the request
	saysDown   // it failed in a way that no request brings about
)

// evidenceOf judges a request that had no first chunk, or had one (nil).
func evidenceOf(err error) evidence {
	if err == nil || err == errNoContent {
		return saysAlive
	}
	e, ok := errors.AsType[*chat.Error](err)
	if !ok {
		return saysNothing
	}
	switch e.Code {
	case chat.UpstreamRejected, chat.ContentFiltered, chat.ContextLengthExceeded:
		return saysAlive
	case chat.UpstreamAuth:
		if report.RefusesRelay(e) {
			return saysDown
		}
		return saysFailed
	case chat.UpstreamUnreachable, chat.UpstreamTimeout, chat.UpstreamError:
		if notReached(e) || report.StatusOf(e) == http.StatusServiceUnavailable {
			return saysDown
		}
		return saysFailed
	case chat.UpstreamRateLimited, chat.UpstreamTruncated, chat.UpstreamMalformed:
		return saysFailed
	}
	return saysNothing
}

// notReached reports whether no connection came about, so that the provider can't have seen the request.
func notReached(e *chat.Error) bool {
	if e.Phase == chat.PhaseConnect {
		return true
	}
	if op, ok := errors.AsType[*net.OpError](e); ok &&
		slices.Contains([]string{"dial", "proxyconnect", "remote error"}, op.Op) {
		return true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](e); ok {
		return true
	}
	_, ok := errors.AsType[tls.RecordHeaderError](e)
	return ok
}
