package upstream

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/sse"
)

// cohere is the format of Cohere's chat, version 2.
// https://docs.cohere.com/reference/chat-stream
type cohere struct{ Options }

func (f *cohere) target(string) string { return f.BaseURL + "/v2/chat" }

func (f *cohere) setHeaders(h http.Header) { setBearer(h, f.APIKey) }

func (f *cohere) encode(e *jx.Encoder, model string, req *chat.Request) error {
	budget, known, err := thinkingBudget(req.ReasoningEffort)
	if err != nil {
		return err
	}
	e.ObjStart()
	optionalString(e, "model", model)
	e.FieldStart("messages")
	e.ArrStart()
	for i := range req.Messages {
		if err := encodeCohereMessage(e, i, &req.Messages[i]); err != nil {
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

func encodeCohereMessage(e *jx.Encoder, i int, m *chat.Message) error {
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
	switch {
	case images:
		e.FieldStart("content")
		encodeParts(e, parts)
	case parts[0].Text != "" || len(m.ToolCalls) == 0:
		e.FieldStart("content")
		e.Str(parts[0].Text)
	}
	encodeToolCalls(e, m.ToolCalls)
	e.ObjEnd()
	return nil
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
		encodeTool(e, &t)
	}
	e.ArrEnd()
	switch req.ToolChoice.Mode {
	case chat.ChooseRequired, chat.ChooseFunction:
		optionalString(e, "tool_choice", "REQUIRED")
	case chat.ChooseNone:
		optionalString(e, "tool_choice", "NONE")
	}
}

func (f *cohere) newDecoder() decoder { return new(cohereDecoder) }

// cohereDecoder reads chat events. Its buffers are used again for every event.
type cohereDecoder struct {
	text  template // of the events that carry text only
	jx    jx.Decoder
	event cohereEvent
}

// cohereEvent is what one event says.
type cohereEvent struct {
	typ                []byte
	index              int
	text, thinking     []byte
	id, name, args     []byte
	finish             []byte
	usage, billedUsage tokenCounts
	cached             int64 // of the prompt's tokens
	failed, message    bool  // whether there is an error, or a message where there should be a type
}

func (d *cohereDecoder) decode(ev *sse.Event, out *output) error {
	if text, ok := d.text.match(ev.Data); ok && string(ev.Type) != "error" && len(ev.Stray) == 0 {
		out.text(chat.Content, text)
		return nil
	}
	if err := strayError(ev); err != nil {
		return err
	}
	data := bytes.TrimSpace(ev.Data)
	if len(data) == 0 || bytes.Equal(data, doneMarker) {
		return nil
	}
	e := &d.event
	*e = cohereEvent{
		typ: e.typ[:0], text: e.text[:0], thinking: e.thinking[:0], id: e.id[:0], name: e.name[:0], args: e.args[:0], finish: e.finish[:0],
	}
	d.jx.ResetBytes(data)
	if err := d.jx.ObjBytes(d.field); err != nil {
		return err
	}
	if e.failed || e.message && len(e.typ) == 0 || string(ev.Type) == "error" {
		return reportIn(data)
	}
	switch string(e.typ) {
	case "content-start", "content-delta":
		if len(e.text) > 0 && len(e.thinking) == 0 {
			d.text.learn(ev.Data, `"text":`)
		}
		out.text(chat.Reasoning, e.thinking)
		out.text(chat.Content, e.text)
	case "tool-plan-delta":
		out.progress = true // the recorded answers count a plan neither as text nor as reasoning
	case "tool-call-start":
		return out.toolFragment(e.index, e.id, e.name, e.args)
	case "tool-call-delta":
		return out.toolMore(e.index, e.args)
	case "tool-call-end":
		return out.toolEnd(e.index, nil)
	case "message-end":
		return d.end(data, out)
	}
	return nil
}

func (d *cohereDecoder) end(data []byte, out *output) error {
	e := &d.event
	usage := e.usage
	if !usage.known {
		usage = e.billedUsage
	}
	if usage.known {
		usage.cached = e.cached
		out.usage(usage.usage())
	}
	out.complete = true
	switch reason := string(e.finish); {
	case reason == "MAX_TOKENS":
		out.finish(chat.FinishLength)
	case reason == "TOOL_CALL":
		out.finish(chat.FinishToolCalls)
	case reason == "ERROR_TOXIC":
		out.finish(chat.FinishContentFilter)
	case strings.HasPrefix(reason, "ERROR"), reason == "TIMEOUT":
		return &chat.Error{Code: chat.UpstreamError, Message: "the provider failed in mid-answer", Err: errors.New("cohere: " + excerpt(data))}
	default: // COMPLETE, STOP_SEQUENCE
		out.finish(chat.FinishStop)
	}
	return nil
}

func (d *cohereDecoder) field(j *jx.Decoder, key []byte) (err error) {
	e := &d.event
	switch string(key) {
	case "type":
		e.typ, err = appendString(j, e.typ)
		return err
	case "index":
		return integer(j, &e.index)
	case "delta":
		return eachMember(j, d.delta)
	case "error":
		return present(j, &e.failed)
	case "message": // {"message": …} is how Cohere reports a failure
		return present(j, &e.message)
	}
	return j.Skip()
}

func (d *cohereDecoder) delta(j *jx.Decoder, key []byte) (err error) {
	e := &d.event
	switch string(key) {
	case "finish_reason":
		e.finish, err = appendString(j, e.finish)
		return err
	case "message":
		return eachMember(j, d.message)
	case "usage":
		return eachMember(j, func(j *jx.Decoder, key []byte) error {
			switch string(key) {
			case "tokens":
				return e.usage.decode(j)
			case "billed_units":
				return e.billedUsage.decode(j)
			case "cached_tokens":
				return tokens(j, &e.cached)
			}
			return j.Skip()
		})
	}
	return j.Skip()
}

func (d *cohereDecoder) message(j *jx.Decoder, key []byte) error {
	switch string(key) {
	case "content":
		return eachMember(j, d.content)
	case "tool_calls":
		return eachMember(j, d.toolCall)
	}
	return j.Skip()
}

func (d *cohereDecoder) content(j *jx.Decoder, key []byte) (err error) {
	e := &d.event
	switch string(key) {
	case "text":
		e.text, err = appendString(j, e.text)
	case "thinking":
		e.thinking, err = appendString(j, e.thinking)
	default:
		err = j.Skip()
	}
	return err
}

func (d *cohereDecoder) toolCall(j *jx.Decoder, key []byte) (err error) {
	e := &d.event
	switch string(key) {
	case "id":
		e.id, err = appendString(j, e.id)
		return err
	case "function":
		return eachMember(j, func(j *jx.Decoder, key []byte) error { return readFunction(j, key, &e.name, &e.args) })
	}
	return j.Skip()
}
