package format

import (
	"strconv"
	"strings"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// Cohere is the format of Cohere's chat, version 2.
// https://docs.cohere.com/reference/chat-stream
type Cohere struct{}

// Encode implements Format.
func (Cohere) Encode(e *jx.Encoder, q *Query) error {
	req := q.Request
	budget, known, err := thinkingBudget(req.ReasoningEffort)
	if err != nil {
		return err
	}
	e.ObjStart()
	optionalString(e, "model", q.Model)
	e.FieldStart("messages")
	e.ArrStart()
	for i := range req.Messages {
		if err := encodeCohereMessage(e, q, i); err != nil {
			return err
		}
	}
	e.ArrEnd()
	optionalNumber(e, "temperature", req.Temperature)
	optionalNumber(e, "p", req.TopP)
	optionalNumber(e, "max_tokens", req.MaxTokens)
	if fits(req.Seed, 64) {
		optionalNumber(e, "seed", req.Seed)
	}
	if len(req.Stop) > 0 {
		e.FieldStart("stop_sequences")
		encodeStrings(e, req.Stop)
	}
	if err := encodeCohereFormat(e, req); err != nil {
		return err
	}
	encodeCohereTools(e, req)
	switch {
	case budget > 0:
		e.Field("thinking", func(e *jx.Encoder) {
			e.RawStr(`{"type":"enabled","token_budget":` + strconv.Itoa(budget) + `}`)
		})
	case known:
		e.Field("thinking", func(e *jx.Encoder) { e.RawStr(`{"type":"disabled"}`) })
	}
	e.Field("stream", func(e *jx.Encoder) { e.Bool(true) })
	e.ObjEnd()
	return nil
}

func encodeCohereMessage(e *jx.Encoder, q *Query, i int) error {
	m := &q.Messages[i]
	parts := partsOf(m)
	images := m.Role == chat.RoleUser && len(m.Parts) > 0
	if !images {
		text, err := textOf(i, m)
		if err != nil {
			return err
		}
		parts = []chat.Part{{Type: chat.PartText, Text: text}}
	}
	e.ObjStart()
	optionalString(e, "role", string(m.Role))
	optionalString(e, "tool_call_id", m.ToolCallID)
	s := q.stateOf(m)
	switch {
	case s != nil:
		e.FieldStart("content")
		encodeCohereAnswer(e, m, s)
	case images:
		e.FieldStart("content")
		encodeParts(e, parts, false, nil)
	case parts[0].Text != "" || len(m.ToolCalls) == 0:
		e.FieldStart("content")
		e.Str(parts[0].Text)
	}
	encodeToolCalls(e, m.ToolCalls)
	e.ObjEnd()
	return nil
}

// encodeCohereAnswer writes an answer as it came, with its thinking.
func encodeCohereAnswer(e *jx.Encoder, m *chat.Message, s *parsedState) {
	rest := contentOf(m)
	e.ArrStart()
	for _, it := range s.items {
		switch it.kind {
		case itemThinking, itemField:
			e.ObjStart()
			optionalString(e, "type", "thinking")
			optionalString(e, "thinking", it.text)
			e.ObjEnd()
		case itemText:
			encodeTextPart(e, rest[:it.n])
			rest = rest[it.n:]
		}
	}
	e.ArrEnd()
}

func encodeCohereFormat(e *jx.Encoder, req *chat.Request) error {
	format, err := responseFormatOf(req)
	if err != nil || !strings.HasPrefix(format.Type, "json") {
		return err
	}
	e.FieldStart("response_format")
	e.ObjStart()
	optionalString(e, "type", "json_object")
	if format.Type == "json_schema" {
		e.FieldStart("json_schema")
		e.Raw(format.JSONSchema.Schema)
	}
	e.ObjEnd()
	return nil
}

// encodeCohereTools writes the tools and which must be used. There is no way to name one: it is left
// the only one to choose from.
func encodeCohereTools(e *jx.Encoder, req *chat.Request) {
	if len(req.Tools) == 0 {
		return
	}
	e.FieldStart("tools")
	e.ArrStart()
	for _, t := range req.Tools {
		if req.ToolChoice.Name != "" && req.ToolChoice.Name != t.Name {
			continue
		}
		t.Strict = nil
		if t.Parameters == nil {
			t.Parameters = []byte(`{"type":"object","properties":{}}`)
		}
		encodeTool(e, &t, false)
	}
	e.ArrEnd()
	switch req.ToolChoice.Mode {
	case chat.ChooseRequired, chat.ChooseFunction:
		optionalString(e, "tool_choice", "REQUIRED")
	case chat.ChooseNone:
		optionalString(e, "tool_choice", "NONE")
	}
}
