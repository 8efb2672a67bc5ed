package dialect_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/dialect"
)

var agui dialect.AGUI

func aguiEncoder(r dialect.Response) dialect.Encoder {
	r.Head.Dialect, r.Head.Note = "ag-ui", "t1\nr1\nm1"
	return agui.Encoder(r)
}

func TestAnAnswerIsARunWithOneMessage(t *testing.T) {
	const messageEnd = `{"type":"TEXT_MESSAGE_END","messageId":"m1"}`
	require.Equal(t, uiFrames(
		`{"type":"RUN_STARTED","threadId":"t1","runId":"r1"}`,
		`{"type":"REASONING_START","messageId":"m1-reasoning-1"}`,
		`{"type":"REASONING_MESSAGE_START","messageId":"m1-reasoning-1","role":"reasoning"}`,
		`{"type":"REASONING_MESSAGE_CONTENT","messageId":"m1-reasoning-1","delta":"hm"}`,
		`{"type":"REASONING_MESSAGE_END","messageId":"m1-reasoning-1"}`,
		`{"type":"REASONING_END","messageId":"m1-reasoning-1"}`,
		`{"type":"TEXT_MESSAGE_START","messageId":"m1","role":"assistant"}`,
		`{"type":"TEXT_MESSAGE_CONTENT","messageId":"m1","delta":"Hel"}`,
		`{"type":"TEXT_MESSAGE_CONTENT","messageId":"m1","delta":"lo"}`,
		messageEnd,
		`{"type":"TOOL_CALL_START","toolCallId":"1","toolCallName":"f","parentMessageId":"m1"}`,
		`{"type":"TOOL_CALL_ARGS","toolCallId":"1","delta":"{\"a\":1}"}`, `{"type":"TOOL_CALL_END","toolCallId":"1"}`,
		`{"type":"CUSTOM","name":"tool-input-available","value":{"toolCallId":"1","toolName":"f","input":{"a":1}}}`,
		`{"type":"TOOL_CALL_START","toolCallId":"2","toolCallName":"g","parentMessageId":"m1"}`,
		`{"type":"TOOL_CALL_ARGS","toolCallId":"2","delta":"{}"}`, `{"type":"TOOL_CALL_END","toolCallId":"2"}`,
		`{"type":"CUSTOM","name":"tool-input-available","value":{"toolCallId":"2","toolName":"g","input":{}}}`,
		`{"type":"REASONING_ENCRYPTED_VALUE","subtype":"message","entityId":"m1","encryptedValue":"1.abc"}`,
		`{"type":"RUN_FINISHED","threadId":"t1","runId":"r1","usage":[{"model":"m-2026","inputTokens":30,`+
			`"outputTokens":4,"totalTokens":34,"cachedInputTokens":20,"reasoningTokens":1}],`+
			`"metadata":{"tanstack":{"finishReason":"tool_calls"}}}`,
	), frames(aguiEncoder(dialect.Response{}), answerWithAll("1.abc")))

	stopped := chat.Chunk{Type: chat.Done, Done: &chat.Completion{FinishReason: chat.FinishStopped, State: "1.abc"}}
	require.Equal(t, uiFrames(`{"type":"RUN_STARTED","threadId":"t1","runId":"r1"}`,
		`{"type":"RUN_FINISHED","threadId":"t1","runId":"r1","metadata":{"tanstack":{"finishReason":"stop"}}}`,
	), frames(aguiEncoder(dialect.Response{}), []chat.Chunk{stopped}), "there is no message that could have the state")
}

func TestARunThatFails(t *testing.T) {
	failure := &chat.Error{Code: chat.UpstreamError, Message: `it "broke"`, Err: errors.New("secret")}
	e := aguiEncoder(dialect.Response{Head: chat.Head{ID: "s1"}})
	require.Equal(t, `data: {"type":"RUN_ERROR","message":"it \"broke\"","code":"upstream_error"}`+"\n\n",
		string(e.Fail(nil, failure, 0)))
	require.True(t, strings.HasPrefix(string(e.Fail(nil, failure, 7)), "id: s1.7\ndata: "))
	require.Equal(t, ": hb\n", string(e.Ping(nil)))
	require.Empty(t, e.Reconnect(nil, time.Second), "cut")
}

// Each prefix of an answer and the rest of it, as a client gets it that comes back, are the answer.
func TestARunGoesOnFromEachPosition(t *testing.T) {
	all := answerWithAll("")
	for i := range all {
		all[i].Seq = uint64(i + 1)
	}
	head := chat.Head{ID: "s1"}
	whole := frames(aguiEncoder(dialect.Response{Head: head}), all)
	require.True(t, strings.HasPrefix(whole[0], "id: s1.0\ndata: "), "the id comes first")
	for n := range len(all) {
		before := len(frames(aguiEncoder(dialect.Response{Head: head}), all[:n])) - 1
		require.Contains(t, whole[before-1], "id: s1."+strconv.Itoa(n)+"\n",
			"the last frame of a chunk has its position")
		rest := frames(aguiEncoder(dialect.Response{Head: head, Resumed: true, After: uint64(n)}), all)
		require.Equal(t, whole[before:], rest)
	}
}

func TestARunOfAnotherDialectHasIDsOfItsOwn(t *testing.T) {
	e := agui.Encoder(dialect.Response{Head: chat.Head{ID: strings.Repeat("0a", 16), Dialect: "ui-messages",
		Note: "a\nb\nc"}})
	require.Contains(t, string(e.Start(nil)), `"threadId":"thread-0a0a0a0a0a0a0a0a","runId":"run-0a0a0a0a0a0a0a0a"`)
}

func TestAGUITextDoesNotAllocate(t *testing.T) {
	buf := make([]byte, 0, 4096)
	for _, typ := range []chat.Type{chat.Content, chat.Reasoning} {
		e := aguiEncoder(dialect.Response{Head: chat.Head{ID: "s1"}})
		c := chat.Chunk{Type: typ, Text: []byte("a few words, \"quoted\", 和中文\n"), Seq: 5}
		require.Zero(t, testing.AllocsPerRun(1000, func() { buf = e.Chunk(buf[:0], c) }))
	}
}

// aguiOf decodes a request with messages and other members.
func aguiOf(t *testing.T, messages, members string) *dialect.Ask {
	t.Helper()
	n, err := agui.Decode([]byte(`{"threadId":"t1","runId":"r1","state":{},"context":[],"messages":[` + messages +
		`]` + members + `}`))
	require.NoError(t, err)
	return n
}

const aguiHi = `{"id":"u1","role":"user","content":"hi"}`

func TestWhatAnAGUIClientAsks(t *testing.T) {
	n := aguiOf(t, aguiHi, `,"tools":[{"name":"f","description":"d","parameters":{"type":"object"}}],
		"forwardedProps":{"model":"m","resumable":true,"temperature":0.5,"mine":{}}`)
	require.True(t, n.Stream)
	require.True(t, n.Resumable)
	require.Equal(t, "m", n.Model)
	require.Equal(t, chat.Number("0.5"), n.Temperature)
	require.Equal(t, []chat.ToolSpec{{Name: "f", Description: "d", Parameters: []byte(`{"type":"object"}`)}}, n.Tools)
	require.Equal(t, []chat.Message{{Role: chat.RoleUser, Content: "hi"}}, n.Messages)
	require.Empty(t, n.Extra)
	require.Regexp(t, `^t1\nr1\nmsg-[A-Z2-7]{26}$`, n.Note)
}

func TestAGUIMessages(t *testing.T) {
	image := chat.Part{Type: chat.PartImage, ImageURL: "data:image/png;base64,AA"}
	link := chat.Part{Type: chat.PartImage, ImageURL: "https://x/y.png"}
	n := aguiOf(t, `{"id":"1","role":"developer","content":"be nice"},
		{"id":"2","role":"user","content":[{"type":"text","text":"see"},
			{"type":"image","source":{"type":"data","value":"AA","mimeType":"image/png"}},
			{"type":"image","source":{"type":"url","value":"https://x/y.png"}},
			{"type":"binary","mimeType":"image/png","data":"AA"},{"type":"binary","mimeType":"image/png","url":"https://x/y.png"}]},
		{"id":"3","role":"reasoning","content":"hm","encryptedValue":"x"},{"id":"4","role":"activity","content":{"a":1}},
		{"id":"5","role":"assistant","content":"ok","encryptedValue":"1.abc","toolCalls":[
			{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}},
			{"id":"c2","type":"function","function":{"name":"f","arguments":"{}"}}]},
		{"id":"6","role":"tool","toolCallId":"c1","content":"5"},
		{"id":"7","role":"assistant","toolCalls":[{"id":"c3","function":{"name":"f"}}]},{"id":"8","role":"assistant"}`, "")
	require.Equal(t, []chat.Message{
		{Role: chat.RoleSystem, Content: "be nice"},
		{Role: chat.RoleUser, Parts: []chat.Part{{Type: chat.PartText, Text: "see"}, image, link, image, link}},
		{Role: chat.RoleAssistant, Content: "ok", State: "1.abc",
			ToolCalls: []chat.ToolCall{{ID: "c1", Name: "f", Arguments: "{}"}}},
		{Role: chat.RoleTool, ToolCallID: "c1", Content: "5"},
	}, n.Messages, "calls that have no result are left out, and what is for the user alone")
}

func TestAGUIRequestsThatAreRefused(t *testing.T) {
	for message, want := range map[string]string{
		`{"role":"user","content":5}`: "messages[0].content: want a string or an array of parts, got a number",
		`{"role":"assistant"}`:        "messages: at least one message with text is required",
		`{"role":"robot","content":"x"}`: `messages[0].role: unknown role "robot"; want user, assistant, system, ` +
			`developer or tool`,
		`{"content":"x"}`:               "messages[0].role: is required",
		`{"role":"tool","content":"x"}`: "messages[0].toolCallId: is required in a tool message",
		`{"role":"user","content":"x","toolCalls":[{"id":"1","function":{"name":"f"}}]}`:    "messages[0].toolCalls: only an assistant message has tool calls",
		`{"role":"user","content":[{"type":"audio"}]}`:                                      `messages[0].content[0].type: unknown part type "audio"; want text or image`,
		`{"role":"user","content":[{"type":"binary","mimeType":"audio/wav"}]}`:              `messages[0].content[0].mimeType: want an image, got "audio/wav"`,
		`{"role":"user","content":[{"type":"image","source":{"type":"file","value":"x"}}]}`: `messages[0].content[0].source.type: want data or url, got "file"`,
		`{"role":"user","content":[{"type":"image"}]}`:                                      "messages[0].content[0].source: want an image's url, or its data with a mimeType",
		`{"role":"user","content":"x"}],"runId":"a\nb","tools":[`: "runId: want at most " +
			"200 printable bytes",
		`{"role":"user","content":"x"}],"tools":[{"name":"","parameters":{}}`: "tools[0].name: is required",
	} {
		_, err := agui.Decode([]byte(`{"messages":[` + message + `]}`))
		require.Error(t, err, message)
		require.Equal(t, chat.InvalidRequest, chat.AsError(err).Code)
		require.Equal(t, want, chat.AsError(err).Message)
	}
}

func FuzzDecodeAGUI(f *testing.F) {
	f.Add(`{"threadId":"t","messages":[` + aguiHi +
		`],"tools":[{"name":"f","parameters":{}}],"forwardedProps":{"seed":1}}`)
	f.Add(`{"messages":[{"role":"assistant","toolCalls":[{"id":"1","function":{"name":"f"}}]},{"role":"tool",` +
		`"toolCallId":"1","content":[]}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		n, err := agui.Decode([]byte(body))
		if err != nil {
			require.Equal(t, chat.InvalidRequest, chat.AsError(err).Code)
			return
		}
		require.NotEmpty(t, n.Messages)
		require.Equal(t, 2, strings.Count(n.Note, "\n"))
	})
}
