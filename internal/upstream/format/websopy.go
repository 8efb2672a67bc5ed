package format

import (
	"cmp"
	"errors"
	"time"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// Websopy is our own contract (docs/protocol.md), so that a relay can stand before another.
type Websopy struct{}

// Encode implements Format.
func (Websopy) Encode(e *jx.Encoder, q *Query) error {
	req := q.Request
	e.ObjStart()
	optionalString(e, "model", q.Model)
	e.FieldStart("messages")
	e.ArrStart()
	for i := range req.Messages {
		encodeWebsopyMessage(e, q, &req.Messages[i])
	}
	e.ArrEnd()
	optionalNumber(e, "temperature", req.Temperature)
	optionalNumber(e, "top_p", req.TopP)
	optionalNumber(e, cmp.Or(req.MaxTokensName, "max_tokens"), req.MaxTokens)
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
	encodeChatTools(e, req, true)
	e.FieldStart("stream")
	e.Bool(true)
	for _, x := range req.Extra {
		e.FieldStart(x.Name)
		e.Raw(x.Value)
	}
	e.ObjEnd()
	return nil
}

// encodeWebsopyMessage writes a message with all that came back with it: the other relay knows its provider.
func encodeWebsopyMessage(e *jx.Encoder, q *Query, m *chat.Message) {
	e.ObjStart()
	optionalString(e, "role", string(m.Role))
	optionalString(e, "name", m.Name)
	optionalString(e, "tool_call_id", m.ToolCallID)
	e.FieldStart("content")
	switch {
	case len(m.Parts) > 0:
		encodeParts(e, m.Parts, true, nil)
	case m.Content == "" && len(m.ToolCalls) > 0:
		e.Null()
	default:
		e.Str(m.Content)
	}
	if len(m.ToolCalls) > 0 {
		e.FieldStart("tool_calls")
		e.ArrStart()
		for i := range m.ToolCalls {
			e.ObjStart()
			encodeCall(e, &m.ToolCalls[i])
			optionalRaw(e, "extra_content", m.ToolCalls[i].ExtraContent)
			e.ObjEnd()
		}
		e.ArrEnd()
	}
	optionalRaw(e, "cache_control", m.CacheControl)
	if s := q.stateOf(m); s != nil {
		optionalString(e, "state", s.inner)
	}
	if m.Reasoning != "" {
		optionalString(e, m.ReasoningName, m.Reasoning)
	}
	optionalRaw(e, "reasoning_details", m.ReasoningDetails)
	optionalRaw(e, "extra_content", m.ExtraContent)
	e.ObjEnd()
}

// NewDecoder implements Format.
func (Websopy) NewDecoder() Decoder { return new(websopyDecoder) }

type websopyDecoder struct {
	jx                     jx.Decoder
	typ, content, model    []byte
	finish, id, name, args []byte
	state                  []byte
	message, code, phase   []byte
	usage                  chat.Usage
	usageKnown             bool
	retryAfter             int64
}

func (d *websopyDecoder) End(out *Answer) error {
	if out.Complete = out.Finished; !out.Complete {
		return errors.New("[DONE] without a done chunk before it")
	}
	return nil
}

// Parse implements Decoder: it reads an object into d.
func (d *websopyDecoder) Parse(object, _ []byte) error {
	d.reset()
	d.jx.ResetBytes(object)
	return d.jx.ObjBytes(d.field)
}

// reset empties d, and keeps its memory. Its frame is not below the reading: see Decoder.
//
//go:noinline
func (d *websopyDecoder) reset() {
	*d = websopyDecoder{
		typ: d.typ[:0], content: d.content[:0], model: d.model[:0], finish: d.finish[:0], id: d.id[:0],
		name: d.name[:0], args: d.args[:0], state: d.state[:0], message: d.message[:0], code: d.code[:0],
		phase: d.phase[:0],
	}
}

// Pass implements Decoder.
func (d *websopyDecoder) Pass(object, typ []byte, out *Answer) error {
	switch string(d.typ) {
	case "content":
		out.only(chat.Content, d.content, `"content":`)
	case "reasoning":
		out.only(chat.Reasoning, d.content, `"content":`)
	case "tool_call":
		return out.wholeTool(d.id, d.name, d.args)
	case "done":
		out.Model(d.model)
		if d.usageKnown {
			out.Usage(d.usage)
		}
		if len(d.state) > 0 {
			out.keep.inner = string(d.state)
		}
		out.finish(finishWebsopy(d.finish))
	case "error":
		return d.err()
	case "":
		return failureIn(object)
	}
	return nil
}

func finishWebsopy(reason []byte) chat.FinishReason {
	switch r := chat.FinishReason(reason); r {
	case chat.FinishLength, chat.FinishToolCalls, chat.FinishContentFilter, chat.FinishStopped:
		return r
	}
	return chat.FinishStop
}

// err passes on what the other relay says of its provider; a failure of the other relay itself is a
// failure of our provider.
func (d *websopyDecoder) err() error {
	e := &chat.Error{Code: chat.Code(d.code), Message: string(d.message), Phase: chat.Phase(d.phase),
		RetryAfter: time.Duration(min(d.retryAfter, 24*60*60)) * time.Second}
	switch e.Code {
	case chat.UpstreamUnreachable, chat.UpstreamTimeout, chat.UpstreamAuth, chat.UpstreamRateLimited,
		chat.UpstreamRejected,
		chat.UpstreamError, chat.UpstreamTruncated, chat.UpstreamMalformed, chat.ContentFiltered,
		chat.ContextLengthExceeded, chat.StreamTooLong:
	default:
		e.Code = chat.UpstreamError
	}
	return e
}

func (d *websopyDecoder) field(j *jx.Decoder, key []byte) error {
	var text *[]byte
	switch string(key) {
	case "type":
		text = &d.typ
	case "content":
		text = &d.content
	case "model":
		text = &d.model
	case "state":
		text = &d.state
	case "finishReason":
		text = &d.finish
	case "error":
		text = &d.message
	case "code":
		text = &d.code
	case "phase":
		text = &d.phase
	case "retryAfter":
		return tokens(j, &d.retryAfter)
	case "tool":
		if j.Next() != jx.Object {
			return j.Skip()
		}
		return j.ObjBytes(d.tool)
	case "usage":
		if j.Next() != jx.Object {
			return j.Skip()
		}
		d.usageKnown = true
		return j.ObjBytes(func(j *jx.Decoder, key []byte) error {
			switch string(key) {
			case "promptTokens":
				return tokens(j, &d.usage.PromptTokens)
			case "completionTokens":
				return tokens(j, &d.usage.CompletionTokens)
			case "cachedTokens":
				return tokens(j, &d.usage.CachedTokens)
			case "reasoningTokens":
				return tokens(j, &d.usage.ReasoningTokens)
			}
			return j.Skip()
		})
	}
	return readStringTo(j, text)
}

func (d *websopyDecoder) tool(j *jx.Decoder, key []byte) error {
	var text *[]byte
	switch string(key) {
	case "id":
		text = &d.id
	case "name":
		text = &d.name
	case "arguments":
		text = &d.args
	}
	return readStringTo(j, text)
}
