package format

import (
	"strings"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// Ollama is Ollama's own chat format, newline-delimited JSON.
// https://docs.ollama.com/api/chat
type Ollama struct{}

// Encode implements Format.
func (Ollama) Encode(e *jx.Encoder, q *Query) error {
	req := q.Request
	format, err := responseFormatOf(req)
	if err != nil {
		return err
	}
	e.ObjStart()
	optionalString(e, "model", q.Model)
	e.FieldStart("messages")
	e.ArrStart()
	for i := range req.Messages {
		if err := encodeOllamaMessage(e, q, i); err != nil {
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
func encodeOllamaMessage(e *jx.Encoder, q *Query, i int) error {
	messages := q.Messages
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
	if _, thinking := q.stateOf(m).field(); thinking != "" {
		optionalString(e, "thinking", thinking)
	}
	if len(images) > 0 {
		e.FieldStart("images")
		encodeStrings(e, images)
	}
	if m.Role == chat.RoleTool {
		name, err := q.calledName(i)
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
		encodeTool(e, &t, false)
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
	case "high", "xhigh":
		optionalString(e, "think", "high")
	case "max":
		optionalString(e, "think", "max")
	default:
		_, _, err := thinkingBudget(effort)
		return err
	}
	return nil
}
