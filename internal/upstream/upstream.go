// Package upstream asks LLM providers for answers: one file per wire format (two where it is large), and
// retries around any of them. It knows nothing of the relay's own clients.
package upstream

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/sse"
)

// Streamer is a provider, a retried provider or a chain of them.
//
// The sequence runs on the caller's goroutine and is cancelled with ctx. An error ends it and comes
// last; a sequence that ends without an error ends with a chat.Done chunk. Breaking out of it cancels
// the request upstream. Chunks are valid until the next one is asked for.
type Streamer interface {
	Stream(ctx context.Context, req *chat.Request) iter.Seq2[chat.Chunk, error]
}

// Options describe one upstream. Times must be positive.
type Options struct {
	Name       string // in logs and metrics
	Kind       string // one of New's
	BaseURL    string // without a trailing slash
	APIKey     string // empty: no credentials are sent
	APIVersion string // azure only
	Model      string // for requests that name none

	ConnectTimeout    time.Duration // DNS and TCP together, and then TLS
	FirstChunkTimeout time.Duration // from the request to the first content, reasoning or tool progress
	IdleTimeout       time.Duration // between two of those

	RootCAs *x509.CertPool // whose certificates are trusted; nil: those that the system trusts
	Headers http.Header    // of every request, beside and before those of the format
}

// New returns the upstream that o describes.
func New(o Options) (Streamer, error) {
	switch o.Kind {
	case "demo":
		return demo{o.Name, o.IdleTimeout}, nil
	case "openai", "azure":
		return newClient(o, &openai{o}, eventStream), nil
	case "openai-responses":
		return newClient(o, &openaiResponses{o}, eventStream), nil
	case "anthropic":
		return newClient(o, &anthropic{o}, eventStream), nil
	case "gemini":
		return newClient(o, &gemini{o}, eventStream), nil
	case "ollama":
		return newClient(o, &ollama{o}, ndjson), nil
	case "cohere":
		return newClient(o, &cohere{o}, eventStream), nil
	case "websopy":
		return newClient(o, &websopy{o}, eventStream), nil
	}
	return nil, fmt.Errorf("unknown upstream kind %q", o.Kind)
}

// A framing is how the events of an answer are laid out in its body.
type framing struct {
	contentType string
	sources     *sync.Pool // of eventSource
}

// An eventSource reads events as sse.Decoder does, whose documentation holds for all.
type eventSource interface {
	Next() (*sse.Event, error)
	Buffered() bool
	Ended() bool
	Reset(io.Reader)
}

var eventStream = framing{"text/event-stream", &sync.Pool{New: func() any { return sse.NewDecoder(nil, 0) }}}

// A format is a wire format.
type format interface {
	// target is the URL that requests for a model are posted to.
	target(model string) string
	// setHeaders sets the headers that the format adds to every request: the key, for one.
	setHeaders(h http.Header)
	// encode writes the body that asks model for req as a stream.
	encode(e *jx.Encoder, model string, req *chat.Request) error
	// newDecoder returns the state that reads one answer.
	newDecoder() decoder
}

// A decoder reads the events of one answer.
type decoder interface {
	// decode puts into out what the event says. It returns a *chat.Error when the event is the
	// provider's report of a failure, any other error when it can't be read.
	decode(ev *sse.Event, out *output) error
}

// finishGrace is how long usage and the terminator may take after a finish reason. Several providers
// never send a terminator, and some keep the connection open.
const finishGrace = 2 * time.Second

// drainTime and drainBytes bound the wait for the end of the body after the terminator, which decides
// whether the connection can be used again.
const (
	drainTime  = 100 * time.Millisecond
	drainBytes = 4 << 10
)

// client speaks one format over HTTP.
type client struct {
	Options
	format    format
	framing   framing
	transport http.RoundTripper
	post      *http.Request            // what all requests have in common
	last      atomic.Pointer[endpoint] // that a request went to
}

func newClient(o Options, f format, fr framing) *client {
	c := &client{Options: o, format: f, framing: fr, transport: newTransport(o)}
	c.post = &http.Request{Method: http.MethodPost, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: c.newHeader()}
	return c
}

func (c *client) Stream(ctx context.Context, req *chat.Request) iter.Seq2[chat.Chunk, error] {
	return func(yield func(chat.Chunk, error) bool) {
		err := c.stream(ctx, req, yield)
		traceAttempt(ctx, c.Name, err)
		if err != nil {
			yield(chat.Chunk{}, err)
		}
	}
}

// stream is one attempt: it returns nil when the answer is complete or nobody wants it any more.
func (c *client) stream(parent context.Context, req *chat.Request, yield func(chat.Chunk, error) bool) error {
	x := exchange{out: output{yield: yield}}
	ctx, stop := x.clock.start(parent, c.FirstChunkTimeout)
	defer stop()
	res, err := c.open(parent, ctx, req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	events := c.framing.sources.Get().(eventSource)
	events.Reset(res.Body)
	defer func() {
		events.Reset(nil)
		c.framing.sources.Put(events)
	}()
	if err := c.read(ctx, &x, events); err != nil {
		return err
	}
	if x.out.end() && !events.Ended() && res.ProtoMajor == 1 {
		x.clock.set(drainTime, errGraceOver)
		_, _ = io.CopyN(io.Discard, res.Body, drainBytes)
	}
	return nil
}

// open asks for a stream.
func (c *client) open(parent, ctx context.Context, req *chat.Request) (*http.Response, error) {
	q := new(question)
	hreq, err := c.newRequest(ctx, q, req)
	if err != nil {
		return nil, chat.AsError(err)
	}
	defer q.letGo()
	res, err := c.transport.RoundTrip(hreq)
	if err != nil {
		return nil, c.roundTripError(parent, ctx, err)
	}
	if err := checkResponse(res, c.framing.contentType); err != nil {
		res.Body.Close()
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, err
	}
	return res, nil
}

// exchange is what one request and its answer keep, in one piece of memory: what the next chunk needs of it
// is one cache line.
type exchange struct {
	clock clock
	out   output
}

// read passes on what the body says, until it is complete or nobody wants it any more.
func (c *client) read(ctx context.Context, x *exchange, events eventSource) error {
	dec := c.format.newDecoder()
	out := &x.out
	ending := false // the grace runs
	for !out.complete {
		if out.more = out.more && events.Buffered(); !out.more {
			out.pause()
		}
		ev, err := events.Next()
		if err != nil {
			return endOfBody(ctx, out, err)
		}
		out.more = events.Buffered()
		err = dec.decode(ev, out)
		if out.gone { // then nobody wants the error either
			return nil
		}
		if err != nil {
			if ev.Partial && !isProviderError(err) {
				// The cut went through the last event. It is not the provider who garbled it.
				return endOfBody(ctx, out, io.ErrUnexpectedEOF)
			}
			return decodeError(err)
		}
		switch {
		case out.finished && (out.progress || !ending): // not for usage or pings: they would prolong it for ever
			x.clock.set(finishGrace, errGraceOver)
			ending = true
		case out.progress:
			x.clock.set(c.IdleTimeout, errIdle)
		}
		out.progress = false
	}
	return nil
}

// endOfBody decides what the end of the body means: nil when the answer is complete all the same.
func endOfBody(ctx context.Context, out *output, err error) error {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(err, sse.ErrTooLong):
		return &chat.Error{Code: chat.UpstreamMalformed, Message: "the provider sent an event over the size limit", Err: err}
	case cause != nil && cause != errGraceOver:
		return cause
	case out.finished, out.mayEnd && err == io.EOF:
		return nil
	case err == io.EOF:
		return &chat.Error{Code: chat.UpstreamTruncated, Message: "the provider's answer broke off"}
	}
	return &chat.Error{Code: chat.UpstreamTruncated, Message: "the provider's answer broke off", Err: err}
}

func isProviderError(err error) bool {
	_, ok := errors.AsType[*chat.Error](err)
	return ok
}

func decodeError(err error) error {
	if isProviderError(err) {
		return err
	}
	return &chat.Error{Code: chat.UpstreamMalformed, Message: "the provider sent something that can't be read", Err: err}
}
