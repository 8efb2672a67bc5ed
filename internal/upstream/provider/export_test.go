package provider

import (
	"context"
	"io"
	"net"
	"net/http"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/sse"
)

// SetTransport lets a test stand in for the network.
func SetTransport(s chat.Streamer, rt http.RoundTripper) {
	if both, ok := s.(*openaiBoth); ok {
		both.preferred.transport, both.other.transport = rt, rt
		return
	}
	s.(*client).transport = rt
}

// DialThrough lets a test see what a client writes to its connections.
func DialThrough(s chat.Streamer, wrap func(net.Conn) net.Conn) {
	t := s.(*client).transport.(*http.Transport)
	dial := t.DialContext
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return wrap(conn), nil
	}
}

// CloseIdle closes a client's connections that are in no use.
func CloseIdle(s chat.Streamer) { s.(*client).transport.(*http.Transport).CloseIdleConnections() }

// Event is what the reader of a framing gives.
type Event = sse.Event

// EachEvent calls each with what a client of a kind learns of a body, event by event: the event, whether a whole one
// is in hand after it, and whether the body has ended. Without headers the body is of the type that is asked for.
func EachEvent(kind string, header http.Header, body io.Reader, each func(ev *Event, inHand, ended bool)) error {
	f := kindNamed(kind).Framing
	if header == nil {
		header = http.Header{"Content-Type": {f.ContentType}}
	}
	res := &http.Response{Header: header, Body: io.NopCloser(body)}
	f, err := framingOf(f, res)
	if err != nil {
		return err
	}
	r := f.Reader(res.Body)
	defer f.GiveBack(r)
	for {
		ev, err := r.Next()
		if err != nil {
			return err
		}
		each(ev, r.Buffered(), r.Ended())
	}
}

// IDHeaders are those that have the id of a request.
func IDHeaders(o *Options) []string { return o.idHeaders() }
