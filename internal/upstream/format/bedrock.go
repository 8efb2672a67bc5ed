package format

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// Bedrock is the Converse format of Amazon Bedrock, which is one for the models of all makers.
// https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
type Bedrock struct{}

// Encode implements Format. The model stands in the address.
func (Bedrock) Encode(e *jx.Encoder, q *Query) error {
	turns, err := q.turns()
	if err != nil {
		return err
	}
	last := turns[len(turns)-1]
	prefilled := last.role == chat.RoleAssistant
	if prefilled && q.noPrefill {
		return refuse(fmt.Sprintf("messages[%d]", last.messages[0]),
			"this model does not go on with an assistant's message; end with the user's")
	}
	e.ObjStart()
	if err := encodeBedrockSystem(e, q); err != nil {
		return err
	}
	e.FieldStart("messages")
	e.ArrStart()
	if err := encodeTurns(e, turns, "assistant", "content",
		func(i int) error { return encodeBedrockMessage(e, q, i) }); err != nil {
		return err
	}
	e.ArrEnd()
	if err := encodeBedrockLimits(e, q, prefilled); err != nil {
		return err
	}
	if err := encodeBedrockTools(e, q); err != nil {
		return err
	}
	e.ObjEnd()
	return nil
}

func encodeBedrockSystem(e *jx.Encoder, q *Query) error {
	if text, err := q.leadingText(); err != nil || text == "" {
		return err
	}
	e.FieldStart("system")
	e.ArrStart()
	for i := range q.leading() {
		if err := encodeBedrockParts(e, q, i); err != nil {
			return err
		}
	}
	e.ArrEnd()
	return nil
}

func encodeBedrockMessage(e *jx.Encoder, q *Query, i int) error {
	m := &q.Messages[i]
	switch m.Role {
	case chat.RoleTool:
		return encodeBedrockResult(e, q, i)
	case chat.RoleAssistant:
		if s := q.stateOf(m); s != nil {
			return encodeBedrockState(e, q, i, s)
		}
	}
	if err := encodeBedrockParts(e, q, i); err != nil {
		return err
	}
	for j := range m.ToolCalls {
		if err := encodeBedrockCall(e, m, i, j); err != nil {
			return err
		}
	}
	if len(m.ToolCalls) > 0 {
		encodeBedrockMark(e, q, m.CacheControl)
	}
	return nil
}

// encodeBedrockState writes an answer as it came: thinking, text and calls in their order. Thinking that nobody has
// signed is refused by some models, and needed by none.
func encodeBedrockState(e *jx.Encoder, q *Query, i int, s *parsedState) error {
	m := &q.Messages[i]
	rest := contentOf(m)
	for _, it := range s.items {
		switch it.kind {
		case itemThinking:
			if it.seal != "" {
				bedrockObject(e, "reasoningContent", "reasoningText", func() {
					e.Field("text", func(e *jx.Encoder) { e.Str(it.text) })
					e.Field("signature", func(e *jx.Encoder) { e.Str(it.seal) })
				})
			}
		case itemRedacted:
			e.ObjStart()
			e.FieldStart("reasoningContent")
			e.ObjStart()
			optionalString(e, "redactedContent", it.seal)
			e.ObjEnd()
			e.ObjEnd()
		case itemText:
			text := rest[:it.n]
			rest = rest[it.n:]
			if strings.TrimSpace(text) != "" {
				encodeBedrockText(e, text)
			}
		case itemCall:
			if err := encodeBedrockCall(e, m, i, it.n); err != nil {
				return err
			}
		}
	}
	encodeBedrockMark(e, q, m.CacheControl)
	return nil
}

// bedrockObject writes {outer: {inner: {...}}}.
func bedrockObject(e *jx.Encoder, outer, inner string, members func()) {
	e.ObjStart()
	e.FieldStart(outer)
	e.ObjStart()
	e.FieldStart(inner)
	e.ObjStart()
	members()
	e.ObjEnd()
	e.ObjEnd()
	e.ObjEnd()
}

func encodeBedrockText(e *jx.Encoder, text string) {
	e.ObjStart()
	e.FieldStart("text")
	e.Str(text)
	e.ObjEnd()
}

func encodeBedrockCall(e *jx.Encoder, m *chat.Message, i, j int) error {
	c := &m.ToolCalls[j]
	input, err := arguments(i, j, c)
	if err != nil {
		return err
	}
	e.ObjStart()
	e.FieldStart("toolUse")
	e.ObjStart()
	optionalString(e, "toolUseId", bedrockID(c.ID))
	optionalString(e, "name", c.Name)
	e.FieldStart("input")
	e.Raw(input)
	e.ObjEnd()
	e.ObjEnd()
	return nil
}

func encodeBedrockResult(e *jx.Encoder, q *Query, i int) error {
	m := &q.Messages[i]
	e.ObjStart()
	e.FieldStart("toolResult")
	e.ObjStart()
	optionalString(e, "toolUseId", bedrockID(m.ToolCallID))
	e.FieldStart("content")
	e.ArrStart()
	unmarked := *m
	unmarked.CacheControl = nil
	if err := encodeBedrockContent(e, q, i, &unmarked); err != nil {
		return err
	}
	e.ArrEnd()
	e.ObjEnd()
	e.ObjEnd()
	encodeBedrockMark(e, q, m.CacheControl)
	return nil
}

// encodeBedrockParts writes the content of a message. What marks it for the cache stands behind it.
func encodeBedrockParts(e *jx.Encoder, q *Query, i int) error {
	m := &q.Messages[i]
	if err := encodeBedrockContent(e, q, i, m); err != nil {
		return err
	}
	if len(m.ToolCalls) == 0 {
		encodeBedrockMark(e, q, m.CacheControl)
	}
	return nil
}

func encodeBedrockContent(e *jx.Encoder, q *Query, i int, m *chat.Message) error {
	for j, p := range q.partsOf(m) {
		if p.Type == chat.PartText {
			text := p.Text
			if m.Role == chat.RoleSystem && i >= q.leading() {
				text = asUser(text)
			}
			encodeBedrockText(e, text)
		} else if err := encodeBedrockImage(e, m, i, j, p); err != nil {
			return err
		}
		if m.Role != chat.RoleTool { // inside of a result there is no place for a mark
			encodeBedrockMark(e, q, p.CacheControl)
		}
	}
	return nil
}

// bedrockImages are the formats of images by their media type.
var bedrockImages = map[string]string{"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg",
	"image/gif": "gif", "image/webp": "webp"}

func encodeBedrockImage(e *jx.Encoder, m *chat.Message, i, j int, p chat.Part) error {
	img, err := imageOf(i, j, p)
	if err != nil {
		return err
	}
	format := bedrockImages[strings.ToLower(img.mediaType)]
	switch {
	case m.Role == chat.RoleAssistant || m.Role == chat.RoleSystem:
		return refuse(imageField(i, j), "this provider takes no images in %s messages", m.Role)
	case img.url != "":
		return refuse(imageField(i, j), "this provider loads no images; send a data: URL")
	case format == "":
		return refuse(imageField(i, j), "this provider takes PNG, JPEG, GIF and WebP")
	}
	e.ObjStart()
	e.FieldStart("image")
	e.ObjStart()
	optionalString(e, "format", format)
	e.FieldStart("source")
	e.ObjStart()
	optionalString(e, "bytes", img.base64)
	e.ObjEnd()
	e.ObjEnd()
	e.ObjEnd()
	return nil
}

// encodeBedrockMark writes a mark for the cache, to models that are known to have one: others refuse it.
// https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html
func encodeBedrockMark(e *jx.Encoder, q *Query, mark []byte) {
	var m struct{ Type, TTL string }
	if mark == nil || !q.cachePoints || json.Unmarshal(mark, &m) != nil || m.Type != "ephemeral" {
		return
	}
	e.ObjStart()
	e.FieldStart("cachePoint")
	e.ObjStart()
	optionalString(e, "type", "default")
	if m.TTL == "1h" {
		optionalString(e, "ttl", m.TTL)
	}
	e.ObjEnd()
	e.ObjEnd()
}

// maxBedrockID is how long an id of a call may be.
const maxBedrockID = 64

// bedrockID is an id with the characters that Converse allows.
func bedrockID(id string) string {
	if len(id) > maxBedrockID {
		return shortID(id, maxBedrockID/2)
	}
	return anthropicID(id)
}

// encodeBedrockLimits writes how much the model may say and think, and in which shape.
func encodeBedrockLimits(e *jx.Encoder, q *Query, prefilled bool) error {
	format, err := responseFormatOf(q.Request)
	if err != nil {
		return err
	}
	if format.Type == "json_object" {
		return refuse("response_format.type", "this provider has no json_object; use json_schema")
	}
	var t anthropicThought
	if q.thinksAs == byThinking {
		if t, err = q.anthropicThought(prefilled); err != nil {
			return err
		}
	}
	maxTokens, t := q.withBudget(t)
	e.FieldStart("inferenceConfig")
	e.ObjStart()
	optionalNumber(e, "maxTokens", maxTokens)
	if err := encodeClaudeSampling(e, q, t, "topP"); err != nil {
		return err
	}
	if len(q.Stop) > 0 {
		e.FieldStart("stopSequences")
		encodeStrings(e, q.Stop)
	}
	e.ObjEnd()
	encodeBedrockOutput(e, t.effort, format)
	return encodeBedrockThinking(e, q, t)
}

func encodeBedrockOutput(e *jx.Encoder, effort string, format responseFormat) {
	if format.Type != "json_schema" && effort == "" {
		return
	}
	e.FieldStart("outputConfig")
	e.ObjStart()
	optionalString(e, "effort", effort)
	if format.Type == "json_schema" {
		e.FieldStart("textFormat")
		e.ObjStart()
		optionalString(e, "type", "json_schema")
		e.FieldStart("structure")
		e.ObjStart()
		e.FieldStart("jsonSchema")
		e.ObjStart()
		optionalString(e, "schema", string(format.JSONSchema.Schema)) // as text
		optionalString(e, "name", format.JSONSchema.Name)
		optionalString(e, "description", format.JSONSchema.Description)
		e.ObjEnd()
		e.ObjEnd()
		e.ObjEnd()
	}
	e.ObjEnd()
}

// encodeBedrockThinking writes how the model is to think in its maker's own terms, for which Converse has a place of
// its own. A model whose terms are not known thinks as it does.
func encodeBedrockThinking(e *jx.Encoder, q *Query, t anthropicThought) error {
	effort := q.ReasoningEffort
	if _, _, err := thinkingBudget(effort); err != nil {
		return err
	}
	switch {
	case t.typ != "":
		bedrockFields(e, "thinking", func() {
			e.ObjStart()
			optionalString(e, "type", t.typ)
			if t.budget > 0 {
				e.FieldStart("budget_tokens")
				e.Int(t.budget)
			}
			if t.shown {
				optionalString(e, "display", "summarized")
			}
			e.ObjEnd()
		})
	case effort == "" || q.efforts == notTaken:
	case q.thinksAs == byReasoningConfig:
		bedrockFields(e, "reasoningConfig", func() {
			e.ObjStart()
			if effort == "none" {
				optionalString(e, "type", "disabled")
			} else {
				optionalString(e, "type", "enabled")
				optionalString(e, "maxReasoningEffort", q.effort(effort))
			}
			e.ObjEnd()
		})
	case q.thinksAs == byEffort && q.effort(effort) != "":
		bedrockFields(e, "reasoning_effort", func() { e.Str(q.effort(effort)) })
	}
	return nil
}

func bedrockFields(e *jx.Encoder, name string, value func()) {
	e.FieldStart("additionalModelRequestFields")
	e.ObjStart()
	e.FieldStart(name)
	value()
	e.ObjEnd()
}

func encodeBedrockTools(e *jx.Encoder, q *Query) error {
	if len(q.Tools) == 0 {
		return nil
	}
	if q.noForced && q.forced() {
		return refuse("tool_choice", "this model can't be made to call a tool; use auto or none")
	}
	if q.ToolChoice.Mode == chat.ChooseNone {
		if !q.hasCalls() {
			return nil // what it does not know of, it does not call
		}
		return refuse("tool_choice", "this provider has no none in a conversation with calls; use auto")
	}
	e.FieldStart("toolConfig")
	e.ObjStart()
	e.FieldStart("tools")
	e.ArrStart()
	for i := range q.Tools {
		encodeBedrockTool(e, &q.Tools[i])
		encodeBedrockMark(e, q, q.Tools[i].CacheControl)
	}
	e.ArrEnd()
	choices := map[chat.ToolChoiceMode]string{chat.ChooseAuto: "auto", chat.ChooseRequired: "any",
		chat.ChooseFunction: "tool"}
	if choice := choices[q.ToolChoice.Mode]; choice != "" {
		e.FieldStart("toolChoice")
		e.ObjStart()
		e.FieldStart(choice)
		e.ObjStart()
		optionalString(e, "name", q.ToolChoice.Name)
		e.ObjEnd()
		e.ObjEnd()
	}
	e.ObjEnd()
	return nil
}

// hasCalls reports whether the conversation has tool calls.
func (q *Query) hasCalls() bool {
	for i := range q.Messages {
		if len(q.Messages[i].ToolCalls) > 0 {
			return true
		}
	}
	return false
}

func encodeBedrockTool(e *jx.Encoder, t *chat.ToolSpec) {
	e.ObjStart()
	e.FieldStart("toolSpec")
	e.ObjStart()
	optionalString(e, "name", t.Name)
	optionalString(e, "description", t.Description)
	e.FieldStart("inputSchema")
	e.ObjStart()
	e.FieldStart("json")
	if t.Parameters != nil {
		e.Raw(t.Parameters)
	} else {
		e.RawStr(`{"type":"object"}`)
	}
	e.ObjEnd()
	if t.Strict != nil && *t.Strict {
		e.Field("strict", func(e *jx.Encoder) { e.Bool(true) })
	}
	e.ObjEnd()
	e.ObjEnd()
}
