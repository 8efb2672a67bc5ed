package upstream

import (
	"slices"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// The readers below take what providers send where the format has a string, a number or an object: a
// value of another type is passed over, because a null or an oddity in one field is no reason to lose
// an answer.

// appendString appends a string value to dst.
func appendString(d *jx.Decoder, dst []byte) ([]byte, error) {
	if d.Next() != jx.String {
		return dst, d.Skip()
	}
	return d.StrAppend(dst)
}

// appendText appends the string members of an object that have one of these names.
func appendText(d *jx.Decoder, dst *[]byte, names ...string) error {
	if d.Next() != jx.Object {
		return d.Skip()
	}
	return d.ObjBytes(func(d *jx.Decoder, key []byte) (err error) {
		if !slices.Contains(names, string(key)) {
			return d.Skip()
		}
		*dst, err = appendString(d, *dst)
		return err
	})
}

// tokens reads a token count. It may be a float by its notation.
func tokens(d *jx.Decoder, n *int64) error {
	if d.Next() != jx.Number {
		return d.Skip()
	}
	f, err := d.Float64()
	*n = int64(f)
	return err
}

// encodeOpenAIRequest writes the members of a request that OpenAI's chat format and our own share.
func encodeOpenAIRequest(e *jx.Encoder, req *chat.Request, maxTokens string) {
	e.FieldStart("messages")
	e.ArrStart()
	for i := range req.Messages {
		encodeMessage(e, &req.Messages[i])
	}
	e.ArrEnd()
	optionalNumber(e, "temperature", req.Temperature)
	optionalNumber(e, "top_p", req.TopP)
	optionalNumber(e, maxTokens, req.MaxTokens)
	optionalNumber(e, "seed", req.Seed)
	optionalString(e, "user", req.User)
	optionalString(e, "reasoning_effort", req.ReasoningEffort)
	if len(req.Stop) > 0 {
		e.FieldStart("stop")
		encodeStrings(e, req.Stop)
	}
	if req.ResponseFormat != nil {
		e.FieldStart("response_format")
		e.Raw(req.ResponseFormat)
	}
	if len(req.Tools) > 0 {
		e.FieldStart("tools")
		e.ArrStart()
		for i := range req.Tools {
			encodeTool(e, &req.Tools[i])
		}
		e.ArrEnd()
	}
	switch req.ToolChoice.Mode {
	case "":
	case chat.ChooseFunction:
		e.FieldStart("tool_choice")
		e.ObjStart()
		optionalString(e, "type", "function")
		e.FieldStart("function")
		e.ObjStart()
		optionalString(e, "name", req.ToolChoice.Name)
		e.ObjEnd()
		e.ObjEnd()
	default:
		optionalString(e, "tool_choice", string(req.ToolChoice.Mode))
	}
}

func encodeMessage(e *jx.Encoder, m *chat.Message) {
	e.ObjStart()
	optionalString(e, "role", string(m.Role))
	optionalString(e, "name", m.Name)
	optionalString(e, "tool_call_id", m.ToolCallID)
	e.FieldStart("content")
	switch {
	case len(m.Parts) > 0:
		encodeParts(e, m.Parts)
	case m.Content == "" && len(m.ToolCalls) > 0:
		e.Null()
	default:
		e.Str(m.Content)
	}
	encodeToolCalls(e, m.ToolCalls)
	e.ObjEnd()
}

func encodeParts(e *jx.Encoder, parts []chat.Part) {
	e.ArrStart()
	for _, p := range parts {
		e.ObjStart()
		optionalString(e, "type", string(p.Type))
		switch p.Type {
		case chat.PartText:
			e.FieldStart("text")
			e.Str(p.Text)
		case chat.PartImage:
			e.FieldStart("image_url")
			e.ObjStart()
			optionalString(e, "url", p.ImageURL)
			optionalString(e, "detail", p.Detail)
			e.ObjEnd()
		}
		e.ObjEnd()
	}
	e.ArrEnd()
}

func encodeToolCalls(e *jx.Encoder, calls []chat.ToolCall) {
	if len(calls) == 0 {
		return
	}
	e.FieldStart("tool_calls")
	e.ArrStart()
	for _, c := range calls {
		e.ObjStart()
		optionalString(e, "id", c.ID)
		optionalString(e, "type", "function")
		e.FieldStart("function")
		e.ObjStart()
		optionalString(e, "name", c.Name)
		e.FieldStart("arguments")
		e.Str(c.Arguments)
		e.ObjEnd()
		e.ObjEnd()
	}
	e.ArrEnd()
}

func encodeTool(e *jx.Encoder, t *chat.ToolSpec) {
	e.ObjStart()
	optionalString(e, "type", "function")
	e.FieldStart("function")
	e.ObjStart()
	optionalString(e, "name", t.Name)
	optionalString(e, "description", t.Description)
	if t.Parameters != nil {
		e.FieldStart("parameters")
		e.Raw(t.Parameters)
	}
	if t.Strict != nil {
		e.FieldStart("strict")
		e.Bool(*t.Strict)
	}
	e.ObjEnd()
	e.ObjEnd()
}

func optionalString(e *jx.Encoder, name, value string) {
	if value != "" {
		e.FieldStart(name)
		e.Str(value)
	}
}

func optionalNumber(e *jx.Encoder, name string, n chat.Number) {
	if n != "" {
		e.FieldStart(name)
		e.Raw([]byte(n))
	}
}

func encodeStrings(e *jx.Encoder, list []string) {
	e.ArrStart()
	for _, s := range list {
		e.Str(s)
	}
	e.ArrEnd()
}
