package format

import (
	"errors"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/report"
)

// NewDecoder implements Format.
func (Cohere) NewDecoder() Decoder { return new(cohereDecoder) }

// cohereDecoder reads chat events, and a whole response. Its buffers are used again for every object.
type cohereDecoder struct {
	jx    jx.Decoder
	event cohereEvent
	calls fragments
}

// cohereEvent is what one object says.
type cohereEvent struct {
	typ                []byte
	index              int
	text, thinking     []byte
	finish             []byte
	usage, billedUsage tokenCounts
	cached             int64 // of the prompt's tokens
	failed, message    bool  // whether there is an error, or a message where there should be a type
	whole              bool  // it is a response, not an event
}

// end takes a [DONE], which some gateways add.
func (d *cohereDecoder) End(*Answer) error { return nil }

// Pass implements Decoder.
func (d *cohereDecoder) Pass(object, typ []byte, out *Answer) error {
	e := &d.event
	if e.failed || e.message && len(e.typ) == 0 || string(typ) == "error" {
		return report.In(object)
	}
	out.keep.as = asItem
	switch string(e.typ) {
	case "content-start", "content-delta":
		if len(e.text) > 0 && len(e.thinking) == 0 {
			out.only(chat.Content, e.text, `"text":`)
			return nil
		}
		out.Text(chat.Reasoning, e.thinking)
		out.Text(chat.Content, e.text)
	case "tool-plan-delta":
		out.Progress = true // the recorded answers count a plan neither as text nor as reasoning
	case "tool-call-start":
		for _, call := range d.calls.list() {
			call.index = e.index
			if err := out.toolFragment(call); err != nil {
				return err
			}
		}
	case "tool-call-delta":
		for _, call := range d.calls.list() {
			if err := out.toolMore(e.index, call.arguments); err != nil {
				return err
			}
		}
	case "tool-call-end":
		return out.toolEnd(e.index, nil)
	case "message-end":
		return d.finish(object, out)
	case "":
		if e.whole && len(e.finish) > 0 {
			return d.response(object, out)
		}
	}
	return nil
}

// reset empties d.event, and keeps its memory. Its frame is not below the reading: see Decoder.
//
//go:noinline
func (d *cohereDecoder) reset() {
	e := &d.event
	*e = cohereEvent{typ: e.typ[:0], text: e.text[:0], thinking: e.thinking[:0], finish: e.finish[:0], index: noIndex}
}

// Parse implements Decoder: it reads an object into d.event.
func (d *cohereDecoder) Parse(object, typ []byte) error {
	d.reset()
	e := &d.event
	d.calls.clear()
	d.jx.ResetBytes(object)
	if err := d.jx.ObjBytes(d.field); err != nil {
		return err
	}
	if len(e.typ) == 0 && !e.whole && !e.message {
		e.typ = append(e.typ, typ...)
	}
	return nil
}

// response takes an answer in one piece.
func (d *cohereDecoder) response(object []byte, out *Answer) error {
	out.Text(chat.Reasoning, d.event.thinking)
	out.Text(chat.Content, d.event.text)
	for _, c := range d.calls.list() {
		if err := out.wholeTool(c.id, c.name, c.arguments); err != nil {
			return err
		}
	}
	return d.finish(object, out)
}

func (d *cohereDecoder) finish(object []byte, out *Answer) error {
	e := &d.event
	usage := e.usage
	if !usage.known {
		usage = e.billedUsage
	}
	if usage.known {
		usage.cached = e.cached
		out.Usage(usage.usage())
	}
	out.Complete = true
	reason, err := finishReason(e.finish)
	if failure, ok := err.(*chat.Error); ok {
		failure.Err = errors.New("cohere: " + report.Excerpt(object))
		return failure
	}
	out.finish(reason)
	return nil
}

func (d *cohereDecoder) field(j *jx.Decoder, key []byte) error {
	e := &d.event
	switch string(key) {
	case "type":
		return readStringTo(j, &e.typ)
	case "index":
		return integer(j, &e.index)
	case "delta":
		return eachMember(j, d.delta)
	case "error":
		return present(j, &e.failed)
	case "message": // {"message": "…"} is how Cohere reports a failure; a whole response has an object there
		if j.Next() == jx.Object {
			e.whole = true
			return j.ObjBytes(d.message)
		}
		return present(j, &e.message)
	case "finish_reason", "usage": // of a whole response
		return d.delta(j, key)
	}
	return j.Skip()
}

func (d *cohereDecoder) delta(j *jx.Decoder, key []byte) error {
	e := &d.event
	switch string(key) {
	case "finish_reason":
		return readStringTo(j, &e.finish)
	case "message":
		return eachMember(j, d.message)
	case "usage":
		return eachMember(j, func(j *jx.Decoder, key []byte) error {
			switch string(key) {
			case "tokens":
				return e.usage.decode(j)
			case "billed_units":
				return e.billedUsage.decode(j)
			case "cached_tokens":
				return tokens(j, &e.cached)
			}
			return j.Skip()
		})
	}
	return j.Skip()
}

// message reads a message: in an event its content and its call are one, in a whole response they are lists.
func (d *cohereDecoder) message(j *jx.Decoder, key []byte) error {
	var one func(*jx.Decoder) error
	switch string(key) {
	case "content":
		one = func(j *jx.Decoder) error { return eachMember(j, d.content) }
	case "tool_calls":
		one = d.calls.read
	default:
		return j.Skip()
	}
	if j.Next() == jx.Array {
		return j.Arr(one)
	}
	return one(j)
}

func (d *cohereDecoder) content(j *jx.Decoder, key []byte) error {
	var text *[]byte
	switch string(key) {
	case "text":
		text = &d.event.text
	case "thinking":
		text = &d.event.thinking
	}
	return readStringTo(j, text)
}
