package framing

import (
	"bytes"
	"io"

	"github.com/websopy/relay/internal/sse"
	"github.com/websopy/relay/internal/upstream/jsonscan"
)

// valuesBuffer is what a buffer for values begins with, in bytes.
const valuesBuffer = 4 << 10

// values reads JSON objects that follow each other, as events with nothing but data: one a line (NDJSON), one over
// many lines, or a list of them. Anything else than an object is returned as a line. It is not safe for concurrent
// use.
type values struct {
	r   io.Reader
	err error // of the last read; reported once all that was read is returned

	buf   []byte // buf[start:] is read and not yet returned
	start int
	scan  int // buf[start:scan] has been looked at
	end   int // where the value in progress ends, 0 while it is not whole
	json  jsonscan.Scan

	ev sse.Event // the last one
}

// Reset makes v read another stream. It keeps its buffer unless a long value has made that large.
func (v *values) Reset(r io.Reader) {
	fresh := values{r: r}
	if cap(v.buf) <= valuesBuffer {
		fresh.buf = v.buf[:0]
	}
	*v = fresh
}

// Next returns the next value as sse.Decoder does an event: the last one is Partial when its end is missing, and one
// of more than sse.DefaultMaxEvent bytes is sse.ErrTooLong.
func (v *values) Next() (*sse.Event, error) {
	for {
		if v.Buffered() {
			v.ev = sse.Event{Data: v.buf[v.start:v.end]}
			v.start, v.scan, v.end, v.json = v.end, v.end, 0, jsonscan.Scan{}
			return &v.ev, nil
		}
		if v.err == nil {
			v.fill()
			continue
		}
		rest := v.buf[v.start:]
		v.start, v.scan = len(v.buf), len(v.buf)
		if v.err == io.EOF && len(bytes.TrimSpace(rest)) > 0 {
			v.ev = sse.Event{Data: rest, Partial: true}
			return &v.ev, nil
		}
		return nil, v.err
	}
}

// Buffered reports whether a whole value is in hand.
func (v *values) Buffered() bool {
	if v.end > 0 {
		return true
	}
	if rest := v.buf[v.start:]; v.err == nil && len(rest) < 3 && len(rest) > 0 && rest[0] == 0xef {
		return false // perhaps a byte order mark
	}
	if v.scan == v.start { // between values
		v.start = len(v.buf) - len(bytes.TrimLeft(v.buf[v.start:], " \t\r\n,[]\ufeff"))
		v.scan = v.start
	}
	if v.scan == len(v.buf) {
		return false
	}
	if v.buf[v.start] != '{' {
		i := bytes.IndexByte(v.buf[v.scan:], '\n')
		if i < 0 {
			v.scan = len(v.buf)
			return false
		}
		v.end = v.scan + i
		return true
	}
	v.scan += v.json.Add(v.buf[v.scan:])
	if v.json.Broken { // a line that was cut: what is behind it has to be found again
		v.end = v.start + bytes.IndexByte(v.buf[v.start:], '\n')
		return true
	}
	if v.json.Whole {
		v.end = v.scan
	}
	return v.end > 0
}

// Ended reports whether the reader has said that nothing follows what was read.
func (v *values) Ended() bool { return v.err == io.EOF }

// fill reads once, into a buffer that grows only for a value that fills it.
func (v *values) fill() {
	n := copy(v.buf, v.buf[v.start:])
	v.buf, v.scan, v.start = v.buf[:n], v.scan-v.start, 0
	if n == cap(v.buf) {
		if n >= sse.DefaultMaxEvent {
			v.err = sse.ErrTooLong
			return
		}
		v.buf = append(make([]byte, 0, min(max(2*n, valuesBuffer), sse.DefaultMaxEvent)), v.buf...)
	}
	for range 100 { // as bufio does: a reader may return nothing now and then, not for ever
		var got int
		got, v.err = v.r.Read(v.buf[n:cap(v.buf)])
		v.buf = v.buf[:n+got]
		if got > 0 || v.err != nil {
			return
		}
	}
	v.err = io.ErrNoProgress
}

// bareValues reads values where another framing was expected: what they are is to be found out, as with stray lines of
// an event stream.
type bareValues struct{ values }

func (v *bareValues) Next() (*sse.Event, error) {
	ev, err := v.values.Next()
	if err == nil {
		ev.Data, ev.Stray = nil, ev.Data
	}
	return ev, err
}
