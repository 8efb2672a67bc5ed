package stream

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
	"time"

	"github.com/websopy/relay/internal/chat"
)

// A record is what the logs keep of one step of a stream: a kind (one byte), the length of the rest as
// a uvarint, the rest. In content and reasoning records the rest is their text. In all others it is
// fields: a tag (one byte), the length of the value as a uvarint, the value, which is text or a
// uvarint. A field that is not there is empty or zero.
//
// Replicas of two versions share one Redis while a new version is rolled out. So whoever reads skips
// the kinds and the tags that it doesn't know, and whoever adds one needs no new format. A number
// that was given away is never used for anything else.
//
// Redis keeps any number of records back to back in one entry, under the name of this format (see
// recordFormat). Each counts as one position, but for the head, which is before the first.
const (
	kindContent   = 1
	kindReasoning = 2
	kindTool      = 3
	kindDone      = 4
	kindError     = 5
	kindHead      = 6
)

// Tags of the fields of each kind. Numbers are marked, the others are text.
const (
	toolID        = 1
	toolName      = 2
	toolArguments = 3

	doneReason     = 1
	doneModel      = 2
	donePrompt     = 3 // a number, in tokens; not there when the provider did not say
	doneCompletion = 4 // a number, like donePrompt
	doneCached     = 5 // a number of tokens, not there when it is zero
	doneReasoning  = 6 // a number, like doneCached
	doneState      = 7

	errorCode    = 1
	errorMessage = 2
	errorPhase   = 3
	errorRetry   = 4 // a number, in milliseconds

	headModel   = 1
	headCreated = 2 // a number, in milliseconds since 1970
	headDialect = 3
	headNote    = 4
	headTrace   = 5
)

var errRecord = errors.New("not a record of a stream log")

// recordOf gives the record of a chunk of any type but Pause. Text is not copied.
func recordOf(c *chat.Chunk) (kind byte, rest []byte) {
	switch c.Type {
	case chat.Content:
		return kindContent, c.Text
	case chat.Reasoning:
		return kindReasoning, c.Text
	case chat.Tool:
		return kindTool, toolFields(c.Tool)
	default:
		return kindDone, doneFields(c.Done)
	}
}

func toolFields(t *chat.ToolCall) []byte {
	rest := appendText(nil, toolID, t.ID)
	rest = appendText(rest, toolName, t.Name)
	return appendText(rest, toolArguments, t.Arguments)
}

func doneFields(d *chat.Completion) []byte {
	rest := appendText(nil, doneReason, string(d.FinishReason))
	rest = appendText(rest, doneModel, d.Model)
	if u := d.Usage; u != nil {
		rest = appendNumber(rest, donePrompt, u.PromptTokens)
		rest = appendNumber(rest, doneCompletion, u.CompletionTokens)
		if u.CachedTokens > 0 {
			rest = appendNumber(rest, doneCached, u.CachedTokens)
		}
		if u.ReasoningTokens > 0 {
			rest = appendNumber(rest, doneReasoning, u.ReasoningTokens)
		}
	}
	rest = appendText(rest, doneState, d.State)
	return rest
}

// errorFields are those of the error that ends a stream. Its cause stays behind: it is for the log of the process
// that saw it.
func errorFields(e *chat.Error) []byte {
	rest := appendText(nil, errorCode, string(e.Code))
	rest = appendText(rest, errorMessage, e.Message)
	rest = appendText(rest, errorPhase, string(e.Phase))
	if ms := e.RetryAfter.Milliseconds(); ms > 0 {
		rest = appendNumber(rest, errorRetry, ms)
	}
	return rest
}

// appendHead appends the record of a head. The id is not part of it: the log has it as its name.
func appendHead(dst []byte, h *chat.Head) []byte {
	rest := appendText(nil, headModel, h.Model)
	rest = appendNumber(rest, headCreated, h.Created.UnixMilli())
	rest = appendText(rest, headDialect, h.Dialect)
	rest = appendText(rest, headNote, h.Note)
	rest = appendText(rest, headTrace, h.Trace)
	return appendRecord(dst, kindHead, rest)
}

// recordSize is that of a record, in bytes.
func recordSize(rest []byte) int { return 1 + (bits.Len(uint(len(rest)|1))+6)/7 + len(rest) }

func appendRecord(dst []byte, kind byte, rest []byte) []byte {
	dst = binary.AppendUvarint(append(dst, kind), uint64(len(rest)))
	return append(dst, rest...)
}

// appendText appends a field, unless it is empty.
func appendText(dst []byte, tag byte, s string) []byte {
	if s == "" {
		return dst
	}
	dst = binary.AppendUvarint(append(dst, tag), uint64(len(s)))
	return append(dst, s...)
}

// appendNumber appends a field, also when it is zero: for some that is another thing than not known.
func appendNumber(dst []byte, tag byte, n int64) []byte {
	var b [binary.MaxVarintLen64]byte
	value := binary.AppendUvarint(b[:0], uint64(max(n, 0)))
	return append(append(dst, tag, byte(len(value))), value...)
}

// cutRecord splits the first record off b.
func cutRecord(b []byte) (kind byte, rest, after []byte, err error) {
	if len(b) >= 2 && int(b[1]) <= min(len(b)-2, 0x7f) { // nearly all are so short
		n := 2 + int(b[1])
		return b[0], b[2:n:n], b[n:], nil
	}
	return cutLong(b)
}

func cutLong(b []byte) (kind byte, rest, after []byte, err error) {
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

// decode makes a record's chunk, or gives the error that the record is. Text is not copied. A record of a kind
// that a newer replica has written is a Pause. One that can't be read is an Internal error.
func decode(c *chat.Chunk, kind byte, rest []byte) (err error) {
	switch kind {
	case kindContent:
		c.Type, c.Text = chat.Content, rest
	case kindReasoning:
		c.Type, c.Text = chat.Reasoning, rest
	case kindTool:
		c.Type = chat.Tool
		c.Tool, err = decodeTool(rest)
	case kindDone:
		c.Type = chat.Done
		c.Done, err = decodeDone(rest)
	case kindError:
		err = decodeError(rest)
	}
	return err
}

func decodeTool(rest []byte) (*chat.ToolCall, error) {
	t := &chat.ToolCall{}
	f := fields{b: rest}
	for f.next() {
		switch f.tag {
		case toolID:
			t.ID = string(f.value)
		case toolName:
			t.Name = string(f.value)
		case toolArguments:
			t.Arguments = string(f.value)
		}
	}
	return t, f.err()
}

func decodeDone(rest []byte) (*chat.Completion, error) {
	d := &chat.Completion{}
	usage := func() *chat.Usage {
		if d.Usage == nil {
			d.Usage = &chat.Usage{}
		}
		return d.Usage
	}
	f := fields{b: rest}
	for f.next() {
		switch f.tag {
		case doneReason:
			d.FinishReason = chat.FinishReason(f.value)
		case doneModel:
			d.Model = string(f.value)
		case donePrompt:
			usage().PromptTokens = f.number()
		case doneCompletion:
			usage().CompletionTokens = f.number()
		case doneCached:
			usage().CachedTokens = f.number()
		case doneReasoning:
			usage().ReasoningTokens = f.number()
		case doneState:
			d.State = string(f.value)
		}
	}
	return d, f.err()
}

// decodeError gives the error that the record is, or one that says that it can't be read.
func decodeError(rest []byte) error {
	e := &chat.Error{}
	f := fields{b: rest}
	for f.next() {
		switch f.tag {
		case errorCode:
			e.Code = chat.Code(f.value)
		case errorMessage:
			e.Message = string(f.value)
		case errorPhase:
			e.Phase = chat.Phase(f.value)
		case errorRetry:
			e.RetryAfter = time.Duration(min(f.number(), math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
		}
	}
	if err := f.err(); err != nil {
		return err
	}
	return e
}

// decodeHead gives the head that data begins with. One that can't be read is as good as none: nobody
// needs it to go on reading.
func decodeHead(id string, data []byte) chat.Head {
	h := chat.Head{ID: id}
	kind, rest, _, err := cutRecord(data)
	if err != nil || kind != kindHead {
		return h
	}
	f := fields{b: rest}
	for f.next() {
		switch f.tag {
		case headModel:
			h.Model = string(f.value)
		case headCreated:
			h.Created = time.UnixMilli(f.number())
		case headDialect:
			h.Dialect = string(f.value)
		case headNote:
			h.Note = string(f.value)
		case headTrace:
			h.Trace = string(f.value)
		}
	}
	return h
}

// fields walks through the fields of a record. A fault ends the walk, and err reports it.
type fields struct {
	b     []byte // what comes next
	tag   byte
	value []byte
	bad   bool
}

func (f *fields) next() bool {
	if len(f.b) == 0 {
		return false
	}
	tag, value, after, err := cutRecord(f.b) // a field looks like a record
	if err != nil {
		f.b, f.bad = nil, true
		return false
	}
	f.tag, f.value, f.b = tag, value, after
	return true
}

func (f *fields) number() int64 {
	n, w := binary.Uvarint(f.value)
	if w != len(f.value) || w == 0 || n > math.MaxInt64 {
		f.bad = true
		return 0
	}
	return int64(n)
}

func (f *fields) err() error {
	if f.bad {
		return chat.AsError(errRecord)
	}
	return nil
}
