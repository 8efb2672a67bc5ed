package upstream

import (
	"cmp"
	"maps"
	"net/http"
	"slices"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// openaiResponses is OpenAI's Responses format.
// https://platform.openai.com/docs/api-reference/responses-streaming
type openaiResponses struct{ Options }

func (f *openaiResponses) target(string) string { return f.BaseURL + "/responses" }

func (f *openaiResponses) setHeaders(h http.Header) { setBearer(h, f.APIKey) }

func (f *openaiResponses) encode(e *jx.Encoder, model string, req *chat.Request) error {
	if len(req.Stop) > 0 {
		return refuse("stop", "this provider has no stop sequences")
	}
	e.ObjStart()
	optionalString(e, "model", model)
	e.FieldStart("input")
	e.ArrStart()
	for i := range req.Messages {
		if err := encodeResponsesItems(e, i, &req.Messages[i]); err != nil {
			return err
		}
	}
	e.ArrEnd()
	optionalNumber(e, "temperature", req.Temperature)
	optionalNumber(e, "top_p", req.TopP)
	optionalNumber(e, "max_output_tokens", req.MaxTokens)
	optionalString(e, "user", req.User)
	encodeResponsesTools(e, req)

	if req.ReasoningEffort != "" && extraField(req, "reasoning") == nil {
		e.Field("reasoning", func(e *jx.Encoder) {
			e.Obj(func(e *jx.Encoder) { optionalString(e, "effort", req.ReasoningEffort) })
		})
	}
	if err := encodeResponsesText(e, req); err != nil {
		return err
	}
	if extraField(req, "store") == nil {
		// The relay holds the conversation with its client, so nobody would ever ask for a stored one.
		e.Field("store", func(e *jx.Encoder) { e.Bool(false) })
	}
	for _, x := range req.Extra {
		if x.Name != "text" && x.Name != "verbosity" {
			e.Field(x.Name, func(e *jx.Encoder) { e.Raw(x.Value) })
		}
	}
	e.Field("stream", func(e *jx.Encoder) { e.Bool(true) })
	e.ObjEnd()
	return nil
}

// encodeResponsesItems writes a message as the items that it is here: a message, calls and their
// results are items of their own.
func encodeResponsesItems(e *jx.Encoder, i int, m *chat.Message) error {
	if m.Role == chat.RoleTool {
		e.ObjStart()
		optionalString(e, "type", "function_call_output")
		optionalString(e, "call_id", m.ToolCallID)
		e.FieldStart("output")
		encodeResponsesContent(e, m)
		e.ObjEnd()
		return nil
	}
	if m.Role == chat.RoleAssistant {
		text, err := textOf(i, m) // the parts of an answer could not be sent again without their item's id
		if err != nil {
			return err
		}
		if text != "" {
			e.ObjStart()
			optionalString(e, "role", "assistant")
			optionalString(e, "content", text)
			e.ObjEnd()
		}
	} else {
		e.ObjStart()
		optionalString(e, "role", string(m.Role))
		e.FieldStart("content")
		encodeResponsesContent(e, m)
		e.ObjEnd()
	}
	for _, c := range m.ToolCalls {
		e.ObjStart()
		optionalString(e, "type", "function_call")
		optionalString(e, "call_id", c.ID)
		optionalString(e, "name", c.Name)
		e.Field("arguments", func(e *jx.Encoder) { e.Str(cmp.Or(c.Arguments, "{}")) })
		e.ObjEnd()
	}
	return nil
}

func encodeResponsesContent(e *jx.Encoder, m *chat.Message) {
	if len(m.Parts) == 0 {
		e.Str(m.Content)
		return
	}
	e.ArrStart()
	for _, p := range m.Parts {
		e.ObjStart()
		switch p.Type {
		case chat.PartText:
			optionalString(e, "type", "input_text")
			e.Field("text", func(e *jx.Encoder) { e.Str(p.Text) })
		case chat.PartImage:
			optionalString(e, "type", "input_image")
			optionalString(e, "image_url", p.ImageURL)
			optionalString(e, "detail", cmp.Or(p.Detail, "auto"))
		}
		e.ObjEnd()
	}
	e.ArrEnd()
}

func encodeResponsesTools(e *jx.Encoder, req *chat.Request) {
	if len(req.Tools) > 0 {
		e.FieldStart("tools")
		e.ArrStart()
		for _, t := range req.Tools {
			e.ObjStart()
			optionalString(e, "type", "function")
			optionalString(e, "name", t.Name)
			optionalString(e, "description", t.Description)
			e.FieldStart("parameters")
			if t.Parameters != nil {
				e.Raw(t.Parameters)
			} else {
				e.RawStr(`{"type":"object","properties":{}}`)
			}
			// Here a tool is strict unless it says that it is not; in chat completions it is the reverse.
			e.Field("strict", func(e *jx.Encoder) { e.Bool(t.Strict != nil && *t.Strict) })
			e.ObjEnd()
		}
		e.ArrEnd()
	}
	switch req.ToolChoice.Mode {
	case "":
	case chat.ChooseFunction:
		e.FieldStart("tool_choice")
		e.ObjStart()
		optionalString(e, "type", "function")
		optionalString(e, "name", req.ToolChoice.Name)
		e.ObjEnd()
	default:
		optionalString(e, "tool_choice", string(req.ToolChoice.Mode))
	}
}

// extraField gives the value of a further field of a request, nil if there is none.
func extraField(req *chat.Request, name string) []byte {
	for _, x := range req.Extra {
		if x.Name == name {
			return x.Value
		}
	}
	return nil
}

// encodeResponsesText writes what a request says of the text of the answer: response_format, and verbosity in
// chat completions' terms or in this format's. Whatever else is in a text object comes from a caller who may
// say it.
func encodeResponsesText(e *jx.Encoder, req *chat.Request) error {
	format, err := responseFormatOf(req)
	if err != nil {
		return err
	}
	members := make(map[string]jx.Raw)
	_ = eachMember(jx.DecodeBytes(extraField(req, "text")), func(d *jx.Decoder, key []byte) (err error) {
		members[string(key)], err = d.Raw()
		return err
	})
	if v := extraField(req, "verbosity"); v != nil {
		members["verbosity"] = v
	}
	if format.Type != "" {
		members["format"] = encodeResponsesFormat(format)
	}
	if len(members) == 0 {
		return nil
	}
	e.FieldStart("text")
	e.ObjStart()
	for _, name := range slices.Sorted(maps.Keys(members)) {
		e.FieldStart(name)
		e.Raw(members[name])
	}
	e.ObjEnd()
	return nil
}

func encodeResponsesFormat(format responseFormat) []byte {
	var e jx.Encoder
	e.ObjStart()
	optionalString(&e, "type", format.Type)
	if s := format.JSONSchema; format.Type == "json_schema" {
		optionalString(&e, "name", s.Name)
		optionalString(&e, "description", s.Description)
		e.FieldStart("schema")
		e.Raw(s.Schema)
		if s.Strict != nil {
			e.Field("strict", func(e *jx.Encoder) { e.Bool(*s.Strict) })
		}
	}
	e.ObjEnd()
	return e.Bytes()
}
