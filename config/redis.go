package config

import (
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// redisParameters are what a Redis URL may have behind its question mark, and what their values must be.
// docs/resume.md describes them.
var redisParameters = map[string]struct {
	rule  string
	holds func(value string) bool
}{
	"addr":          {"a node as host:port", func(s string) bool { return !strings.ContainsAny(s, "/@ ") && s != "" }},
	"master_set":    {"the name of a master at its Sentinels", func(s string) bool { return s != "" }},
	"db":            {"a number", isNumber},
	"protocol":      {"2 or 3", func(s string) bool { return s == "2" || s == "3" }},
	"client_name":   {"a name without spaces", func(s string) bool { return s != "" && isToken(s) }},
	"dial_timeout":  {"a duration such as 1s", isDuration},
	"write_timeout": {"a duration such as 2s", isDuration},
	"skip_verify":   {"true or false, or nothing for true", isSwitch},
}

// parameterName is what can be quoted: at worst it is a parameter that was misspelt.
var parameterName = regexp.MustCompile(`^[a-z_]{1,32}$`)

func isNumber(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= 0
}

func isDuration(s string) bool {
	d, err := time.ParseDuration(s)
	return err == nil && d > 0
}

func isSwitch(s string) bool {
	_, err := strconv.ParseBool(s)
	return err == nil || s == ""
}

// checkRedis reports what of the URL and of the settings beside it can't be used. No problem quotes what may
// be a password.
func (c *Config) checkRedis(r *report) {
	raw := c.RedisURL.Reveal()
	if raw == "" {
		if c.Store == "redis" {
			r.problem("redis_url", "must be set for %s=redis, e.g. redis://localhost:6379", path("store"))
		}
		return
	}
	scheme, _, _ := strings.Cut(raw, "://")
	if !slices.Contains([]string{"redis", "rediss", "unix"}, scheme) {
		r.problem("redis_url", "not a redis://, rediss:// or unix:// URL")
		return
	}
	if c.Store != "redis" && !c.HasLimits() {
		r.warn("%s is set, but %s is %s: Redis is not used", path("redis_url"), path("store"), c.Store)
	}
	u, err := url.Parse(raw)
	if err != nil {
		r.problem("redis_url", "not a URL such as redis://user:password@host:6379/0; "+
			"characters of a password other than letters and digits must be percent-encoded")
		return
	}
	r.checkRedisParameters(u)
	if c.RedisCAFile != "" {
		r.checkCA("redis_ca_file", c.RedisCAFile)
		if scheme != "rediss" {
			r.problem("redis_ca_file", "set, but %s is not a rediss:// URL: there is no certificate to check",
				path("redis_url"))
		}
	}
	if u.Query().Has("master_set") {
		return
	}
	const noSentinel = "set, but %s has no master_set: there is no Sentinel"
	if c.SentinelUser != "" {
		r.problem("redis_sentinel_user", noSentinel, path("redis_url"))
	}
	if c.SentinelPassword != "" {
		r.problem("redis_sentinel_password", noSentinel, path("redis_url"))
	}
}

func (r *report) checkRedisParameters(u *url.URL) {
	query, err := url.ParseQuery(u.RawQuery)
	// In redis://:pa?ss@host the user forgot to encode the question mark, and half of the password is taken for
	// a parameter.
	if err != nil || u.User == nil && strings.Contains(u.RawQuery, "@") {
		r.problem("redis_url", "its parameters can't be read; "+
			"characters of a password other than letters and digits must be percent-encoded")
		return
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		parameter, known := redisParameters[name]
		switch {
		case !known && parameterName.MatchString(name):
			r.problem("redis_url", "has an unknown parameter %q; known are %s", name, knownParameters())
		case !known:
			r.problem("redis_url", "has an unknown parameter; known are %s", knownParameters())
		case slices.ContainsFunc(query[name], func(v string) bool { return !parameter.holds(v) }):
			r.problem("redis_url", "%s must be %s", name, parameter.rule)
		case len(query[name]) > 1 && name != "addr":
			r.problem("redis_url", "has %s more than once", name)
		case name == "skip_verify" && u.Scheme != "rediss":
			r.problem("redis_url", "has skip_verify, but is not a rediss:// URL: there is no certificate to check")
		}
	}
}

func knownParameters() string { return strings.Join(slices.Sorted(maps.Keys(redisParameters)), ", ") }
