package format

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// Anthropic is Anthropic's Messages format.
// https://platform.claude.com/docs/en/api/messages
type Anthropic struct{}

// What is asked for when the caller sets no max_tokens: the field is required, and every model since Claude 3.5
// allows 8192. A budget of thinking comes on top; models that decide themselves how much they think get room.
const (
	anthropicMaxTokens      = 8192
	anthropicMaxWithThought = 64000
)

// Encode implements Format.
func (Anthropic) Encode(e *jx.Encoder, q *Query) error {
	e.ObjStart()
	if q.inClaude != "" {
		optionalString(e, "anthropic_version", q.inClaude)
	} else {
		optionalString(e, "model", q.Model)
	}
	if err := encodeAnthropicSystem(e, q); err != nil {
		return err
	}
	turns, err := q.turns()
	if err != nil {
		return err
	}
	last := turns[len(turns)-1]
	if last.role == chat.RoleAssistant && q.noPrefill {
		return refuse(fmt.Sprintf("messages[%d]", last.messages[0]),
			"this model does not go on with an assistant's message; end with the user's")
	}
	e.FieldStart("messages")
	e.ArrStart()
	if err := encodeTurns(e, turns, "assistant", "content",
		func(i int) error { return encodeAnthropicMessage(e, q, i) }); err != nil {
		return err
	}
	e.ArrEnd()
	if err := encodeAnthropicLimits(e, q, last.role == chat.RoleAssistant); err != nil {
		return err
	}
	if len(q.Stop) > 0 {
		e.FieldStart("stop_sequences")
		encodeStrings(e, q.Stop)
	}
	if q.User != "" {
		e.Field("metadata", func(e *jx.Encoder) {
			e.Obj(func(e *jx.Encoder) { optionalString(e, "user_id", q.User) })
		})
	}
	if err := encodeAnthropicTools(e, q); err != nil {
		return err
	}
	e.Field("stream", func(e *jx.Encoder) { e.Bool(true) })
	e.ObjEnd()
	return nil
}

// encodeAnthropicSystem writes the leading system messages: as text, or as blocks when one of them is marked for
// the cache.
func encodeAnthropicSystem(e *jx.Encoder, q *Query) error {
	text, err := q.leadingText()
	if err != nil || text == "" {
		return err
	}
	marked := func(m chat.Message) bool {
		return m.CacheControl != nil || slices.ContainsFunc(m.Parts,
			func(p chat.Part) bool { return p.CacheControl != nil })
	}
	if !slices.ContainsFunc(q.Messages[:q.leading()], marked) {
		optionalString(e, "system", text)
		return nil
	}
	e.FieldStart("system")
	e.ArrStart()
	for i := range q.leading() {
		if err := encodeAnthropicParts(e, q, i, q.Messages[i].CacheControl); err != nil {
			return err
		}
	}
	e.ArrEnd()
	return nil
}

func encodeAnthropicMessage(e *jx.Encoder, q *Query, i int) error {
	m := &q.Messages[i]
	switch m.Role {
	case chat.RoleTool:
		e.ObjStart()
		optionalString(e, "type", "tool_result")
		optionalString(e, "tool_use_id", anthropicID(m.ToolCallID))
		e.FieldStart("content")
		e.ArrStart()
		if err := encodeAnthropicParts(e, q, i, nil); err != nil {
			return err
		}
		e.ArrEnd()
		encodeAnthropicMark(e, m.CacheControl)
		e.ObjEnd()
		return nil
	case chat.RoleAssistant:
		if s := q.stateOf(m); s != nil {
			return encodeAnthropicState(e, q, i, s)
		}
	}
	mark := m.CacheControl
	if len(m.ToolCalls) > 0 {
		mark = nil // it goes to the last block
	}
	if err := encodeAnthropicParts(e, q, i, mark); err != nil {
		return err
	}
	for j := range m.ToolCalls {
		if err := encodeAnthropicCall(e, q, i, j); err != nil {
			return err
		}
	}
	return nil
}

// encodeAnthropicState writes an answer as it came: thinking, text and calls in their order. A block that Claude
// has not signed is not Claude's.
func encodeAnthropicState(e *jx.Encoder, q *Query, i int, s *parsedState) error {
	m := &q.Messages[i]
	rest := contentOf(m)
	for _, it := range s.items {
		switch it.kind {
		case itemThinking:
			if it.seal != "" || q.line == "" {
				e.ObjStart()
				optionalString(e, "type", "thinking")
				e.Field("thinking", func(e *jx.Encoder) { e.Str(it.text) })
				e.Field("signature", func(e *jx.Encoder) { e.Str(it.seal) })
				e.ObjEnd()
			}
		case itemRedacted:
			e.ObjStart()
			optionalString(e, "type", "redacted_thinking")
			optionalString(e, "data", it.seal)
			e.ObjEnd()
		case itemText:
			text := rest[:it.n]
			rest = rest[it.n:]
			if strings.TrimSpace(text) != "" {
				encodeAnthropicText(e, text, nil)
			}
		case itemCall:
			if err := encodeAnthropicCall(e, q, i, it.n); err != nil {
				return err
			}
		}
	}
	return nil
}

func encodeAnthropicCall(e *jx.Encoder, q *Query, i, j int) error {
	m := &q.Messages[i]
	c := &m.ToolCalls[j]
	input, err := arguments(i, j, c)
	if err != nil {
		return err
	}
	e.ObjStart()
	optionalString(e, "type", "tool_use")
	optionalString(e, "id", anthropicID(c.ID))
	optionalString(e, "name", c.Name)
	e.FieldStart("input")
	e.Raw(input)
	if j == len(m.ToolCalls)-1 {
		encodeAnthropicMark(e, m.CacheControl)
	}
	e.ObjEnd()
	return nil
}

func encodeAnthropicText(e *jx.Encoder, text string, mark []byte) {
	e.ObjStart()
	optionalString(e, "type", "text")
	optionalString(e, "text", text)
	encodeAnthropicMark(e, mark)
	e.ObjEnd()
}

// encodeAnthropicMark writes a mark for the cache, in the only form that there is.
// https://platform.claude.com/docs/en/build-with-claude/prompt-caching
func encodeAnthropicMark(e *jx.Encoder, mark []byte) {
	var m struct{ Type, TTL string }
	if mark == nil || json.Unmarshal(mark, &m) != nil || m.Type != "ephemeral" {
		return
	}
	e.FieldStart("cache_control")
	e.ObjStart()
	optionalString(e, "type", m.Type)
	if m.TTL == "5m" || m.TTL == "1h" {
		optionalString(e, "ttl", m.TTL)
	}
	e.ObjEnd()
}

// encodeAnthropicParts writes the content of a message, whose mark for the cache goes to the last part.
func encodeAnthropicParts(e *jx.Encoder, q *Query, i int, mark []byte) error {
	m := &q.Messages[i]
	parts := q.partsOf(m)
	for j, p := range parts {
		if j == len(parts)-1 && mark != nil {
			p.CacheControl = mark
		}
		if p.Type == chat.PartText {
			text := p.Text
			switch {
			case m.Role == chat.RoleSystem && i >= q.leading() && !q.alone[i]:
				text = asUser(text)
			case m.Role == chat.RoleAssistant && i == len(q.Messages)-1 && j == len(parts)-1:
				text = strings.TrimRightFunc(text, unicode.IsSpace) // to go on behind white space is refused
			}
			encodeAnthropicText(e, text, p.CacheControl)
			continue
		}
		if err := encodeAnthropicImage(e, m, i, j, p); err != nil {
			return err
		}
	}
	return nil
}

func encodeAnthropicImage(e *jx.Encoder, m *chat.Message, i, j int, p chat.Part) error {
	img, err := imageOf(i, j, p)
	if err != nil {
		return err
	}
	if m.Role == chat.RoleAssistant || m.Role == chat.RoleSystem {
		return refuse(imageField(i, j), "this provider takes no images in %s messages", m.Role)
	}
	e.ObjStart()
	optionalString(e, "type", "image")
	e.FieldStart("source")
	e.ObjStart()
	if img.url != "" {
		optionalString(e, "type", "url")
		optionalString(e, "url", img.url)
	} else {
		optionalString(e, "type", "base64")
		optionalString(e, "media_type", img.mediaType)
		optionalString(e, "data", img.base64)
	}
	e.ObjEnd()
	encodeAnthropicMark(e, p.CacheControl)
	e.ObjEnd()
	return nil
}

// anthropicID is an id with the characters that Anthropic allows. Ids of other providers, from the
// earlier part of a conversation, have more.
func anthropicID(id string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '_'
	}, id)
}

// anthropicThought is how a model is to think.
type anthropicThought struct {
	typ    string // "" for what the model does of its own accord
	budget int    // tokens, of "enabled"
	shown  bool   // display is asked for
	effort string // "" when none is said
}

// anthropicThought decides how the model is to think. A forced tool excludes thinking with some models, and so
// does an answer that the assistant has begun; on a budget the thinking before the calls has to come back with
// their results.
func (q *Query) anthropicThought(prefilled bool) (t anthropicThought, err error) {
	budget, known, err := thinkingBudget(q.ReasoningEffort)
	if err != nil {
		return t, err
	}
	if q.thinks == onBudget || q.line == "" {
		switch {
		case known && budget == 0:
			t.typ = "disabled"
		case budget > 0 && !q.forced() && !prefilled && q.thinkingIsBack():
			t.typ, t.budget = "enabled", budget
		}
		return t, nil
	}
	t.effort = q.effort(q.ReasoningEffort)
	switch {
	case q.ReasoningEffort == "none" && q.off != "":
		t.typ, t.effort = q.off, ""
	case q.forced() && q.calmly, q.ReasoningEffort == "" && q.thinks != unaskedThinking:
	default:
		t.typ, t.shown = "adaptive", q.adds(addDisplay)
		if q.ReasoningEffort == "" && !t.shown {
			t.typ = "" // it thinks all the same
		}
	}
	return t, nil
}

// forced reports whether a tool must be called.
func (q *Query) forced() bool {
	return q.ToolChoice.Mode == chat.ChooseRequired || q.ToolChoice.Mode == chat.ChooseFunction
}

// thinkingIsBack reports whether each answer since the user last spoke begins with its thinking, if it has calls
// whose results come now.
func (q *Query) thinkingIsBack() bool {
	if !q.resultsCome() {
		return true
	}
	for i := len(q.Messages) - 1; i >= 0 && q.Messages[i].Role != chat.RoleUser; i-- {
		m := &q.Messages[i]
		if m.Role != chat.RoleAssistant || len(m.ToolCalls) == 0 {
			continue
		}
		if q.bare {
			return false
		}
		s := q.readState(m)
		if s == nil || s.items[0].kind != itemThinking && s.items[0].kind != itemRedacted {
			return false
		}
	}
	return true
}

// encodeAnthropicLimits writes what depends on whether the model thinks: its tokens, its sampling and
// the shape of its answer.
func encodeAnthropicLimits(e *jx.Encoder, q *Query, prefilled bool) error {
	format, err := responseFormatOf(q.Request)
	if err != nil {
		return err
	}
	if format.Type == "json_object" {
		return refuse("response_format.type", "this provider has no json_object; use json_schema")
	}
	t, err := q.anthropicThought(prefilled)
	if err != nil {
		return err
	}
	maxTokens, t := q.withBudget(t)
	if maxTokens == "" {
		n := anthropicMaxTokens + t.budget
		if t.typ == "adaptive" || t.typ == "" && q.thinks == unaskedThinking {
			n = anthropicMaxWithThought
		}
		maxTokens = chat.Number(strconv.Itoa(n))
	}
	optionalNumber(e, "max_tokens", maxTokens)
	if err := encodeClaudeSampling(e, q, t, "top_p"); err != nil {
		return err
	}
	if t.typ != "" {
		e.FieldStart("thinking")
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
	}
	encodeAnthropicOutput(e, t.effort, format)
	return nil
}

// withBudget gives the caller's limit, which is on all tokens, and the thought with a budget that is below it.
func (q *Query) withBudget(t anthropicThought) (chat.Number, anthropicThought) {
	if n, err := strconv.Atoi(string(q.MaxTokens)); err == nil && t.budget > 0 {
		if t.budget = min(t.budget, n/2); t.budget < max(q.least, minThinkingBudget) {
			t = anthropicThought{}
		}
	}
	return q.MaxTokens, t
}

// minThinkingBudget is the least budget that any model behind this format accepts, in tokens.
const minThinkingBudget = 1024

// encodeClaudeSampling leaves out what the model does not take, or not while it thinks. topP is the name of that
// field.
func encodeClaudeSampling(e *jx.Encoder, q *Query, t anthropicThought, topP string) error {
	if t.typ == "enabled" || t.typ == "adaptive" || !q.sampled("") {
		return nil
	}
	if n, err := strconv.ParseFloat(string(q.Temperature), 64); err == nil && n > 1 {
		return refuse("temperature", "this provider takes 0 to 1")
	}
	optionalNumber(e, "temperature", q.Temperature)
	if q.sampling != oneOf || q.Temperature == "" {
		optionalNumber(e, topP, q.TopP)
	}
	return nil
}

func encodeAnthropicOutput(e *jx.Encoder, effort string, format responseFormat) {
	if format.Type != "json_schema" && effort == "" {
		return
	}
	e.FieldStart("output_config")
	e.ObjStart()
	optionalString(e, "effort", effort)
	if format.Type == "json_schema" {
		e.FieldStart("format")
		e.ObjStart()
		optionalString(e, "type", "json_schema")
		e.FieldStart("schema")
		e.Raw(format.JSONSchema.Schema)
		e.ObjEnd()
	}
	e.ObjEnd()
}

func encodeAnthropicTools(e *jx.Encoder, q *Query) error {
	if len(q.Tools) == 0 {
		return nil
	}
	if q.noForced && q.forced() {
		return refuse("tool_choice", "this model can't be made to call a tool; use auto or none")
	}
	e.FieldStart("tools")
	e.ArrStart()
	for i := range q.Tools {
		encodeAnthropicTool(e, &q.Tools[i])
	}
	e.ArrEnd()
	kinds := map[chat.ToolChoiceMode]string{chat.ChooseAuto: "auto", chat.ChooseNone: "none",
		chat.ChooseRequired: "any", chat.ChooseFunction: "tool"}
	kind := kinds[q.ToolChoice.Mode]
	oneByOne := string(extraField(q.Request, "parallel_tool_calls")) == "false" && kind != "none"
	if oneByOne && kind == "" {
		kind = "auto"
	}
	if kind == "" {
		return nil
	}
	e.FieldStart("tool_choice")
	e.ObjStart()
	optionalString(e, "type", kind)
	optionalString(e, "name", q.ToolChoice.Name)
	if oneByOne {
		e.Field("disable_parallel_tool_use", func(e *jx.Encoder) { e.Bool(true) })
	}
	e.ObjEnd()
	return nil
}

func encodeAnthropicTool(e *jx.Encoder, t *chat.ToolSpec) {
	e.ObjStart()
	optionalString(e, "name", t.Name)
	optionalString(e, "description", t.Description)
	e.FieldStart("input_schema")
	if t.Parameters != nil {
		e.Raw(t.Parameters)
	} else {
		e.RawStr(`{"type":"object"}`)
	}
	if t.Strict != nil && *t.Strict {
		e.Field("strict", func(e *jx.Encoder) { e.Bool(true) })
	}
	encodeAnthropicMark(e, t.CacheControl)
	e.ObjEnd()
}
