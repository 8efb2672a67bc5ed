package upstream

import (
	"bytes"
	"net/http"
	"strings"
	"sync"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/sse"
)

// ollama is Ollama's own chat format, newline-delimited JSON.
// https://docs.ollama.com/api/chat
type ollama struct{ Options }

var ndjson = framing{"application/x-ndjson", &sync.Pool{New: func() any { return new(lines) }}}

func (f *ollama) target(string) string { return f.BaseURL + "/api/chat" }

func (f *ollama) setHeaders(h http.Header) { setBearer(h, f.APIKey) }

func (f *ollama) encode(e *jx.Encoder, model string, req *chat.Request) error {
	format, err := responseFormatOf(req)
	if err != nil {
		return err
	}
	e.ObjStart()
	optionalString(e, "model", model)
	e.FieldStart("messages")
	e.ArrStart()
	for i := range req.Messages {
		if err := encodeOllamaMessage(e, req.Messages, i); err != nil {
			return err
		}
	}
	e.ArrEnd()
	if err := encodeOllamaTools(e, req); err != nil {
		return err
	}
	switch format.Type {
	case "json_object":
		optionalString(e, "format", "json")
	case "json_schema":
		e.FieldStart("format")
		e.Raw(format.JSONSchema.Schema)
	}
	if err := encodeThink(e, req.ReasoningEffort); err != nil {
		return err
	}
	e.FieldStart("options")
	e.ObjStart()
	optionalNumber(e, "temperature", req.Temperature)
	optionalNumber(e, "top_p", req.TopP)
	optionalNumber(e, "num_predict", req.MaxTokens)
	if fits(req.Seed, 64) {
		optionalNumber(e, "seed", req.Seed)
	}
	if len(req.Stop) > 0 {
		e.FieldStart("stop")
		encodeStrings(e, req.Stop)
	}
	e.ObjEnd()
	e.Field("stream", func(e *jx.Encoder) { e.Bool(true) })
	e.ObjEnd()
	return nil
}

// encodeOllamaMessage writes a message, whose images lie beside its text.
func encodeOllamaMessage(e *jx.Encoder, messages []chat.Message, i int) error {
	m := &messages[i]
	var texts, images []string
	for j, p := range partsOf(m) {
		if p.Type == chat.PartText {
			texts = append(texts, p.Text)
			continue
		}
		img, err := imageOf(i, j, p)
		if err != nil {
			return err
		}
		if img.url != "" {
			return refuse(imageField(i, j), "this provider fetches no images; use a data URL")
		}
		images = append(images, img.base64)
	}
	e.ObjStart()
	optionalString(e, "role", string(m.Role))
	e.Field("content", func(e *jx.Encoder) { e.Str(strings.Join(texts, "\n")) })
	if len(images) > 0 {
		e.FieldStart("images")
		encodeStrings(e, images)
	}
	if m.Role == chat.RoleTool {
		name, err := calledName(messages, i)
		if err != nil {
			return err
		}
		optionalString(e, "tool_name", name)
		optionalString(e, "tool_call_id", m.ToolCallID)
	}
	if len(m.ToolCalls) > 0 {
		e.FieldStart("tool_calls")
		e.ArrStart()
		for j := range m.ToolCalls {
			c := &m.ToolCalls[j]
			args, err := arguments(i, j, c)
			if err != nil {
				return err
			}
			e.ObjStart()
			optionalString(e, "id", c.ID)
			e.FieldStart("function")
			e.ObjStart()
			optionalString(e, "name", c.Name)
			e.FieldStart("arguments")
			e.Raw(args)
			e.ObjEnd()
			e.ObjEnd()
		}
		e.ArrEnd()
	}
	e.ObjEnd()
	return nil
}

// encodeOllamaTools writes the tools. The model is free to use them or not: to forbid it, they are left
// out.
func encodeOllamaTools(e *jx.Encoder, req *chat.Request) error {
	switch req.ToolChoice.Mode {
	case chat.ChooseRequired, chat.ChooseFunction:
		return refuse("tool_choice", "this provider can't be made to call a tool; use auto or none")
	case chat.ChooseNone:
		return nil
	}
	if len(req.Tools) == 0 {
		return nil
	}
	e.FieldStart("tools")
	e.ArrStart()
	for _, t := range req.Tools {
		t.Strict = nil
		if t.Parameters == nil {
			t.Parameters = []byte(`{"type":"object","properties":{}}`)
		}
		encodeTool(e, &t)
	}
	e.ArrEnd()
	return nil
}

func encodeThink(e *jx.Encoder, effort string) error {
	switch effort {
	case "":
	case "none":
		e.Field("think", func(e *jx.Encoder) { e.Bool(false) })
	case "minimal", "low":
		optionalString(e, "think", "low")
	case "medium":
		optionalString(e, "think", "medium")
	case "high", "xhigh", "max":
		optionalString(e, "think", "high")
	default:
		_, _, err := thinkingBudget(effort)
		return err
	}
	return nil
}

func (f *ollama) newDecoder() decoder { return new(ollamaDecoder) }

// ollamaDecoder reads chat responses. Its buffers are used again for every line.
type ollamaDecoder struct {
	jx    jx.Decoder
	line  ollamaLine
	calls []ollamaCall
}

// ollamaLine is what one line says.
type ollamaLine struct {
	model, text, thinking, reason []byte
	promptTokens, answerTokens    int64
	counted, done, failed         bool
	calls                         int // of ollamaDecoder.calls in use
}

type ollamaCall struct{ id, name, args []byte }

func (d *ollamaDecoder) decode(ev *sse.Event, out *output) error {
	l := &d.line
	*l = ollamaLine{model: l.model[:0], text: l.text[:0], thinking: l.thinking[:0], reason: l.reason[:0]}
	d.jx.ResetBytes(bytes.TrimSpace(ev.Data))
	if err := d.jx.ObjBytes(d.field); err != nil {
		return err
	}
	if l.failed {
		return reportIn(ev.Data)
	}
	out.model(l.model)
	out.text(chat.Reasoning, l.thinking)
	out.text(chat.Content, l.text)
	for i := range d.calls[:l.calls] {
		c := &d.calls[i]
		if err := out.wholeTool(c.id, c.name, c.args); err != nil {
			return err
		}
	}
	if !l.done {
		return nil
	}
	if l.counted {
		out.usage(chat.Usage{PromptTokens: l.promptTokens, CompletionTokens: l.answerTokens})
	}
	out.complete = true
	if string(l.reason) == "length" {
		out.finish(chat.FinishLength)
	} else {
		out.finish(chat.FinishStop)
	}
	return nil
}

func (d *ollamaDecoder) field(j *jx.Decoder, key []byte) (err error) {
	l := &d.line
	switch string(key) {
	case "model":
		l.model, err = appendString(j, l.model)
		return err
	case "message":
		return eachMember(j, d.message)
	case "done":
		return boolean(j, &l.done)
	case "done_reason":
		l.reason, err = appendString(j, l.reason)
		return err
	case "prompt_eval_count":
		l.counted = l.counted || j.Next() == jx.Number
		return tokens(j, &l.promptTokens)
	case "eval_count":
		l.counted = l.counted || j.Next() == jx.Number
		return tokens(j, &l.answerTokens)
	case "error":
		return present(j, &l.failed)
	}
	return j.Skip()
}

func (d *ollamaDecoder) message(j *jx.Decoder, key []byte) (err error) {
	l := &d.line
	switch string(key) {
	case "content":
		l.text, err = appendString(j, l.text)
		return err
	case "thinking":
		l.thinking, err = appendString(j, l.thinking)
		return err
	case "tool_calls":
		return eachItem(j, d.toolCall)
	}
	return j.Skip()
}

func (d *ollamaDecoder) toolCall(j *jx.Decoder) error {
	if j.Next() != jx.Object {
		return j.Skip()
	}
	if d.line.calls == maxListed {
		return errListed
	}
	if d.line.calls == len(d.calls) {
		d.calls = append(d.calls, ollamaCall{})
	}
	c := &d.calls[d.line.calls]
	d.line.calls++
	*c = ollamaCall{c.id[:0], c.name[:0], c.args[:0]}
	return j.ObjBytes(func(j *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "id":
			c.id, err = appendString(j, c.id)
			return err
		case "function":
			return eachMember(j, func(j *jx.Decoder, key []byte) error { return readFunction(j, key, &c.name, &c.args) })
		}
		return j.Skip()
	})
}
