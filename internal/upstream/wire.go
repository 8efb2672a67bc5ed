package upstream

import (
	"github.com/go-faster/jx"
)

// A format is a provider's wire format. A value has no state: it serves all requests.
type format interface {
	// encode writes the body that asks for a stream. The error is a *chat.Error where the request can't be put in
	// the provider's terms.
	encode(e *jx.Encoder, q *query) error
	// newDecoder returns the state that reads one answer.
	newDecoder() decoder
}

// A decoder reads one answer.
type decoder interface {
	// decode puts into out what a JSON object says, which came in an event of a type (empty: none). Both are valid
	// until it returns. The error is a *chat.Error when the object is the provider's report of a failure, any other
	// when it can't be read.
	decode(object, typ []byte, out *output) error
	// end takes the marker [DONE].
	end(out *output) error
}
