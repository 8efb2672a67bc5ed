// Package format knows what providers speak: it writes their requests and reads their answers, one file per wire
// format (two where it is large). What models and hosts accept is data, in rules.go. There is no HTTP here, and no
// network.
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

// A Decoder reads one answer, object by object. An object is parsed, and then what it says is passed on, in two steps:
// the frames of both together would not fit into 8 KiB of stack, and every stream would take 16.
type Decoder interface {
	// Parse reads a JSON object, which came in an event of a type (empty: none). Both are valid until Pass returns.
	// The error is a *chat.Error when the object is the provider's report of a failure, any other when it can't be
	// read.
	Parse(object, typ []byte) error
	// Pass puts into out what the object says that was parsed last. Its errors are those of Parse.
	Pass(object, typ []byte, out *Answer) error
	// End takes the marker [DONE].
	End(out *Answer) error
}
