package format

import (
	"errors"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/report"
)

// NewDecoder implements Format.
func (Bedrock) NewDecoder() Decoder { return &bedrockDecoder{thought: noIndex} }

// bedrockDecoder reads the events of ConverseStream, whose type stands in their frame, and the answer of Converse,
// which is in one piece. Its buffers are used again for every object.
type bedrockDecoder struct {
	jx    jx.Decoder
	event bedrockEvent
	parts []bedrockBlock // of an answer in one piece

	thought int // the index of the block of thinking that came last
	done    bool
}

// bedrockEvent is what one object says.
type bedrockEvent struct {
	index      int
	delta      bedrockBlock // or what a block begins with
	stopReason []byte
	parts      int // of bedrockDecoder.parts in use
	message    bool

	input, output, total, cacheRead, cacheWrite int64
	counted                                     bool
}

// bedrockBlock is a content block, or a piece of one.
type bedrockBlock struct {
	text, thinking, signature, redacted []byte
	id, name, input                     []byte
	isCall                              bool
}

// End takes a marker that only gateways send.
func (d *bedrockDecoder) End(out *Answer) error {
	if out.Complete = out.Finished; !out.Complete {
		return errors.New("[DONE] without a messageStop before it")
	}
	return nil
}

// Pass implements Decoder.
func (d *bedrockDecoder) Pass(object, typ []byte, out *Answer) error {
	e := &d.event
	switch string(typ) {
	case "contentBlockStart":
		return d.start(out)
	case "contentBlockDelta":
		return d.delta(out)
	case "contentBlockStop":
		out.Thinking = false
		return out.toolEnd(e.index, nil)
	case "messageStop":
		d.done = true
		return out.FinishWith(orElse(e.stopReason, "end_turn"))
	case "metadata":
		d.usage(out)
		out.Complete = d.done && e.counted // nothing follows the counts
	case "":
		if !e.message {
			return failureIn(object)
		}
		return d.message(out)
	}
	return nil
}

// orElse is a word, or another one if it is empty.
func orElse(word []byte, other string) []byte {
	if len(word) == 0 {
		return []byte(other)
	}
	return word
}

// Parse implements Decoder: it reads an object into d.event.
func (d *bedrockDecoder) Parse(object, typ []byte) error {
	if string(typ) == "error" {
		return report.In(object)
	}
	d.reset()
	d.jx.ResetBytes(object)
	return d.jx.ObjBytes(d.field)
}

// reset empties d.event, and keeps its memory. Its frame is not below the reading: see Decoder.
//
//go:noinline
func (d *bedrockDecoder) reset() {
	e := &d.event
	*e = bedrockEvent{delta: e.delta.emptied(), stopReason: e.stopReason[:0]}
}

func (b *bedrockBlock) emptied() bedrockBlock {
	return bedrockBlock{text: b.text[:0], thinking: b.thinking[:0], signature: b.signature[:0],
		redacted: b.redacted[:0],
		id:       b.id[:0], name: b.name[:0], input: b.input[:0]}
}

func (d *bedrockDecoder) start(out *Answer) error {
	b := &d.event.delta
	out.Progress, out.Thinking = true, false
	if !b.isCall {
		return nil
	}
	if err := out.toolFragment(fragment{index: d.event.index, id: b.id, name: b.name}); err != nil {
		return err
	}
	out.keep.call(out.callAt(d.event.index), nil)
	return nil
}

func (d *bedrockDecoder) delta(out *Answer) error {
	b := &d.event.delta
	out.Progress = true // a signature, too
	if len(b.thinking)+len(b.signature) > 0 {
		d.think(out)
	}
	switch {
	case len(b.text) > 0 && len(b.thinking)+len(b.signature)+len(b.redacted)+len(b.input) == 0:
		out.only(chat.Content, b.text, `"text":`)
	case len(b.thinking) > 0 && len(b.text)+len(b.signature)+len(b.redacted)+len(b.input) == 0:
		out.only(chat.Reasoning, b.thinking, `"text":`)
	default:
		out.Text(chat.Reasoning, b.thinking)
		out.Text(chat.Content, b.text)
	}
	out.keep.sign(b.signature)
	if len(b.redacted) > 0 {
		out.keep.hidden(item{kind: itemRedacted, seal: string(b.redacted)})
	}
	if len(b.input) > 0 {
		return out.toolMore(d.event.index, b.input)
	}
	return nil
}

// think begins a block of thinking, of which no event tells. It is worth keeping where it has a signature.
func (d *bedrockDecoder) think(out *Answer) {
	if d.thought == d.event.index {
		return
	}
	d.thought = d.event.index
	if out.keep.rules == nil || out.keep.rules.thinksAs != byThinking {
		return
	}
	out.keep.as = asItem
	out.keep.mark() // two blocks are never one
	out.keep.openThinking()
}

// usage reads the counts. The total has what was read from the cache and written to it, which the input has not.
func (d *bedrockDecoder) usage(out *Answer) {
	e := &d.event
	if !e.counted {
		return
	}
	prompt := e.input + e.cacheRead + e.cacheWrite
	if e.total > 0 {
		prompt = e.total - e.output
	}
	out.Usage(chat.Usage{PromptTokens: prompt, CompletionTokens: e.output, CachedTokens: e.cacheRead})
}

// message takes an answer in one piece.
func (d *bedrockDecoder) message(out *Answer) error {
	if out.Begun { // it has come in pieces
		d.event.parts = 0
	}
	for i := range d.parts[:d.event.parts] {
		b := &d.parts[i]
		d.event.index, d.event.delta = i, *b
		input := b.input
		d.event.delta.input = nil
		if err := d.delta(out); err != nil {
			return err
		}
		if b.isCall {
			if err := out.wholeTool(b.id, b.name, input); err != nil {
				return err
			}
			out.keep.call(len(out.tools)-1, nil)
		}
	}
	d.event.delta = bedrockBlock{} // the parts have its buffers
	d.usage(out)
	out.Complete = true
	return out.FinishWith(orElse(d.event.stopReason, "end_turn"))
}

func (d *bedrockDecoder) field(j *jx.Decoder, key []byte) error {
	e := &d.event
	switch string(key) {
	case "contentBlockIndex":
		return integer(j, &e.index)
	case "delta", "start":
		return d.block(j, &e.delta)
	case "stopReason":
		return readStringTo(j, &e.stopReason)
	case "usage":
		return eachMember(j, d.count)
	case "output":
		return eachMember(j, func(j *jx.Decoder, key []byte) error {
			if string(key) != "message" {
				return j.Skip()
			}
			e.message = true
			return eachMember(j, func(j *jx.Decoder, key []byte) error {
				if string(key) != "content" {
					return j.Skip()
				}
				return eachItem(j, d.part)
			})
		})
	}
	return j.Skip()
}

func (d *bedrockDecoder) part(j *jx.Decoder) error {
	n := d.event.parts
	if n == maxListed {
		return errListed
	}
	d.parts = append(d.parts[:n], bedrockBlock{})
	d.event.parts++
	return d.block(j, &d.parts[n])
}

func (d *bedrockDecoder) block(j *jx.Decoder, b *bedrockBlock) error {
	return eachMember(j, func(j *jx.Decoder, key []byte) error {
		switch string(key) {
		case "text":
			return readStringTo(j, &b.text)
		case "reasoningContent":
			return eachMember(j, b.reasoning)
		case "toolUse":
			b.isCall = b.isCall || j.Next() == jx.Object
			return eachMember(j, b.call)
		}
		return j.Skip()
	})
}

func (b *bedrockBlock) reasoning(j *jx.Decoder, key []byte) error {
	var text *[]byte
	switch string(key) {
	case "text":
		text = &b.thinking
	case "signature":
		text = &b.signature
	case "redactedContent":
		text = &b.redacted
	case "reasoningText": // in an answer in one piece
		return eachMember(j, b.reasoning)
	}
	return readStringTo(j, text)
}

func (b *bedrockBlock) call(j *jx.Decoder, key []byte) error {
	var text *[]byte
	switch string(key) {
	case "toolUseId":
		text = &b.id
	case "name":
		text = &b.name
	case "input":
		return appendArguments(j, &b.input)
	}
	return readStringTo(j, text)
}

func (d *bedrockDecoder) count(j *jx.Decoder, key []byte) error {
	e := &d.event
	var count *int64
	switch string(key) {
	case "inputTokens":
		count = &e.input
	case "outputTokens":
		count = &e.output
	case "totalTokens":
		count = &e.total
	case "cacheReadInputTokens", "cacheReadInputTokenCount":
		count = &e.cacheRead
	case "cacheWriteInputTokens", "cacheWriteInputTokenCount":
		count = &e.cacheWrite
	default:
		return j.Skip()
	}
	e.counted = e.counted || j.Next() == jx.Number
	return tokens(j, count)
}
