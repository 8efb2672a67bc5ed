package format

import (
	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/report"
)

// NewDecoder implements Format.
func (Anthropic) NewDecoder() Decoder { return new(anthropicDecoder) }

// anthropicDecoder reads Messages events, and a whole message. Its buffers are used again for every object.
type anthropicDecoder struct {
	jx    jx.Decoder
	event anthropicEvent
	parts []anthropicBlock // of the event: the block that it begins, or all of a message

	open int // the index of the last block that began, to which events without an index belong

	// Token counts come in pieces: the prompt's at the start, the answer's, cumulative, at the end. Some
	// gateways give a zero for a prompt that they have not counted, or have counted before.
	input, cacheRead, cacheWrite, outputTokens, thinkingTokens int64
	counted                                                    bool

	// Arguments that came whole at a call's start, and the index of its block. Only gateways send them.
	startInput []byte
	startIndex int
}

// anthropicEvent is what one object says.
type anthropicEvent struct {
	typ, model     []byte
	index          int
	text, thinking []byte // of delta
	signature      []byte // likewise
	partialJSON    []byte
	stopReason     []byte
	failed         bool
	parts          int // of anthropicDecoder.parts in use
}

// anthropicBlock is a content block.
type anthropicBlock struct {
	typ, id, name, input, text, thinking []byte
	signature, data                      []byte // of thinking, and redacted_thinking
}

// end takes OpenRouter's [DONE], which says nothing.
func (d *anthropicDecoder) End(*Answer) error { return nil }

// Pass implements Decoder.
func (d *anthropicDecoder) Pass(object, typ []byte, out *Answer) error {
	e := &d.event
	if e.failed || string(e.typ) == "error" || string(typ) == "error" {
		return report.In(object)
	}
	switch string(e.typ) {
	case "message_start":
		out.Model(e.model)
	case "message":
		return d.message(out)
	case "content_block_start":
		return d.start(out)
	case "content_block_delta":
		return d.delta(out)
	case "content_block_stop":
		return d.stop(out)
	case "message_delta":
		return d.finish(out)
	case "message_stop":
		out.Complete = true
		if err := d.finish(out); err != nil || !out.Nothing() {
			return err
		}
		return errNothing()
	case "":
		return failureIn(object)
	}
	return nil
}

// reset empties d.event, and keeps its memory. Its frame is not below the reading: see Decoder.
//
//go:noinline
func (d *anthropicDecoder) reset() {
	e := &d.event
	*e = anthropicEvent{
		typ: e.typ[:0], model: e.model[:0], text: e.text[:0], thinking: e.thinking[:0], signature: e.signature[:0],
		partialJSON: e.partialJSON[:0],
		stopReason:  e.stopReason[:0], index: noIndex,
	}
}

// Parse implements Decoder: it reads an object into d.event.
func (d *anthropicDecoder) Parse(object, typ []byte) error {
	d.reset()
	e := &d.event
	d.jx.ResetBytes(object)
	if err := d.jx.ObjBytes(d.field); err != nil {
		return err
	}
	if len(e.typ) == 0 {
		e.typ = append(e.typ, typ...)
	}
	switch {
	case string(e.typ) == "content_block_start":
		if e.index == noIndex {
			e.index = d.open + 1
		}
		d.open = e.index
	case e.index == noIndex:
		e.index = d.open
	}
	return nil
}

// message takes an answer in one piece.
func (d *anthropicDecoder) message(out *Answer) error {
	out.Model(d.event.model)
	if out.Begun { // it has come in pieces
		d.event.parts = 0
	}
	for i := range d.parts[:d.event.parts] {
		switch b := &d.parts[i]; string(b.typ) {
		case "text":
			out.Text(chat.Content, b.text)
		case "thinking", "redacted_thinking":
			b.hidden(out)
		case "tool_use":
			if err := out.wholeTool(b.id, b.name, b.input); err != nil {
				return err
			}
			out.keep.call(len(out.tools)-1, nil)
		}
	}
	if len(d.event.stopReason) == 0 {
		d.event.stopReason = append(d.event.stopReason, "end_turn"...)
	}
	out.Complete = true
	return d.finish(out)
}

func (d *anthropicDecoder) start(out *Answer) error {
	out.Progress, out.Thinking = true, false
	if d.event.parts == 0 {
		return nil
	}
	switch b := &d.parts[0]; string(b.typ) {
	case "thinking", "redacted_thinking":
		b.hidden(out)
		out.think()
	case "text":
		out.Text(chat.Content, b.text)
	case "tool_use":
		d.startInput, d.startIndex = append(d.startInput[:0], b.input...), d.event.index
		if err := out.toolFragment(fragment{index: d.event.index, id: b.id, name: b.name}); err != nil {
			return err
		}
		out.keep.call(out.callAt(d.event.index), nil)
	}
	return nil
}

// hidden begins a block of thinking, which has to come back as it is.
func (b *anthropicBlock) hidden(out *Answer) {
	if string(b.typ) == "redacted_thinking" {
		out.keep.hidden(item{kind: itemRedacted, seal: string(b.data)})
		return
	}
	out.keep.as = asItem
	out.keep.mark() // two blocks are never one
	out.keep.openThinking()
	out.Text(chat.Reasoning, b.thinking)
	out.keep.sign(b.signature)
}

func (d *anthropicDecoder) delta(out *Answer) error {
	e := &d.event
	out.Progress = true // a signature, too: thinking that is not shown has nothing else
	switch {
	case len(e.text) > 0 && len(e.thinking)+len(e.partialJSON) == 0:
		out.only(chat.Content, e.text, `"text":`)
	case len(e.thinking) > 0 && len(e.text)+len(e.partialJSON) == 0:
		out.only(chat.Reasoning, e.thinking, `"thinking":`)
	default:
		out.Text(chat.Reasoning, e.thinking)
		out.Text(chat.Content, e.text)
	}
	if out.keep.sign(e.signature); len(e.partialJSON) == 0 {
		return nil
	}
	if e.index == d.startIndex {
		d.startInput = d.startInput[:0]
	}
	return out.toolMore(e.index, e.partialJSON)
}

func (d *anthropicDecoder) stop(out *Answer) error {
	out.Thinking = false
	if d.event.index != d.startIndex {
		return out.toolEnd(d.event.index, nil)
	}
	return out.toolEnd(d.event.index, d.startInput)
}

func (d *anthropicDecoder) finish(out *Answer) error {
	if d.counted {
		// input_tokens are only those not cached
		out.Usage(chat.Usage{PromptTokens: d.input + d.cacheRead + d.cacheWrite,
			CompletionTokens: d.outputTokens, CachedTokens: d.cacheRead, ReasoningTokens: d.thinkingTokens})
	}
	return out.FinishWith(d.event.stopReason)
}

func (d *anthropicDecoder) field(j *jx.Decoder, key []byte) error {
	e := &d.event
	var text *[]byte
	switch string(key) {
	case "type":
		text = &e.typ
	case "index":
		return integer(j, &e.index)
	case "message":
		return eachMember(j, d.messageField)
	case "content_block":
		return d.block(j)
	case "delta":
		return eachMember(j, d.deltaField)
	case "error":
		return present(j, &e.failed)
	case "model", "usage", "content", "stop_reason": // of a whole message
		return d.messageField(j, key)
	}
	return readStringTo(j, text)
}

func (d *anthropicDecoder) messageField(j *jx.Decoder, key []byte) error {
	var text *[]byte
	switch string(key) {
	case "model":
		text = &d.event.model
	case "stop_reason":
		text = &d.event.stopReason
	case "usage":
		return eachMember(j, d.usage)
	case "content":
		return eachItem(j, d.block)
	}
	return readStringTo(j, text)
}

func (d *anthropicDecoder) block(j *jx.Decoder) error {
	if j.Next() != jx.Object {
		return j.Skip()
	}
	n := d.event.parts
	if n == maxListed {
		return errListed
	}
	if n == len(d.parts) {
		d.parts = append(d.parts, anthropicBlock{})
	}
	d.event.parts++
	b := &d.parts[n]
	*b = anthropicBlock{b.typ[:0], b.id[:0], b.name[:0], b.input[:0], b.text[:0], b.thinking[:0], b.signature[:0],
		b.data[:0]}
	return j.ObjBytes(func(j *jx.Decoder, key []byte) error {
		var text *[]byte
		switch string(key) {
		case "type":
			text = &b.typ
		case "id":
			text = &b.id
		case "name":
			text = &b.name
		case "text":
			text = &b.text
		case "thinking":
			text = &b.thinking
		case "signature":
			text = &b.signature
		case "data":
			text = &b.data
		case "input":
			if j.Next() == jx.Object {
				return appendArguments(j, &b.input)
			}
		}
		return readStringTo(j, text)
	})
}

func (d *anthropicDecoder) deltaField(j *jx.Decoder, key []byte) error {
	e := &d.event
	var text *[]byte
	switch string(key) {
	case "text":
		text = &e.text
	case "thinking":
		text = &e.thinking
	case "signature":
		text = &e.signature
	case "partial_json":
		text = &e.partialJSON
	case "stop_reason":
		text = &e.stopReason
	}
	return readStringTo(j, text)
}

func (d *anthropicDecoder) usage(j *jx.Decoder, key []byte) error {
	var count *int64
	switch string(key) {
	case "input_tokens":
		count = &d.input
	case "cache_read_input_tokens":
		count = &d.cacheRead
	case "cache_creation_input_tokens":
		count = &d.cacheWrite
	case "output_tokens":
		count = &d.outputTokens
	case "output_tokens_details":
		return eachMember(j, func(j *jx.Decoder, key []byte) error {
			if string(key) != "thinking_tokens" {
				return j.Skip()
			}
			return tokens(j, &d.thinkingTokens)
		})
	default:
		return j.Skip()
	}
	n := *count
	if err := tokens(j, &n); err != nil {
		return err
	}
	d.counted = true
	if n > 0 || count == &d.outputTokens {
		*count = n
	}
	return nil
}
