package handler

import (
	"context"
	"crypto/sha256"
	"errors"
	"iter"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/dialect"
	"github.com/websopy/relay/internal/stream"
	"github.com/websopy/relay/internal/upstream/trace"
)

// reconnectJitter is how long one of many clients waits that are sent away at once.
func reconnectJitter() time.Duration { return time.Second/2 + rand.N(2*time.Second) }

// longestReconnect is how long a client is asked to wait, besides, for what it has used to come back.
const longestReconnect = time.Minute

// maxKey bounds an idempotency key, in bytes.
const maxKey = 255

// startResumable starts a resumable stream, or finds the one that was asked for before. f is nil when there is none to
// follow: the request was refused, or, not refused, such streams are not to be had now. Only then the charge is still
// to be settled, by who asks the provider.
func (r *Relay) startResumable(
	w http.ResponseWriter, req *http.Request, ask *dialect.Ask, body *[sha256.Size]byte, charge *charge,
) (f *stream.Follower, rec *record, refused bool) {
	key, err := idempotencyKey(req)
	if err != nil {
		charge.cancel()
		r.fail(w, req, err)
		return nil, nil, true
	}
	visitOf(req).chat = chatOf(req, ask.Chat)
	rec = r.newRecord(req, ask.Model)
	generation := r.newRecord(req, ask.Model)
	generation.charge = charge
	rec.span = r.tracer.Request(req, visitOf(req).id)
	generation.span = rec.span.Generation()
	head := r.head(req, ask)
	head.Trace = generation.span.Traceparent()
	question := visitOf(req).question
	f, replayed, startErr := r.streams.Start(req.Context(), stream.Request{
		Owner: visitOf(req).caller.Owner, Share: visitOf(req).caller.Share, Key: key, Body: *body,
		Chat: visitOf(req).chat,
		Head: head, Question: questionSize(&ask.Request),
		Produce: func(ctx context.Context) iter.Seq2[chat.Chunk, error] {
			ctx = trace.With(generation.span.In(ctx, &generation.trace), &generation.trace)
			return charge.all(r.router.Stream(ctx, &ask.Request))
		},
		Begun: question.Release,
		Ended: func(o stream.Outcome) {
			question.Release()
			generation.concludeGeneration(o)
			facts := generation.facts()
			r.telemetry.GenerationEnded(&facts)
		},
	})
	if errors.Is(startErr, stream.ErrUnavailable) {
		r.telemetry.Unavailable()
		return nil, nil, false
	}
	if startErr != nil || replayed {
		charge.cancel()
	}
	if startErr != nil {
		r.turnAway(w, req, chat.AsError(noPlace(startErr)))
		return nil, nil, true
	}
	if replayed {
		if err := r.mayAttach(w, req, f.ID()); err != nil {
			f.Close()
			r.turnAway(w, req, err)
			return nil, nil, true
		}
		w.Header().Set("Idempotency-Replayed", "true")
		rec.span = nil // see follow
	} else {
		visitOf(req).question = nil // the generation's: this client may leave before the provider has answered
	}
	return f, rec, false
}

// serveEarlier follows the stream that the same request started before, if it did: then nobody is asked again, and the
// caller's limits don't matter.
func (r *Relay) serveEarlier(
	w http.ResponseWriter, req *http.Request, ask *dialect.Ask, body *[sha256.Size]byte,
) bool {
	if !ask.Resumable || r.streams == nil {
		return false
	}
	key, err := idempotencyKey(req)
	if err != nil || key == "" {
		return false
	}
	f := r.streams.Find(req.Context(), visitOf(req).caller.Owner, key, *body)
	if f == nil {
		return false
	}
	if err := r.mayAttach(w, req, f.ID()); err != nil {
		f.Close()
		r.turnAway(w, req, err)
		return true
	}
	w.Header().Set("Idempotency-Replayed", "true")
	rec := r.newRecord(req, ask.Model)
	if ask.Stream {
		r.serve(w, req, f, dialect.Response{}, rec)
	} else {
		r.serveWhole(w, req, f, rec)
	}
	return true
}

// questionSize is what a question takes until its answer begins, decoded and encoded for a provider, in bytes.
func questionSize(ask *chat.Request) int64 {
	const each = 64 // bytes that a provider's format needs for a message or a tool, about
	decoded, text := ask.Size()
	encoded := text + each*int64(len(ask.Messages)+len(ask.Tools))
	return decoded + encoded + encoded/4 // a buffer that has grown is not full
}

// leastOpenKey is how long an idempotency key must be where all callers are one owner, so that nobody finds the
// answer of somebody else by guessing. A UUID is longer.
const leastOpenKey = 32

// idempotencyKey is the request's, or empty. A GET has none: it has no body to compare. On an open relay keys that
// could be guessed are ignored, not refused: some HTTP clients send keys like that by themselves.
func idempotencyKey(req *http.Request) (string, *chat.Error) {
	if req.Method != http.MethodPost {
		return "", nil
	}
	key := req.Header.Get("Idempotency-Key")
	valid := len(key) <= maxKey && !strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' })
	switch open := visitOf(req).caller.Owner == ""; {
	case open && (!valid || len(key) < leastOpenKey):
		return "", nil
	case !valid:
		return "", &chat.Error{Code: chat.InvalidRequest,
			Message: "Idempotency-Key: want at most 255 printable ASCII characters without spaces"}
	}
	return key, nil
}

// serveNew is serve from the beginning. It is apart from answer for the sake of the stack: see answerHere.
//
//go:noinline
func (r *Relay) serveNew(w http.ResponseWriter, req *http.Request, f *stream.Follower, rec *record) {
	r.serve(w, req, f, dialect.Response{}, rec)
}

// serve follows a resumable stream for one client, from its beginning or from where f stands.
func (r *Relay) serve(w http.ResponseWriter, req *http.Request, f *stream.Follower, of dialect.Response, rec *record) {
	defer f.Close()
	// Neither the end of this process nor a stream's longest time ends the connection: they end the
	// stream, in the log, and so for everybody who reads it.
	ctx, cancel := context.WithCancelCause(req.Context())
	defer cancel(nil)
	rec.id, rec.resumed = f.ID(), of.Resumed
	r.follow(req, f, rec)
	w.Header().Set("X-Stream-Id", f.ID())
	of.Head = f.Head()
	of.Grace, of.Retention = r.streams.Keeps()
	r.stream(cancel, w, req, f.Chunks(ctx), r.encoder(req, of), rec)
	r.noteRead(req, rec)
	r.ended(rec)
	rec.abort(req)
}

// follow begins the trace of who reads an answer that another request began.
//
//go:noinline
func (r *Relay) follow(req *http.Request, f *stream.Follower, rec *record) {
	if rec.span == nil {
		rec.span = r.tracer.Request(req, visitOf(req).id)
		rec.span.LinkTo(f.Head().Trace)
	}
}

// serveWhole follows a resumable stream to its end, for a client that wants one JSON object. The answer is generated
// on when the client, or a proxy in front, has lost its patience, and the same request again waits for the rest.
func (r *Relay) serveWhole(w http.ResponseWriter, req *http.Request, f *stream.Follower, rec *record) {
	defer f.Close()
	rec.id = f.ID()
	r.follow(req, f, rec)
	w.Header().Set("X-Stream-Id", f.ID())
	if visitOf(req).question != nil { // else it is a generation's: this is the first who asks
		rec.again = r.bodies.Hold(visitOf(req).caller.Share)
		defer rec.again.Release()
	}
	r.whole(w, req, f.Head(), f.Chunks(req.Context()), rec)
	r.ended(rec)
	rec.abort(req)
}

// lastEventID is where the client stopped reading. The header is what clients send by themselves; the
// parameter is for those that can't set one.
func lastEventID(req *http.Request) string {
	if id := header(req, "Last-Event-Id"); id != "" {
		return id
	}
	return parameter(req, "last_event_id")
}

// resumedFrom is lastEventID, for a POST that may be a request sent again.
func resumedFrom(req *http.Request) string {
	if d := visitOf(req).dialect; d.OfProvider || d.Words { // their frames have no ids
		return ""
	}
	return lastEventID(req)
}

// parameter is one of the URL's. Most requests have none, and parsing costs.
func parameter(req *http.Request, name string) string {
	if req.URL.RawQuery == "" {
		return ""
	}
	return req.URL.Query().Get(name)
}

// attachStream follows the stream that the path names.
func (r *Relay) attachStream(w http.ResponseWriter, req *http.Request) {
	id := chi.URLParam(req, "id")
	cursor := lastEventID(req)
	if cursor == "" {
		r.attach(w, req, id, dialect.Response{})
		return
	}
	of, seq, ok := stream.ParseCursor(cursor)
	if !ok || of != id {
		id = "" // nobody's
	}
	r.attach(w, req, id, dialect.Response{Resumed: true, After: seq})
}

// resume follows the stream that a client read before, when it sends its first request again.
func (r *Relay) resume(w http.ResponseWriter, req *http.Request, cursor string) {
	id, seq, _ := stream.ParseCursor(cursor)
	r.attach(w, req, id, dialect.Response{Resumed: true, After: seq})
}

func (r *Relay) attach(w http.ResponseWriter, req *http.Request, id string, of dialect.Response) {
	if err := r.mayAttach(w, req, id); err != nil {
		r.turnAway(w, req, err)
		return
	}
	place, refused := r.enter(req)
	if refused != nil {
		r.turnAway(w, req, refused)
		return
	}
	defer r.leave(place)
	var err error = errNoStreams
	var f *stream.Follower
	if r.streams != nil {
		f, err = r.streams.Attach(req.Context(), visitOf(req).caller.Owner, id, of.After)
		if errors.Is(err, stream.ErrEnd) && req.Method == http.MethodPost && acceptsEvents(req) {
			// fetch-event-source asks again after anything but an event stream with an end: it gets the end once more.
			of.After--
			f, err = r.streams.Attach(req.Context(), visitOf(req).caller.Owner, id, of.After)
		}
	}
	if err == nil && of.After > 0 && visitOf(req).dialect.FromBeginning {
		f.Close() // the position is a good one, and where it stands in the answer its beginning tells
		f, err = r.streams.Attach(req.Context(), visitOf(req).caller.Owner, id, 0)
	}
	switch {
	case err == nil:
		r.serve(w, req, f, of, r.newRecord(req, f.Head().Model))
	case errors.Is(err, stream.ErrEnd):
		w.WriteHeader(http.StatusNoContent) // which tells an EventSource to stop
	default:
		r.turnAway(w, req, chat.AsError(err))
	}
}

var errNoStreams = &chat.Error{Code: chat.StreamNotFound, Message: "there is no such stream"}

func acceptsEvents(req *http.Request) bool {
	return strings.Contains(req.Header.Get("Accept"), "text/event-stream")
}

// turnAway says no in the way that the client understands. An EventSource gives up at any status but
// 200, and fetch-event-source, which sends its POST again, at none.
func (r *Relay) turnAway(w http.ResponseWriter, req *http.Request, e *chat.Error) {
	events := acceptsEvents(req)
	final := e.Code == chat.StreamNotFound || e.Code == chat.CursorExpired
	if !events || visitOf(req).dialect.Name() != "" || final == (req.Method == http.MethodGet) {
		r.fail(w, req, e)
		return
	}
	r.logRefusal(req, e)
	encoder := r.encoder(req, dialect.Response{Resumed: true})
	out := r.newEventWriter(w, req, func(error) {}, encoder, r.newRecord(req, ""))
	defer out.close()
	if final {
		out.fail(r.shown(e), 0)
		return
	}
	wait := reconnectJitter()
	if e.Code == chat.RateLimited {
		wait += min(e.RetryAfter, longestReconnect)
	}
	_ = out.reconnect(wait)
	abort(req)
}

// stopStream ends a stream for its user. It may be elsewhere, so it ends soon rather than now.
func (r *Relay) stopStream(w http.ResponseWriter, req *http.Request) {
	r.stop(w, req, chi.URLParam(req, "id"))
}

func (r *Relay) stop(w http.ResponseWriter, req *http.Request, id string) {
	if err := r.mayAttach(w, req, "stop "+id); err != nil { // by itself: who reads in a loop can be stopped
		r.fail(w, req, err)
		return
	}
	var err error = errNoStreams
	if r.streams != nil {
		err = r.streams.Stop(req.Context(), visitOf(req).caller.Owner, id)
	}
	if err != nil {
		r.fail(w, req, chat.AsError(err))
		return
	}
	w.WriteHeader(http.StatusAccepted)
}
