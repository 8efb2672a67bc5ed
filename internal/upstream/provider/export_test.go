package provider

import (
	"context"
	"net"
	"net/http"

	"github.com/websopy/relay/internal/chat"
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
