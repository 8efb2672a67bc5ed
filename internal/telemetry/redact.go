package telemetry

import (
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
)

// Redaction puts *** in the place of secrets.
type Redaction struct {
	secrets *atomic.Pointer[regexp.Regexp]
}

// longSecret is the length, in bytes, from which a secret is known wherever its letters are.
const longSecret = 16

// Redactor returns the Redaction of secrets. Those of 16 bytes and more are found anywhere, in any case, and when
// somebody has shortened them: "sk-proj-****i789", "sk-proj-Abc...", or broken them into two lines. Shorter ones are
// found only where they stand as a word: in the midst of others a key like "e" would blot out every message, and be
// told by that.
func Redactor(secrets []string) Redaction {
	r := Redaction{new(atomic.Pointer[regexp.Regexp])}
	r.Set(secrets)
	return r
}

// Set changes what the secrets are, for all copies of r.
func (r Redaction) Set(secrets []string) {
	// The longest first: a key may begin with another, and what is left of it would show.
	secrets = slices.SortedFunc(slices.Values(secrets), func(a, b string) int { return len(b) - len(a) })
	var patterns []string
	for _, s := range secrets {
		switch whole := regexp.QuoteMeta(s); {
		case s == "":
		case len(s) < longSecret:
			patterns = append(patterns, edge(s[0])+whole+edge(s[len(s)-1]))
		default:
			const cut = `(?:\*+|\.{2,}|…)` // in the midst of a key that is not to be told whole
			patterns = append(patterns, whole, regexp.QuoteMeta(s[:6])+`[\w-]*`+cut+`[\w-]*`,
				regexp.QuoteMeta(s[:12])+`[\w-]*`, regexp.QuoteMeta(s[len(s)-12:]))
		}
	}
	if len(patterns) == 0 {
		r.secrets.Store(nil)
		return
	}
	r.secrets.Store(regexp.MustCompile(`(?i)` + strings.Join(patterns, "|")))
}

// edge matches where a word begins or ends at c.
func edge(c byte) string {
	if letter := c|0x20 >= 'a' && c|0x20 <= 'z'; letter || c >= '0' && c <= '9' || c == '_' {
		return `\b`
	}
	return ""
}

// Replace returns s without the secrets.
func (r Redaction) Replace(s string) string {
	if r.secrets == nil { // the zero Redaction
		return s
	}
	secrets := r.secrets.Load()
	if secrets == nil {
		return s
	}
	return secrets.ReplaceAllLiteralString(s, "***")
}
