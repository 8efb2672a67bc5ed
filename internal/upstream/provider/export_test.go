package provider

import (
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

// CloseIdle closes a client's connections that are in no use.
func CloseIdle(s chat.Streamer) { s.(*client).transport.(*http.Transport).CloseIdleConnections() }
