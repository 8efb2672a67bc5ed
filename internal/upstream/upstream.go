// Package upstream asks LLM providers for answers: one file per wire format (two where it is large), and
// retries around any of them. It knows nothing of the relay's own clients.
package upstream

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"iter"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// Streamer is a provider, a retried provider or a chain of them.
type Streamer = chat.Streamer

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
	ThinkingTimeout   time.Duration // the same while the model thinks; less than IdleTimeout: that

	RootCAs *x509.CertPool // whose certificates are trusted; nil: those that the system trusts
	Headers http.Header    // of every request, beside and before those of the format

	Families      []Family // what the operator says of models' names; the first that matches counts
	Edits         *Edits   // what the operator changes in bodies; nil: nothing
	NoStreamUsage bool     // stream_options is not sent
	ThinkTags     bool     // <think> at the beginning of an answer is reasoning
}

// Family says what the models are whose names match: a family or a provider of rules.go, or a model whose rules
// hold for them as well.
type Family struct {
	Match func(model string) bool // nil: all
	Name  string
}

// New returns the upstream that o describes.
func New(o Options) (Streamer, error) {
	switch o.Kind {
	case "demo":
		return demo{o.Name, o.IdleTimeout}, nil
	case "openai", "azure", "openai-responses":
		return newOpenAI(o), nil
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

// A format is a wire format.
type format interface {
	// target is the URL that requests for a model are posted to.
	target(model string) string
	// setHeaders sets the headers that the format adds to every request: the key, for one.
	setHeaders(h http.Header)
	// encode writes the body that asks for a stream.
	encode(e *jx.Encoder, q *query) error
	// newDecoder returns the state that reads one answer.
	newDecoder() decoder
}

// A decoder reads one answer.
type decoder interface {
	// decode puts into out what a JSON object says, which came in an event of a type (empty: none). The error is a
	// *chat.Error when the object is the provider's report of a failure, any other when it can't be read.
	decode(object, typ []byte, out *output) error
	// end takes the marker [DONE].
	end(out *output) error
}

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
	refused   atomic.Uint32            // additions that the provider takes from nobody
}

func newClient(o Options, f format, fr framing) *client {
	c := &client{Options: o, format: f, framing: fr, transport: newTransport(o)}
	c.post = &http.Request{Method: http.MethodPost, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: c.newHeader()}
	return c
}

func (c *client) Stream(ctx context.Context, req *chat.Request) iter.Seq2[chat.Chunk, error] {
	return func(yield func(chat.Chunk, error) bool) {
		model := cmp.Or(req.Model, c.Model) // before: whoever needs req later keeps the question while the answer comes
		err := c.stream(ctx, req, yield)
		if err != nil {
			err = c.teller(model).explain(err)
		}
		traceAttempt(ctx, c.Name, err)
		if err != nil {
			yield(chat.Chunk{}, err)
		}
	}
}

// stream is one attempt: it returns nil when the answer is complete or nobody wants it any more.
func (c *client) stream(parent context.Context, req *chat.Request, yield func(chat.Chunk, error) bool) error {
	q, err := c.newQuery(req)
	if err != nil {
		return chat.AsError(err)
	}
	err = c.try(parent, q, yield)
	for err != nil && c.reconsider(q, err) {
		err = c.try(parent, q, yield)
	}
	return err
}

// try is one request. It lets q go as soon as it passes anything on.
func (c *client) try(parent context.Context, q *query, yield func(chat.Chunk, error) bool) error {
	var x exchange
	x.out.yield = func(chunk chat.Chunk, err error) bool {
		if chunk.Type != chat.Pause {
			q.letGo()
			x.out.yield = yield
		}
		return yield(chunk, err)
	}
	x.out.keep.rules, x.out.keep.place = q.rules, q.place
	if c.ThinkTags {
		x.out.tags = new(tags)
	}
	ctx, stop := x.clock.start(parent, c.FirstChunkTimeout)
	defer stop()
	res, err := c.open(parent, ctx, q)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	framing, err := c.framing.of(res)
	if err != nil {
		return cmp.Or(context.Cause(ctx), err)
	}
	events := framing.sources.Get().(eventSource)
	events.Reset(res.Body)
	defer func() {
		events.Reset(nil)
		framing.sources.Put(events)
	}()
	if err := c.read(ctx, &x, events); err != nil {
		return waitAsTold(err, res.Header)
	}
	taken := x.out.end(c.Kind)
	if x.out.keep.over {
		traceTooMuch(parent)
	}
	if taken && !events.Ended() && res.ProtoMajor == 1 {
		x.clock.passing.Store(false)
		x.clock.set(drainTime, errGraceOver)
		_, _ = io.CopyN(io.Discard, res.Body, drainBytes)
	}
	return nil
}

// open asks for a stream.
func (c *client) open(parent, ctx context.Context, q *query) (*http.Response, error) {
	asked := new(question)
	hreq, err := c.newRequest(ctx, asked, q)
	if err != nil {
		return nil, chat.AsError(err)
	}
	defer asked.letGo()
	res, err := c.transport.RoundTrip(hreq)
	if err != nil {
		return nil, c.roundTripError(parent, ctx, err)
	}
	if err := checkResponse(res); err != nil {
		res.Body.Close()
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, err
	}
	return res, nil
}
