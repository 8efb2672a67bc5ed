// Package dialect turns request bodies into chat requests and chunks into JSON, in the formats that
// clients speak. It knows nothing of HTTP.
package dialect

import (
	"strconv"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/sse"
)

// Native is the relay's own format (docs/protocol.md).
type Native struct{}

// Name implements Dialect.
func (Native) Name() string { return "" }

// Decode implements Dialect.
func (Native) Decode(body []byte) (*Ask, error) { return decodeNative(body) }

// Encoder implements Dialect.
func (Native) Encoder(r Response) Encoder { return &nativeEncoder{r} }

// AppendAnswer implements Dialect, with the object of docs/protocol.md, 2.
func (Native) AppendAnswer(dst []byte, a *Answer) []byte { return a.appendJSON(dst) }

// AppendRefusal implements Dialect, with the object of docs/protocol.md, 4.
func (Native) AppendRefusal(dst []byte, e *chat.Error, requestID string) []byte {
	return appendError(dst, e, requestID)
}

// reconnectAfter is how long clients wait before they connect again, when nothing else was said.
const reconnectAfter = time.Second

// nativeEncoder has no state: each native frame stands for itself.
type nativeEncoder struct{ Response }

// Start names a resumable stream before the provider has answered, and is position 0 of it.
//
// The stream of a GET that can't be resumed begins with an id that leads nowhere. Its EventSource connects
// again whatever happens, after the end as well. Without an id to send it would ask, and pay, once more; with
// this one it is told that there is no such stream, and stops.
func (e *nativeEncoder) Start(dst []byte) []byte {
	switch {
	case e.Head.ID != "" && !e.Resumed:
		dst = sse.AppendRetry(appendStart(sse.AppendData(dst), e.Head.ID, e.Grace, e.Retention), reconnectAfter)
		return sse.AppendEnd(e.appendCursor(dst, 0))
	case e.Head.ID == "" && !e.Resumed && e.Get:
		return sse.AppendEnd(append(sse.AppendID(appendPing(sse.AppendData(dst))), "none"...))
	}
	return dst
}

func (e *nativeEncoder) Chunk(dst []byte, c chat.Chunk) []byte {
	framed := appendChunk(sse.AppendData(dst), c)
	if framed == nil {
		return dst
	}
	return e.appendFrameEnd(framed, c.Seq)
}

func (e *nativeEncoder) Ping(dst []byte) []byte {
	return sse.AppendEnd(appendPing(sse.AppendData(dst)))
}

// Reconnect is a ping's frame: some clients take one without data for a message that they can't read.
func (e *nativeEncoder) Reconnect(dst []byte, wait time.Duration) []byte {
	return sse.AppendEnd(sse.AppendRetry(appendPing(sse.AppendData(dst)), wait))
}

func (e *nativeEncoder) Fail(dst []byte, err *chat.Error, seq uint64) []byte {
	return e.appendFrameEnd(appendError(sse.AppendData(dst), err, e.RequestID), seq)
}

// Close appends the marker that every OpenAI-style reader expects. The readers of a GET parse each data line
// as JSON, so there it would be an error.
func (e *nativeEncoder) Close(dst []byte) []byte {
	if e.Get {
		return dst
	}
	return sse.AppendEnd(append(sse.AppendData(dst), "[DONE]"...))
}

// appendFrameEnd ends a frame, with its position if it has one.
func (r *Response) appendFrameEnd(dst []byte, seq uint64) []byte {
	if seq > 0 {
		dst = r.appendCursor(dst, seq)
	}
	return sse.AppendEnd(dst)
}

// appendCursor appends the id line of a frame: position seq of the stream, as stream.ParseCursor reads it.
func (r *Response) appendCursor(dst []byte, seq uint64) []byte {
	dst = append(append(sse.AppendID(dst), r.Head.ID...), '.')
	return strconv.AppendUint(dst, seq, 10)
}

// appendChunk appends a chunk (docs/protocol.md, 3), one JSON object without a line break of any kind. It
// does not allocate once dst has grown.
func appendChunk(dst []byte, c chat.Chunk) []byte {
	switch c.Type {
	case chat.Content:
		dst = append(dst, `{"type":"content","content":`...)
		dst = appendString(dst, c.Text)
	case chat.Reasoning:
		dst = append(dst, `{"type":"reasoning","content":`...)
		dst = appendString(dst, c.Text)
	case chat.Tool:
		dst = append(dst, `{"type":"tool_call","tool":`...)
		dst = appendToolCall(dst, c.Tool)
	case chat.Done:
		dst = append(dst, `{"type":"done",`...)
		dst = appendCompletion(dst, c.Done)
	default:
		return nil
	}
	return append(dst, '}')
}

func appendPing(dst []byte) []byte { return append(dst, `{"type":"ping"}`...) }

// appendStart appends the chunk that names a resumable stream, its first. grace and retention say how long its
// reader may try to come back.
func appendStart(dst []byte, id string, grace, retention time.Duration) []byte {
	dst = append(dst, `{"type":"start","id":`...)
	dst = appendString(dst, id)
	dst = append(dst, `,"graceMs":`...)
	dst = strconv.AppendInt(dst, grace.Milliseconds(), 10)
	dst = append(dst, `,"retentionMs":`...)
	dst = strconv.AppendInt(dst, retention.Milliseconds(), 10)
	return append(dst, '}')
}

// appendError appends the error object (docs/protocol.md, 4) of a frame or an HTTP body. The cause
// stays out of it.
func appendError(dst []byte, e *chat.Error, requestID string) []byte {
	dst = append(dst, `{"type":"error","error":`...)
	dst = appendString(dst, e.Message)
	dst = append(dst, `,"code":`...)
	dst = appendString(dst, string(e.Code))
	if e.Phase != "" {
		dst = append(dst, `,"phase":`...)
		dst = appendString(dst, string(e.Phase))
	}
	dst = append(dst, `,"retryable":`...)
	dst = strconv.AppendBool(dst, e.Code.Retryable())
	if e.RetryAfter > 0 {
		dst = append(dst, `,"retryAfter":`...)
		dst = strconv.AppendInt(dst, RetryAfterSeconds(e.RetryAfter), 10)
	}
	if e.Limit != "" {
		dst = append(dst, `,"limit":`...)
		dst = appendString(dst, e.Limit)
	}
	dst = append(dst, `,"requestId":`...)
	dst = appendString(dst, requestID)
	return append(dst, '}')
}

// RetryAfterSeconds rounds up: a client that comes back a moment early is refused again.
func RetryAfterSeconds(d time.Duration) int64 {
	s := int64(d / time.Second)
	if d%time.Second > 0 {
		s++
	}
	return s
}

// Answer collects the chunks of a whole answer, for a client that did not want a stream.
type Answer struct {
	Head chat.Head

	content, reasoning []byte
	tools              []chat.ToolCall
	done               chat.Completion
}

// Add takes the next chunk. It keeps nothing of what the chunk lends.
func (a *Answer) Add(c chat.Chunk) {
	switch c.Type {
	case chat.Content:
		a.content = append(a.content, c.Text...)
	case chat.Reasoning:
		a.reasoning = append(a.reasoning, c.Text...)
	case chat.Tool:
		a.tools = append(a.tools, *c.Tool)
	case chat.Done:
		a.done = *c.Done.Clone()
	}
}

// chunks are those of an answer that came in as few as possible.
func (a *Answer) chunks() (all []chat.Chunk) {
	if len(a.reasoning) > 0 {
		all = append(all, chat.Chunk{Type: chat.Reasoning, Text: a.reasoning})
	}
	if len(a.content) > 0 {
		all = append(all, chat.Chunk{Type: chat.Content, Text: a.content})
	}
	for i := range a.tools {
		all = append(all, chat.Chunk{Type: chat.Tool, Tool: &a.tools[i]})
	}
	return append(all, chat.Chunk{Type: chat.Done, Done: &a.done})
}

// appendJSON appends the answer as the JSON object of docs/protocol.md, 2. Reasoning and tool calls
// are left out when there are none.
func (a *Answer) appendJSON(dst []byte) []byte {
	dst = append(dst, `{"content":`...)
	dst = appendString(dst, a.content)
	if len(a.reasoning) > 0 {
		dst = append(dst, `,"reasoning":`...)
		dst = appendString(dst, a.reasoning)
	}
	if len(a.tools) > 0 {
		dst = append(dst, `,"toolCalls":[`...)
		for i := range a.tools {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendToolCall(dst, &a.tools[i])
		}
		dst = append(dst, ']')
	}
	dst = append(dst, ',')
	dst = appendCompletion(dst, &a.done)
	return append(dst, '}')
}

func appendToolCall(dst []byte, t *chat.ToolCall) []byte {
	dst = append(dst, `{"id":`...)
	dst = appendString(dst, t.ID)
	dst = append(dst, `,"name":`...)
	dst = appendString(dst, t.Name)
	dst = append(dst, `,"arguments":`...)
	dst = appendString(dst, t.Arguments)
	return append(dst, '}')
}

// appendCompletion appends members, not an object: they stand in a done chunk and in a whole answer.
func appendCompletion(dst []byte, c *chat.Completion) []byte {
	dst = append(dst, `"finishReason":`...)
	dst = appendString(dst, string(c.FinishReason))
	if c.Model != "" {
		dst = append(dst, `,"model":`...)
		dst = appendString(dst, c.Model)
	}
	if c.Usage != nil {
		dst = append(dst, `,"usage":{"promptTokens":`...)
		dst = strconv.AppendInt(dst, c.Usage.PromptTokens, 10)
		dst = append(dst, `,"completionTokens":`...)
		dst = strconv.AppendInt(dst, c.Usage.CompletionTokens, 10)
		if c.Usage.CachedTokens > 0 {
			dst = append(dst, `,"cachedTokens":`...)
			dst = strconv.AppendInt(dst, c.Usage.CachedTokens, 10)
		}
		if c.Usage.ReasoningTokens > 0 {
			dst = append(dst, `,"reasoningTokens":`...)
			dst = strconv.AppendInt(dst, c.Usage.ReasoningTokens, 10)
		}
		dst = append(dst, '}')
	}
	if c.State != "" {
		dst = append(dst, `,"state":`...)
		dst = appendString(dst, c.State)
	}
	return dst
}
