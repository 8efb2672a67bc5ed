package provider

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
)

// question is the encoded body of one request. net/http keeps a request until its answer has been read, which
// may take minutes, but needs the body only until the provider answers. So the request has what this holds, and
// this lets go of it.
type question struct {
	body  atomic.Pointer[[]byte] // nil: let go
	first questionReader         // the only one, unless a request has to be sent again
}

var errLetGo = errors.New("upstream: the provider has answered, and the question was let go")

// smallQuestion is what fits into one write together with the headers (see newTransport's WriteBufferSize).
const smallQuestion = 512

// attach makes body that of hreq, who needs it until letGo is called. For a reader that it does not know, net/http
// sends the headers in a write and a packet of their own, in case the body is slow to come. So a small question, which
// is worth no letting go, is read by one that it knows.
func attach(hreq *http.Request, body []byte) (letGo func()) {
	hreq.ContentLength = int64(len(body))
	if len(body) <= smallQuestion {
		whole := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		hreq.Body, _ = whole()
		hreq.GetBody = whole
		return func() {}
	}
	q := new(question)
	q.body.Store(&body)
	q.first.r.Store(bytes.NewReader(body))
	hreq.Body, hreq.GetBody = &q.first, q.again
	return q.letGo
}

// again is what net/http asks when a connection turned out to be dead, which it can't do after the answer has begun.
func (q *question) again() (io.ReadCloser, error) {
	body := q.body.Load()
	if body == nil {
		return nil, errLetGo
	}
	var r questionReader
	r.r.Store(bytes.NewReader(*body))
	return &r, nil
}

// letGo forgets the body. A reader that a provider answered before it had read everything goes on.
func (q *question) letGo() { q.body.Store(nil) }

// questionReader reads a body once. It keeps nothing when it is at the end or closed. It may be closed while it
// is read: a request that is cancelled is.
type questionReader struct{ r atomic.Pointer[bytes.Reader] }

func (q *questionReader) Read(p []byte) (int, error) {
	r := q.r.Load()
	if r == nil {
		return 0, io.EOF
	}
	n, err := r.Read(p)
	if r.Len() == 0 {
		q.r.Store(nil)
	}
	return n, err
}

func (q *questionReader) Close() error {
	q.r.Store(nil)
	return nil
}
