package dialect

import (
	"crypto/rand"
	"strconv"
	"strings"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/sse"
)

// ChatCompletions is OpenAI's Chat Completions API (docs/dialects/chat-completions.md).
// https://developers.openai.com/api/reference/resources/chat
type ChatCompletions struct{}

// Name implements Dialect.
func (ChatCompletions) Name() string { return "chat-completions" }

// Decode implements Dialect.
func (ChatCompletions) Decode(body []byte) (*Ask, error) {
	n := &Ask{}
	return n, n.decode(body, chatFields)
}

// Encoder implements Dialect.
func (d ChatCompletions) Encoder(r Response) Encoder {
	e := &chatEncoder{Response: r, usage: r.Head.Dialect == d.Name() && r.Head.Note == noteUsage}
	e.frame = appendCompletionHead(sse.AppendData(nil), &r.Head, "chat.completion.chunk")
	return e
}

// appendCompletionHead begins an object of the API, up to its choices.
func appendCompletionHead(dst []byte, h *chat.Head, object string) []byte {
	dst = append(append(append(dst, `{"id":"chatcmpl-`...), idOf(h)...), `","object":"`...)
	dst = append(append(dst, object...), `","created":`...)
	dst = strconv.AppendInt(dst, h.Created.Unix(), 10)
	return appendString(append(dst, `,"model":`...), h.Model)
}

// idOf is the id of an answer: that of its stream, so that it is the same for all who follow, or a new one.
func idOf(h *chat.Head) string {
	if h.ID != "" {
		return h.ID
	}
	return strings.ToLower(rand.Text())
}

// chatEncoder writes chunks of Chat Completions.
type chatEncoder struct {
	frame []byte // what every frame begins with, up to its choices
	calls int64  // how many there were: clients merge those of one index
	begun bool
	usage bool // in a chunk of its own
	Response
}

func (e *chatEncoder) Start(dst []byte) []byte { return dst }

func (e *chatEncoder) Chunk(dst []byte, c chat.Chunk) []byte {
	if e.has(c.Seq) {
		return e.frames(dst, c)[:len(dst)]
	}
	return e.frames(dst, c)
}

func (e *chatEncoder) frames(dst []byte, c chat.Chunk) []byte {
	switch c.Type {
	case chat.Content:
		dst = appendString(member(e.delta(dst), "content"), c.Text)
	case chat.Reasoning:
		dst = appendString(member(e.delta(dst), "reasoning_content"), c.Text)
	case chat.Tool:
		dst = append(member(e.delta(dst), "tool_calls"), `[{"index":`...)
		dst = append(appendChatCall(strconv.AppendInt(dst, e.calls, 10), c.Tool), `}]`...)
		e.calls++
	case chat.Done:
		return e.done(dst, c)
	default:
		return dst
	}
	return e.appendFrameEnd(append(dst, `},"finish_reason":null}]}`...), c.Seq)
}

// delta begins a frame, up to the members of its delta. Only the first one tells the role.
func (e *chatEncoder) delta(dst []byte) []byte {
	dst = append(append(dst, e.frame...), `,"choices":[{"index":0,"delta":{`...)
	if !e.begun {
		e.begun = true
		dst = append(dst, `"role":"assistant"`...)
	}
	return dst
}

// done appends the chunk with the finish reason, and the usage: in it, where all clients that look for it find it,
// or as asked in one of its own without choices, which some clients that did not ask stumble over.
func (e *chatEncoder) done(dst []byte, c chat.Chunk) []byte {
	dst = appendDetails(e.delta(dst), c.Done.State)
	dst = append(append(append(dst, `},"finish_reason":"`...), chatFinish(c.Done.FinishReason)...), `"}]`...)
	if c.Done.Usage != nil && e.usage {
		dst = sse.AppendEnd(append(dst, '}'))
		dst = append(append(dst, e.frame...), `,"choices":[]`...)
	}
	return e.appendFrameEnd(append(appendChatUsage(dst, c.Done.Usage), '}'), c.Seq)
}

func (e *chatEncoder) Ping(dst []byte) []byte { return append(dst, heartbeat...) }

// Reconnect appends nothing: clients of the API never come back.
func (e *chatEncoder) Reconnect(dst []byte, _ time.Duration) []byte { return dst }

// Fail appends a frame that has nothing but the error. Clients don't see one that stands beside choices.
func (e *chatEncoder) Fail(dst []byte, err *chat.Error, seq uint64) []byte {
	return e.appendFrameEnd(appendOpenAIError(sse.AppendData(dst), err), seq)
}

func (e *chatEncoder) Close(dst []byte) []byte {
	return sse.AppendEnd(append(sse.AppendData(dst), "[DONE]"...))
}

// AppendAnswer implements Dialect.
func (ChatCompletions) AppendAnswer(dst []byte, a *Answer) []byte {
	dst = appendCompletionHead(dst, &a.Head, "chat.completion")
	dst = append(dst, `,"choices":[{"index":0,"message":{"role":"assistant","content":`...)
	if len(a.content) == 0 && len(a.tools) > 0 {
		dst = append(dst, `null`...)
	} else {
		dst = appendString(dst, a.content)
	}
	if len(a.reasoning) > 0 {
		dst = appendString(member(dst, "reasoning_content"), a.reasoning)
	}
	for i := range a.tools {
		if i == 0 {
			dst = append(dst, `,"tool_calls":[`...)
		} else {
			dst = append(dst, ',')
		}
		dst = append(appendChatCall(append(dst, '{'), &a.tools[i]), '}')
	}
	if len(a.tools) > 0 {
		dst = append(dst, ']')
	}
	dst = append(appendDetails(dst, a.done.State), `},"logprobs":null,"finish_reason":"`...)
	dst = append(append(dst, chatFinish(a.done.FinishReason)...), `"}]`...)
	return append(appendChatUsage(dst, a.done.Usage), '}')
}

// AppendRefusal implements Dialect.
func (ChatCompletions) AppendRefusal(dst []byte, e *chat.Error, _ string) []byte {
	return appendOpenAIError(dst, e)
}

// appendOpenAIError appends a body or frame of an error. There must be nothing else at the top: some clients fail at a
// null there.
func appendOpenAIError(dst []byte, e *chat.Error) []byte {
	return append(appendOpenAIErrorObject(append(dst, `{"error":`...), e), '}')
}

func appendOpenAIErrorObject(dst []byte, e *chat.Error) []byte {
	dst = appendString(append(dst, `{"message":`...), e.Message)
	dst = append(append(dst, `,"type":"`...), openAIErrorType(e.Code)...)
	dst = append(append(dst, `","param":null,"code":"`...), openAICode(e)...)
	return append(dst, `"}`...)
}

// openAICode is the code of an error: ours, but for what clients of OpenAI's know by its own name and act on.
func openAICode(e *chat.Error) chat.Code {
	if e.NoCredit {
		return "insufficient_quota"
	}
	return e.Code
}

// openAIErrorType is the coarse kind of an error. Some clients guess a status from it, and retry by that.
func openAIErrorType(code chat.Code) string {
	switch {
	case code.Status() == 429:
		return "rate_limit_error"
	case !code.Retryable():
		return "invalid_request_error"
	}
	return "server_error"
}

// chatFinish is a finish reason as the API has it: a client that stopped the answer has what it wanted.
func chatFinish(reason chat.FinishReason) chat.FinishReason {
	if reason == chat.FinishStopped {
		return chat.FinishStop
	}
	return reason
}

// appendChatCall appends the members of a tool call.
func appendChatCall(dst []byte, t *chat.ToolCall) []byte {
	dst = append(appendString(member(dst, "id"), t.ID), `,"type":"function","function":{"name":`...)
	dst = append(appendString(dst, t.Name), `,"arguments":`...)
	return append(appendString(dst, t.Arguments), '}')
}

// appendChatUsage appends the member usage, if it is known.
func appendChatUsage(dst []byte, u *chat.Usage) []byte {
	if u == nil {
		return dst
	}
	dst = strconv.AppendInt(append(dst, `,"usage":{"prompt_tokens":`...), u.PromptTokens, 10)
	dst = strconv.AppendInt(append(dst, `,"completion_tokens":`...), u.CompletionTokens, 10)
	dst = strconv.AppendInt(append(dst, `,"total_tokens":`...), u.PromptTokens+u.CompletionTokens, 10)
	if n := u.CachedTokens; n > 0 {
		dst = strconv.AppendInt(append(dst, `,"prompt_tokens_details":{"cached_tokens":`...), n, 10)
		dst = append(dst, '}')
	}
	if n := u.ReasoningTokens; n > 0 {
		dst = strconv.AppendInt(append(dst, `,"completion_tokens_details":{"reasoning_tokens":`...), n, 10)
		dst = append(dst, '}')
	}
	return append(dst, '}')
}
