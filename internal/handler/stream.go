package handler

import (
	"context"
	"crypto/sha256"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/dialect"
	"github.com/websopy/relay/internal/limit"
)

// postStream is the main job: a request body in, an event stream out.
func (r *Relay) postStream(w http.ResponseWriter, req *http.Request) {
	v := visitOf(req)
	v.question = r.bodies.Hold(v.caller.Share)
	defer func() { v.question.Release() }() // unless it was handed on
	ask, hash, err := r.readAsk(w, req)
	switch cursor := resumedFrom(req); {
	case err != nil:
		r.fail(w, req, err)
	case cursor != "":
		r.resume(w, req, cursor)
	default:
		r.answer(w, req, ask, hash)
	}
}

var (
	errMediaType = &chat.Error{Code: chat.UnsupportedMediaType, Message: "Content-Type: want application/json"}
	errEncoding  = &chat.Error{Code: chat.UnsupportedMediaType, Message: "Content-Encoding: want none"}
)

// readAsk reads and decodes the body, and gives its hash. A request that resumes a stream is not decoded.
func (r *Relay) readAsk(w http.ResponseWriter, req *http.Request) (*dialect.Ask, *[sha256.Size]byte, *chat.Error) {
	if encoding := header(req, "Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, nil, errEncoding
	}
	typ, _, _ := strings.Cut(header(req, "Content-Type"), ";")
	if !strings.EqualFold(strings.TrimSpace(typ), "application/json") {
		return nil, nil, errMediaType
	}
	body, failure := r.readBody(w, req, visitOf(req).question)
	if failure != nil {
		return nil, nil, failure
	}
	if choose := visitOf(req).dialect.choose; choose != nil {
		visitOf(req).dialect = choose(req, body)
	}
	if resumedFrom(req) != "" {
		return nil, nil, nil
	}
	ask, err := visitOf(req).dialect.Decode(body)
	if err != nil {
		return nil, nil, chat.AsError(err)
	}
	ask.Resumable = ask.Resumable || parameter(req, "resumable") == "true" && !visitOf(req).dialect.OfProvider
	if !ask.Stream {
		// A whole answer has no positions: only with a key can its client come back to it.
		key, invalid := idempotencyKey(req)
		if invalid != nil {
			return nil, nil, invalid
		}
		ask.Resumable = key != ""
	}
	if !ask.Resumable {
		return ask, nil, nil
	}
	hash := sha256.Sum256(body)
	return ask, &hash, nil
}

// getStream is the same for one user message in the URL, for EventSource and a bare curl. It is always
// resumable: an EventSource connects again by itself, and would ask again.
func (r *Relay) getStream(w http.ResponseWriter, req *http.Request) {
	if cursor := lastEventID(req); cursor != "" {
		r.resume(w, req, cursor)
		return
	}
	q, malformed := url.ParseQuery(req.URL.RawQuery)
	if malformed != nil {
		r.fail(w, req, &chat.Error{Code: chat.InvalidRequest,
			Message: "the query of the URL can't be read: " + malformed.Error()})
		return
	}
	v := visitOf(req)
	v.question = r.bodies.Hold(v.caller.Share)
	defer func() { v.question.Release() }() // unless it was handed on
	if !v.question.Grow(v.largeHeader) {    // for the question in it
		r.turnAway(w, req, errNoRoom)
		return
	}
	// The model's name is kept as long as the answer is, and would keep all of the URL.
	ask, err := dialect.Question(q.Get("message"), strings.Clone(q.Get("model")))
	if err != nil {
		r.fail(w, req, chat.AsError(err))
		return
	}
	ask.Resumable = true
	r.answer(w, req, ask, new([sha256.Size]byte))
}

// answer checks what is left to check, runs the upstream and counts what came of it. body is the hash of
// the request's, for resumable streams.
func (r *Relay) answer(w http.ResponseWriter, req *http.Request, ask *dialect.Ask, body *[sha256.Size]byte) {
	if r.draining.Load() {
		r.fail(w, req, errDraining)
		return
	}
	if err := r.resolve(w, req, &ask.Request); err != nil {
		r.fail(w, req, err)
		return
	}
	connection, err := r.enter(req)
	if err != nil {
		r.turnAway(w, req, err)
		return
	}
	defer r.leave(connection)
	charge, err := r.reserve(w, req, &ask.Request)
	if err != nil && r.serveEarlier(w, req, ask, body) {
		return
	}
	if err != nil {
		charge, err = r.reserveForFormer(w, req, ask, err)
	}
	if err != nil {
		if err.Limit != "" { // empty: nobody knows now
			r.metrics.Limited(err.Limit)
		}
		r.turnAway(w, req, err)
		return
	}
	if ask.Resumable && r.streams != nil {
		f, rec, refused := r.startResumable(w, req, ask, body, charge)
		switch {
		case f != nil && !ask.Stream:
			r.serveWhole(w, req, f, rec)
			return
		case f != nil:
			r.serveNew(w, req, f, rec) // and then nothing more: while the answer is sent nobody needs ask
			return
		case refused:
			return
		}
	}
	place, full := r.generations.Take(req.Context(), visitOf(req).caller.Share)
	if full != nil {
		charge.cancel()
		r.turnAway(w, req, chat.AsError(noPlace(full)))
		return
	}
	r.answerHere(w, req, ask, place, charge)
}

// answerHere runs the upstream for an answer that ends with its connection, and counts what came of it. It is apart
// from answer for the sake of the stack: with more than a few defers and returns in one function each defer takes 48
// bytes.
func (r *Relay) answerHere(
	w http.ResponseWriter, req *http.Request, ask *dialect.Ask, place limit.Place, charge *charge,
) {
	defer place.Give()
	defer charge.settle() // for when there is a bug

	ctx, cancel := context.WithCancelCause(req.Context())
	defer cancel(nil)
	rec := r.newRecord(req, ask.Model)
	rec.charge, rec.longest, rec.trace.Cancel = charge, r.maxDuration, cancel
	r.running.add(rec, cancel)
	defer r.running.remove(rec)
	ctx = r.watch(ctx, req, rec)
	if ask.Stream {
		r.stream(cancel, w, req, r.router.Stream(ctx, &ask.Request), r.encoderHere(req, ask), rec)
	} else {
		r.wholeHere(ctx, cancel, w, req, ask, rec)
	}
	r.ended(rec)
	rec.abort(req)
}

var (
	errDraining = &chat.Error{Code: chat.Draining, Message: "the server is shutting down", RetryAfter: time.Second}
	errTooLong  = &chat.Error{Code: chat.StreamTooLong, Message: "the answer took longer than allowed"}
	errTooBig   = &chat.Error{Code: chat.StreamTooLong, Message: "the answer is longer than allowed"}
)

// head is what is known of the answer to a question before its first chunk.
func (r *Relay) head(req *http.Request, ask *dialect.Ask) chat.Head {
	return chat.Head{Model: ask.Model, Created: time.Now(), Dialect: visitOf(req).dialect.Name(), Note: ask.Note}
}

// wholeHere asks for one JSON object. Its frame, which has a head, is apart from those that streams have.
//
//go:noinline
func (r *Relay) wholeHere(
	ctx context.Context, cancel context.CancelCauseFunc, w http.ResponseWriter, req *http.Request,
	ask *dialect.Ask, rec *record,
) {
	if rec.longest > 0 {
		defer time.AfterFunc(rec.longest, func() { cancel(errTooLong) }).Stop()
	}
	r.whole(w, req, r.head(req, ask), r.router.Stream(ctx, &ask.Request), rec)
}

// encoderHere makes the frames of an answer that ends with its connection.
//
//go:noinline
func (r *Relay) encoderHere(req *http.Request, ask *dialect.Ask) dialect.Encoder {
	return r.encoder(req, dialect.Response{Head: r.head(req, ask)})
}

// encoder makes the frames of a response, in the dialect of its request.
func (r *Relay) encoder(req *http.Request, of dialect.Response) dialect.Encoder {
	of.Head.Model = r.shownModel(of.Head.Model)
	of.RequestID, of.Get = visitOf(req).id, req.Method == http.MethodGet
	return visitOf(req).dialect.Encoder(of)
}

// shownModel is what clients are told that answers them: what they asked for, or else the default.
func (r *Relay) shownModel(asked string) string {
	if models := r.router.Models(); asked == "" && len(models) > 0 {
		return models[0].ID
	}
	return asked
}

// stream writes one answer as frames.
func (r *Relay) stream(
	cancel context.CancelCauseFunc, w http.ResponseWriter, req *http.Request,
	chunks iter.Seq2[chat.Chunk, error], encoder dialect.Encoder, rec *record,
) {
	letHeaderGo(req)
	out := r.newEventWriter(w, req, cancel, encoder, rec)
	defer out.close()
	err := r.relay(out, req, chunks, rec)
	failed := out.failed()
	if err != nil && failed != nil {
		err = failed // a ping's write, perhaps, of which the upstream only saw that the request was over
	}
	r.conclude(rec, req, err, failed != nil)
	told := true
	switch {
	case rec.failure != nil && out.withdraw():
		r.respondError(w, req, rec.failure)
	case rec.failure != nil:
		told = out.fail(r.shown(rec.failure), rec.seq)
	case rec.reason == reasonReleased || rec.reason == reasonHeld:
		_ = out.reconnect(reconnectJitter())
	}
	rec.cut = !told || out.failed() != nil || rec.failure == nil && rec.reason != reasonCompleted &&
		rec.reason != reasonStopped
	rec.tally = out.counts()
}

// relay is the protocol loop. It returns nil only after a Done chunk whose frames were written; what the
// provider does after that does not matter any more.
func (r *Relay) relay(
	out *eventWriter, req *http.Request, chunks iter.Seq2[chat.Chunk, error], rec *record,
) (err error) {
	defer r.recoverInto(&err, req, rec)
	asking := true
	for c, err := range chunks {
		if asking && c.Type != chat.Pause {
			asking = false
			visitOf(req).question.Release()
		}
		if rec.charge != nil {
			rec.charge.chunk(&c, err)
		}
		switch {
		case out.over: // done was written, and nothing counts any more
		case err != nil:
			rec.seq = c.Seq
			return err
		case c.Type == chat.Done:
			if err := out.finish(c); err != nil {
				return err
			}
			rec.complete(c.Done)
		default:
			if err := out.chunk(c); err != nil {
				return err
			}
		}
	}
	return rec.ended()
}

// whole answers with one JSON object.
func (r *Relay) whole(
	w http.ResponseWriter, req *http.Request, head chat.Head, chunks iter.Seq2[chat.Chunk, error], rec *record,
) {
	letHeaderGo(req)
	head.Model = r.shownModel(head.Model)
	answer := dialect.Answer{Head: head}
	r.conclude(rec, req, r.collect(&answer, req, chunks, rec), false)
	switch {
	case rec.failure != nil:
		r.respondError(w, req, rec.failure)
	case rec.reason == reasonReleased: // with its key the client finds the answer at another replica
		r.respondError(w, req, errDraining)
	case rec.done != nil:
		body := append(visitOf(req).dialect.AppendAnswer(nil, &answer), '\n')
		r.body(w, req, http.StatusOK, "application/json; charset=utf-8", body)
		rec.bytes = int64(len(body))
	default:
		rec.cut = true
	}
}

func (r *Relay) collect(
	answer *dialect.Answer, req *http.Request, chunks iter.Seq2[chat.Chunk, error], rec *record,
) (err error) {
	defer r.recoverInto(&err, req, rec)
	size, room := int64(0), int64(0)
	for c, err := range chunks {
		rec.charge.chunk(&c, err)
		switch {
		case rec.done != nil: // nothing counts any more
			continue
		case err != nil:
			return err
		case c.Type == chat.Done:
			rec.complete(c.Done)
		case c.Type != chat.Pause:
			visitOf(req).question.Release()
			rec.held++
			rec.wrote(time.Since(rec.start))
		}
		answer.Add(c)
		if size += int64(c.Size()); r.maxStreamBytes > 0 && size > r.maxStreamBytes {
			return errTooBig
		}
		if rec.again != nil && size > room {
			more := max(size-room, size/4, firstWhole)
			if !rec.again.Grow(wholeTwice * more) {
				return errNoRoomAgain
			}
			room += more
		}
	}
	return rec.ended()
}

const (
	firstWhole = 16 << 10 // bytes of a whole answer that room is taken for at once, or more
	wholeTwice = 2        // a whole answer lies there in its pieces, and as the JSON that is sent
)

// errNoRoomAgain refuses a whole answer that was asked for before. It costs no tokens, so that somebody with a few
// long ones could have thousands made and read none: each is held until its client has read it, or
// RELAY_WRITE_TIMEOUT is over. Nobody has paid for this one, and the client gets it when it comes again.
var errNoRoomAgain = &chat.Error{Code: chat.Overloaded, RetryAfter: time.Second,
	Message: "there is no room to send this answer again now (see RELAY_BODY_BYTES)"}

// recoverInto turns a panic of a provider's code into the stream's error, unless the answer is complete.
func (r *Relay) recoverInto(err *error, req *http.Request, rec *record) {
	if v := recover(); v != nil {
		if failure := r.bugs.panicked(req, v); rec.done == nil {
			*err = failure
		}
	}
}
