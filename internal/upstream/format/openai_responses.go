package format

import (
	"cmp"
	"encoding/json"
	"maps"
	"regexp"
	"slices"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// Responses is OpenAI's Responses format.
// https://platform.openai.com/docs/api-reference/responses-streaming
type Responses struct{}

// Encode implements Format.
func (Responses) Encode(e *jx.Encoder, q *Query) error {
	req := q.Request
	if len(req.Stop) > 0 {
		return refuse("stop", "this provider has no stop sequences")
	}
	if q.noForced && q.forced() {
		return refuse("tool_choice", "this model can't be made to call a tool; use auto or none")
	}
	e.ObjStart()
	optionalString(e, "model", q.Model)
	e.FieldStart("input")
	e.ArrStart()
	for i := range req.Messages {
		if err := encodeResponsesItems(e, q, i); err != nil {
			return err
		}
	}
	e.ArrEnd()
	effort := q.effort(cmp.Or(req.ReasoningEffort, effortGiven(req)))
	if q.sampled(effort) {
		optionalNumber(e, "temperature", req.Temperature)
		optionalNumber(e, "top_p", req.TopP)
	}
	optionalNumber(e, "max_output_tokens", req.MaxTokens)
	optionalString(e, "user", req.User)
	encodeResponsesTools(e, req)

	if extraField(req, "reasoning") == nil {
		encodeResponsesReasoning(e, q, effort)
	}
	if q.sealed && effort != "none" && extraField(req, "include") == nil && q.adds(addSealed) {
		e.FieldStart("include")
		encodeStrings(e, []string{"reasoning.encrypted_content"})
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
func encodeResponsesItems(e *jx.Encoder, q *Query, i int) error {
	m := &q.Messages[i]
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
		if s := q.stateOf(m); s != nil {
			encodeResponsesState(e, m, s)
			return nil
		}
		encodeAnswerText(e, text, "")
	} else {
		e.ObjStart()
		optionalString(e, "role", string(m.Role))
		e.FieldStart("content")
		encodeResponsesContent(e, m)
		e.ObjEnd()
	}
	for _, c := range m.ToolCalls {
		encodeResponsesCall(e, &c)
	}
	return nil
}

// encodeResponsesState writes an answer as it came: reasoning, messages with their phase, and calls. A reasoning
// item that nothing follows is refused, and so is a call with its id but without its reasoning: calls have none.
func encodeResponsesState(e *jx.Encoder, m *chat.Message, s *parsedState) {
	rest := contentOf(m)
	last := len(s.items)
	for last > 0 && s.items[last-1].kind == itemReasoning {
		last--
	}
	for _, it := range s.items[:last] {
		switch it.kind {
		case itemReasoning:
			encodeReasoningItem(e, &it)
		case itemText:
			encodeAnswerText(e, rest[:it.n], it.seal)
			rest = rest[it.n:]
		case itemCall:
			encodeResponsesCall(e, &m.ToolCalls[it.n])
		}
	}
}

func encodeReasoningItem(e *jx.Encoder, it *item) {
	if it.seal == "" {
		return // there is nothing in it that the provider could read
	}
	e.ObjStart()
	optionalString(e, "type", "reasoning")
	optionalString(e, "id", it.text)
	e.FieldStart("summary")
	e.ArrStart()
	for _, text := range it.summaries {
		e.ObjStart()
		optionalString(e, "type", "summary_text")
		e.Field("text", func(e *jx.Encoder) { e.Str(text) })
		e.ObjEnd()
	}
	e.ArrEnd()
	optionalString(e, "encrypted_content", it.seal)
	e.ObjEnd()
}

// phaseName is what a phase of an answer looks like: commentary, final_answer.
var phaseName = regexp.MustCompile(`^[a-z_]{1,32}$`)

func encodeAnswerText(e *jx.Encoder, text, phase string) {
	if text == "" {
		return
	}
	e.ObjStart()
	optionalString(e, "role", "assistant")
	optionalString(e, "content", text)
	if phaseName.MatchString(phase) {
		optionalString(e, "phase", phase)
	}
	e.ObjEnd()
}

func encodeResponsesCall(e *jx.Encoder, c *chat.ToolCall) {
	e.ObjStart()
	optionalString(e, "type", "function_call")
	optionalString(e, "call_id", c.ID)
	optionalString(e, "name", c.Name)
	e.Field("arguments", func(e *jx.Encoder) { e.Str(cmp.Or(c.Arguments, "{}")) })
	e.ObjEnd()
}

// encodeResponsesReasoning says how much the model is to think, and asks for a summary where there is one: it is
// all that shows of minutes of thinking.
func encodeResponsesReasoning(e *jx.Encoder, q *Query, effort string) {
	thinks := effort != "none" && (effort != "" || q.unasked != "none")
	summary := q.shows && thinks && q.adds(addSummary)
	if effort == "" && !summary {
		return
	}
	e.FieldStart("reasoning")
	e.ObjStart()
	optionalString(e, "effort", effort)
	if summary {
		optionalString(e, "summary", "auto")
	}
	e.ObjEnd()
}

// effortGiven is the effort of a caller who says it in this format's terms.
func effortGiven(req *chat.Request) string {
	var r struct {
		Effort string `json:"effort"`
	}
	_ = json.Unmarshal(extraField(req, "reasoning"), &r)
	return r.Effort
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
