package handler

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/limit"
	"github.com/websopy/relay/internal/stream"
	"github.com/websopy/relay/internal/telemetry"
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
	label string // of the model in metrics
	id    string // of a resumable stream
	start time.Time
	trace trace.Trace
	span  *telemetry.Span

	tally
	charge *charge // of who asked the provider; nil: there is none, or it is another record's
	done   *chat.Completion

	reason  string
	failure *chat.Error // what the client is told, nil when there is nothing to tell or nobody to tell it
	seq     uint64      // the failure's position in a resumable stream, 0 when it has none
	cause   error       // for the log
	cut     bool        // the response has no end of its own, and must not look as if it had one

	longest time.Duration // that the answer may take; 0: as long as it will, or others see to that
	again   *limit.Held   // of a whole answer that was asked for before: room for it, see collect; nil: it is not that
}

// tally counts what was written of one stream, or what came for an answer that is written whole. Times are
// since the stream's start.
type tally struct {
	metrics     *telemetry.Metrics // that the times go into
	resumed     bool               // the client had the beginning already
	first, last time.Duration      // of chunks
	held        int64              // chunks that wait to be written
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
			t.metrics.FirstChunk(at)
		}
	default:
		t.metrics.ChunkGap(at - t.last)
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
		visit: v, asked: asked, label: r.modelLabel(asked), start: time.Now(), tally: tally{metrics: r.metrics},
		trace: trace.Trace{Caller: v.caller.Share, RequestID: v.id},
	}
}

// watch begins the trace of a stream whose provider is asked in ctx. Its frame, like that of follow, is apart from
// those that stay while the answer comes.
//
//go:noinline
func (r *Relay) watch(ctx context.Context, req *http.Request, rec *record) context.Context {
	rec.span = r.tracer.Request(req, visitOf(req).id)
	return trace.With(rec.span.In(ctx, &rec.trace), &rec.trace)
}

// complete notes a Done chunk, which is only valid now.
func (rec *record) complete(done *chat.Completion) {
	rec.done = done.Clone()
}

// ended is the error of a sequence that ended without one.
func (rec *record) ended() error {
	if rec.done == nil {
		return &chat.Error{Code: chat.UpstreamTruncated, Message: "the provider's answer broke off",
			Err: errors.New("the upstream ended with neither done nor an error: a bug there")}
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

// abort breaks the response off when it has no end of its own.
func (rec *record) abort(req *http.Request) {
	if rec.cut {
		abort(req)
	}
}

// abort breaks a response off, on its connection as well. The client may have closed only its own side, as some do
// after a request: it still reads, and many take a clean end of the body for the end of the answer. A body of HTTP/1.0
// ends with its connection, which is therefore reset: nginx, as it is set by default, asks so.
func abort(req *http.Request) {
	if conn, known := req.Context().Value(connKey{}).(*connection); known && !req.ProtoAtLeast(1, 1) {
		delivered(req.Context()) // a reset takes what is under way with it
		conn.reset()
	}
	panic(http.ErrAbortHandler)
}

func (rec *record) fail(err error) {
	rec.failure = chat.AsError(err)
	rec.reason = string(rec.failure.Code)
}

// concludeGeneration is conclude for a generation, whose client is the log.
func (rec *record) concludeGeneration(o stream.Outcome) {
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

// ended tells of a stream that is over. Its facts are many, and not in the frame of who waits for its end: see
// checked.
//
//go:noinline
func (r *Relay) ended(rec *record) {
	facts := rec.facts()
	r.telemetry.StreamEnded(&facts)
}

// facts are what operators are told of a stream, which has ended and been paid for.
func (rec *record) facts() telemetry.Stream {
	rec.charge.settle()
	v := rec.visit
	s := telemetry.Stream{
		RequestID: v.id, Client: v.caller.Addr, Caller: v.caller.Name,
		ID: rec.id, Model: rec.asked, Label: rec.label, Ignored: v.ignored,
		Trace: &rec.trace, Span: rec.span, Done: rec.done,
		Start: rec.start, First: rec.first, Chunks: rec.chunks, Bytes: rec.bytes,
		Reason: rec.reason, Failure: rec.failure,
	}
	if rec.reason == reasonSlowClient {
		s.Cause = rec.cause
	}
	if rec.charge != nil && rec.charge.estimated {
		s.Estimated = &rec.charge.usage
	}
	return s
}

func isChatError(err error) bool {
	_, ok := errors.AsType[*chat.Error](err)
	return ok
}
