package limit

import (
	"math"
	"time"
)

// Limits are what one caller may. The zero value of each means that there is no such limit.
type Limits struct {
	Requests     Rate
	Tokens       Rate
	TokensPerDay int64 // days are UTC's
	Streams      int   // answers that are being generated at once
}

// none tells whether there is nothing to keep.
func (l Limits) none() bool { return l == Limits{} }

// CountsTokens tells whether it matters how many tokens an answer costs.
func (l Limits) CountsTokens() bool { return l.Tokens.Count > 0 || l.TokensPerDay > 0 }

// Rate is how much may be used in a time, over and over.
type Rate struct {
	Count  int64
	Window time.Duration
	Burst  int64 // how much of it at once; 0: all
}

// each is how long one unit takes to come back, and full how long all that may be used at once does, both in
// microseconds. Both are 0 without a limit.
func (r Rate) each() (each, full float64) {
	if r.Count <= 0 {
		return 0, 0
	}
	burst := r.Burst
	if burst <= 0 {
		burst = r.Count
	}
	each = float64(r.Window.Microseconds()) / float64(r.Count)
	return each, each * float64(burst)
}

// The arithmetic of a rate is the generic cell rate algorithm's. All that is kept is one time, until: when everything
// that was used will have come back. Times are in microseconds. lua/reserve.lua and lua/settle.lua do the same.

// use takes cost units. When there are too few, wait is how long until there are enough, and until is as it was. A
// cost above the burst needs all of it, and leaves a debt.
func (r Rate) use(until, now float64, cost int64) (after, wait float64) {
	each, full := r.each()
	if each == 0 {
		return until, 0
	}
	from := max(until, now)
	if over := from + min(float64(cost)*each, full) - (now + full); over > 0 {
		return until, over
	}
	return from + float64(cost)*each, 0
}

// count has what is used count by this rate, after another one by which each unit took as long as was: the units that
// are used stay as many.
func (r Rate) count(until, was *float64, now float64) {
	each, _ := r.each()
	if each == 0 || each == *was {
		return // nobody asks, or it does already
	}
	if *was > 0 && *until > now {
		*until = now + (*until-now)*each / *was
	}
	*was = each
}

// settle uses further units, or gives some back, whether there are enough or not.
func (r Rate) settle(until, now float64, units int64) float64 {
	each, _ := r.each()
	return max(now, max(until, now)+float64(units)*each)
}

// standing is how much of it is left, and when all of it is.
func (r Rate) standing(name string, ahead float64) Standing {
	each, full := r.each()
	ahead = max(0, ahead)
	const roundings = 1e-6 // of times that were written as whole numbers
	return Standing{
		Name: name, Count: r.Count, Window: r.Window,
		Left: max(0, int64(math.Floor((full-ahead)/each+roundings))), Reset: micros(ahead),
	}
}

func micros(us float64) time.Duration { return time.Duration(math.Ceil(us)) * time.Microsecond }

// Standing is how a caller stands with one of its limits.
type Standing struct {
	Name   string // requests, tokens or tokens_per_day
	Count  int64  // that may be used
	Window time.Duration
	Left   int64         // of it, now
	Reset  time.Duration // until all of it is there again
}

// The names of limits, as clients read them.
const (
	RequestsLimit = "requests"
	TokensLimit   = "tokens"
	DayLimit      = "tokens_per_day"
	StreamsLimit  = "streams"
)

// Exceeded is the error of a caller who has used what it may.
type Exceeded struct {
	Limit string        // requests, tokens, tokens_per_day or streams
	After time.Duration // when it is worth another try
	Stand []Standing
}

func (e *Exceeded) Error() string { return "the caller's limit of " + e.Limit + " is reached" }

const day = 24 * time.Hour

// today is the number of a UTC day, and left how long it lasts yet.
func today(now time.Time) (number int64, left time.Duration) {
	number = now.Unix() / int64(day/time.Second)
	return number, time.Unix((number+1)*int64(day/time.Second), 0).Sub(now)
}
