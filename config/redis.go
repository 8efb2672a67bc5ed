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
func (l *loader) checkRedis(c *Config) {
	raw := c.RedisURL.Reveal()
	if raw == "" {
		if c.Store == "redis" {
			l.problem("RELAY_REDIS_URL", "must be set for RELAY_STORE=redis, e.g. redis://localhost:6379")
		}
		return
	}
	scheme, _, _ := strings.Cut(raw, "://")
	if !slices.Contains([]string{"redis", "rediss", "unix"}, scheme) {
		l.problem("RELAY_REDIS_URL", "not a redis://, rediss:// or unix:// URL")
		return
	}
	if c.Store != "redis" {
		l.warn("RELAY_REDIS_URL is set, but RELAY_STORE is %s: Redis is not used", c.Store)
	}
	u, err := url.Parse(raw)
	if err != nil {
		l.problem("RELAY_REDIS_URL", "not a URL such as redis://user:password@host:6379/0; "+
			"characters of a password other than letters and digits must be percent-encoded")
		return
	}
	l.checkRedisParameters(u)
	if c.RedisCAFile != "" {
		l.checkCA("RELAY_REDIS_CA_FILE", c.RedisCAFile)
		if scheme != "rediss" {
			l.problem("RELAY_REDIS_CA_FILE", "set, but RELAY_REDIS_URL is not a rediss:// URL: there is no certificate to check")
		}
	}
	if u.Query().Has("master_set") {
		return
	}
	const noSentinel = "set, but RELAY_REDIS_URL has no master_set: there is no Sentinel"
	if c.SentinelUser != "" {
		l.problem("RELAY_REDIS_SENTINEL_USER", noSentinel)
	}
	if c.SentinelPassword != "" {
		l.problem("RELAY_REDIS_SENTINEL_PASSWORD", noSentinel)
	}
}

func (l *loader) checkRedisParameters(u *url.URL) {
	query, err := url.ParseQuery(u.RawQuery)
	// In redis://:pa?ss@host the user forgot to encode the question mark, and half of the password is taken for
	// a parameter.
	if err != nil || u.User == nil && strings.Contains(u.RawQuery, "@") {
		l.problem("RELAY_REDIS_URL", "its parameters can't be read; "+
			"characters of a password other than letters and digits must be percent-encoded")
		return
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		parameter, known := redisParameters[name]
		switch {
		case !known && parameterName.MatchString(name):
			l.problem("RELAY_REDIS_URL", "has an unknown parameter %q; known are %s", name, knownParameters())
		case !known:
			l.problem("RELAY_REDIS_URL", "has an unknown parameter; known are %s", knownParameters())
		case slices.ContainsFunc(query[name], func(v string) bool { return !parameter.holds(v) }):
			l.problem("RELAY_REDIS_URL", "%s must be %s", name, parameter.rule)
		case len(query[name]) > 1 && name != "addr":
			l.problem("RELAY_REDIS_URL", "has %s more than once", name)
		case name == "skip_verify" && u.Scheme != "rediss":
			l.problem("RELAY_REDIS_URL", "has skip_verify, but is not a rediss:// URL: there is no certificate to check")
		}
	}
}

func knownParameters() string { return strings.Join(slices.Sorted(maps.Keys(redisParameters)), ", ") }
