package upstream

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// anthropic is Anthropic's Messages format.
// https://platform.claude.com/docs/en/api/messages
type anthropic struct{ Options }

// anthropicMaxTokens is asked for when the caller sets no max_tokens: the field is required, and 8192 is
// what every model since Claude 3.5 allows. Thinking comes on top.
const anthropicMaxTokens = 8192

// minThinkingBudget is the least budget that Anthropic accepts, in tokens.
const minThinkingBudget = 1024

func (f *anthropic) target(string) string { return f.BaseURL + "/v1/messages" }

func (f *anthropic) setHeaders(h http.Header) {
	h.Set("Anthropic-Version", "2023-06-01")
	setKey(h, "X-Api-Key", f.APIKey)
}

func (f *anthropic) encode(e *jx.Encoder, model string, req *chat.Request) error {
	system, err := systemText(req.Messages)
	if err != nil {
		return err
	}
	e.ObjStart()
	optionalString(e, "model", model)
	optionalString(e, "system", system)
	e.FieldStart("messages")
	e.ArrStart()
	err = encodeTurns(e, req.Messages, "assistant", "content", func(i int, m *chat.Message) error { return encodeAnthropicMessage(e, i, m) })
	if err != nil {
		return err
	}
	e.ArrEnd()
	if err := encodeAnthropicLimits(e, model, req); err != nil {
		return err
	}
	optionalNumber(e, "top_p", req.TopP)
	if len(req.Stop) > 0 {
		e.FieldStart("stop_sequences")
		encodeStrings(e, req.Stop)
	}
	if req.User != "" {
		e.Field("metadata", func(e *jx.Encoder) {
			e.Obj(func(e *jx.Encoder) { optionalString(e, "user_id", req.User) })
		})
	}
	encodeAnthropicTools(e, req)
	e.Field("stream", func(e *jx.Encoder) { e.Bool(true) })
	e.ObjEnd()
	return nil
}

func encodeAnthropicMessage(e *jx.Encoder, i int, m *chat.Message) error {
	if m.Role == chat.RoleTool {
		e.ObjStart()
		optionalString(e, "type", "tool_result")
		optionalString(e, "tool_use_id", anthropicID(m.ToolCallID))
		e.FieldStart("content")
		e.ArrStart()
		if err := encodeAnthropicParts(e, i, m); err != nil {
			return err
		}
		e.ArrEnd()
		e.ObjEnd()
		return nil
	}
	if err := encodeAnthropicParts(e, i, m); err != nil {
		return err
	}
	for j := range m.ToolCalls {
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
		e.ObjEnd()
	}
	return nil
}

func encodeAnthropicParts(e *jx.Encoder, i int, m *chat.Message) error {
	for j, p := range partsOf(m) {
		e.ObjStart()
		if p.Type == chat.PartText {
			optionalString(e, "type", "text")
			optionalString(e, "text", p.Text)
			e.ObjEnd()
			continue
		}
		img, err := imageOf(i, j, p)
		if err != nil {
			return err
		}
		if m.Role == chat.RoleAssistant {
			return refuse(imageField(i, j), "this provider takes no images in assistant messages")
		}
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
		e.ObjEnd()
	}
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

// encodeAnthropicLimits writes what depends on whether the model thinks: its tokens, its temperature and
// the shape of its answer.
func encodeAnthropicLimits(e *jx.Encoder, model string, req *chat.Request) error {
	budget, known, err := thinkingBudget(req.ReasoningEffort)
	if err != nil {
		return err
	}
	format, err := responseFormatOf(req)
	if err != nil {
		return err
	}
	if format.Type == "json_object" {
		return refuse("response_format.type", "this provider has no json_object; use json_schema")
	}
	adaptive := adaptiveThinking(model)
	thinks := budget > 0 && mayThink(req, adaptive)

	maxTokens := string(req.MaxTokens)
	if n, err := strconv.Atoi(maxTokens); err == nil && thinks && !adaptive {
		// The caller's limit is on all tokens, and the budget must be below it.
		budget = min(budget, n/2)
		thinks = budget >= minThinkingBudget
	}
	if maxTokens == "" {
		maxTokens = strconv.Itoa(anthropicMaxTokens)
		if thinks {
			maxTokens = strconv.Itoa(anthropicMaxTokens + budget)
		}
	}
	optionalNumber(e, "max_tokens", chat.Number(maxTokens))

	if t, err := strconv.ParseFloat(string(req.Temperature), 64); err == nil {
		switch {
		case t > 1:
			return refuse("temperature", "this provider takes 0 to 1")
		case thinks && t != 1:
			return refuse("temperature", "this provider takes none together with reasoning_effort")
		}
	}
	optionalNumber(e, "temperature", req.Temperature)

	switch {
	case thinks && adaptive:
		e.Field("thinking", func(e *jx.Encoder) { e.RawStr(`{"type":"adaptive","display":"summarized"}`) })
	case thinks:
		e.Field("thinking", func(e *jx.Encoder) {
			e.RawStr(`{"type":"enabled","budget_tokens":` + strconv.Itoa(budget) + `}`)
		})
	case known && budget == 0:
		e.Field("thinking", func(e *jx.Encoder) { e.RawStr(`{"type":"disabled"}`) })
	}
	effort := adaptive && budget > 0
	if format.Type != "json_schema" && !effort {
		return nil
	}
	e.FieldStart("output_config")
	e.ObjStart()
	if effort {
		optionalString(e, "effort", strings.Replace(req.ReasoningEffort, "minimal", "low", 1))
	}
	if format.Type == "json_schema" {
		e.FieldStart("format")
		e.ObjStart()
		optionalString(e, "type", "json_schema")
		e.FieldStart("schema")
		e.Raw(format.JSONSchema.Schema)
		e.ObjEnd()
	}
	e.ObjEnd()
	return nil
}

// budgetModels are the Claude models that think on a budget. Later ones refuse it: they take an effort
// and decide for themselves. https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking
var budgetModels = regexp.MustCompile(`claude-(3|(opus|sonnet|haiku)-4($|@|[-.][0-5]))`)

// adaptiveThinking tells how to ask for thinking. Other makers' models behind this format know budgets.
func adaptiveThinking(model string) bool {
	return strings.Contains(model, "claude") && !budgetModels.MatchString(model)
}

// mayThink tells whether Anthropic allows thinking: not when a tool is forced, and on a budget not when
// tool results are to be answered, because the thinking before the calls would have to be sent again,
// with its signature, which the contract does not carry.
func mayThink(req *chat.Request, adaptive bool) bool {
	if req.ToolChoice.Mode == chat.ChooseRequired || req.ToolChoice.Mode == chat.ChooseFunction {
		return false
	}
	return adaptive || req.Messages[len(req.Messages)-1].Role != chat.RoleTool
}

func encodeAnthropicTools(e *jx.Encoder, req *chat.Request) {
	if len(req.Tools) == 0 {
		return
	}
	e.FieldStart("tools")
	e.ArrStart()
	for i := range req.Tools {
		t := &req.Tools[i]
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
		e.ObjEnd()
	}
	e.ArrEnd()
	kinds := map[chat.ToolChoiceMode]string{chat.ChooseAuto: "auto", chat.ChooseNone: "none", chat.ChooseRequired: "any", chat.ChooseFunction: "tool"}
	if kind := kinds[req.ToolChoice.Mode]; kind != "" {
		e.FieldStart("tool_choice")
		e.ObjStart()
		optionalString(e, "type", kind)
		optionalString(e, "name", req.ToolChoice.Name)
		e.ObjEnd()
	}
}
