package upstream

import (
	"encoding/base64"
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

// ReadState reads a state as if it had come back with a message, and writes it again; "" if it is none.
func ReadState(m *chat.Message, kind, place string) string {
	s := openState(m, kind, place)
	if s == nil {
		return ""
	}
	var b binding
	b.add([]byte(contentOf(m)))
	for i := range m.ToolCalls {
		b.addCall(&m.ToolCalls[i])
	}
	return packState(kind, place, &b, s.items, s.inner)
}

// MakeState makes a state of raw items for a message.
func MakeState(m *chat.Message, kind, place, items string) string {
	raw := `{"k":"` + kind + `","u":"` + place + `","b":"` + bindingOf(m) + `","i":` + items + `}`
	return stateVersion + base64.RawURLEncoding.EncodeToString([]byte(raw))
}

// PlaceOf is what a state names its upstream and model by.
func PlaceOf(o Options, model string) string { return o.place(model) }

// CloseIdle closes a client's connections that are in no use.
func CloseIdle(s Streamer) { s.(*client).transport.(*http.Transport).CloseIdleConnections() }

// Values reads JSON values that follow each other.
type Values = values

// BufferSize is what the buffer takes, in bytes.
func (v *values) BufferSize() int { return cap(v.buf) }

// OpenPlaces is how many places of a limit are taken.
func OpenPlaces(l *Limit) int { return l.places.Taken() }

// Circuits is how many models have a state.
func (b *Breaker) Circuits() int { return len(b.circuits) }

// ReadReport is the error of a response with a status and a body.
func ReadReport(status int, body []byte) *chat.Error {
	var r providerReport
	r.parse(body)
	r.status = status
	return r.err()
}
