package limit

import (
	"sync"
	"sync/atomic"
	"time"
)

// maxCallers bounds the callers of whom something is remembered. Beyond it somebody is forgotten, and begins anew.
const maxCallers = 100_000

// table keeps what callers of this process have used. Whoever has everything again is as good as not in it.
type table struct {
	start time.Time    // that times are counted from
	open  atomic.Int64 // reservations that are not settled

	mu      sync.Mutex // guards the rest
	callers map[string]*used
	sweepAt int // so many callers
}

// used is what one caller has used.
type used struct {
	requests, tokens float64    // until when, see Rate.use; in microseconds since the table's start
	each             [2]float64 // what one of either takes
	day              int64      // the number of it
	dayTokens        int64
	streams          int
}

func newTable() *table {
	return &table{start: time.Now(), callers: make(map[string]*used), sweepAt: 1024}
}

func (t *table) now() float64 { return float64(time.Since(t.start)) / float64(time.Microsecond) }

// streams is how many a caller has.
func (t *table) streams(caller string) int {
	if t.open.Load() == 0 { // as long as Redis has always been there
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if u := t.callers[caller]; u != nil {
		return u.streams
	}
	return 0
}

// reserve takes all that r wants, or nothing. elsewhere are the caller's streams that are not in the table.
func (t *table) reserve(r *Reservation, elsewhere int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, u := t.now(), t.caller(r.caller)
	today, left := today(time.Now())
	if u.day != today {
		u.day, u.dayTokens = today, 0
	}
	l := &r.limits
	u.limit(l, now)
	requests, waitRequests := l.Requests.use(u.requests, now, 1)
	tokens, waitTokens := l.Tokens.use(u.tokens, now, r.tokens)
	refused := longest(waitRequests, waitTokens, overBudget(l, u.dayTokens, r.tokens, left),
		overStreams(l, u.streams+elsewhere))
	if refused == nil {
		u.requests, u.tokens = requests, tokens
		u.dayTokens += r.tokens
		u.streams++
		t.open.Add(1)
		r.day = today
	}
	r.stand = standings(l, u.requests-now, u.tokens-now, u.dayTokens, left)
	if refused != nil {
		refused.Stand = r.stand
		return refused
	}
	return nil
}

// settle gives back r's stream, and uses further tokens. cancelled gives back the request as well.
func (t *table) settle(r *Reservation, tokens int64, cancelled bool) {
	t.open.Add(-1)
	t.mu.Lock()
	defer t.mu.Unlock()
	now, u := t.now(), t.callers[r.caller]
	if u == nil {
		return // forgotten
	}
	u.limit(&r.limits, now)
	u.streams = max(0, u.streams-1)
	if u.tokens = r.limits.Tokens.settle(u.tokens, now, tokens); u.day == r.day {
		u.dayTokens = max(0, u.dayTokens+tokens)
	}
	if cancelled {
		u.requests = r.limits.Requests.settle(u.requests, now, -1)
	}
}

// limit has what is used count by these limits, which may be others than before.
func (u *used) limit(l *Limits, now float64) {
	l.Requests.count(&u.requests, &u.each[0], now)
	l.Tokens.count(&u.tokens, &u.each[1], now)
}

// caller finds or makes the entry of a caller. The caller of this holds mu.
func (t *table) caller(name string) *used {
	u := t.callers[name]
	if u == nil {
		if len(t.callers) >= t.sweepAt {
			t.sweep()
		}
		u = &used{}
		t.callers[name] = u
	}
	return u
}

// sweep forgets those of whom there is nothing to remember and, when the table is full all the same, some of the
// others: an eighth, so that it is not to be done for each new caller.
func (t *table) sweep() {
	now := t.now()
	today, _ := today(time.Now())
	for name, u := range t.callers {
		if u.streams == 0 && u.requests <= now && u.tokens <= now && (u.day != today || u.dayTokens == 0) {
			delete(t.callers, name)
		}
	}
	for name, u := range t.callers {
		if len(t.callers) < maxCallers-maxCallers/8 {
			break
		}
		if u.streams == 0 {
			delete(t.callers, name)
		}
	}
	t.sweepAt = min(max(2*len(t.callers), 1024), maxCallers)
}

// The ways to say that there is too little of a limit. All give 0 when there is enough.

// overBudget is how long the day lasts whose tokens are used up, in microseconds.
func overBudget(l *Limits, used, tokens int64, left time.Duration) float64 {
	if l.TokensPerDay == 0 || used+min(tokens, l.TokensPerDay) <= l.TokensPerDay {
		return 0
	}
	return float64(left.Microseconds())
}

// overStreams is when to ask again whether a stream has ended, in microseconds.
func overStreams(l *Limits, streams int) float64 {
	if l.Streams == 0 || streams < l.Streams {
		return 0
	}
	return float64(shortestWait.Microseconds())
}

// longest is the error for the limit that takes longest, nil when none is exceeded.
func longest(requests, tokens, day, streams float64) *Exceeded {
	limit, wait := "", 0.0
	for _, of := range []struct {
		limit string
		wait  float64
	}{{RequestsLimit, requests}, {TokensLimit, tokens}, {DayLimit, day}, {StreamsLimit, streams}} {
		if of.wait > wait {
			limit, wait = of.limit, of.wait
		}
	}
	if limit == "" {
		return nil
	}
	return &Exceeded{Limit: limit, After: micros(wait)}
}

// standings are how a caller stands whose requests and tokens come back in so many microseconds.
func standings(l *Limits, requests, tokens float64, dayTokens int64, dayLeft time.Duration) []Standing {
	stand := make([]Standing, 0, 3)
	if l.Requests.Count > 0 {
		stand = append(stand, l.Requests.standing(RequestsLimit, requests))
	}
	if l.Tokens.Count > 0 {
		stand = append(stand, l.Tokens.standing(TokensLimit, tokens))
	}
	if l.TokensPerDay > 0 {
		stand = append(stand, Standing{
			Name: DayLimit, Count: l.TokensPerDay, Window: day, Left: max(0, l.TokensPerDay-dayTokens), Reset: dayLeft,
		})
	}
	return stand
}
