package provider

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/format"
	"github.com/websopy/relay/internal/upstream/report"
	"github.com/websopy/relay/internal/upstream/trace"
)

// newTransport returns a transport for many long answers at once. It follows no redirect: a
// RoundTripper never does, so the key goes nowhere but to the configured address.
func newTransport(o Options) *http.Transport {
	dialer := &net.Dialer{
		Timeout: o.ConnectTimeout,
		// A peer that is gone without a word is noticed after 15 s, as with HTTP/2's pings below.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 9 * time.Second, Interval: 2 * time.Second, Count: 3},
	}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSHandshakeTimeout: o.ConnectTimeout,
		TLSClientConfig:     &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:   true,
		DisableCompression:  true, // a compressor between the model and the reader only adds delay
		MaxIdleConns:        0,
		MaxIdleConnsPerHost: 512,
		IdleConnTimeout:     90 * time.Second,
		// An open stream keeps both: 1 KiB is enough for a request's headers, 3 KiB for what a fast provider
		// sends between two looks.
		WriteBufferSize: 1 << 10,
		ReadBufferSize:  3 << 10,
		// They are kept as long as the answer takes, and may have 10 MB otherwise.
		MaxResponseHeaderBytes: 256 << 10,
		HTTP2: &http.HTTP2Config{
			// A dead connection carries many answers: ask after 8 s of silence, give up after 5.
			SendPingTimeout: 8 * time.Second, PingTimeout: 5 * time.Second,
			// What has come of an answer that its client is slow to read lies here, 4 MiB of it otherwise, and many
			// clients can be slow at once.
			MaxReceiveBufferPerStream: 256 << 10,
		},
	}
}

// idHeaders are what has a request's id. OpenAI has only one of its own in its logs.
// https://platform.openai.com/docs/api-reference/debugging-requests
func (o *Options) idHeaders() []string {
	if o.Kind == "azure" || o.host().HasBoth() {
		return []string{"X-Request-Id", "X-Client-Request-Id"}
	}
	return []string{"X-Request-Id"}
}

// newHeader makes the headers of all requests to an upstream. They are shared: nobody may change them.
func (c *client) newHeader(k *Kind) http.Header {
	h := http.Header{
		"Content-Type": {"application/json"},
		"Accept":       {c.wire.Framing.ContentType},
		"User-Agent":   {"websopy-relay"},
		// Some compress unless they are asked not to, and then hold text back.
		"Accept-Encoding": {"identity"},
	}
	if k.Header != nil {
		k.Header(&c.Options, h)
	}
	maps.Copy(h, c.Headers)
	return h
}

// newQuery makes the query that asks for req.
func (c *client) newQuery(req *chat.Request) (*format.Query, error) {
	model := cmp.Or(req.Model, c.Model)
	at, err := c.endpointFor(model)
	if err != nil {
		return nil, err
	}
	without := format.Addition(c.refused.Load())
	if c.NoStreamUsage {
		without |= format.AddUsage
	}
	return format.NewQuery(req, at.target, without), nil
}

// newRequest makes the HTTP request that asks for a stream. Its body is needed until letGo is called.
func (c *client) newRequest(ctx context.Context, q *format.Query) (hreq *http.Request, letGo func(), err error) {
	at, err := c.endpointFor(q.Model)
	if err != nil {
		return nil, nil, err
	}
	var e jx.Encoder
	e.Grow(bodySize(q.Request))
	if err := c.wire.Format.Encode(&e, q); err != nil {
		return nil, nil, err
	}
	body := c.Edits.apply(e.Bytes())
	hreq = c.post.WithContext(ctx)
	hreq.URL, hreq.Host = at.url, at.url.Host
	letGo = attach(hreq, body)
	if c.auth != nil {
		hreq.Header = hreq.Header.Clone()
		if err := c.auth.Authorize(ctx, hreq, body); err != nil {
			return nil, nil, authorizeError(err)
		}
		c.remember(hreq.Header)
	}
	// after the signature, if there is one, which covers none of it
	hreq.Header = trace.Header(ctx, hreq.Header, c.ids...)
	return hreq, letGo, nil
}

// authorizeError is the error of a request that can't be shown to be the relay's.
func authorizeError(err error) error {
	if report.IsReported(err) {
		return err
	}
	return &chat.Error{Code: chat.UpstreamAuth, Message: "the relay has no credentials for the provider at the moment",
		Err: err}
}

// bodySize estimates the size of a body, in bytes.
func bodySize(req *chat.Request) int {
	size := 256
	for i := range req.Messages {
		m := &req.Messages[i]
		size += 64 + len(m.Content)
		for j := range m.Parts {
			size += 64 + len(m.Parts[j].Text) + len(m.Parts[j].ImageURL)
		}
	}
	return size
}

// endpoint is where requests for a model go, and what is known of it there.
type endpoint struct {
	url    *url.URL
	target *format.Target
}

// endpointFor gives the endpoint of a model. Most requests want the one that the last request wanted.
func (c *client) endpointFor(model string) (*endpoint, error) {
	if last := c.last.Load(); last != nil && last.target.Model == model {
		return last, nil
	}
	u, err := url.Parse(c.wire.URL(&c.Options, model))
	if err != nil {
		return nil, err
	}
	at := &endpoint{u, c.host().Target(model)}
	c.last.Store(at)
	return at, nil
}

// roundTripError says why there is no response.
func (c *client) roundTripError(parent, ctx context.Context, err error) error {
	if parent.Err() != nil {
		return context.Cause(parent)
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return &chat.Error{Code: chat.UpstreamTimeout, Phase: chat.PhaseConnect,
			Message: "the provider could not be reached in time", Err: err}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &chat.Error{Code: chat.UpstreamUnreachable,
			Message: "the provider closed the connection without an answer", Err: err}
	}
	return &chat.Error{Code: chat.UpstreamUnreachable, Message: "the provider can't be reached", Err: err}
}

// maxErrorBody bounds what is read of an answer that is no stream.
const maxErrorBody = 64 << 10

// checkResponse returns the error that a response's status stands for.
func checkResponse(res *http.Response) error {
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
	kind, _, _ := strings.Cut(res.Header.Get("X-Amzn-Errortype"), ":") // what follows is an address of theirs
	return report.Of(report.Response{Status: res.StatusCode, Body: body, Kind: kind,
		RetryAfter: retryAfter(res.Header, time.Now())})
}

// remember notes what a request shows that changes from time to time, so that nobody is told who is told an error in
// which the provider quotes it.
func (c *client) remember(h http.Header) {
	_, credential, _ := strings.Cut(h.Get("Authorization"), " ")
	shown := [2]string{credential, h.Get("X-Amz-Security-Token")}
	if last := c.shown.Load(); last == nil || *last != shown {
		c.shown.Store(&shown)
	}
}

// teller is who answers the relay's requests for a model.
func (c *client) teller(model string) report.Teller {
	t := report.Teller{Model: model, Secrets: []string{c.APIKey}}
	if u, err := url.Parse(c.BaseURL); err == nil {
		t.Host = strings.ToLower(u.Hostname())
	}
	if shown := c.shown.Load(); shown != nil {
		t.Secrets = append(t.Secrets, shown[:]...)
	}
	for _, values := range c.Headers {
		for _, value := range values {
			_, credential, _ := strings.Cut(value, " ") // Bearer …, Basic …
			t.Secrets = append(t.Secrets, cmp.Or(credential, value))
		}
	}
	return t
}

// retryAfter reads how long to wait: retry-after-ms, or Retry-After in seconds or as a date. Zero means
// that the provider did not say.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms > 0 {
		return time.Duration(min(ms, float64(report.MaxRetryAfter/time.Millisecond)) * float64(time.Millisecond))
	}
	v := h.Get("Retry-After")
	if s, err := strconv.ParseFloat(v, 64); err == nil && s > 0 {
		return time.Duration(min(s, report.MaxRetryAfter.Seconds()) * float64(time.Second))
	}
	if t, err := http.ParseTime(v); err == nil && t.After(now) {
		return min(t.Sub(now), report.MaxRetryAfter)
	}
	return 0
}
