package framing

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/websopy/relay/internal/sse"
)

// AWSEvents are the binary frames of Amazon's event streams.
// https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html
var AWSEvents = New("application/vnd.amazon.eventstream", func() Reader { return new(awsEvents) })

// ErrGarbled is the cause of an error of a Reader when the body does not follow its framing.
var ErrGarbled = errors.New("framing: not a frame")

// A frame is, with numbers in network order: its length (4 bytes), the length of its headers (4), the CRC-32 of these
// 8, the headers, the payload, the CRC-32 of all before (4).
const (
	awsPrelude    = 12
	awsAround     = awsPrelude + 4 // what is neither headers nor payload
	maxAWSHeaders = 128 << 10
	awsBuffer     = 4 << 10 // that a reader begins with
)

// awsEvents reads frames as events: the payload is the data, which is JSON in all services that matter here, and
// :event-type is the type. An exception or an error in the stream is an event of the type error, whose data has what
// the headers say of it. It is not safe for concurrent use.
type awsEvents struct {
	r   io.Reader
	err error // of the last read; reported once all whole frames are returned

	buf    []byte // buf[start:] is read and not yet returned
	start  int
	length int // of the frame at start, 0 while its prelude has not come

	ev sse.Event // the last one
}

// Reset makes v read another stream. It keeps its buffer unless a long frame has made that large.
func (v *awsEvents) Reset(r io.Reader) {
	fresh := awsEvents{r: r}
	if cap(v.buf) <= 2*awsBuffer {
		fresh.buf = v.buf[:0]
	}
	*v = fresh
}

// Next returns the next event. The error is io.ErrUnexpectedEOF when the body ends inside of a frame, sse.ErrTooLong
// for a frame over the limit, and has the cause ErrGarbled when a checksum is wrong.
func (v *awsEvents) Next() (*sse.Event, error) {
	for {
		if err := v.prelude(); err != nil {
			v.err = err
			return nil, err
		}
		if v.whole() {
			frame := v.buf[v.start : v.start+v.length]
			v.start, v.length = v.start+v.length, 0
			if err := v.open(frame); err != nil {
				v.err, v.start = err, len(v.buf)
				return nil, err
			}
			return &v.ev, nil
		}
		if v.err == io.EOF && len(v.buf) > v.start {
			return nil, io.ErrUnexpectedEOF
		}
		if v.err != nil {
			return nil, v.err
		}
		v.fill()
	}
}

// Buffered reports whether a whole frame is in hand.
func (v *awsEvents) Buffered() bool {
	if err := v.prelude(); err != nil {
		return true // Next has something to say, and waits for nothing
	}
	return v.whole()
}

func (v *awsEvents) whole() bool { return v.length > 0 && len(v.buf)-v.start >= v.length }

// Ended reports whether the reader has said that nothing follows what was read.
func (v *awsEvents) Ended() bool { return v.err == io.EOF }

// prelude reads how long the frame is, once that has come. Nothing is believed before its checksum.
func (v *awsEvents) prelude() error {
	head := v.buf[v.start:]
	if v.length > 0 || len(head) < awsPrelude {
		return nil
	}
	if crc32.ChecksumIEEE(head[:8]) != binary.BigEndian.Uint32(head[8:]) {
		return fmt.Errorf("%w: the checksum of its lengths is wrong", ErrGarbled)
	}
	length, headers := int64(binary.BigEndian.Uint32(head)), int64(binary.BigEndian.Uint32(head[4:]))
	switch {
	case headers > maxAWSHeaders, length > sse.DefaultMaxEvent+headers+awsAround:
		return sse.ErrTooLong
	case length < headers+awsAround:
		return fmt.Errorf("%w: it is shorter than its headers", ErrGarbled)
	}
	v.length = int(length)
	return nil
}

// fill reads once, into a buffer that grows only for a frame that fills it.
func (v *awsEvents) fill() {
	n := copy(v.buf, v.buf[v.start:])
	v.buf, v.start = v.buf[:n], 0
	if n == cap(v.buf) { // a frame at a time, however long it claims to be: what has come is paid for
		v.buf = append(make([]byte, 0, max(2*n, awsBuffer)), v.buf...)
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

// awsHeaders are the headers that say what a frame is.
type awsHeaders struct {
	messageType, eventType, exceptionType, errorCode, errorMessage []byte
}

// open makes an event of a whole frame.
func (v *awsEvents) open(frame []byte) error {
	body := frame[:len(frame)-4]
	if crc32.ChecksumIEEE(body) != binary.BigEndian.Uint32(frame[len(body):]) {
		return fmt.Errorf("%w: the checksum is wrong", ErrGarbled)
	}
	split := awsPrelude + int(binary.BigEndian.Uint32(frame[4:]))
	var h awsHeaders
	if !h.read(body[awsPrelude:split]) {
		return fmt.Errorf("%w: its headers can't be read", ErrGarbled)
	}
	switch payload := body[split:]; string(h.messageType) {
	case "exception", "error":
		v.ev = sse.Event{Type: []byte("error"), Data: h.failure(payload)}
	default:
		v.ev = sse.Event{Type: h.eventType, Data: payload}
	}
	return nil
}

// awsFixed are the lengths of values by their type, where they have one: true, false, byte, short, integer, long,
// bytes, string, time, UUID.
var awsFixed = [...]int{0, 0, 1, 2, 4, 8, -1, -1, 8, 16}

// read reads headers: the length of the name (1 byte), the name, the type of the value (1), the value, which begins
// with its length (2) where its type has none.
func (h *awsHeaders) read(b []byte) bool {
	for len(b) > 0 {
		n := int(b[0]) + 1
		if len(b) < n+1 || int(b[n]) >= len(awsFixed) {
			return false
		}
		name, typ, rest := b[1:n], b[n], b[n+1:]
		length := awsFixed[typ]
		if length < 0 {
			if len(rest) < 2 {
				return false
			}
			length, rest = int(binary.BigEndian.Uint16(rest)), rest[2:]
		}
		if len(rest) < length {
			return false
		}
		if into := h.named(name); into != nil {
			*into = rest[:length]
		}
		b = rest[length:]
	}
	return true
}

func (h *awsHeaders) named(name []byte) *[]byte {
	switch string(name) {
	case ":message-type":
		return &h.messageType
	case ":event-type":
		return &h.eventType
	case ":exception-type":
		return &h.exceptionType
	case ":error-code":
		return &h.errorCode
	case ":error-message":
		return &h.errorMessage
	}
	return nil
}

// failure is what the headers and the payload of an exception or an error say, as one object.
func (h *awsHeaders) failure(payload []byte) []byte {
	object := map[string]any{"__type": string(h.exceptionType) + string(h.errorCode)}
	if len(h.errorMessage) > 0 {
		object["message"] = string(h.errorMessage)
	}
	payload = bytes.TrimSpace(payload)
	switch {
	case json.Valid(payload):
		object["error"] = json.RawMessage(payload)
	case len(payload) > 0:
		object["error"] = string(payload)
	}
	data, _ := json.Marshal(object) // strings and valid JSON: it can't fail
	return data
}
