package dialect

import (
	"strconv"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/sse"
)

// Messages is Anthropic's Messages API (docs/dialects/messages.md).
// https://platform.claude.com/docs/en/api/messages
type Messages struct{}

// Name implements Dialect.
func (Messages) Name() string { return "messages" }

// Decode implements Dialect.
func (Messages) Decode(body []byte) (*Ask, error) { return decodeMessages(body) }

// Encoder implements Dialect.
func (Messages) Encoder(r Response) Encoder {
	return &messagesEncoder{namedFrames: namedFrames{Response: r}}
}

// AppendAnswer implements Dialect.
func (Messages) AppendAnswer(dst []byte, a *Answer) []byte {
	dst = append(appendMessage(dst, &a.Head), `"content":[`...)
	separate := func() {
		if dst[len(dst)-1] != '[' {
			dst = append(dst, ',')
		}
	}
	for _, c := range a.chunks() {
		switch c.Type {
		case chat.Reasoning:
			dst = append(appendString(append(dst, `{"type":"thinking","thinking":`...), c.Text), `,"signature":""}`...)
		case chat.Content:
			separate()
			dst = append(appendString(append(dst, `{"type":"text","text":`...), c.Text), '}')
		case chat.Tool:
			separate()
			dst = append(appendInput(appendToolUse(dst, c.Tool), c.Tool), '}')
		}
	}
	if a.done.State != "" {
		separate()
		dst = append(appendString(append(dst, `{"type":"redacted_thinking","data":`...), a.done.State), '}')
	}
	dst = append(append(append(dst, `],"stop_reason":"`...), stopReason(a.done.FinishReason)...),
		`","stop_sequence":null,`...)
	return append(appendMessagesUsage(dst, a.done.Usage), '}')
}

// AppendRefusal implements Dialect.
func (Messages) AppendRefusal(dst []byte, e *chat.Error, requestID string) []byte {
	return appendMessagesError(dst, e, requestID)
}

// appendMessage begins a message, up to its content.
func appendMessage(dst []byte, h *chat.Head) []byte {
	dst = append(append(append(dst, `{"id":"msg_`...), idOf(h)...),
		`","type":"message","role":"assistant","model":`...)
	return append(appendString(dst, h.Model), ',')
}

// appendToolUse begins a call, up to its input.
func appendToolUse(dst []byte, t *chat.ToolCall) []byte {
	dst = appendString(append(dst, `{"type":"tool_use","id":`...), t.ID)
	return append(appendString(append(dst, `,"name":`...), t.Name), `,"input":`...)
}

// appendInput appends the arguments of a call, which are an object here. What a model wrote that is none, as when a
// limit cut it off, is in one that no tool takes for its arguments, by the name that Anthropic's guide gives it. The
// model reads it in the next turn.
func appendInput(dst []byte, t *chat.ToolCall) []byte {
	switch input, ok := compact(t.Arguments); {
	case ok && input[0] == '{':
		return append(dst, input...)
	case ok && string(input) == "null":
		return append(dst, `{}`...)
	}
	return append(appendString(append(dst, `{"INVALID_JSON":`...), t.Arguments), '}')
}

// messagesEncoder writes the events of a message.
type messagesEncoder struct {
	blocks int64     // that are done: the index of the one that is open or comes next
	open   chat.Type // Content or Reasoning while such a block is open
	begun  bool
	namedFrames
}

func (e *messagesEncoder) Start(dst []byte) []byte { return dst }

func (e *messagesEncoder) Chunk(dst []byte, c chat.Chunk) []byte {
	if !hasFrames(c.Type) {
		return dst
	}
	had := len(dst)
	dst = e.begin(dst)
	switch c.Type {
	case chat.Content:
		dst = append(e.delta(e.openBlock(dst, c.Type)), `{"type":"text_delta","text":`...)
		dst = append(appendString(dst, c.Text), `}}`...)
	case chat.Reasoning:
		dst = append(e.delta(e.openBlock(dst, c.Type)), `{"type":"thinking_delta","thinking":`...)
		dst = append(appendString(dst, c.Text), `}}`...)
	case chat.Tool:
		dst = e.call(e.closeBlock(dst), c.Tool)
	case chat.Done:
		dst = e.done(e.closeBlock(dst), c.Done)
	}
	dst = e.end(dst, c.Seq)
	if e.has(c.Seq) {
		dst = dst[:had]
	}
	return dst
}

func (e *messagesEncoder) begin(dst []byte) []byte {
	if e.begun {
		return dst
	}
	e.begun = true
	dst = appendMessage(append(e.event(dst, "message_start"), `,"message":`...), &e.Head)
	dst = append(dst, `"content":[],"stop_reason":null,"stop_sequence":null,`...)
	return append(appendMessagesUsage(dst, nil), `}}`...)
}

// block begins an event of the open block, or of the next one.
func (e *messagesEncoder) block(dst []byte, typ string) []byte {
	return strconv.AppendInt(append(e.event(dst, typ), `,"index":`...), e.blocks, 10)
}

func (e *messagesEncoder) delta(dst []byte) []byte {
	return append(e.block(dst, "content_block_delta"), `,"delta":`...)
}

// openBlock opens a block for text or thinking, unless it is open.
func (e *messagesEncoder) openBlock(dst []byte, typ chat.Type) []byte {
	if e.open == typ {
		return dst
	}
	dst = e.block(e.closeBlock(dst), "content_block_start")
	if e.open = typ; typ == chat.Content {
		return append(dst, `,"content_block":{"type":"text","text":""}}`...)
	}
	return append(dst, `,"content_block":{"type":"thinking","thinking":"","signature":""}}`...)
}

// closeBlock ends the open block, if there is one.
func (e *messagesEncoder) closeBlock(dst []byte) []byte {
	if e.open == chat.Pause {
		return dst
	}
	e.open = chat.Pause
	return e.stop(dst)
}

func (e *messagesEncoder) stop(dst []byte) []byte {
	dst = append(e.block(dst, "content_block_stop"), '}')
	e.blocks++
	return dst
}

func (e *messagesEncoder) call(dst []byte, t *chat.ToolCall) []byte {
	dst = appendToolUse(append(e.block(dst, "content_block_start"), `,"content_block":`...), t)
	dst = append(dst, `{}}}`...)
	dst = append(e.delta(dst), `{"type":"input_json_delta","partial_json":`...)
	return e.stop(append(appendString(dst, appendInput(nil, t)), `}}`...))
}

// done appends the end. What the provider wants back is a block that clients return without a look at it.
func (e *messagesEncoder) done(dst []byte, c *chat.Completion) []byte {
	if c.State != "" {
		dst = append(e.block(dst, "content_block_start"), `,"content_block":{"type":"redacted_thinking","data":`...)
		dst = e.stop(append(appendString(dst, c.State), `}}`...))
	}
	dst = append(e.event(dst, "message_delta"), `,"delta":{"stop_reason":"`...)
	dst = append(append(dst, stopReason(c.FinishReason)...), `","stop_sequence":null},`...)
	dst = append(appendMessagesUsage(dst, c.Usage), '}')
	return append(e.event(dst, "message_stop"), '}')
}

func stopReason(reason chat.FinishReason) string {
	switch reason {
	case chat.FinishLength:
		return "max_tokens"
	case chat.FinishToolCalls:
		return "tool_use"
	case chat.FinishContentFilter:
		return "refusal"
	}
	return "end_turn"
}

// appendMessagesUsage appends the member usage. Tokens that were read from a cache are no part of the input here.
func appendMessagesUsage(dst []byte, u *chat.Usage) []byte {
	if u == nil {
		u = &chat.Usage{}
	}
	dst = strconv.AppendInt(append(dst, `"usage":{"input_tokens":`...), max(0, u.PromptTokens-u.CachedTokens), 10)
	dst = strconv.AppendInt(append(dst, `,"cache_creation_input_tokens":0,"cache_read_input_tokens":`...),
		u.CachedTokens, 10)
	dst = strconv.AppendInt(append(dst, `,"output_tokens":`...), u.CompletionTokens, 10)
	if n := u.ReasoningTokens; n > 0 {
		dst = strconv.AppendInt(append(dst, `,"output_tokens_details":{"thinking_tokens":`...), n, 10)
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

func (e *messagesEncoder) Ping(dst []byte) []byte { return append(dst, heartbeat...) }

// Reconnect appends nothing: clients of the API never come back.
func (e *messagesEncoder) Reconnect(dst []byte, _ time.Duration) []byte { return dst }

func (e *messagesEncoder) Fail(dst []byte, err *chat.Error, seq uint64) []byte {
	dst = sse.AppendData(append(dst, "event: error\n"...))
	return e.end(appendMessagesError(dst, err, e.RequestID), seq)
}

// Close appends nothing: message_stop was the end.
func (e *messagesEncoder) Close(dst []byte) []byte { return dst }

// appendMessagesError appends a body or the data of an event. The code is the relay's own, beside what clients know.
func appendMessagesError(dst []byte, e *chat.Error, requestID string) []byte {
	dst = append(append(dst, `{"type":"error","error":{"type":"`...), messagesErrorType(e)...)
	dst = appendString(append(dst, `","message":`...), e.Message)
	dst = append(append(append(dst, `,"code":"`...), e.Code...), `"},"request_id":`...)
	return append(appendString(dst, requestID), '}')
}

// messagesErrorType is the kind of an error, by which clients choose what to do.
func messagesErrorType(e *chat.Error) string {
	if e.NoCredit {
		return "billing_error"
	}
	types := map[int]string{
		400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
		413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error", 504: "timeout_error",
	}
	switch typ, known := types[e.Code.Status()]; {
	case known:
		return typ
	case e.Code.Status() < 500:
		return "invalid_request_error"
	}
	return "api_error"
}
