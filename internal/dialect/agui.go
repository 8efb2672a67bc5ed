package dialect

import (
	"strconv"
	"strings"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/sse"
)

// AGUI is the Agent-User Interaction Protocol: one run, of which the answer is a message (docs/dialects/ag-ui.md).
// https://docs.ag-ui.com/concepts/events
type AGUI struct{}

// Name implements Dialect.
func (AGUI) Name() string { return "ag-ui" }

// Decode implements Dialect.
func (AGUI) Decode(body []byte) (*Ask, error) { return decodeAGUI(body) }

// Encoder implements Dialect. It has to see an answer from its beginning.
func (d AGUI) Encoder(r Response) Encoder {
	e := &aguiEncoder{Response: r}
	if ids := strings.Split(r.Head.Note, "\n"); r.Head.Dialect == d.Name() && len(ids) == 3 {
		e.thread, e.run, e.message = ids[0], ids[1], ids[2]
		return e
	}
	id := r.Head.ID[:min(len(r.Head.ID), 16)] // of an answer that began in another dialect
	e.thread, e.run, e.message = "thread-"+id, "run-"+id, "msg-"+id
	return e
}

// AppendAnswer implements Dialect. No client asks for it.
func (AGUI) AppendAnswer(dst []byte, a *Answer) []byte { return a.appendJSON(dst) }

// AppendRefusal implements Dialect.
func (AGUI) AppendRefusal(dst []byte, e *chat.Error, requestID string) []byte {
	return appendError(dst, e, requestID)
}

// aguiEncoder writes events. The text and the calls of an answer are one message, so that its state, which is for all
// of it, fits what the client sends back.
type aguiEncoder struct {
	Response
	thread, run, message string

	reasonings int64     // messages of thinking begun so far
	open       chat.Type // of the message that is open, Pause when none is
	said       bool      // there is a message with text or calls
}

func (e *aguiEncoder) Start(dst []byte) []byte {
	if e.Resumed {
		return dst
	}
	if e.Head.ID != "" {
		dst = e.appendID(dst, 0)
	}
	return e.end(e.appendRun(append(dst, `data: {"type":"RUN_STARTED"`...)))
}

// Chunk appends nothing for what a client has that comes back: it needs the answer from where it stopped.
func (e *aguiEncoder) Chunk(dst []byte, c chat.Chunk) []byte {
	before := len(dst)
	switch c.Type {
	case chat.Content:
		dst = e.event(e.openMessage(dst, c.Type), c.Seq, `TEXT_MESSAGE_CONTENT","messageId":`)
		dst = e.appendDelta(appendString(dst, e.message), c.Text)
	case chat.Reasoning:
		dst = e.event(e.openMessage(dst, c.Type), c.Seq, `REASONING_MESSAGE_CONTENT","messageId":`)
		dst = e.appendDelta(e.appendThought(dst), c.Text)
	case chat.Tool:
		dst = e.call(e.openMessage(dst, chat.Pause), c)
	case chat.Done:
		dst = e.finish(e.openMessage(dst, chat.Pause), c)
	}
	if e.has(c.Seq) {
		return dst[:before]
	}
	return dst
}

// event begins a frame. The id stands before the data: some clients give it to the data that follows, and with the id
// behind would ask again for what they have. The last frame of a chunk has it.
func (e *aguiEncoder) event(dst []byte, seq uint64, typeAnd string) []byte {
	if seq > 0 {
		dst = e.appendID(dst, seq)
	}
	return append(append(dst, `data: {"type":"`...), typeAnd...)
}

func (e *aguiEncoder) appendID(dst []byte, seq uint64) []byte {
	dst = append(append(append(dst, "id: "...), e.Head.ID...), '.')
	return append(strconv.AppendUint(dst, seq, 10), '\n')
}

func (e *aguiEncoder) end(dst []byte) []byte { return sse.AppendEnd(append(dst, '}')) }

func (e *aguiEncoder) appendRun(dst []byte) []byte {
	dst = appendString(append(dst, `,"threadId":`...), e.thread)
	return appendString(append(dst, `,"runId":`...), e.run)
}

func (e *aguiEncoder) appendDelta(dst, text []byte) []byte {
	return e.end(appendString(append(dst, `,"delta":`...), text))
}

// appendThought appends the id of the message of thinking that is open.
func (e *aguiEncoder) appendThought(dst []byte) []byte {
	dst = appendString(dst, e.message)
	dst = append(dst[:len(dst)-1], "-reasoning-"...)
	return append(strconv.AppendInt(dst, e.reasonings, 10), '"')
}

// openMessage ends the message that is open and opens one of another type, unless that is open.
func (e *aguiEncoder) openMessage(dst []byte, t chat.Type) []byte {
	if e.open == t {
		return dst
	}
	switch e.open {
	case chat.Content:
		dst = e.end(appendString(e.event(dst, 0, `TEXT_MESSAGE_END","messageId":`), e.message))
	case chat.Reasoning:
		dst = e.end(e.appendThought(e.event(dst, 0, `REASONING_MESSAGE_END","messageId":`)))
		dst = e.end(e.appendThought(e.event(dst, 0, `REASONING_END","messageId":`)))
	}
	e.open = t
	switch t {
	case chat.Content:
		e.said = true
		dst = appendString(e.event(dst, 0, `TEXT_MESSAGE_START","messageId":`), e.message)
		dst = e.end(append(dst, `,"role":"assistant"`...))
	case chat.Reasoning:
		e.reasonings++
		dst = e.end(e.appendThought(e.event(dst, 0, `REASONING_START","messageId":`)))
		dst = e.appendThought(e.event(dst, 0, `REASONING_MESSAGE_START","messageId":`))
		dst = e.end(append(dst, `,"role":"reasoning"`...))
	}
	return dst
}

func (e *aguiEncoder) call(dst []byte, c chat.Chunk) []byte {
	e.said = true
	dst = appendString(e.event(dst, 0, `TOOL_CALL_START","toolCallId":`), c.Tool.ID)
	dst = appendString(append(dst, `,"toolCallName":`...), c.Tool.Name)
	dst = e.end(appendString(append(dst, `,"parentMessageId":`...), e.message))
	dst = appendString(e.event(dst, 0, `TOOL_CALL_ARGS","toolCallId":`), c.Tool.ID)
	dst = e.end(appendString(append(dst, `,"delta":`...), c.Tool.Arguments))
	dst = e.end(appendString(e.event(dst, 0, `TOOL_CALL_END","toolCallId":`), c.Tool.ID))
	return e.runHere(dst, c)
}

// runHere appends the event by which TanStack's client knows that a call is for it to run. To others it is one of the
// custom events that they pass over.
func (e *aguiEncoder) runHere(dst []byte, c chat.Chunk) []byte {
	dst = e.event(dst, c.Seq, `CUSTOM","name":"tool-input-available","value":{"toolCallId":`)
	dst = appendString(append(appendString(dst, c.Tool.ID), `,"toolName":`...), c.Tool.Name)
	if input, ok := compact(c.Tool.Arguments); ok {
		dst = append(append(dst, `,"input":`...), input...)
	}
	return e.end(append(dst, '}'))
}

func (e *aguiEncoder) finish(dst []byte, c chat.Chunk) []byte {
	if c.Done.State != "" && e.said {
		dst = e.event(dst, 0, `REASONING_ENCRYPTED_VALUE","subtype":"message","entityId":`)
		dst = append(appendString(dst, e.message), `,"encryptedValue":`...)
		dst = e.end(appendString(dst, c.Done.State))
	}
	dst = appendAGUIUsage(e.appendRun(e.event(dst, c.Seq, `RUN_FINISHED"`)), c.Done)
	// The protocol has no reason for the end. TanStack's client looks here for it, and runs tools by it; HttpAgent
	// warns of members that the protocol doesn't know, but not of what is in metadata.
	dst = append(dst, `,"metadata":{"tanstack":{"finishReason":`...)
	return e.end(append(appendString(dst, string(chatFinish(c.Done.FinishReason))), `}}`...))
}

func appendAGUIUsage(dst []byte, c *chat.Completion) []byte {
	u := c.Usage
	if u == nil {
		return dst
	}
	dst = append(dst, `,"usage":[{`...)
	if c.Model != "" {
		dst = append(appendString(append(dst, `"model":`...), c.Model), ',')
	}
	dst = strconv.AppendInt(append(dst, `"inputTokens":`...), u.PromptTokens, 10)
	dst = strconv.AppendInt(append(dst, `,"outputTokens":`...), u.CompletionTokens, 10)
	dst = strconv.AppendInt(append(dst, `,"totalTokens":`...), u.PromptTokens+u.CompletionTokens, 10)
	if u.CachedTokens > 0 {
		dst = strconv.AppendInt(append(dst, `,"cachedInputTokens":`...), u.CachedTokens, 10)
	}
	if u.ReasoningTokens > 0 {
		dst = strconv.AppendInt(append(dst, `,"reasoningTokens":`...), u.ReasoningTokens, 10)
	}
	return append(dst, `}]`...)
}

func (e *aguiEncoder) Ping(dst []byte) []byte { return append(dst, heartbeat...) }

// Reconnect appends nothing: a client that can come back does so by itself when it is cut off.
func (e *aguiEncoder) Reconnect(dst []byte, _ time.Duration) []byte { return dst }

func (e *aguiEncoder) Fail(dst []byte, err *chat.Error, seq uint64) []byte {
	dst = appendString(e.event(dst, seq, `RUN_ERROR","message":`), err.Message)
	return e.end(appendString(append(dst, `,"code":`...), string(err.Code)))
}

// Close appends nothing: the protocol has no marker for the end, and a client may fail at one.
func (e *aguiEncoder) Close(dst []byte) []byte { return dst }
