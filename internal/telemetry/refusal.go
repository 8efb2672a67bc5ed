package telemetry

import (
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/websopy/relay/internal/chat"
)

// Requests that are refused cost their sender nothing: so many of them have a line in the log, and the rest is
// counted.
const (
	refusalLines = 100
	refusalTime  = 10 * time.Second
)

// refusals is what is kept of the requests that were refused.
type refusals struct {
	sampler  *zerolog.BurstSampler
	unlogged *atomic.Int64 // since the last line
}

func newRefusals() refusals {
	return refusals{&zerolog.BurstSampler{Burst: refusalLines, Period: refusalTime}, new(atomic.Int64)}
}

// Refusal is a request that became no stream.
type Refusal struct {
	RequestID    string
	Client       netip.Addr
	Method, Path string
	HideID       func(part string) bool // tells the parts of the path that are ids
	Error        *chat.Error
}

// Refused counts a request that was refused, and makes its log line unless there were too many.
func (t *Telemetry) Refused(f Refusal) {
	t.refused.with(labels{string(f.Error.Code)}).Inc()
	if !t.refusals.sampler.Sample(zerolog.InfoLevel) {
		t.refusals.unlogged.Add(1)
		return
	}
	line := t.log.Info().Str("request_id", f.RequestID).Stringer("client", f.Client).
		Str("method", shorten(f.Method, shortText)).Str("path", t.shownPath(f)).
		Str("code", string(f.Error.Code)).Str("error", t.long(f.Error.Error()))
	if n := t.refusals.unlogged.Swap(0); n > 0 {
		line.Int64("unlogged", n)
	}
	line.Msg("refused")
}

// shownPath is a path for the log. Most of a long one is not even looked at. Ids are cut: whole, they would let a
// reader of the log attach.
func (t *Telemetry) shownPath(f Refusal) string {
	parts := strings.Split(shorten(f.Path, 5*shortText), "/")
	for i, p := range parts {
		if f.HideID(p) {
			parts[i] = p[:8] + "…"
		}
	}
	return t.short(strings.Join(parts, "/"))
}
