package dialect

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/sse"
)

// UIMessages is the UI message stream of the AI SDK, which its useChat speaks (docs/dialects/ui-message-stream.md).
// https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol
type UIMessages struct{}

// Name implements Dialect.
func (UIMessages) Name() string { return "ui-messages" }

// Decode implements Dialect.
func (UIMessages) Decode(body []byte) (*Ask, error) { return decodeUIMessages(body) }

// Encoder implements Dialect.
func (UIMessages) Encoder(r Response) Encoder {
	e := &uiEncoder{}
	if r.Head.Dialect != (UIMessages{}).Name() {
		e.messageID = "msg-" + r.Head.ID[:min(len(r.Head.ID), 16)] // all of its id would be a key to the answer
		return e
	}
	var goesOn bool
	e.messageID, e.prelude, goesOn = strings.Cut(r.Head.Note, "\n")
	switch {
	case !r.Get:
		e.prelude = "" // the client has the message
	case goesOn && e.prelude == "":
		e.messageID += "-rest"
	}
	return e
}

// AppendAnswer implements Dialect. No client asks for it.
func (UIMessages) AppendAnswer(dst []byte, a *Answer) []byte { return a.appendJSON(dst) }

// AppendRefusal implements Dialect: useChat shows the whole body to the user.
func (UIMessages) AppendRefusal(dst []byte, e *chat.Error, _ string) []byte {
	return append(dst, e.Message...)
}

// stateKey is where parts have the state of an answer, in their metadata of providers.
const stateKey = "websopy"

// uiEncoder writes an answer as one step of a message. Some versions of the client refuse a frame with a type or
// a field that they don't know.
type uiEncoder struct {
	messageID string
	prelude   string    // what the message has before this step
	held      []byte    // a tool call's frame up to its end: if it is the last part it takes the state along
	parts     int64     // begun so far, of text and of reasoning
	open      chat.Type // of the part that is open, Pause when none is
	begun     bool
}

// Start appends nothing: if the answer fails before its first chunk the client is to have no empty message.
func (e *uiEncoder) Start(dst []byte) []byte { return dst }

func (e *uiEncoder) Chunk(dst []byte, c chat.Chunk) []byte {
	switch c.Type {
	case chat.Content:
		dst = append(e.part(dst, c.Type), `"text-delta","id":"`...)
	case chat.Reasoning:
		dst = append(e.part(dst, c.Type), `"reasoning-delta","id":"`...)
	case chat.Tool:
		dst = e.close(e.begin(dst), "")
		e.held = appendUICall(e.held[:0], c.Tool)
		return dst
	case chat.Done:
		return e.finish(e.close(e.begin(dst), c.Done.State), c.Done.FinishReason)
	default:
		return dst
	}
	dst = append(strconv.AppendInt(dst, e.parts, 10), `","delta":`...)
	return sse.AppendEnd(append(appendString(dst, c.Text), '}'))
}

// part makes sure that a part of a type is open, and begins a frame.
func (e *uiEncoder) part(dst []byte, t chat.Type) []byte {
	if e.open != t {
		dst = e.close(e.begin(dst), "")
		e.open = t
		e.parts++
		dst = append(appendUIPart(dst, t), `-start","id":"`...)
		dst = sse.AppendEnd(append(strconv.AppendInt(dst, e.parts, 10), `"}`...))
	}
	return append(dst, `data: {"type":`...)
}

func appendUIPart(dst []byte, t chat.Type) []byte {
	if t == chat.Reasoning {
		return append(dst, `data: {"type":"reasoning`...)
	}
	return append(dst, `data: {"type":"text`...)
}

// begin begins the message and its step, once. Without a step clients can't tell which calls of tools are new, and
// send their results again and again.
func (e *uiEncoder) begin(dst []byte) []byte {
	if e.begun {
		return dst
	}
	e.begun = true
	dst = append(appendString(append(dst, `data: {"type":"start","messageId":`...), e.messageID), '}')
	dst = append(sse.AppendEnd(dst), e.prelude...)
	return append(dst, "data: {\"type\":\"start-step\"}\n\n"...)
}

// close ends the part that is open, if one is. The last one of an answer has the state.
func (e *uiEncoder) close(dst []byte, state string) []byte {
	switch {
	case e.open != chat.Pause:
		dst = append(appendUIPart(dst, e.open), `-end","id":"`...)
		dst = append(strconv.AppendInt(dst, e.parts, 10), '"')
		e.open = chat.Pause
	case len(e.held) > 0:
		dst = append(dst, e.held...)
		e.held = e.held[:0]
	default:
		return dst
	}
	if state != "" {
		dst = append(dst, `,"providerMetadata":{"`+stateKey+`":{"state":`...)
		dst = append(appendString(dst, state), `}}`...)
	}
	return sse.AppendEnd(append(dst, '}'))
}

// appendUICall appends the frame of a call without its end. Arguments that no JSON reader can read are an error of
// the call, which the client sends back as the call's result: the model may try again.
func appendUICall(dst []byte, t *chat.ToolCall) []byte {
	input, ok := compact(t.Arguments)
	if !ok {
		dst = append(dst, `data: {"type":"tool-input-error","toolCallId":`...)
	} else {
		dst = append(dst, `data: {"type":"tool-input-available","toolCallId":`...)
	}
	dst = append(appendString(dst, t.ID), `,"toolName":`...)
	dst = append(appendString(dst, t.Name), `,"input":`...)
	if !ok {
		return append(appendString(dst, t.Arguments), `,"errorText":"the arguments of this call are no valid JSON"`...)
	}
	return append(dst, input...)
}

// compact gives the arguments of a call as JSON without a line break, if they are JSON.
func compact(arguments string) (input []byte, ok bool) {
	var b bytes.Buffer
	err := json.Compact(&b, bytes.ToValidUTF8([]byte(arguments), []byte("\ufffd")))
	return b.Bytes(), err == nil
}

func (e *uiEncoder) finish(dst []byte, reason chat.FinishReason) []byte {
	dst = append(dst, "data: {\"type\":\"finish-step\"}\n\n"...)
	if reason == chat.FinishStopped {
		return append(dst, "data: {\"type\":\"abort\"}\n\n"...)
	}
	dst = append(dst, `data: {"type":"finish","finishReason":"`...)
	return append(append(dst, uiFinish(reason)...), "\"}\n\n"...)
}

func uiFinish(reason chat.FinishReason) string {
	switch reason {
	case chat.FinishToolCalls:
		return "tool-calls"
	case chat.FinishContentFilter:
		return "content-filter"
	case chat.FinishStop, chat.FinishLength:
		return string(reason)
	}
	return "other"
}

func (e *uiEncoder) Ping(dst []byte) []byte { return append(dst, heartbeat...) }

// Reconnect appends nothing: a reload of the page comes back, and until then the client shows that it was cut off.
func (e *uiEncoder) Reconnect(dst []byte, _ time.Duration) []byte { return dst }

// Fail appends the error. What came before it stays with the client, and so does a call that waited.
func (e *uiEncoder) Fail(dst []byte, err *chat.Error, _ uint64) []byte {
	if len(e.held) > 0 {
		dst = e.close(dst, "")
	}
	dst = append(dst, `data: {"type":"error","errorText":`...)
	return sse.AppendEnd(append(appendString(dst, err.Message), '}'))
}

func (e *uiEncoder) Close(dst []byte) []byte { return append(dst, "data: [DONE]\n\n"...) }

// UIText is what TextStreamChatTransport of the AI SDK reads: the text of the answer and nothing else. It asks as
// the UI message stream does.
type UIText struct{ UIMessages }

// Encoder implements Dialect.
func (UIText) Encoder(Response) Encoder { return uiTextEncoder{} }

// uiTextEncoder has no frames for anything but text: where it appends none the connection is cut.
type uiTextEncoder struct{}

func (uiTextEncoder) Start(dst []byte) []byte { return dst }

func (uiTextEncoder) Chunk(dst []byte, c chat.Chunk) []byte {
	if c.Type == chat.Content {
		dst = append(dst, c.Text...)
	}
	return dst
}

func (uiTextEncoder) Ping(dst []byte) []byte                          { return dst }
func (uiTextEncoder) Reconnect(dst []byte, _ time.Duration) []byte    { return dst }
func (uiTextEncoder) Fail(dst []byte, _ *chat.Error, _ uint64) []byte { return dst }
func (uiTextEncoder) Close(dst []byte) []byte                         { return dst }
