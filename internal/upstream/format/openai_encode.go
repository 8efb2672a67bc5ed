package format

import (
	"cmp"
	"strings"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// OpenAI is the chat completions format of OpenAI and its many relatives.
// https://platform.openai.com/docs/api-reference/chat-streaming
type OpenAI struct{}

// Encode implements Format.
func (OpenAI) Encode(e *jx.Encoder, q *Query) error {
	effort, err := q.chatEffort()
	if err != nil {
		return err
	}
	if err := q.checkChat(); err != nil {
		return err
	}
	e.ObjStart()
	optionalString(e, "model", q.Model)
	e.FieldStart("messages")
	e.ArrStart()
	for i := range q.Messages {
		if err := encodeChatMessage(e, q, i); err != nil {
			return err
		}
	}
	e.ArrEnd()
	if q.sampled(effort) {
		optionalNumber(e, "temperature", q.Temperature)
		optionalNumber(e, "top_p", q.TopP)
	}
	optionalNumber(e, q.maxTokensField(), q.MaxTokens)
	optionalNumber(e, cmp.Or(q.seed, "seed"), q.Seed)
	optionalString(e, "user", q.User)
	if len(q.Stop) > 0 {
		e.FieldStart("stop")
		encodeStrings(e, q.Stop)
	}
	if q.ResponseFormat != nil {
		e.FieldStart("response_format")
		e.Raw(q.ResponseFormat)
	}
	encodeChatTools(e, q.Request, !q.strict)
	encodeChatThinking(e, q, effort)
	e.FieldStart("stream")
	e.Bool(true)
	if !q.noStreamOptions && q.adds(AddUsage) {
		e.FieldStart("stream_options")
		e.RawStr(`{"include_usage":true}`)
	}
	for _, x := range q.Extra {
		if !q.leavesOut(x.Name, effort) {
			e.FieldStart(x.Name)
			e.Raw(x.Value)
		}
	}
	e.ObjEnd()
	return nil
}

// maxTokensField is OpenAI's new name for models that refuse the old one, and the caller's where neither is known.
func (q *Query) maxTokensField() string {
	if q.maxTokens == "" && q.line == "gpt" && q.noStop {
		return "max_completion_tokens"
	}
	name := cmp.Or(q.maxTokens, q.MaxTokensName, "max_tokens")
	if q.MaxTokens != "" && name == "max_tokens" && q.maxTokens == "" && !q.adds(addOldLimit) {
		return "max_completion_tokens"
	}
	return name
}

// leavesOut reports whether a further field is refused together with an effort, and the answer as good without it.
func (q *Query) leavesOut(name, effort string) bool {
	switch name {
	case "frequency_penalty", "presence_penalty":
		return q.noStop
	case "logprobs", "top_logprobs":
		return !q.samples(effort)
	}
	return false
}

// checkChat refuses what the model does not take and what makes another answer.
func (q *Query) checkChat() error {
	format, err := responseFormatOf(q.Request)
	switch {
	case q.noStop && len(q.Stop) > 0:
		return refuse("stop", "this model has no stop sequences")
	case q.noSchema && err == nil && format.Type == "json_schema":
		return refuse("response_format.type", "this provider has no json_schema; use json_object")
	case q.noRequired && q.ToolChoice.Mode == chat.ChooseRequired, q.noForced && q.forced():
		return refuse("tool_choice", "this model can't be made to call a tool; use auto or none")
	}
	return nil
}

// takesOpenAIRules tells the hosts that refuse tools in chat completions from gateways, which translate.
func (q *Query) takesOpenAIRules() bool { return q.family == "openai" || q.family == "azure" }

// chatEffort is the effort in chat completions, where newer models of OpenAI take tools only without any.
func (q *Query) chatEffort() (string, error) {
	effort := q.effort(q.ReasoningEffort)
	if effort == "max" && q.ccMost != "" {
		effort = q.ccMost
	}
	if len(q.Tools) == 0 || q.ccTools == "" || !q.takesOpenAIRules() {
		return effort, nil
	}
	switch {
	case q.ccTools == never:
		return "", refuse("tools", "this model takes tools with the kind openai-responses only")
	case effort == "" && q.ccTools == withNone:
		return "none", nil
	case effort != "" && effort != "none":
		return "", refuse("reasoning_effort",
			"this model takes tools with the effort none only, or with the kind openai-responses")
	}
	return effort, nil
}

// encodeChatThinking says how much the model is to think, in the host's terms. What the caller says in these
// terms counts.
func encodeChatThinking(e *jx.Encoder, q *Query, effort string) {
	given := func(name string) bool { return extraField(q.Request, name) != nil }
	stop := q.off != "" && (q.ReasoningEffort == "none" || q.calmly && q.forced())
	switch {
	case q.thinking == byType && given("thinking"):
	case q.thinking == byType && stop:
		e.Field("thinking", func(e *jx.Encoder) { e.Obj(func(e *jx.Encoder) { optionalString(e, "type", q.off) }) })
	case q.thinking == byObject && !given("reasoning") && effort != "":
		e.Field("reasoning", func(e *jx.Encoder) {
			e.Obj(func(e *jx.Encoder) { optionalString(e, "effort", effort) })
		})
	case q.thinking == byObject:
	case q.thinking == byEnable:
		budget, known, err := thinkingBudget(q.ReasoningEffort)
		if !known || err != nil || given("enable_thinking") {
			break
		}
		e.Field("enable_thinking", func(e *jx.Encoder) { e.Bool(budget > 0) })
		if budget > 0 && !given("thinking_budget") {
			e.Field("thinking_budget", func(e *jx.Encoder) { e.Int(budget) })
		}
	default:
		optionalString(e, "reasoning_effort", effort)
	}
	if q.parsed && !given("reasoning_format") && !given("include_reasoning") && q.adds(addFormat) {
		optionalString(e, "reasoning_format", "parsed")
	}
}

func encodeChatMessage(e *jx.Encoder, q *Query, i int) error {
	m := &q.Messages[i]
	if q.bridge && i > 0 && m.Role == chat.RoleUser && q.Messages[i-1].Role == chat.RoleTool {
		e.RawStr(`{"role":"assistant","content":"OK"}`)
	}
	if q.folded && m.Role == chat.RoleSystem && i >= max(1, q.leading()) {
		text, err := textOf(i, m)
		if err != nil {
			return err
		}
		m = &chat.Message{Role: chat.RoleUser, Content: asUser(text)}
	}
	e.ObjStart()
	optionalString(e, "role", string(m.Role))
	if !q.noNames && (!q.plainNames || !strings.ContainsAny(m.Name, " \t\r\n<|\\/>")) {
		optionalString(e, "name", m.Name)
	}
	optionalString(e, "tool_call_id", q.callID(m.ToolCallID))
	k := q.keptOf(m)
	if err := encodeChatContent(e, q, i, m, k); err != nil {
		return err
	}
	encodeChatCalls(e, q, m, k)
	if m.Role == chat.RoleAssistant {
		encodeKept(e, q, m, k)
		if q.prefix && i == len(q.Messages)-1 {
			e.Field("prefix", func(e *jx.Encoder) { e.Bool(true) })
		}
	}
	e.ObjEnd()
	return nil
}

// kept is what goes back with an assistant's message in chat completions.
type kept struct {
	state       *parsedState
	name, value string // of the thinking
	tags        string // in front of the content
}

func (q *Query) keptOf(m *chat.Message) kept {
	k := kept{state: q.stateOf(m)}
	back := cmp.Or(q.backAs, q.back)
	if k.name, k.value = k.state.field(); k.value != "" && (back == inContent || k.name == thinkTags) {
		k.tags = "<think>" + k.value + "</think>"
	}
	switch {
	case back == noReasoning || k.tags != "" || back == inParts:
		k.name, k.value = "", ""
	case back == inDetails && k.value != "":
		k.name = "reasoning"
	case back != "" && back != inDetails:
		k.name = back
	}
	return k
}

// encodeKept writes thinking by its name, or what stands for it beside calls.
func encodeKept(e *jx.Encoder, q *Query, m *chat.Message, k kept) {
	fill := q.fill
	if q.hostRule.fill != "" {
		fill = q.hostRule.fill
	}
	switch {
	case k.value != "":
		optionalString(e, k.name, k.value)
	case len(m.ToolCalls) > 0 && fill != "" && k.tags == "":
		if fill == emptyText {
			fill = ""
		}
		e.Field("reasoning_content", func(e *jx.Encoder) { e.Str(fill) })
	}
	if !q.strict {
		optionalString(e, opaqueField, k.state.opaque())
	}
	if q.strict && q.back == noReasoning && !q.signed {
		return
	}
	if seal := k.state.textSeal(); seal != "" && (q.signed || !q.strict) {
		encodeSignature(e, seal)
	}
	if q.signed || q.strict && q.back != "" {
		return
	}
	if details := k.state.detailsOf(); details != nil {
		e.FieldStart("reasoning_details")
		encodeDetails(e, details)
	} else if m.ReasoningDetails != nil && !q.bare {
		q.used = true
		e.FieldStart("reasoning_details")
		e.Raw(m.ReasoningDetails)
	}
}

// encodeSignature writes Google's signature where its own servers and gateways look for it.
func encodeSignature(e *jx.Encoder, seal string) {
	e.FieldStart("extra_content")
	e.Obj(func(e *jx.Encoder) {
		e.Field("google", func(e *jx.Encoder) {
			e.Obj(func(e *jx.Encoder) { optionalString(e, "thought_signature", seal) })
		})
	})
}

func encodeChatContent(e *jx.Encoder, q *Query, i int, m *chat.Message, k kept) error {
	e.FieldStart("content")
	mark := m.CacheControl
	if q.strict {
		mark = nil
	}
	switch {
	case m.Role == chat.RoleAssistant && q.back == inParts && k.state != nil:
		encodeThinkingParts(e, m, k.state)
	case len(m.Parts) > 0:
		if q.noImageURLs {
			for j, p := range m.Parts {
				if p.Type == chat.PartImage && !strings.HasPrefix(p.ImageURL, "data:") {
					return refuse(imageField(i, j), "this provider fetches no images; use a data URL")
				}
			}
		}
		encodeParts(e, m.Parts, !q.strict, mark)
	case m.Content+k.tags == "" && len(m.ToolCalls) > 0:
		e.Null()
	case mark != nil:
		encodeParts(e, []chat.Part{{Type: chat.PartText, Text: k.tags + m.Content}}, true, mark)
	default:
		e.Str(k.tags + m.Content)
	}
	return nil
}

// encodeThinkingParts writes an answer as Mistral and Cohere have it, which tell thinking from text by parts.
func encodeThinkingParts(e *jx.Encoder, m *chat.Message, s *parsedState) {
	rest := contentOf(m)
	e.ArrStart()
	for _, it := range s.items {
		switch it.kind {
		case itemThinking, itemField:
			e.ObjStart()
			optionalString(e, "type", "thinking")
			e.FieldStart("thinking")
			e.ArrStart()
			encodeTextPart(e, it.text)
			e.ArrEnd()
			e.Field("closed", func(e *jx.Encoder) { e.Bool(true) })
			e.ObjEnd()
		case itemText:
			encodeTextPart(e, rest[:it.n])
			rest = rest[it.n:]
		}
	}
	e.ArrEnd()
}

func encodeTextPart(e *jx.Encoder, text string) {
	e.ObjStart()
	optionalString(e, "type", "text")
	e.Field("text", func(e *jx.Encoder) { e.Str(text) })
	e.ObjEnd()
}

// encodeParts writes content as parts. mark is the message's own for the cache, and goes to the last.
func encodeParts(e *jx.Encoder, parts []chat.Part, marks bool, mark []byte) {
	e.ArrStart()
	for i, p := range parts {
		if i == len(parts)-1 && mark != nil {
			p.CacheControl = mark
		}
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
		if marks && p.CacheControl != nil {
			e.FieldStart("cache_control")
			e.Raw(p.CacheControl)
		}
		e.ObjEnd()
	}
	e.ArrEnd()
}

func encodeChatCalls(e *jx.Encoder, q *Query, m *chat.Message, k kept) {
	if len(m.ToolCalls) == 0 {
		return
	}
	e.FieldStart("tool_calls")
	e.ArrStart()
	seals := k.state.callSeals()
	for i, c := range m.ToolCalls {
		c.ID = q.callID(c.ID)
		e.ObjStart()
		encodeCall(e, &c)
		seal := ""
		if q.signed || !q.strict {
			seal = seals[i]
		}
		if i == 0 && seal == "" && (q.signed && q.thinks != onBudget || q.fillSignature) {
			seal = noThoughtSignature
		}
		if seal != "" {
			encodeSignature(e, seal)
		}
		e.ObjEnd()
	}
	e.ArrEnd()
}

// encodeCall writes the members of a call.
func encodeCall(e *jx.Encoder, c *chat.ToolCall) {
	optionalString(e, "id", c.ID)
	optionalString(e, "type", "function")
	e.FieldStart("function")
	e.ObjStart()
	optionalString(e, "name", c.Name)
	e.FieldStart("arguments")
	e.Str(c.Arguments)
	e.ObjEnd()
}

func encodeToolCalls(e *jx.Encoder, calls []chat.ToolCall) {
	if len(calls) == 0 {
		return
	}
	e.FieldStart("tool_calls")
	e.ArrStart()
	for i := range calls {
		e.ObjStart()
		encodeCall(e, &calls[i])
		e.ObjEnd()
	}
	e.ArrEnd()
}

// encodeChatTools writes the tools and which of them must be called.
func encodeChatTools(e *jx.Encoder, req *chat.Request, marks bool) {
	if len(req.Tools) > 0 {
		e.FieldStart("tools")
		e.ArrStart()
		for i := range req.Tools {
			encodeTool(e, &req.Tools[i], marks)
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

func encodeTool(e *jx.Encoder, t *chat.ToolSpec, marks bool) {
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
	if marks && t.CacheControl != nil {
		e.FieldStart("cache_control")
		e.Raw(t.CacheControl)
	}
	e.ObjEnd()
}

// callID is a call's id as the host takes it. One that does not fit becomes another, always the same.
func (q *Query) callID(id string) string {
	if id == "" || q.ids == 0 || len(id) == q.ids && strings.Trim(id, alphanumeric) == "" {
		return id
	}
	return shortID(id, q.ids)
}
