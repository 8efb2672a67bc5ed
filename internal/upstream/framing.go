package upstream

import (
	"io"
	"sync"

	"github.com/websopy/relay/internal/sse"
)

// framing is how the events of an answer are laid out in its body.
type framing struct {
	contentType string // with which it is asked for
	readers     sync.Pool
}

// newFraming returns a framing whose readers newReader makes.
func newFraming(contentType string, newReader func() reader) *framing {
	return &framing{contentType, sync.Pool{New: func() any { return newReader() }}}
}

// A reader reads events as sse.Decoder does, whose documentation holds for all. It is not safe for concurrent use.
type reader interface {
	// Next returns the next event, which is valid until the next call. The error is io.EOF at the end of the body;
	// sse.ErrTooLong for an event over the limit; that of the body otherwise.
	Next() (*sse.Event, error)
	Buffered() bool  // a whole event is in hand
	Ended() bool     // the body has said that nothing follows what was read
	Reset(io.Reader) // reads another body. It must let go of the one before
}

// The framings that any provider may answer in.
var (
	eventStream = newFraming("text/event-stream", func() reader { return sse.NewDecoder(nil, 0) })
	ndjson      = newFraming("application/x-ndjson", func() reader { return new(values) })
	bareJSON    = newFraming("application/json", func() reader { return new(bareValues) })
)

// reader returns a reader of body. It has to be given back.
func (f *framing) reader(body io.Reader) reader {
	r := f.readers.Get().(reader)
	r.Reset(body)
	return r
}

// giveBack takes a reader that nobody reads from any more.
func (f *framing) giveBack(r reader) {
	r.Reset(nil)
	f.readers.Put(r)
}
