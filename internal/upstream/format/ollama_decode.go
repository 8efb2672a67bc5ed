package format

import (
	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/report"
)

// NewDecoder implements Format.
func (Ollama) NewDecoder() Decoder { return new(ollamaDecoder) }

// ollamaDecoder reads chat responses. Its buffers are used again for every object.
type ollamaDecoder struct {
	jx    jx.Decoder
	line  ollamaLine
	calls fragments
}

// ollamaLine is what one object says.
type ollamaLine struct {
	model, text, thinking, reason []byte
	promptTokens, answerTokens    int64
	counted, done, failed         bool
}

// end takes a [DONE], which some gateways add.
func (d *ollamaDecoder) End(*Answer) error { return nil }

// Pass implements Decoder.
func (d *ollamaDecoder) Pass(object, typ []byte, out *Answer) error {
	l := &d.line
	if l.failed || string(typ) == "error" {
		return report.In(object)
	}
	out.Model(l.model)
	out.keep.as = "thinking"
	out.Text(chat.Reasoning, l.thinking)
	out.Text(chat.Content, l.text)
	for _, c := range d.calls.list() {
		if err := out.wholeTool(c.id, c.name, c.arguments); err != nil {
			return err
		}
	}
	if !l.done {
		return nil
	}
	if l.counted {
		out.Usage(chat.Usage{PromptTokens: l.promptTokens, CompletionTokens: l.answerTokens})
	}
	reason, err := finishReason(l.reason)
	if err != nil {
		return err
	}
	out.finish(reason)
	out.Complete = true
	return nil
}

// reset empties d.line, and keeps its memory. Its frame is not below the reading: see Decoder.
//
//go:noinline
func (d *ollamaDecoder) reset() {
	l := &d.line
	*l = ollamaLine{model: l.model[:0], text: l.text[:0], thinking: l.thinking[:0], reason: l.reason[:0]}
}

// Parse implements Decoder: it reads an object into d.line.
func (d *ollamaDecoder) Parse(object, _ []byte) error {
	d.reset()
	d.calls.clear()
	d.jx.ResetBytes(object)
	return d.jx.ObjBytes(d.field)
}

func (d *ollamaDecoder) field(j *jx.Decoder, key []byte) error {
	l := &d.line
	var text *[]byte
	switch string(key) {
	case "model":
		text = &l.model
	case "message":
		return eachMember(j, d.message)
	case "done":
		return boolean(j, &l.done)
	case "done_reason":
		text = &l.reason
	case "prompt_eval_count":
		l.counted = l.counted || j.Next() == jx.Number
		return tokens(j, &l.promptTokens)
	case "eval_count":
		l.counted = l.counted || j.Next() == jx.Number
		return tokens(j, &l.answerTokens)
	case "error":
		return present(j, &l.failed)
	}
	return readStringTo(j, text)
}

func (d *ollamaDecoder) message(j *jx.Decoder, key []byte) error {
	var text *[]byte
	switch string(key) {
	case "content":
		text = &d.line.text
	case "thinking":
		text = &d.line.thinking
	case "tool_calls":
		return eachItem(j, d.calls.read)
	}
	return readStringTo(j, text)
}
