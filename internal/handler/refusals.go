package handler

import (
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/stream"
)

// Requests that are refused cost their sender nothing: so many of them have a line in the log, and the rest is
// counted.
const (
	refusalLines = 100
	refusalTime  = 10 * time.Second
)

// refusals is what is kept of the requests that were refused.
type refusals struct {
	sampler  zerolog.BurstSampler
	unlogged atomic.Int64 // since the last line
}

func newRefusals() *refusals {
	return &refusals{sampler: zerolog.BurstSampler{Burst: refusalLines, Period: refusalTime}}
}

// logRefusal counts a request that was refused, and makes its log line unless there were too many.
func (r *Relay) logRefusal(req *http.Request, e *chat.Error) {
	r.Metrics.refused.WithLabelValues(string(e.Code)).Inc()
	if !r.refusals.sampler.Sample(zerolog.InfoLevel) {
		r.refusals.unlogged.Add(1)
		return
	}
	v := visitOf(req)
	line := r.Log.Info().Str("request_id", v.id).Stringer("client", v.caller.Addr).
		Str("method", shorten(req.Method, shortText)).Str("path", r.shownPath(req.URL.Path)).
		Str("code", string(e.Code)).Str("error", shorten(r.redact.Replace(e.Error()), longText))
	if n := r.refusals.unlogged.Swap(0); n > 0 {
		line.Int64("unlogged", n)
	}
	line.Msg("refused")
}

// shownPath is a path for the log. Most of a long one is not even looked at.
func (r *Relay) shownPath(path string) string {
	return shorten(r.redact.Replace(hideIDs(shorten(path, 5*shortText))), shortText)
}

// hideIDs cuts stream ids in a path: whole, they would let a reader of the log attach.
func hideIDs(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if stream.ValidID(p) {
			parts[i] = p[:8] + "…"
		}
	}
	return strings.Join(parts, "/")
}

// Bounds in bytes of what others make up, in the log.
const (
	shortText = 200
	longText  = 2 << 10 // what a provider said, for instance
)

// shorten keeps what others make up from filling the log.
func shorten(s string, longest int) string {
	if len(s) <= longest {
		return s
	}
	return strings.ToValidUTF8(s[:longest], "") + "…"
}
