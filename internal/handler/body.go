package handler

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/limit"
)

const (
	firstBody = 8 << 10  // bytes of room for a body; more is taken when they have come, whatever the client announces
	idleBody  = 64 << 10 // bytes that are read away of a body that means nothing
	bodyRate  = 4 << 10  // bytes a second that a body may need at worst, beyond its timeout
)

// bodyDeadline gives each request's body its time, whoever reads it: where no handler does, the server reads
// a part of it away before it answers. Nothing is read here.
func bodyDeadline(timeout time.Duration) check {
	return func(w http.ResponseWriter, req *http.Request) *chat.Error {
		if req.ContentLength != 0 {
			setReadDeadline(w, time.Now().Add(timeout))
		}
		return nil
	}
}

// discardBody reads away a body that has no meaning, as that of a GET: until its end the server would not
// notice that the client leaves, and a stream would wait for it. Nothing of it is kept, but the header is meanwhile.
func (r *Relay) discardBody(w http.ResponseWriter, req *http.Request) *chat.Error {
	if req.ContentLength == 0 || req.Method == http.MethodPost {
		return nil
	}
	held := r.bodies.Hold(visitOf(req).caller.Share)
	defer held.Release()
	if !held.Grow(visitOf(req).largeHeader) {
		closeAfter(w, req)
		return errNoRoom
	}
	n, err := io.CopyN(io.Discard, req.Body, idleBody+1)
	if n > idleBody {
		err = &http.MaxBytesError{Limit: idleBody}
	}
	if err != nil && err != io.EOF {
		return bodyError(w, req, err)
	}
	setReadDeadline(w, time.Time{})
	return nil
}

var errNoRoom = &chat.Error{Code: chat.Overloaded, RetryAfter: time.Second,
	Message: "there is no room for the request's body now (see RELAY_BODY_BYTES)"}

// readBody reads a body whole, and ends its time: the server goes on reading, to notice that the client leaves. The
// memory for it is taken from held as the body comes, so that who only announces one has nothing, and then as much
// as the question will take.
func (r *Relay) readBody(w http.ResponseWriter, req *http.Request, held *limit.Held) ([]byte, *chat.Error) {
	longest := r.maxBody
	if visitOf(req).dialect.OfProvider && r.apiMaxBody > 0 {
		longest = r.apiMaxBody
	}
	if req.ContentLength > longest {
		return nil, bodyError(w, req, &http.MaxBytesError{Limit: longest})
	}
	from := &pacedBody{
		body: http.MaxBytesReader(w, req.Body, longest), w: w, timeout: r.bodyTimeout,
	}
	if !held.Grow(visitOf(req).largeHeader) {
		closeAfter(w, req)
		return nil, errNoRoom
	}
	var pieces body
	for {
		if pieces.full() && !pieces.grow(held, req.ContentLength) {
			closeAfter(w, req)
			return nil, errNoRoom
		}
		err := pieces.readFrom(from)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, bodyError(w, req, err)
		}
	}
	from.rest()
	return r.joined(pieces, held)
}

// largeHeader is what a header takes beyond what one usually does, in bytes. Over HTTP/2 a few connections can send
// thousands of large ones and then no body.
func largeHeader(req *http.Request) int64 {
	const usual = 4 << 10
	size := len(req.RequestURI)
	for name, values := range req.Header {
		size += len(name)
		for _, value := range values {
			size += len(value)
		}
	}
	return int64(max(0, size-usual))
}

// letHeaderGo forgets a header and a URL that take more than they usually do, when all of it was read but for what a
// refusal looks at. The server would keep it for as long as the answer takes. It also forgets what the server has of
// the request: an answer that goes on without its client would keep the connection's buffers.
func letHeaderGo(req *http.Request) {
	const most = 256 // bytes of what is kept
	v := visitOf(req)
	came := v.came
	v.came = nil
	if v.largeHeader == 0 || came == nil {
		return
	}
	little := http.Header{}
	if accept := header(req, "Accept"); len(accept) < most {
		little.Set("Accept", accept)
	}
	clear(req.Header) // a map that was large stays so
	req.Header, came.Header = little, little

	// The whole first line of a request is one text, of which the method, the path and its parameters are parts.
	line := http.Request{Method: strings.Clone(req.Method), Proto: strings.Clone(req.Proto),
		URL: &url.URL{Path: strings.Clone(req.URL.Path[:min(len(req.URL.Path), most)])}}
	for _, kept := range []*http.Request{req, came} {
		kept.Method, kept.Proto, kept.URL, kept.RequestURI = line.Method, line.Proto, line.URL, ""
	}
	v.chat = strings.Clone(v.chat)
	route := req.Context().(*visiting).route
	route.RouteMethod = line.Method
	clear(route.URLParams.Values)
}

// joined gives the body in one piece, when there is room for what becomes of it.
func (r *Relay) joined(pieces body, held *limit.Held) ([]byte, *chat.Error) {
	size := pieces.questionSize()
	if r.bodyBytes > 0 && size > r.bodyBytes/2 {
		return nil, &chat.Error{Code: chat.BodyTooLarge,
			Message: "the body has so many parts that it takes more memory than one caller may have (see " +
				"RELAY_BODY_BYTES)"}
	}
	if !held.Grow(max(0, size-pieces.room())) {
		return nil, errNoRoom
	}
	if len(pieces) == 1 {
		return pieces[0], nil
	}
	return bytes.Join(pieces, nil), nil
}

// body is what has come of a body, in pieces: nothing is copied while it grows, so that bodies of strangers who never
// end theirs leave no garbage.
type body [][]byte

const largestPiece = 512 << 10 // bytes

func (b body) full() bool {
	return len(b) == 0 || len(b[len(b)-1]) == cap(b[len(b)-1])
}

// room is what the pieces take, in bytes.
func (b body) room() (n int64) {
	for _, piece := range b {
		n += int64(cap(piece))
	}
	return n
}

// grow adds a piece as large as all before it, or one for just the rest of what was announced and a byte, for the end
// to be seen. It tells whether there was room.
func (b *body) grow(held *limit.Held, announced int64) bool {
	had := b.room()
	next := min(max(firstBody, had), largestPiece)
	if rest := announced - had; rest >= 0 && rest < next {
		next = rest + 1
	}
	if !held.Grow(next) {
		return false
	}
	*b = append(*b, make([]byte, 0, next))
	return true
}

// readFrom reads once, into the last piece.
func (b body) readFrom(from io.Reader) error {
	piece := b[len(b)-1]
	n, err := from.Read(piece[len(piece):cap(piece)])
	b[len(b)-1] = piece[:len(piece)+n]
	return err
}

// questionSize is about what the body takes, in bytes, once it is decoded and encoded again for the provider. A text
// takes twice its size, and a list of many small things ten times that: objectSize and valueSize are what Go needs
// for each.
func (b body) questionSize() int64 {
	const objectSize, valueSize = 256, 16
	var size int64
	for _, piece := range b {
		objects, values := bytes.Count(piece, []byte("{")), bytes.Count(piece, []byte(","))
		size += int64(2*len(piece) + objectSize*objects + valueSize*values)
	}
	return size
}

// bodyError says what is wrong with a body that could not be read to its end.
func bodyError(w http.ResponseWriter, req *http.Request, err error) *chat.Error {
	closeAfter(w, req)
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		message := fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit)
		return &chat.Error{Code: chat.BodyTooLarge, Message: message}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &chat.Error{Code: chat.InvalidRequest, Err: err,
			Message: "the body did not arrive whole: it came too slowly (see RELAY_BODY_TIMEOUT)"}
	}
	return &chat.Error{Code: chat.InvalidRequest, Message: "the body did not arrive whole", Err: err}
}

// closeAfter ends the connection after the answer: the rest of a body is still on its way.
func closeAfter(w http.ResponseWriter, req *http.Request) {
	if req.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
}

// pacedBody is a body that has its timeout, and as much more as it needs at the slowest rate: a phone that
// sends a picture is slow, and who sends a byte now and then only wants to hold the connection.
type pacedBody struct {
	body    io.Reader
	w       http.ResponseWriter
	timeout time.Duration

	began    time.Time
	read     int64
	extended time.Duration // since began
}

func (p *pacedBody) Read(buf []byte) (int, error) {
	if p.began.IsZero() {
		p.began = time.Now()
	}
	n, err := p.body.Read(buf)
	p.read += int64(n)
	earned := time.Duration(p.read) * time.Second / bodyRate
	if err == nil && earned-p.extended >= time.Second { // not with each read
		p.extended = earned
		setReadDeadline(p.w, p.began.Add(p.timeout+earned))
	}
	return n, err
}

// rest ends the time.
func (p *pacedBody) rest() { setReadDeadline(p.w, time.Time{}) }

// setReadDeadline is http.ResponseController's method, which is an allocation for each controller. A recorder has no
// deadlines.
func setReadDeadline(w http.ResponseWriter, t time.Time) {
	if conn, ok := w.(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = conn.SetReadDeadline(t)
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(t)
}
