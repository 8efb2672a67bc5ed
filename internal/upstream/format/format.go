// Package format knows what providers speak: it writes their requests and reads their answers, one file per wire format
// (two where it is large). What models and hosts accept is data, in rules.go. There is no HTTP here, and no network.
package format

import (
	"github.com/go-faster/jx"
)

// A Format is a provider's wire format. A value has no state: it serves all requests.
type Format interface {
	// Encode writes the body that asks for a stream. The error is a *chat.Error where the request can't be put in
	// the provider's terms.
	Encode(e *jx.Encoder, q *Query) error
	// NewDecoder returns the state that reads one answer.
	NewDecoder() Decoder
}

// A Decoder reads one answer.
type Decoder interface {
	// Decode puts into out what a JSON object says, which came in an event of a type (empty: none). Both are valid
	// until it returns. The error is a *chat.Error when the object is the provider's report of a failure, any other
	// when it can't be read.
	Decode(object, typ []byte, out *Answer) error
	// End takes the marker [DONE].
	End(out *Answer) error
}
