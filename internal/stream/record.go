package stream

import (
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/websopy/relay/internal/chat"
)

// A record is one chunk, or the error that ends a stream, as the logs keep it: a kind, the length
// of the rest as a uvarint, the rest. Content and Reasoning have their text there; in the others a
// string is its length as a uvarint and its bytes, a number is a uvarint. Redis keeps any number of
// records back to back in one entry, under the name of this format (see recordFormat).
const (
	kindContent   = 1
	kindReasoning = 2
	kindTool      = 3 // id, name, arguments
	kindDone      = 4 // finish reason, model, and when known prompt and completion tokens
	kindError     = 5 // code, message, phase, milliseconds to wait before a retry
)

var errRecord = errors.New("not a record of a stream log")

// appendChunk appends the record of a chunk of any type but Pause.
func appendChunk(dst []byte, c *chat.Chunk) []byte {
	switch c.Type {
	case chat.Content:
		return appendRecord(dst, kindContent, c.Text)
	case chat.Reasoning:
		return appendRecord(dst, kindReasoning, c.Text)
	case chat.Tool:
		rest := appendString(nil, c.Tool.ID)
		rest = appendString(rest, c.Tool.Name)
		rest = appendString(rest, c.Tool.Arguments)
		return appendRecord(dst, kindTool, rest)
	default:
		rest := appendString(nil, string(c.Done.FinishReason))
		rest = appendString(rest, c.Done.Model)
		if u := c.Done.Usage; u != nil {
			rest = binary.AppendUvarint(rest, uint64(max(u.PromptTokens, 0)))
			rest = binary.AppendUvarint(rest, uint64(max(u.CompletionTokens, 0)))
		}
		return appendRecord(dst, kindDone, rest)
	}
}

// appendError appends the record of the error that ends a stream. Its cause stays behind: it is for
// the log of the process that saw it.
func appendError(dst []byte, e *chat.Error) []byte {
	rest := appendString(nil, string(e.Code))
	rest = appendString(rest, e.Message)
	rest = appendString(rest, string(e.Phase))
	rest = binary.AppendUvarint(rest, uint64(max(e.RetryAfter.Milliseconds(), 0)))
	return appendRecord(dst, kindError, rest)
}

func appendRecord(dst []byte, kind byte, rest []byte) []byte {
	dst = binary.AppendUvarint(append(dst, kind), uint64(len(rest)))
	return append(dst, rest...)
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// cutRecord splits the first record off b.
func cutRecord(b []byte) (kind byte, rest, after []byte, err error) {
	if len(b) == 0 {
		return 0, nil, nil, errRecord
	}
	n, w := binary.Uvarint(b[1:])
	if w <= 0 || n > uint64(len(b)-1-w) {
		return 0, nil, nil, errRecord
	}
	body := b[1+w:]
	return b[0], body[:n:n], body[n:], nil
}

// decode makes a record's chunk, or the error that the record is. Text is not copied. A record
// that cannot be read is an Internal error: only this package writes them.
func decode(kind byte, rest []byte) (chat.Chunk, error) {
	f := fields{b: rest}
	switch kind {
	case kindContent:
		return chat.Chunk{Type: chat.Content, Text: rest}, nil
	case kindReasoning:
		return chat.Chunk{Type: chat.Reasoning, Text: rest}, nil
	case kindTool:
		t := &chat.ToolCall{ID: f.string(), Name: f.string(), Arguments: f.string()}
		return chat.Chunk{Type: chat.Tool, Tool: t}, f.end()
	case kindDone:
		d := &chat.Completion{FinishReason: chat.FinishReason(f.string()), Model: f.string()}
		if len(f.b) > 0 {
			d.Usage = &chat.Usage{PromptTokens: f.number(), CompletionTokens: f.number()}
		}
		return chat.Chunk{Type: chat.Done, Done: d}, f.end()
	case kindError:
		e := &chat.Error{Code: chat.Code(f.string()), Message: f.string(), Phase: chat.Phase(f.string())}
		e.RetryAfter = time.Duration(min(f.number(), math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
		if err := f.end(); err != nil {
			return chat.Chunk{}, err
		}
		return chat.Chunk{}, e
	default:
		return chat.Chunk{}, chat.AsError(errRecord)
	}
}

// fields reads the strings and numbers of a record. It goes on with zeroes after a fault, which end
// reports.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) uvarint() uint64 {
	n, w := binary.Uvarint(f.b)
	if w <= 0 {
		f.b, f.bad = nil, true
		return 0
	}
	f.b = f.b[w:]
	return n
}

func (f *fields) string() string {
	n := f.uvarint()
	if n > uint64(len(f.b)) {
		f.b, f.bad = nil, true
		return ""
	}
	s := string(f.b[:n])
	f.b = f.b[n:]
	return s
}

func (f *fields) number() int64 {
	n := f.uvarint()
	if n > math.MaxInt64 {
		f.bad = true
		return 0
	}
	return int64(n)
}

func (f *fields) end() error {
	if f.bad || len(f.b) > 0 {
		return chat.AsError(errRecord)
	}
	return nil
}
