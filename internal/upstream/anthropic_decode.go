package upstream

import (
	"bytes"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/sse"
)

func (f *anthropic) newDecoder() decoder { return new(anthropicDecoder) }

// anthropicDecoder reads Messages events. Its buffers are used again for every event.
type anthropicDecoder struct {
	jx    jx.Decoder
	event anthropicEvent

	// Token counts come in pieces: the prompt's at the start, the answer's, cumulative, at the end. Some
	// gateways give a zero for a prompt that they have not counted, or have counted before.
	input, cacheRead, cacheWrite, outputTokens, thinkingTokens int64
	counted                                                    bool

	// Arguments that came whole at a call's start, and the index of its block. Only gateways send them.
	startInput []byte
	startIndex int
}

// anthropicEvent is what one event says.
type anthropicEvent struct {
	typ, model             []byte
	index                  int
	block, id, name, input []byte // of content_block
	text, thinking         []byte // of content_block or delta
	partialJSON            []byte
	stopReason             []byte
	failed                 bool
}

func (d *anthropicDecoder) decode(ev *sse.Event, out *output) error {
	if err := strayError(ev); err != nil {
		return err
	}
	data := bytes.TrimSpace(ev.Data)
	if len(data) == 0 || bytes.Equal(data, doneMarker) { // OpenRouter adds a [DONE]
		return nil
	}
	e := &d.event
	*e = anthropicEvent{
		typ: e.typ[:0], model: e.model[:0], block: e.block[:0], id: e.id[:0], name: e.name[:0], input: e.input[:0],
		text: e.text[:0], thinking: e.thinking[:0], partialJSON: e.partialJSON[:0], stopReason: e.stopReason[:0],
	}
	d.jx.ResetBytes(data)
	if err := d.jx.ObjBytes(d.field); err != nil {
		return err
	}
	if e.failed || string(e.typ) == "error" || string(ev.Type) == "error" {
		return reportIn(data)
	}
	switch string(e.typ) {
	case "message_start":
		out.model(e.model)
	case "content_block_start":
		return d.start(out)
	case "content_block_delta":
		return d.delta(out)
	case "content_block_stop":
		return d.stop(out)
	case "message_delta":
		d.end(out)
	case "message_stop":
		d.end(out)
		out.complete = true
	}
	return nil
}

func (d *anthropicDecoder) start(out *output) error {
	e := &d.event
	out.progress = true
	switch string(e.block) {
	case "text", "thinking":
		out.text(chat.Reasoning, e.thinking)
		out.text(chat.Content, e.text)
	case "tool_use":
		d.startInput, d.startIndex = append(d.startInput[:0], e.input...), e.index
		return out.toolFragment(e.index, e.id, e.name, nil)
	}
	return nil
}

func (d *anthropicDecoder) delta(out *output) error {
	e := &d.event
	out.progress = true // a signature, too: thinking that is not shown has nothing else
	out.text(chat.Reasoning, e.thinking)
	out.text(chat.Content, e.text)
	if len(e.partialJSON) == 0 {
		return nil
	}
	if e.index == d.startIndex {
		d.startInput = d.startInput[:0]
	}
	return out.toolMore(e.index, e.partialJSON)
}

func (d *anthropicDecoder) stop(out *output) error {
	if d.event.index != d.startIndex {
		return out.toolEnd(d.event.index, nil)
	}
	return out.toolEnd(d.event.index, d.startInput)
}

func (d *anthropicDecoder) end(out *output) {
	if d.counted {
		out.usage(chat.Usage{PromptTokens: d.input + d.cacheRead + d.cacheWrite, // input_tokens are only those not cached
			CompletionTokens: d.outputTokens, CachedTokens: d.cacheRead, ReasoningTokens: d.thinkingTokens})
	}
	switch string(d.event.stopReason) {
	case "":
	case "max_tokens", "model_context_window_exceeded":
		out.finish(chat.FinishLength)
	case "tool_use":
		out.finish(chat.FinishToolCalls)
	case "refusal":
		out.finish(chat.FinishContentFilter)
	default: // end_turn, stop_sequence, pause_turn
		out.finish(chat.FinishStop)
	}
}

func (d *anthropicDecoder) field(j *jx.Decoder, key []byte) (err error) {
	e := &d.event
	switch string(key) {
	case "type":
		e.typ, err = appendString(j, e.typ)
		return err
	case "index":
		return integer(j, &e.index)
	case "message":
		return eachMember(j, d.message)
	case "content_block":
		return eachMember(j, d.block)
	case "delta":
		return eachMember(j, d.deltaField)
	case "usage":
		return eachMember(j, d.usage)
	case "error":
		return present(j, &e.failed)
	}
	return j.Skip()
}

func (d *anthropicDecoder) message(j *jx.Decoder, key []byte) (err error) {
	switch string(key) {
	case "model":
		d.event.model, err = appendString(j, d.event.model)
		return err
	case "usage":
		return eachMember(j, d.usage)
	}
	return j.Skip()
}

func (d *anthropicDecoder) block(j *jx.Decoder, key []byte) (err error) {
	e := &d.event
	switch string(key) {
	case "type":
		e.block, err = appendString(j, e.block)
	case "id":
		e.id, err = appendString(j, e.id)
	case "name":
		e.name, err = appendString(j, e.name)
	case "text":
		e.text, err = appendString(j, e.text)
	case "thinking":
		e.thinking, err = appendString(j, e.thinking)
	case "input":
		var raw jx.Raw
		if raw, err = j.Raw(); err == nil && raw.Type() == jx.Object {
			e.input = append(e.input, raw...)
		}
	default:
		err = j.Skip()
	}
	return err
}

func (d *anthropicDecoder) deltaField(j *jx.Decoder, key []byte) (err error) {
	e := &d.event
	switch string(key) {
	case "text":
		e.text, err = appendString(j, e.text)
	case "thinking":
		e.thinking, err = appendString(j, e.thinking)
	case "partial_json":
		e.partialJSON, err = appendString(j, e.partialJSON)
	case "stop_reason":
		e.stopReason, err = appendString(j, e.stopReason)
	default:
		err = j.Skip()
	}
	return err
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
