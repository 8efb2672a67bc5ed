package upstream

import (
	"bytes"
	"io"

	"github.com/websopy/relay/internal/sse"
)

// linesBuffer is what a buffer for lines begins with, in bytes.
const linesBuffer = 4 << 10

// lines reads newline-delimited JSON, a value a line, as events with nothing but data. Blank lines say
// nothing. It is not safe for concurrent use.
type lines struct {
	r   io.Reader
	err error // of the last read; reported once all that was read is returned

	buf   []byte // buf[start:] is read and not yet returned
	start int
	scan  int // nothing in buf[start:scan] ends the line in progress
	end   int // where the line in progress ends, 0 while it is not whole

	ev sse.Event // the last one
}

// Reset makes l read another stream. It keeps its buffer unless a long line has made that large.
func (l *lines) Reset(r io.Reader) {
	fresh := lines{r: r}
	if cap(l.buf) <= linesBuffer {
		fresh.buf = l.buf[:0]
	}
	*l = fresh
}

// Next returns the next line, without its end, as sse.Decoder does an event: the last one is Partial
// when its end is missing, and one of more than sse.DefaultMaxEvent bytes is sse.ErrTooLong.
func (l *lines) Next() (*sse.Event, error) {
	for {
		if l.Buffered() {
			line := l.buf[l.start:l.end]
			l.start, l.scan, l.end = l.end+1, l.end+1, 0
			l.ev = sse.Event{Data: line}
			return &l.ev, nil
		}
		if l.err == nil {
			l.fill()
			continue
		}
		rest := l.buf[l.start:]
		l.start, l.scan = len(l.buf), len(l.buf)
		if l.err == io.EOF && len(bytes.TrimSpace(rest)) > 0 {
			l.ev = sse.Event{Data: rest, Partial: true}
			return &l.ev, nil
		}
		return nil, l.err
	}
}

// Buffered reports whether a whole line that is not blank is in hand.
func (l *lines) Buffered() bool {
	for l.end == 0 {
		i := bytes.IndexByte(l.buf[l.scan:], '\n')
		if i < 0 {
			l.scan = len(l.buf)
			return false
		}
		if end := l.scan + i; len(bytes.TrimSpace(l.buf[l.start:end])) > 0 {
			l.end = end
		} else {
			l.start, l.scan = end+1, end+1
		}
	}
	return true
}

// Ended reports whether the reader has said that nothing follows what was read.
func (l *lines) Ended() bool { return l.err == io.EOF }

// fill reads once, into a buffer that grows only for a line that fills it.
func (l *lines) fill() {
	n := copy(l.buf, l.buf[l.start:])
	l.buf, l.scan, l.start = l.buf[:n], l.scan-l.start, 0
	if n == cap(l.buf) {
		if n >= sse.DefaultMaxEvent {
			l.err = sse.ErrTooLong
			return
		}
		l.buf = append(make([]byte, 0, min(max(2*n, linesBuffer), sse.DefaultMaxEvent)), l.buf...)
	}
	for range 100 { // as bufio does: a reader may return nothing now and then, not for ever
		var got int
		got, l.err = l.r.Read(l.buf[n:cap(l.buf)])
		l.buf = l.buf[:n+got]
		if got > 0 || l.err != nil {
			return
		}
	}
	l.err = io.ErrNoProgress
}
