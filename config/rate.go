package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Rate is how much may be used in a time, over and over. The zero value is no limit.
type Rate struct {
	Count  int64
	Window time.Duration
	Burst  int64 // how much of it at once; 0: all
}

var windows = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}

// maxCount bounds a rate, so that the time for one unit can be told.
const maxCount = 1e12

// parseRate reads a number, a unit of time and perhaps a burst: 60/m, 60/m:10. 0 is no limit.
func parseRate(s string) (Rate, error) {
	if s == "0" {
		return Rate{}, nil
	}
	count, rest, _ := strings.Cut(s, "/")
	unit, burst, withBurst := strings.Cut(rest, ":")
	r := Rate{Window: windows[unit]}
	var err, burstErr error
	r.Count, err = strconv.ParseInt(count, 10, 64)
	if withBurst {
		r.Burst, burstErr = strconv.ParseInt(burst, 10, 64)
	}
	if err != nil || burstErr != nil || r.Window == 0 || r.Count <= 0 || r.Count > maxCount || r.Burst > maxCount ||
		withBurst && r.Burst <= 0 {
		return Rate{}, fmt.Errorf("%q is not a rate; use a number for each s, m, h or d, perhaps with what of it may be used "+
			"at once: 60/m or 60/m:10", s)
	}
	return r, nil
}

// String returns the rate as it is written in a setting.
func (r Rate) String() string {
	if r.Count == 0 {
		return "0"
	}
	s := strconv.FormatInt(r.Count, 10) + "/"
	for unit, window := range windows {
		if window == r.Window {
			s += unit
		}
	}
	if r.Burst > 0 {
		s += ":" + strconv.FormatInt(r.Burst, 10)
	}
	return s
}

// Limits tells whether callers have limits.
func (c *Config) Limits() bool {
	return c.LimitRequests.Count > 0 || c.LimitTokens.Count > 0 || c.BudgetTokens.Count > 0 || c.LimitStreams > 0
}

func (c *Config) checkLimits(r *report) {
	if c.LimitStreams < 0 {
		r.problem("limit_streams", "must not be negative")
	}
	if c.BudgetTokens.Count > 0 && (c.BudgetTokens.Window != windows["d"] || c.BudgetTokens.Burst > 0) {
		r.problem("budget_tokens", "%s is not tokens of a day; use e.g. 2000000/d", c.BudgetTokens)
	}
	c.LimitFallback = r.oneOf("limit_fallback", c.LimitFallback, "local", "open", "closed")
}
