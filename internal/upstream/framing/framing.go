// Package framing tells the events of an answer apart where they are no event stream, or finds that they are: bytes
// in, events out. There is no HTTP here.
package framing

import (
	"io"
	"sync"

	"github.com/websopy/relay/internal/sse"
)

// Framing is how the events of an answer are laid out in its body.
type Framing struct {
	ContentType string // with which it is asked for
	readers     sync.Pool
}

// New returns a framing whose readers newReader makes.
func New(contentType string, newReader func() Reader) *Framing {
	return &Framing{contentType, sync.Pool{New: func() any { return newReader() }}}
}

// A Reader reads events as sse.Decoder does, whose documentation holds for all. It is not safe for concurrent use.
type Reader interface {
	// Next returns the next event, which is valid until the next call. The error is io.EOF at the end of the body;
	// sse.ErrTooLong for an event over the limit; that of the body otherwise.
	Next() (*sse.Event, error)
	Buffered() bool  // a whole event is in hand
	Ended() bool     // the body has said that nothing follows what was read
	Reset(io.Reader) // reads another body. It must let go of the one before
}

// The framings that any provider may answer in.
var (
	EventStream = New("text/event-stream", func() Reader { return sse.NewDecoder(nil, 0) })
	NDJSON      = New("application/x-ndjson", func() Reader { return new(values) })
	BareJSON    = New("application/json", func() Reader { return new(bareValues) })
)

// Reader returns a reader of body. It has to be given back.
func (f *Framing) Reader(body io.Reader) Reader {
	r := f.readers.Get().(Reader)
	r.Reset(body)
	return r
}

// GiveBack takes a reader that nobody reads from any more.
func (f *Framing) GiveBack(r Reader) {
	r.Reset(nil)
	f.readers.Put(r)
}
