// Package telemetry tells operators what the relay does: it counts, and writes the log line of each stream. It decides
// nothing.
package telemetry

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rs/zerolog"
)

// Telemetry is where those who do the work tell what came of it.
type Telemetry struct {
	*Metrics
	log      zerolog.Logger
	redact   Redaction
	refusals refusals
}

// New returns a Telemetry that counts into m and writes to log, both less what redact takes out.
func New(m *Metrics, log zerolog.Logger, redact Redaction) *Telemetry {
	return &Telemetry{Metrics: m, log: log, redact: redact, refusals: newRefusals()}
}

// Bounds in bytes of what others make up, in the log.
const (
	shortText = 200
	longText  = 2 << 10 // what a provider said, for instance
)

// short is a name that others made up, for the log.
func (t *Telemetry) short(s string) string { return shorten(t.redact.Replace(s), shortText) }

// long is a sentence that others made up.
func (t *Telemetry) long(s string) string { return shorten(t.redact.Replace(s), longText) }

// shorten keeps what others make up from filling the log, and from giving orders to the terminal that shows it: JSON
// escapes those of ASCII only.
func shorten(s string, longest int) string {
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII && !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// Panicked logs what recover returned, with the stack that it came from.
func (t *Telemetry) Panicked(requestID, v string, stack []byte) {
	t.log.Error().Str("request_id", requestID).Str("panic", t.long(v)).
		Str("stack", shorten(string(stack), 8*longText)).Msg("panic")
}
