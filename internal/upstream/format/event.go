package format

import (
	"bytes"
	"errors"
	"io"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/sse"
	"github.com/websopy/relay/internal/upstream/jsonscan"
	"github.com/websopy/relay/internal/upstream/report"
)

// OnlyText gives the text of an event that says nothing else, if it can be told at a glance.
func (o *Answer) OnlyText(ev *sse.Event) (typ chat.Type, text []byte, ok bool) {
	text, ok = o.template.match(ev.Data)
	return o.template.typ, text, ok && len(ev.Stray) == 0 && string(ev.Type) != "error"
}

// Event takes an event apart into what a decoder reads: JSON objects, of which there may be several, and the marker
// that ends the stream. What stands outside of the event-stream grammar is read first, because it is an error more
// often than not; a chunk or a whole answer without "data:" counts as well. Keep-alives are passed over.
//
// It is apart from onlyText for the sake of the stack: what a chunk of text uses of it has to be small, because with
// many streams it is in no cache any more when the next chunk comes.
//
//go:noinline
func (o *Answer) Event(dec Decoder, ev *sse.Event) error {
	if len(ev.Stray) > 0 {
		if err := o.stray(dec, ev.Stray); err != nil {
			return err
		}
	}
	data := bytes.TrimSpace(ev.Data)
	if len(data) == 0 {
		if string(ev.Type) == "error" {
			return report.In(nil)
		}
		return nil
	}
	o.key = ""
	rest, err := o.value(dec, data, ev.Type)
	if err == nil && o.key != "" && len(rest) == 0 && len(ev.Stray) == 0 && !ev.Partial {
		o.template.learn(ev.Data, o.key)
		o.template.typ = o.typ
	}
	for err == nil && len(rest) > 0 && !o.Complete && !o.Gone {
		rest, err = o.value(dec, rest, ev.Type)
	}
	return err
}

var doneMarker = []byte("[DONE]")

// value reads the first thing in an event's data, and returns what follows it.
func (o *Answer) value(dec Decoder, data, typ []byte) (rest []byte, err error) {
	if data[0] != '{' {
		return o.word(dec, data, typ)
	}
	end := len(data)
	if !isOne(data) {
		if end = jsonscan.End(data); end < 0 {
			return nil, garbled(data)
		}
	}
	if rest = trimSeparators(data[end:]); len(rest) > 0 && string(typ) == "error" {
		typ = nil // an event's name is that of the last value in it
	}
	if err = dec.Parse(data[:end], typ); err == nil {
		err = dec.Pass(data[:end], typ, o)
	}
	if err != nil {
		err = unreadable(err, data)
	}
	return rest, err
}

// unreadable is the error for a value that a decoder failed at: what the provider says in it, if anything.
func unreadable(err error, data []byte) error {
	if !report.IsReported(err) {
		if failure := garbled(data); report.IsReported(failure) {
			return failure
		}
	}
	return err
}

// word reads what is no object at the beginning of an event's data, and returns what follows it. It is apart from
// value for the sake of the stack: see Decoder.
//
//go:noinline
func (o *Answer) word(dec Decoder, data, typ []byte) (rest []byte, err error) {
	switch c := data[0]; {
	case isDoneMarker(data):
		return trimSeparators(data[len(doneMarker):]), dec.End(o)
	case c == '[' || c == ']' || c == ',': // a list of values is as good as the values
		return trimSeparators(data[1:]), nil
	case bytes.HasPrefix(data, []byte("data:")): // glued to what was before
		return trimSeparators(data[len("data:"):]), nil
	}
	line := data
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		line, rest = data[:i], trimSeparators(data[i:])
	}
	line = bytes.TrimSpace(line)
	switch word := bytes.Trim(line, `"[]`); {
	case bytes.EqualFold(word, []byte("DONE")):
		return rest, dec.End(o)
	case string(typ) == "error", isFailure(line):
		return nil, report.In(line)
	case !isKeepAlive(word):
		return nil, garbled(data)
	}
	return rest, nil
}

// isOne reports whether data that begins an object is nothing but that, as far as a quick look can tell: it ends with
// a brace, and no brace begins where another value could. When in doubt it says no.
func isOne(data []byte) bool {
	if data[len(data)-1] != '}' {
		return false
	}
	for i := 1; ; i++ {
		next := bytes.IndexByte(data[i:], '{')
		if next < 0 {
			return true
		}
		i += next
		before := trimSpaceRight(data[:i])
		switch before[len(before)-1] {
		case '[', '{':
		case ':': // of a member, whose name is in quotes, or of a field that lacks its line break
			if name := trimSpaceRight(before[:len(before)-1]); len(name) == 0 || name[len(name)-1] != '"' {
				return false
			}
		default:
			return false
		}
	}
}

// trimSpaceRight is for every chunk: bytes.TrimRight makes a set of the characters each time.
func trimSpaceRight(b []byte) []byte {
	for len(b) > 0 {
		switch b[len(b)-1] {
		case ' ', '\t', '\r', '\n':
			b = b[:len(b)-1]
		default:
			return b
		}
	}
	return b
}

func trimSeparators(b []byte) []byte { return bytes.TrimLeft(b, " \t\r\n,") }

// isDoneMarker reports whether text begins with the marker.
func isDoneMarker(text []byte) bool {
	return len(text) >= len(doneMarker) && bytes.EqualFold(text[:len(doneMarker)], doneMarker)
}

// isKeepAlive reports whether a line of data that is no JSON object only says that somebody is there: a comment that
// came as data, or some words, or a JSON value that is no object.
func isKeepAlive(line []byte) bool {
	if len(line) > 0 && line[0] == ':' {
		return true
	}
	if len(line) > 64 {
		return false
	}
	for _, c := range line {
		if c < ' ' || c >= 0x7f || bytes.IndexByte([]byte(`{}<>[]"\%&=`), c) >= 0 {
			return false
		}
	}
	return true
}

// isFailure reports whether a line of words tells of a failure: nobody says so to keep a connection alive.
func isFailure(line []byte) bool {
	if len(line) == 0 || line[0] == ':' || line[0] == '<' {
		return false
	}
	lower := bytes.ToLower(line[:min(len(line), 200)])
	for _, word := range []string{"error", "fail", "exception", "timeout", "timed out", "unavailable", "overload",
		"abort", "refused", "reset"} {
		if bytes.Contains(lower, []byte(word)) {
			return isText(line)
		}
	}
	return false
}

func isText(line []byte) bool {
	return bytes.IndexFunc(line, func(r rune) bool { return r < ' ' || r == '\ufffd' }) < 0
}

// stray reads lines that are no field of the standard: an error as a field of its own (GPUStack, llama.cpp), an error
// as a bare JSON object (vLLM, Vertex), a whole answer or a chunk that lacks its "data:". Other lines say nothing.
func (o *Answer) stray(dec Decoder, lines []byte) error {
	for lines = trimSeparators(lines); len(lines) > 0 && !o.Complete && !o.Gone; lines = trimSeparators(lines) {
		if rest, ok := bytes.CutPrefix(lines, []byte("error:")); ok {
			return report.In(bytes.TrimSpace(rest))
		}
		var rest []byte
		var err error
		switch {
		case lines[0] == '{':
			if end := jsonscan.End(lines); end > 0 {
				if err := failureIn(lines[:end]); err != nil {
					return err
				}
			}
			if rest, err = o.value(dec, lines, nil); o.Unread == "" && o.Nothing() {
				o.Unread = report.Excerpt(lines)
			}
		case lines[0] == '[', lines[0] == ']', bytes.HasPrefix(lines, []byte("data:")):
			rest, err = o.value(dec, lines, nil)
		default:
			if _, rest, _ = bytes.Cut(lines, []byte("\n")); !o.Begun && o.Unread == "" {
				o.Unread = report.Excerpt(lines)
			}
		}
		if err != nil {
			return err
		}
		lines = rest
	}
	return nil
}

// failureIn finds the failure that an object reports which is not part of an answer.
func failureIn(value []byte) error {
	failed, answers := false, false
	d := jx.DecodeBytes(value)
	_ = d.ObjBytes(func(d *jx.Decoder, key []byte) error {
		switch string(key) {
		case "error":
			failed = failed || d.Next() == jx.Object || d.Next() == jx.String
		case "message", "detail", "msg", "error_message", "error_msg":
			failed = failed || d.Next() == jx.String
		case "choices", "candidates", "output", "content", "delta":
			answers = answers || d.Next() != jx.Null
		}
		return d.Skip()
	})
	if !failed || answers {
		return nil
	}
	return report.In(value)
}

// An error behind something that can't be read is looked for among objects of up to longestFailure bytes, in
// searchedForFailures bytes of them: of 16 MiB of lines with a brace each, every one could begin an object that has
// all the others in it.
const (
	longestFailure      = 64 << 10
	searchedForFailures = 1 << 20
)

// garbled is the error of something that can't be read. A provider that breaks off may have written its error right
// behind what it broke off; then that is the error.
func garbled(data []byte) error {
	rest := data
	for searched := 0; searched < searchedForFailures; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			break
		}
		rest = bytes.TrimSpace(rest[i:])
		if len(rest) == 0 || rest[0] != '{' {
			continue
		}
		object := rest[:min(len(rest), longestFailure)]
		if end := jsonscan.End(object); end > 0 {
			object = object[:end]
			if err := failureIn(object); err != nil {
				return err
			}
		}
		searched += len(object)
	}
	return errors.New("no JSON: " + report.Excerpt(data))
}

// errNothing is the end of an answer that has not begun.
func errNothing() error {
	return &chat.Error{Code: chat.UpstreamTruncated, Message: "the provider ended its answer before it began",
		Err: io.ErrUnexpectedEOF}
}
