// Package provider asks one provider for answers, over HTTP or, as the demo, without. What a kind of provider is
// stands in kinds.go.
package provider

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

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/format"
	"github.com/websopy/relay/internal/upstream/trace"
)

// Options describe one upstream. Times must be positive.
type Options struct {
	Name       string // in logs and metrics
	Kind       string // the name of one of kinds
	BaseURL    string // without a trailing slash
	APIKey     string // empty: no credentials are sent
	APIVersion string // azure only
	Model      string // for requests that name none

	ConnectTimeout    time.Duration // DNS and TCP together, and then TLS
	FirstChunkTimeout time.Duration // from the request to the first content, reasoning or tool progress
	IdleTimeout       time.Duration // between two of those
	ThinkingTimeout   time.Duration // the same while the model thinks; less than IdleTimeout: that

	Authorizer Authorizer // of each request; nil: what the kind has, and the key

	RootCAs *x509.CertPool // whose certificates are trusted; nil: those that the system trusts
	Headers http.Header    // of every request, beside and before those of the format

	Families      []format.Family // what the operator says of models' names; the first that matches counts
	Edits         *Edits          // what the operator changes in bodies; nil: nothing
	NoStreamUsage bool            // stream_options is not sent
	ThinkTags     bool            // <think> at the beginning of an answer is reasoning
}

// host is whom o's formats are spoken with.
func (o *Options) host() *format.Host {
	return &format.Host{Kind: o.Kind, BaseURL: o.BaseURL, Families: o.Families}
}

// Place is where the upstream makes the states of a model's answers, as format.PlaceOf tells it of a state.
func (o *Options) Place(model string) string { return o.host().Place(cmp.Or(model, o.Model)) }

// New returns the upstream that o describes.
func New(o Options) (chat.Streamer, error) {
	k := kindNamed(o.Kind)
	if k == nil {
		return nil, fmt.Errorf("unknown upstream kind %q", o.Kind)
	}
	return k.Open(o), nil
}

// Open returns the upstream that o describes, which is of this kind whatever o says.
func (k *Kind) Open(o Options) chat.Streamer {
	o.Kind = k.Name
	switch {
	case k.open != nil:
		return k.open(o)
	case k.Second != nil && (o.azureV1() != "" || o.host().HasBoth()):
		return newBoth(o, k)
	}
	return newClient(o, k, k.Wire)
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
	wire      Wire
	system    string     // the provider, in traces
	ids       []string   // headers that have the request's id
	auth      Authorizer // nil: post's header is enough
	transport http.RoundTripper
	post      *http.Request             // what all requests have in common
	last      atomic.Pointer[endpoint]  // that a request went to
	shown     atomic.Pointer[[2]string] // what the last request showed, where an Authorizer makes it: see remember
	refused   atomic.Uint32             // additions that the provider takes from nobody
}

func newClient(o Options, k *Kind, w Wire) *client {
	c := &client{Options: o, wire: w, system: k.system(o.BaseURL), ids: o.idHeaders(), transport: newTransport(o)}
	c.post = &http.Request{Method: http.MethodPost, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: c.newHeader(k)}
	if c.auth = o.Authorizer; c.auth == nil && k.Authorizer != nil {
		c.auth = k.Authorizer(&c.Options)
	}
	return c
}

func (c *client) Stream(ctx context.Context, req *chat.Request) iter.Seq2[chat.Chunk, error] {
	return func(yield func(chat.Chunk, error) bool) {
		// before: whoever needs req later keeps the question while the answer comes
		model := cmp.Or(req.Model, c.Model)
		ctx := c.beginAttempt(ctx, model)
		err := c.stream(ctx, req, yield)
		if err != nil {
			err = c.explain(model, err)
		}
		trace.End(ctx, c.Name, err)
		if err != nil {
			yield(chat.Chunk{}, err)
		}
	}
}

// explain makes of err what the client is told. It is apart from Stream, whose frame stays on the stack during the
// answer.
//
//go:noinline
func (c *client) explain(model string, err error) error { return c.teller(model).Explain(err) }

// beginAttempt notes that an attempt begins. It is apart from Stream, below whose frame the whole answer comes.
//
//go:noinline
func (c *client) beginAttempt(ctx context.Context, model string) context.Context {
	return trace.Begin(ctx, trace.Target{Upstream: c.Name, System: c.system, Address: c.BaseURL, Model: model})
}

// stream is one attempt: it returns nil when the answer is complete or nobody wants it any more.
func (c *client) stream(parent context.Context, req *chat.Request, yield func(chat.Chunk, error) bool) error {
	q, err := c.newQuery(req)
	if err != nil {
		return chat.AsError(err)
	}
	err = c.try(parent, q, yield)
	for err != nil && q.Reconsider(err) {
		err = c.try(parent, q, yield)
	}
	return err
}

// try is one request. It lets q go as soon as it passes anything on.
func (c *client) try(parent context.Context, q *format.Query, yield func(chat.Chunk, error) bool) error {
	var x exchange
	ctx := x.clock.start(parent, c.FirstChunkTimeout)
	defer x.clock.stop()
	x.out.Begin(q, c.ThinkTags)
	x.out.Yield = func(chunk chat.Chunk, err error) bool {
		if chunk.Type != chat.Pause {
			if x.late = x.clock.over(ctx); x.late != nil { // another may be asked, and what began now would be cut
				return false
			}
			q.LetGo()
			if proven := q.Proven(); proven != 0 {
				c.refused.Or(uint32(proven))
			}
			x.out.Yield = yield
			trace.First(parent)
		}
		return yield(chunk, err)
	}
	res, err := c.open(parent, ctx, q)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	layout, err := framingOf(c.wire.Framing, res)
	if err != nil {
		return cmp.Or(context.Cause(ctx), err)
	}
	events := layout.Reader(res.Body)
	defer layout.GiveBack(events)
	if err := c.read(ctx, &x, events); err != nil {
		return waitAsTold(err, res.Header)
	}
	trace.Done(parent, x.out.Completion())
	rest := !events.Ended() && res.ProtoMajor == 1
	taken := x.out.End(c.Kind, !rest)
	if x.out.TooMuch() {
		trace.NoteTooMuch(parent)
	}
	if taken && rest {
		x.clock.passing.Store(false)
		x.clock.set(drainTime, errGraceOver)
		_, _ = io.CopyN(io.Discard, res.Body, drainBytes)
	}
	return x.late
}

// open asks for a stream.
func (c *client) open(parent, ctx context.Context, q *format.Query) (*http.Response, error) {
	hreq, letGo, err := c.newRequest(ctx, q)
	if err != nil {
		return nil, chat.AsError(err)
	}
	defer letGo()
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
