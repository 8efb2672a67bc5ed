package handler

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/dialect"
)

const (
	firstRoom = 256      // bytes for frames, at first: a text chunk takes a hundred
	maxHeld   = 16 << 10 // bytes that may wait to share a write
	maxKept   = 64 << 10 // bytes of buffer that a stream keeps
)

// errSlowClient ends a stream whose client does not read.
var errSlowClient = errors.New("handler: the client did not read in time")

// eventWriter writes the frames of one stream: whole ones, one at a time, each write with a deadline.
// When nothing else is written for a while it writes pings, from a timer, which also ends the answer when that takes
// too long: a timer for each of the two would cost every request. Times are since start.
//
// What a chunk needs of it lies together: with many streams none of it is in a cache any more when the
// next chunk comes.
type eventWriter struct {
	beat    time.Duration
	cancel  context.CancelCauseFunc // ends the stream when a write fails, a ping's for instance
	w       http.ResponseWriter
	rc      http.ResponseController
	start   time.Time
	timeout time.Duration
	max     int64 // bytes, 0: no cap
	encoder dialect.Encoder
	header  http.Header // see Dialect.Header
	http1   bool        // HTTP/1.1
	http2   bool
	chat    bool // the end has to be on its way when the handler has it, see noteRead
	waits   bool // the headers wait for the first chunk or heartbeat, see Dialect.OfProvider

	mu    sync.Mutex // held while a frame is made and written; guards the rest
	begun bool       // something was written, or may have been
	// nothing may follow, not even a ping; the stream's goroutine sets it, and reads it without mu
	over     bool
	buf      []byte        // frames not yet written
	last     time.Duration // of the last write
	deadline time.Duration // of writes on the connection
	sent     tally
	answered int64 // bytes of the chunks so far, also of those that the dialect does not show
	err      error // the first one; after it nothing is written
	room     [firstRoom]byte
	timer    *time.Timer    // for the headers, then for the heartbeat and the end of longest
	ticks    sync.WaitGroup // calls by the timer that are due or running
	longest  time.Duration  // see record
	shares   bool           // the end waits for a write with what the server sends then
}

// The headers of an event stream. Setting them from here allocates nothing.
var (
	streamHeaders = http.Header{
		"Content-Type":           {"text/event-stream; charset=utf-8"},
		"Cache-Control":          {"no-cache, no-transform"},
		"X-Accel-Buffering":      {"no"},
		"X-Content-Type-Options": {"nosniff"},
	}
	keepAlive = []string{"keep-alive"}
	chunked   = []string{"chunked"}
)

// headersWithin is how long the headers wait for a first frame to go with. A provider that answers within it saves
// its client a packet and the relay a sixth of the whole request; any other has its client see the headers before it
// has answered.
const headersWithin = 10 * time.Millisecond

// lastWords is how long a write may take when the longest time of an answer is over.
const lastWords = time.Second

// longestHold ends the wait of a status for the first chunk where there is no heartbeat to end it.
const longestHold = 15 * time.Second

// newEventWriter begins the response with what its encoder begins with, and starts the heartbeat. cancel is called
// with the error when a write fails. close must be called.
func (r *Relay) newEventWriter(
	w http.ResponseWriter, req *http.Request, cancel context.CancelCauseFunc, encoder dialect.Encoder, rec *record,
) *eventWriter {
	e := &eventWriter{
		w: w, rc: *http.NewResponseController(w), start: rec.start,
		http1: req.ProtoMajor == 1 && req.ProtoMinor == 1, http2: req.ProtoMajor >= 2, chat: visitOf(req).chat != "",
		timeout: r.writeTimeout, beat: r.heartbeat, max: r.maxStreamBytes, cancel: cancel,
		encoder: encoder, header: visitOf(req).dialect.Header, sent: rec.tally, longest: rec.longest,
	}
	e.buf = encoder.Start(e.room[:0])
	hold := headersWithin
	if e.waits = visitOf(req).dialect.OfProvider; e.waits {
		hold = cmp.Or(e.beat, longestHold)
	}
	if e.longest > 0 {
		hold = min(hold, e.longest)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ticks.Add(1)
	e.timer = time.AfterFunc(hold, e.tick)
	return e
}

// writeHeaders is for the first write. The caller holds mu.
func (e *eventWriter) writeHeaders() {
	e.begun = true
	maps.Copy(e.w.Header(), streamHeaders)
	maps.Copy(e.w.Header(), e.header)
	if e.http1 {
		e.w.Header()["Connection"] = keepAlive
		e.w.Header()["Transfer-Encoding"] = chunked // said, so that the server counts no length when all is one write
	}
	e.w.WriteHeader(http.StatusOK)
}

// withdraw tells whether the response can still be another one than a stream: nothing of it was written, and the
// client waits for its status. Nothing will be written then.
func (e *eventWriter) withdraw() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.waits || e.begun || e.err != nil || len(e.buf) > 0 { // what the provider said first must not be lost
		return false
	}
	e.over = true
	return true
}

// chunk writes a chunk's frame. When the producer has more in hand the frame may wait for it.
func (e *eventWriter) chunk(c chat.Chunk) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.Type != chat.Pause {
		if e.isTooMuch(&c) {
			return errTooBig
		}
		e.buf = e.encoder.Chunk(e.buf, c)
		e.sent.held++
	}
	if c.More && len(e.buf) < maxHeld || len(e.buf) == 0 {
		return e.err
	}
	return e.flush()
}

// isTooMuch tells whether the answer is too long with c. It is asked before there are frames of c: once the encoder
// has made some they have to be sent, because those that follow build on them. The caller holds mu.
func (e *eventWriter) isTooMuch(c *chat.Chunk) bool {
	n := int64(c.Size())
	e.answered += n
	return e.max > 0 && max(e.answered, e.sent.bytes+int64(len(e.buf))+n) > e.max
}

// finish writes the frames of a Done chunk and what the dialect has behind them. When the sequence ends with it at
// once (see chat.Streamer) they share a write with what the server sends to end the response, unless something else
// takes time before that (see noteRead). The end of a long answer is written here: its client may not read any more,
// of which a write by the server would tell nobody.
func (e *eventWriter) finish(c chat.Chunk) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.buf = e.encoder.Close(e.encoder.Chunk(e.buf, c))
	e.over = true
	if !c.More || !e.http1 || e.chat || e.sent.bytes+int64(len(e.buf)) > maxHeld {
		return e.flush()
	}
	e.shares = true
	if !e.timer.Reset(headersWithin) { // the sequence may take longer to its end than it says
		e.ticks.Add(1)
	}
	return e.write(false)
}

// fail writes the frames of an error, whose position in the stream is seq, or 0 when it is not the stream's. It tells
// whether there are such frames: not all clients can be told.
func (e *eventWriter) fail(failure *chat.Error, seq uint64) (told bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := len(e.buf)
	e.buf = e.encoder.Fail(e.buf, failure, seq)
	told = len(e.buf) > before
	e.over = true
	_ = e.flush() // the failure is counted all the same
	return told
}

// reconnect asks the client to come back after wait.
func (e *eventWriter) reconnect(wait time.Duration) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.buf = e.encoder.Reconnect(e.buf, wait)
	e.over = true
	return e.flush()
}

// failed is why frames could not be written, nil when all could.
func (e *eventWriter) failed() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// counts is what was written.
func (e *eventWriter) counts() tally {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sent
}

// flush writes what there is, down to the network: what stays in the server's buffer is lost without an
// error. The caller holds mu.
func (e *eventWriter) flush() error { return e.write(true) }

func (e *eventWriter) write(through bool) error {
	if e.err != nil {
		return e.err
	}
	if !e.begun {
		e.writeHeaders()
	}
	began := time.Since(e.start)
	err := e.extendDeadline(began)
	if err == nil && len(e.buf) > 0 {
		_, err = e.w.Write(e.buf)
	}
	if err == nil && through {
		err = e.rc.Flush()
	}
	if err == nil && e.http2 {
		err = e.rc.SetWriteDeadline(time.Time{})
	}
	switch {
	case err == nil:
		e.sent.wrote(began)
	case errors.Is(err, os.ErrDeadlineExceeded) || time.Since(e.start)-began >= e.timeout:
		e.err = errSlowClient
	default:
		e.err = err
	}
	if e.err != nil {
		e.cancel(e.err)
	}
	e.sent.bytes += int64(len(e.buf))
	e.last = began
	if e.buf = e.buf[:0]; cap(e.buf) > maxKept {
		e.buf = e.room[:0]
	}
	return e.err
}

// extendDeadline gives a write that begins now its time, and up to an eighth more: on HTTP/1 the deadline
// is moved only when that is used up and it can be moved, which is not with every chunk. On HTTP/2 it has to be set
// for every write and cleared after it, because there it ends the stream when it passes, write or no write.
func (e *eventWriter) extendDeadline(now time.Duration) error {
	deadline := now + e.timeout + e.timeout/8
	if e.longest > 0 { // a client that does not read does not keep the provider any longer
		deadline = min(deadline, max(e.longest, now)+lastWords)
	}
	if (now+e.timeout < e.deadline || deadline == e.deadline) && !e.http2 {
		return nil
	}
	e.deadline = deadline
	return e.rc.SetWriteDeadline(e.start.Add(e.deadline))
}

// tick writes the headers, unless a chunk has taken them along, or a ping if it is time for one, and comes back when
// the next may be due. Headers that wait for a chunk go with the first ping. An answer that takes too long is ended,
// and an end that waits for too long is sent.
func (e *eventWriter) tick() {
	defer e.ticks.Done()
	e.mu.Lock() // a chunk's write may be under way, for as long as its deadline
	defer e.mu.Unlock()
	if e.shares {
		e.shares = false
		_ = e.flush()
		return
	}
	if e.over || e.err != nil {
		return
	}
	if e.longest > 0 && time.Since(e.start) >= e.longest {
		e.cancel(errTooLong)
		return
	}
	switch {
	case !e.begun && (!e.waits || e.beat <= 0):
		_ = e.flush()
	case e.beat > 0 && e.silence() >= e.beat:
		e.buf = e.encoder.Ping(e.buf)
		_ = e.flush()
	}
	if next, due := e.nextTick(); due && e.err == nil {
		e.ticks.Add(1)
		e.timer.Reset(next)
	}
}

// nextTick is how long it is until a ping may be due, or the answer takes too long. It is not due when neither will
// be. The caller holds mu.
func (e *eventWriter) nextTick() (next time.Duration, due bool) {
	if e.beat > 0 {
		next, due = e.beat-e.silence(), true
	}
	if e.longest > 0 {
		if left := e.longest - time.Since(e.start); !due || left < next {
			next, due = left, true
		}
	}
	return next, due
}

// silence is how long nothing was written. The caller holds mu.
func (e *eventWriter) silence() time.Duration { return time.Since(e.start) - e.last }

// close stops the timer and waits for what it is writing. No method may be called after.
func (e *eventWriter) close() {
	e.mu.Lock()
	e.over = true
	e.mu.Unlock()
	if e.timer.Stop() {
		e.ticks.Done()
	}
	e.ticks.Wait()
}
