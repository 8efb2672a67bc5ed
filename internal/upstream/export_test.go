package upstream

import (
	"net/http"

	"github.com/websopy/relay/internal/chat"
)

// SetTransport lets a test stand in for the network.
func SetTransport(s Streamer, rt http.RoundTripper) {
	if both, ok := s.(*openaiBoth); ok {
		both.preferred.transport, both.other.transport = rt, rt
		return
	}
	s.(*client).transport = rt
}

// CloseIdle closes a client's connections that are in no use.
func CloseIdle(s Streamer) { s.(*client).transport.(*http.Transport).CloseIdleConnections() }

// Values reads JSON values that follow each other.
type Values = values

// BufferSize is what the buffer takes, in bytes.
func (v *values) BufferSize() int { return cap(v.buf) }

// OpenPlaces is how many places of a limit are taken.
func OpenPlaces(l *Limit) int { return len(l.places) }

// Circuits is how many models have a state.
func (b *Breaker) Circuits() int { return len(b.circuits) }

// ReadReport is the error of a response with a status and a body.
func ReadReport(status int, body []byte) *chat.Error {
	var r providerReport
	r.parse(body)
	r.status = status
	return r.err()
}
