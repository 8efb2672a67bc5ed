package handler

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/stream"
	"github.com/websopy/relay/internal/upstream/trace"
)

// How a stream can end beside the error codes.
const (
	reasonCompleted  = "completed"
	reasonStopped    = "stopped"
	reasonClientGone = "client_gone"
	reasonSlowClient = "slow_client"
	reasonReleased   = "released" // it goes on elsewhere: see stream.ErrReleased
	reasonHeld       = "held"     // it was not found yet: see stream.ErrHeld
	reasonFenced     = "fenced"   // others have ended it: see stream.Outcome
)

// record is what happened to one stream, or to the generation of a resumable one, for its log line and
// the metrics.
type record struct {
	visit *visit
	asked string // model; empty: none was named
	id    string // of a resumable stream
	start time.Time
	trace trace.Trace

	tally
	done *chat.Completion

	reason  string
	failure *chat.Error // what the client is told, nil when there is nothing to tell or nobody to tell it
	seq     uint64      // the failure's position in a resumable stream, 0 when it has none
	cause   error       // for the log
	cut     bool        // the response has no end of its own, and must not look as if it had one
}

// tally counts what was written of one stream, or what came for an answer that is written whole. Times are
// since the stream's start.
type tally struct {
	metrics     *Metrics      // that the times go into
	resumed     bool          // the client had the beginning already
	first, last time.Duration // of chunks
	held        int64         // chunks that wait to be written
	chunks      int64
	bytes       int64
}

// wrote notes when the chunks that waited to be written were.
func (t *tally) wrote(at time.Duration) {
	switch {
	case t.held == 0:
		return
	case t.chunks == 0:
		t.first = at
		if !t.resumed {
			t.metrics.firstChunk.Observe(at.Seconds())
		}
	default:
		t.metrics.chunkGap.Observe((at - t.last).Seconds())
	}
	t.last = at
	t.chunks += t.held
	t.held = 0
}

// newRecord starts the record of a stream for which a model was asked, or none. It does not keep the request:
// a generation may run for long after its client has left.
func (r *Relay) newRecord(req *http.Request, asked string) *record {
	v := visitOf(req)
	return &record{
		visit: v, asked: asked, start: time.Now(), tally: tally{metrics: r.Metrics},
		trace: trace.Trace{Caller: v.caller.Share},
	}
}

// complete notes a Done chunk, which is only valid now.
func (rec *record) complete(done *chat.Completion) {
	rec.done = done.Clone()
}

// ended is the error of a sequence that ended without one.
func (rec *record) ended() error {
	if rec.done == nil {
		return &chat.Error{Code: chat.UpstreamTruncated, Message: "the provider's answer broke off", Err: errors.New("the upstream ended with neither done nor an error: a bug there")}
	}
	return nil
}

// conclude decides how a stream ended. unsent tells whether a write to the client failed.
func (r *Relay) conclude(rec *record, req *http.Request, err error, unsent bool) {
	rec.cause = err
	switch {
	case err == nil && rec.done.FinishReason == chat.FinishStopped:
		rec.reason = reasonStopped
	case err == nil || errors.Is(err, stream.ErrEnd):
		rec.reason = reasonCompleted
	case errors.Is(err, errSlowClient):
		rec.reason = reasonSlowClient
	case errors.Is(err, stream.ErrReleased):
		rec.reason = reasonReleased
	case errors.Is(err, stream.ErrHeld):
		rec.reason = reasonHeld
	case unsent || req.Context().Err() != nil:
		// The context may learn of it a moment later than a write does. What kind of error it is says nothing:
		// a provider's may be any.
		rec.reason = reasonClientGone
		if r.life.Err() != nil { // it is this end of the connection that is going away
			rec.fail(context.Cause(r.life))
		}
	default:
		rec.fail(err)
	}
}

// abort breaks the response off, on its connection as well, when it has no end of its own. The client may have
// closed only its own side, as some do after a request: it still reads, and many take a clean end of the body for the
// end of the answer.
func (rec *record) abort() {
	if rec.cut {
		panic(http.ErrAbortHandler)
	}
}

func (rec *record) fail(err error) {
	rec.failure = chat.AsError(err)
	rec.reason = string(rec.failure.Code)
}

func isChatError(err error) bool {
	_, ok := errors.AsType[*chat.Error](err)
	return ok
}

// outcome is conclude for a generation, whose client is the log.
func (rec *record) outcome(o stream.Outcome) {
	rec.id = o.ID
	rec.first, rec.chunks, rec.bytes = o.First, int64(o.Chunks), o.Bytes
	rec.done, rec.failure = o.Done, o.Err
	switch {
	case o.Fenced:
		rec.reason = reasonFenced
	case o.Err != nil:
		rec.reason = string(o.Err.Code)
	case o.Done.FinishReason == chat.FinishStopped:
		rec.reason = reasonStopped
	default:
		rec.reason = reasonCompleted
	}
}

// countStream counts a stream, once, and makes its log line.
func (r *Relay) countStream(rec *record) {
	r.Metrics.ended.WithLabelValues(rec.reason).Inc()
	r.Metrics.chunks.Add(float64(rec.chunks))
	r.Metrics.bytes.Add(float64(rec.bytes))
	r.tell(rec, "stream")
}

// countGeneration does the same for the generation of a resumable stream, whoever reads it.
func (r *Relay) countGeneration(rec *record) {
	r.Metrics.generations.WithLabelValues(rec.reason).Inc()
	r.tell(rec, "generation")
}

// tell makes a log line, and counts the requests to providers.
func (r *Relay) tell(rec *record, what string) {
	for _, a := range rec.trace.Attempts {
		r.Metrics.attempts.WithLabelValues(a.Upstream, outcome(a.Err)).Inc()
		r.warnOfKey(rec.visit, a)
	}
	if rec.trace.Hedged {
		r.Metrics.hedges.Inc()
	}
	if rec.trace.TooMuch {
		r.Metrics.noState.Inc()
	}

	level := zerolog.InfoLevel
	if rec.failure != nil {
		level = zerolog.WarnLevel
	}
	e := r.Log.WithLevel(level)
	if !e.Enabled() {
		return
	}
	caller := rec.visit.caller
	e.Str("request_id", rec.visit.id).Str("reason", rec.reason).Stringer("client", caller.Addr)
	if caller.Name != "" {
		e.Str("caller", caller.Name)
	}
	if rec.id != "" {
		e.Str("stream", rec.id[:8]) // whole, it would let a reader of the log attach
	}
	if model := rec.model(); model != "" {
		e.Str("model", shorten(r.redact.Replace(model), shortText))
	}
	if ignored := rec.visit.ignored; ignored != "" && what == "stream" {
		e.Str("ignored", shorten(r.redact.Replace(ignored), longText))
	}
	if n := len(rec.trace.Attempts); n > 0 {
		e.Str("upstream", rec.trace.Attempts[n-1].Upstream).Int("attempts", n)
		if n > 1 {
			e.Strs("tried", tried(rec.trace.Attempts)).Bool("hedged", rec.trace.Hedged)
		}
	}
	if rec.chunks > 0 {
		e.Dur("first_chunk_ms", rec.first)
	}
	e.Dur("duration_ms", time.Since(rec.start)).Int64("chunks", rec.chunks).Int64("bytes", rec.bytes)
	if rec.done != nil {
		e.Str("finish_reason", string(rec.done.FinishReason))
		if u := rec.done.Usage; u != nil {
			e.Int64("prompt_tokens", u.PromptTokens).Int64("completion_tokens", u.CompletionTokens)
			if u.CachedTokens > 0 {
				e.Int64("cached_tokens", u.CachedTokens)
			}
			if u.ReasoningTokens > 0 {
				e.Int64("reasoning_tokens", u.ReasoningTokens)
			}
		}
	}
	if rec.failure != nil {
		e.Str("error", shorten(r.redact.Replace(rec.failure.Error()), longText))
	} else if rec.reason == reasonSlowClient {
		e.Str("error", rec.cause.Error())
	}
	e.Msg(what)
}

// model is the one that was asked for or, where that is the provider's or the relay's choice, the one that
// answered.
func (rec *record) model() string {
	if rec.asked == "" && rec.done != nil {
		return rec.done.Model
	}
	return rec.asked
}

// tried is what every attempt came to, in order. Those that came to the same are one entry: a server that starts is
// asked many times.
func tried(attempts []trace.Attempt) []string {
	var all []string
	for i := 0; i < len(attempts); {
		a, same := attempts[i], 1
		for i+same < len(attempts) && attempts[i+same].Upstream == a.Upstream && outcome(attempts[i+same].Err) == outcome(a.Err) {
			same++
		}
		entry := a.Upstream + " " + outcome(a.Err)
		if same > 2 {
			entry += " ×" + strconv.Itoa(same)
		} else if same == 2 {
			all = append(all, entry)
		}
		all = append(all, entry)
		i += same
	}
	return all
}

// warnOfKey says aloud that a provider refuses the relay's key or account: while another one answers, nobody
// else would tell.
func (r *Relay) warnOfKey(v *visit, a trace.Attempt) {
	if isChatError(a.Err) && chat.AsError(a.Err).Code == chat.UpstreamAuth {
		r.Log.Error().Str("request_id", v.id).Str("upstream", a.Upstream).
			Str("error", shorten(r.redact.Replace(a.Err.Error()), longText)).
			Msg("the provider refuses the relay's key or account")
	}
}

// outcome is a bounded set of labels for an attempt.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case isChatError(err):
		return string(chat.AsError(err).Code)
	}
	return "cancelled"
}
