package limit

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/websopy/relay/internal/redisconn"
)

// Away says what holds while Redis can't be asked.
type Away string

// The ways to do without Redis.
const (
	AwayLocal  Away = "local"  // the same limits, of this process alone
	AwayOpen   Away = "open"   // none
	AwayClosed Away = "closed" // nobody may do anything
)

// Policy says what callers may.
type Policy struct {
	Limits Limits            // of those without a tier, or with one that is not in Tiers
	Tiers  map[string]Limits // by name, see identity.Caller
}

// LimiterOptions are what a Limiter is made of.
type LimiterOptions struct {
	Policy
	Redis   *redisconn.Conn // where limits are kept for all replicas; nil: they are of this process alone
	Away    Away
	Longest time.Duration // that an answer may take; 0: no cap
	Lease   time.Duration // that a stream counts without a word of its replica, 0: 15 s
	// is called, once a minute at most, when Redis is there and answers with an error; may be nil
	Refused func(error)
}

// Limiter keeps callers to their limits: it reserves what an answer may cost before it begins, and settles for what it
// did cost at its end. It is safe for concurrent use. A nil *Limiter limits nothing.
type Limiter struct {
	o      LimiterOptions
	policy atomic.Pointer[Policy]
	here   *table
	shared *shared // nil: without Redis

	held     atomic.Int64 // how long an answer runs, a moving average in ns; 0: none has ended yet
	reserved atomic.Int64 // tokens that were reserved and not settled
}

// NewLimiter returns a limiter. Close it.
func NewLimiter(o LimiterOptions) *Limiter {
	l := &Limiter{o: o, here: newTable()}
	l.SetPolicy(o.Policy)
	if o.Redis != nil {
		l.shared = newShared(o)
	}
	return l
}

// SetPolicy changes what callers may. Answers that run are settled for by the limits that they began with.
func (l *Limiter) SetPolicy(p Policy) { l.policy.Store(&p) }

// Close settles what is left to settle, for a moment. It does not close Redis.
func (l *Limiter) Close() {
	if l != nil && l.shared != nil {
		l.shared.close()
	}
}

// Reserved is how many tokens are reserved for answers that run now.
func (l *Limiter) Reserved() int64 { return l.reserved.Load() }

// Up tells whether limits are kept where they are meant to be: in Redis, where there is one.
func (l *Limiter) Up() bool { return l.shared == nil || l.shared.up() }

// Lost is how many settlements were given up, because Redis was away for too long.
func (l *Limiter) Lost() uint64 {
	if l.shared == nil {
		return 0
	}
	l.shared.mu.Lock()
	defer l.shared.mu.Unlock()
	return l.shared.lost
}

// ErrAway is the error of Reserve when nobody can tell what a caller has used, and that is not to be passed over.
var ErrAway = errors.New("what callers have used can't be looked up now")

// CountsTokens tells whether it matters how many tokens the caller's answers cost.
func (l *Limiter) CountsTokens(caller, tier string) bool {
	return l != nil && caller != "" && l.limits(tier).CountsTokens()
}

// HasTier tells whether there are limits of a tier.
func (l *Limiter) HasTier(tier string) bool {
	if l == nil {
		return false
	}
	_, ok := l.policy.Load().Tiers[tier]
	return ok
}

func (l *Limiter) limits(tier string) *Limits {
	p := l.policy.Load()
	if of, ok := p.Tiers[tier]; ok && tier != "" {
		return &of
	}
	return &p.Limits
}

// Reserve takes one request, one stream and so many tokens of what a caller may, all or nothing. A caller that is not
// known, whose name is empty, has no limits. Who gets a Reservation settles or cancels it.
//
// Errors: *Exceeded; ErrAway.
func (l *Limiter) Reserve(caller, tier string, tokens int64) (*Reservation, error) {
	if l == nil || caller == "" {
		return nil, nil
	}
	limits := l.limits(tier)
	if limits.none() {
		return nil, nil
	}
	r := &Reservation{of: l, caller: caller, limits: *limits, tokens: tokens, began: time.Now()}
	switch err := l.reserve(r); err := err.(type) {
	case nil:
		l.reserved.Add(tokens)
		return r, nil
	case *Exceeded:
		if err.Limit == StreamsLimit {
			err.After = min(max(time.Duration(l.held.Load())/time.Duration(limits.Streams), shortestWait), longestWait)
		}
		return nil, err
	default:
		if l.o.Away == AwayOpen {
			return nil, nil
		}
		return nil, err
	}
}

// reserve makes r in Redis or, where that is not there, in this process. Streams that run while Redis goes, or comes
// back, count where they are not known as well: no process ever has more of a caller's than its limit.
func (l *Limiter) reserve(r *Reservation) error {
	if l.shared == nil {
		return l.here.reserve(r, 0)
	}
	here := 0
	if r.limits.Streams > 0 {
		here = l.here.streams(r.caller)
	}
	err := l.shared.reserve(r, here)
	if _, exceeded := errors.AsType[*Exceeded](err); err == nil || exceeded {
		return err
	}
	if l.o.Away != AwayLocal {
		return ErrAway
	}
	r.id = ""
	return l.here.reserve(r, l.shared.streams(r.key))
}

// Reservation is what one answer was reserved. Its methods do nothing where it is nil.
type Reservation struct {
	of     *Limiter
	caller string
	limits Limits
	tokens int64
	day    int64  // in this process, the number of the UTC day that the tokens are of
	id     string // in Redis; empty: it is of this process
	key    keys   // there
	stand  []Standing
	began  time.Time

	settled atomic.Bool
}

// Stand is how the caller stood with its limits when the reservation was made.
func (r *Reservation) Stand() []Standing {
	if r == nil {
		return nil
	}
	return r.stand
}

// Settle ends the answer, which did cost so many tokens. It can be called several times, and the first one counts.
func (r *Reservation) Settle(tokens int64) {
	if r != nil && r.settled.CompareAndSwap(false, true) {
		r.settle(tokens-r.tokens, false)
	}
}

// Cancel ends an answer that nobody was asked for. It is as if nothing had been reserved, unless Settle was called.
func (r *Reservation) Cancel() {
	if r != nil && r.settled.CompareAndSwap(false, true) {
		r.settle(-r.tokens, true)
	}
}

func (r *Reservation) settle(tokens int64, cancelled bool) {
	defer r.of.reserved.Add(-r.tokens) // last: who sees that nothing is reserved finds all settled
	if !cancelled {
		r.of.learn(time.Since(r.began))
	}
	if r.id == "" {
		r.of.here.settle(r, tokens, cancelled)
		return
	}
	r.of.shared.settle(r, tokens, cancelled)
}

// learn takes one more time for which an answer ran into the average.
func (l *Limiter) learn(ran time.Duration) {
	held := l.held.Load()
	if held == 0 {
		held = int64(ran)
	}
	l.held.Store(held + (int64(ran)-held)/8) // of two at once, one may be missed
}
