// Package sse encodes and decodes event streams. It knows nothing of HTTP, JSON or chat.
package sse

import (
	"bytes"
	"errors"
	"io"
)

// ErrTooLong is returned for an event that exceeds the decoder's limit.
var ErrTooLong = errors.New("sse: event exceeds the size limit")

// DefaultMaxEvent is 16 MiB: inline images make events of that order, and a 13 MB line is in a
// public test suite.
const DefaultMaxEvent = 16 << 20

// The buffer begins small, because most streams bring an event of some hundred bytes now and then and
// there are many of them. It grows for an event that needs it, and up to fastBuffer while reads fill it.
// A Decoder that is used again keeps no more than keptBuffer.
const (
	initialBuffer = 1 << 10
	fastBuffer    = 8 << 10
	keptBuffer    = 2 << 10
)

// Event is one event. It belongs to the Decoder, and is valid until the next call of Next.
type Event struct {
	Data []byte // the data lines, joined by LF
	Type []byte // the event field; empty means "message"

	// Stray holds the lines that are no field of the standard, joined by LF. Providers that fail in
	// mid-stream write their error there, as `error: {...}` or as a bare JSON object.
	Stray []byte

	// Partial is set when the stream ended before the event's blank line. The standard drops such an
	// event; real servers make it necessary to try.
	Partial bool
}

// Decoder reads an event stream by the rules of the HTML standard, section 9.2.6: lines end in LF,
// CRLF or CR, one leading byte order mark is dropped, comments are consumed, unknown fields are kept
// aside. It is not safe for concurrent use.
type Decoder struct {
	r   io.Reader
	max int
	err error // of the last read; reported once all that was read is decoded

	buf   []byte // buf[start:] is read and not yet returned
	start int    // first byte of the event in progress
	line  int    // first byte of the line in progress
	scan  int    // nothing before it ends the line in progress
	end   int    // first byte after the event in progress, 0 while it is not whole
	lines int    // how many of the event in progress are whole
	event bool   // one of those is data or stray, which makes it an event

	filled bool // the last read left no room
	begun  bool // the first bytes have been looked at for a byte order mark
	afterR bool // the last line ended in a CR at the very end of what was read: an LF may follow

	ev          Event  // the last one
	data, stray []byte // its joined lines, only when there are several
}

// NewDecoder returns a Decoder that reads from r. An event may have maxEvent bytes; zero means
// DefaultMaxEvent.
func NewDecoder(r io.Reader, maxEvent int) *Decoder {
	if maxEvent <= 0 {
		maxEvent = DefaultMaxEvent
	}
	return &Decoder{r: r, max: maxEvent}
}

// Reset makes d read another stream from r, as a new Decoder with the same limit would. Events that it
// returned are not valid any more.
func (d *Decoder) Reset(r io.Reader) {
	fresh := Decoder{r: r, max: d.max}
	if cap(d.buf) <= keptBuffer {
		fresh.buf = d.buf[:0]
	}
	*d = fresh
}

// Next returns the next event that has data or stray lines. At the end of the stream it returns
// io.EOF, after a last event that may be Partial; any other error of the reader is returned as it is,
// and an unfinished event before it is dropped.
func (d *Decoder) Next() (*Event, error) {
	for {
		if !d.Buffered() {
			if d.err == nil {
				d.fill()
				continue
			}
			if d.err != io.EOF || d.start == len(d.buf) {
				return nil, d.err
			}
			block, lines, event := d.buf[d.start:], d.lines, d.event
			if last := d.buf[d.line:]; len(last) > 0 {
				lines++
				event = event || isEvent(last)
			}
			d.start, d.line, d.scan = len(d.buf), len(d.buf), len(d.buf)
			if !event {
				return nil, d.err
			}
			d.parse(block, lines)
			d.ev.Partial = true
			return &d.ev, nil
		}
		block, lines := d.buf[d.start:d.line], d.lines
		d.start, d.line, d.scan = d.end, d.end, d.end
		d.end, d.lines, d.event = 0, 0, false
		if lines == 1 && isData(block) { // as most events are: where the line ends is known
			d.ev = Event{Data: dataIn(cutEOL(block))}
		} else {
			d.parse(block, lines)
		}
		return &d.ev, nil
	}
}

// Buffered reports whether a whole event is in hand, so that Next would have no need to read. A comment
// is none: a caller that holds something back for the next event would hold it back for nothing. It
// leaves the last event valid.
func (d *Decoder) Buffered() bool {
	for d.end == 0 {
		if d.scan == len(d.buf) {
			return false
		}
		i := indexEOL(d.buf[d.scan:])
		if i < 0 {
			d.scan = len(d.buf)
			return false
		}
		eol := d.scan + i
		next := eol + 1
		if d.buf[eol] == '\r' {
			if next == len(d.buf) {
				d.afterR = true
			} else if d.buf[next] == '\n' {
				next++
			}
		}
		switch {
		case eol > d.line:
			d.lines++
			d.event = d.event || isEvent(d.buf[d.line:eol])
		case d.event:
			d.end = next
			return true
		default: // what there was made no event
			d.start, d.lines = next, 0
		}
		d.line, d.scan = next, next
	}
	return true
}

// Ended reports whether the reader has said that nothing follows what was read, so that there is no need
// to ask it again.
func (d *Decoder) Ended() bool { return d.err == io.EOF }

// fill reads once. Before that it makes room: it moves the event in progress to the front, and grows
// the buffer when that one event fills it or when there is more to read than it takes.
func (d *Decoder) fill() {
	if d.start > 0 {
		n := copy(d.buf, d.buf[d.start:])
		d.buf = d.buf[:n]
		d.line -= d.start
		d.scan -= d.start
		d.start = 0
	}
	if len(d.buf) == cap(d.buf) || d.filled && cap(d.buf) < fastBuffer {
		if len(d.buf) >= d.max {
			d.err = ErrTooLong
			return
		}
		grown := make([]byte, len(d.buf), min(max(2*cap(d.buf), initialBuffer), d.max))
		copy(grown, d.buf)
		d.buf = grown
	}
	had := len(d.buf)
	for range 100 { // as bufio does: a reader may return nothing now and then, not for ever
		n, err := d.r.Read(d.buf[had:cap(d.buf)])
		d.buf = d.buf[:had+n]
		d.filled = had+n == cap(d.buf)
		if d.err = err; n > 0 || err != nil {
			d.arrived(had)
			return
		}
	}
	d.err = io.ErrNoProgress
}

// arrived settles what only the bytes from had on could tell.
func (d *Decoder) arrived(had int) {
	if d.afterR && had < len(d.buf) {
		d.afterR = false
		if d.buf[had] == '\n' { // the other half of a CRLF that two reads split
			if d.start == d.line {
				d.start++
			}
			d.line++
			d.scan = d.line
		}
	}
	if bom := []byte("\xef\xbb\xbf"); !d.begun {
		switch {
		case bytes.HasPrefix(d.buf, bom):
			d.start, d.line, d.scan = 3, 3, 3
			d.begun = true
		case !bytes.HasPrefix(bom, d.buf):
			d.begun = true
		}
	}
}

// isEvent reports whether a line makes an event of those around it: it is data or stray.
func isEvent(line []byte) bool {
	if isData(line) {
		return true
	}
	switch name, _ := cutField(line); string(name) {
	case "", "event", "id", "retry":
		return false
	}
	return true
}

// parse reads the fields of one event into d.ev. It is told the number of lines so that it need not look
// for the end of the last one, which is the only one in most events and the long one in the others.
func (d *Decoder) parse(block []byte, lines int) {
	d.ev = Event{}
	ev := &d.ev
	dataLines, strayLines := 0, 0
	for ; lines > 0; lines-- {
		var line []byte
		if lines > 1 {
			line, block = cutLine(block)
		} else {
			line = cutEOL(block)
		}
		if isData(line) {
			ev.Data = join(&d.data, ev.Data, dataIn(line), dataLines)
			dataLines++
			continue
		}
		switch name, value := cutField(line); string(name) {
		case "event":
			ev.Type = value
		case "", "id", "retry": // a comment; and the relay reconnects to no provider
		default:
			ev.Stray = join(&d.stray, ev.Stray, line, strayLines)
			strayLines++
		}
	}
}

// isData reports whether a line is data, as most are.
func isData(line []byte) bool {
	return len(line) > len("data") && string(line[:len("data:")]) == "data:" || string(line) == "data"
}

// dataIn gives the value of a line that is data.
func dataIn(line []byte) []byte { return cutSpace(line[min(len("data:"), len(line)):]) }

// cutLine takes the first line, without its end, off a block that has another one.
func cutLine(block []byte) (line, rest []byte) {
	i := indexEOL(block)
	line, rest = block[:i], block[i+1:]
	if block[i] == '\r' && rest[0] == '\n' {
		rest = rest[1:]
	}
	return line, rest
}

// cutEOL takes the end off a line, if it has one.
func cutEOL(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line
}

// cutField takes a line apart. The name of a comment is empty.
func cutField(line []byte) (name, value []byte) {
	i := bytes.IndexByte(line, ':')
	if i < 0 {
		return line, nil
	}
	return line[:i], cutSpace(line[i+1:])
}

// cutSpace takes off the one space that may follow a field's colon.
func cutSpace(value []byte) []byte {
	if len(value) > 0 && value[0] == ' ' {
		return value[1:]
	}
	return value
}

// join adds a line to what has n lines already. A single line stays where it lies; only a second one
// makes a copy necessary.
func join(scratch *[]byte, have, line []byte, n int) []byte {
	switch n {
	case 0:
		return line
	case 1:
		*scratch = append((*scratch)[:0], have...)
	}
	*scratch = append(*scratch, '\n')
	*scratch = append(*scratch, line...)
	return *scratch
}

// eolBlock is how far an LF is looked for before a CR is, in bytes. Where lines end in CR alone there may be no LF in
// megabytes, which would be searched for each line of two bytes.
const eolBlock = 1 << 10

// indexEOL finds the first CR or LF. Two searches for one byte each beat one for either.
func indexEOL(b []byte) int {
	for from := 0; ; from += eolBlock {
		block := b[from:min(from+eolBlock, len(b))]
		lf := bytes.IndexByte(block, '\n')
		if lf == 0 {
			return from
		}
		if lf > 0 {
			block = block[:lf]
		}
		if cr := bytes.IndexByte(block, '\r'); cr >= 0 {
			return from + cr
		}
		if lf > 0 {
			return from + lf
		}
		if len(b)-from <= eolBlock {
			return -1
		}
	}
}
