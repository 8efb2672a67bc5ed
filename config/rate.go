package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
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
		return Rate{}, fmt.Errorf("%q is not a rate; use a number for each s, m, h or d, perhaps with what of it "+
			"may be used "+
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

// Limits are what one caller may. The zero value of each means that there is no such limit.
type Limits struct {
	Requests, Tokens, Budget Rate
	Streams                  int
}

// Caller says which limits hold for an API key: those of a tier, or its own.
type Caller struct {
	Tier   string
	Limits Limits // without a Tier
}

// Limits are those of callers without a tier.
func (c *Config) Limits() Limits {
	return Limits{Requests: c.LimitRequests, Tokens: c.LimitTokens, Budget: c.BudgetTokens, Streams: c.LimitStreams}
}

// HasLimits tells whether any caller has limits, or may have some when the file is read again.
func (c *Config) HasLimits() bool { return c.Limits() != Limits{} || c.File != "" }

func (c *Config) checkLimits(r *report) {
	c.Limits().check("", r)
	for _, name := range slices.Sorted(maps.Keys(c.Tiers)) {
		c.Tiers[name].check(member("tiers", name), r)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Callers)) {
		caller := c.Callers[name]
		at := member("callers", name)
		if _, ok := c.Tiers[caller.Tier]; caller.Tier != "" && !ok {
			r.problem(at, "%q is not among %s", caller.Tier, path("tiers"))
		}
		if !slices.ContainsFunc(c.APIKeys, func(k APIKey) bool { return k.Name == name }) {
			r.warn("%s has no effect: no API key has this name", at)
		}
		caller.Limits.check(at, r)
	}
	c.LimitFallback = r.oneOf("limit_fallback", c.LimitFallback, "local", "open", "closed")
}

func (l Limits) check(at path, r *report) {
	if l.Streams < 0 {
		r.problem(member(at, "limit_streams"), "must not be negative")
	}
	if l.Budget.Count > 0 && (l.Budget.Window != windows["d"] || l.Budget.Burst > 0) {
		r.problem(member(at, "budget_tokens"), "%s is not tokens of a day; use e.g. 2000000/d", l.Budget)
	}
}

// readLimits reads the limits of a tier or a caller, which the settings of all callers have the same names for.
func (f *file) readLimits(at path, node *yaml.Node, r *report) (l Limits) {
	f.mapping(at, node, r, func(key string, at path, value *yaml.Node) {
		rates := map[string]*Rate{"limit_requests": &l.Requests, "limit_tokens": &l.Tokens, "budget_tokens": &l.Budget}
		rate := rates[key]
		switch {
		case value.Kind != yaml.ScalarNode:
			r.problem(at, "is neither text nor a number")
			return
		case key == "limit_streams":
			n, err := strconv.Atoi(value.Value)
			if err != nil {
				r.problem(at, "%q is not a whole number", value.Value)
			}
			l.Streams = n
			return
		case rate == nil:
			f.unknown(key, at, []string{"limit_requests", "limit_tokens", "limit_streams", "budget_tokens"}, r)
			return
		}
		var err error
		if *rate, err = parseRate(value.Value); err != nil {
			r.problem(at, "%v", err)
		}
	})
	return l
}

// readTiers reads the limits of each tier by its name.
func (f *file) readTiers(at path, node *yaml.Node, r *report) {
	f.tiers = make(map[string]Limits)
	f.mapping(at, node, r, func(name string, at path, value *yaml.Node) { f.tiers[name] = f.readLimits(at, value, r) })
}

// readCallers reads of each API key, by its name, the tier that it is in, or its own limits.
func (f *file) readCallers(at path, node *yaml.Node, r *report) {
	f.callers = make(map[string]Caller)
	f.mapping(at, node, r, func(name string, at path, value *yaml.Node) {
		if value.Kind == yaml.ScalarNode {
			if f.callers[name] = (Caller{Tier: scalar(value)}); f.callers[name].Tier == "" {
				// Taken for limits of its own, of which there are none, it would be without any.
				r.problem(at, "is empty; use the name of a tier, limits, or {} for none")
			}
			return
		}
		f.callers[name] = Caller{Limits: f.readLimits(at, value, r)}
	})
}
