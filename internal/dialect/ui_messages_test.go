package dialect_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/dialect"
)

var ui dialect.UIMessages

func uiEncoder() dialect.Encoder {
	return ui.Encoder(dialect.Response{Head: chat.Head{ID: "s1", Dialect: "ui-messages", Note: "m1"}})
}

// uiFrames are frames of JSON objects.
func uiFrames(objects ...string) []string {
	for i, o := range objects {
		objects[i] = "data: " + o + "\n\n"
	}
	return append(objects, "")
}

func TestAnAnswerIsAStepOfAMessage(t *testing.T) {
	require.Equal(t, uiFrames(
		`{"type":"start","messageId":"m1"}`, `{"type":"start-step"}`,
		`{"type":"reasoning-start","id":"1"}`, `{"type":"reasoning-delta","id":"1","delta":"hm"}`,
		`{"type":"reasoning-end","id":"1"}`,
		`{"type":"text-start","id":"2"}`, `{"type":"text-delta","id":"2","delta":"Hel"}`,
		`{"type":"text-delta","id":"2","delta":"lo"}`, `{"type":"text-end","id":"2"}`,
		`{"type":"tool-input-available","toolCallId":"1","toolName":"f","input":{"a":1}}`,
		`{"type":"tool-input-available","toolCallId":"2","toolName":"g","input":{}}`,
		`{"type":"finish-step"}`, `{"type":"finish","finishReason":"tool-calls"}`, `[DONE]`,
	), frames(uiEncoder(), answerWithAll("")))
}

func TestTheLastPartOfAMessageHasTheState(t *testing.T) {
	const state = `,"providerMetadata":{"websopy":{"state":"1.abc"}}}` + "\n\n"
	all := answerWithAll("1.abc")
	for n, want := range map[int]string{
		1: `data: {"type":"reasoning-end","id":"1"` + state,
		3: `data: {"type":"text-end","id":"2"` + state,
		5: `data: {"type":"tool-input-available","toolCallId":"2","toolName":"g","input":{}` + state,
	} {
		got := frames(uiEncoder(), append(all[:n:n], all[5]))
		require.Equal(t, want, got[len(got)-5])
		require.Equal(t, 1, strings.Count(strings.Join(got, ""), "1.abc"))
	}
}

func TestTheEndOfAMessage(t *testing.T) {
	text := chat.Chunk{Type: chat.Content, Text: []byte("x")}
	for reason, want := range map[chat.FinishReason]string{
		chat.FinishStop: "stop", chat.FinishLength: "length", chat.FinishContentFilter: "content-filter",
		"new": "other",
	} {
		got := frames(uiEncoder(), []chat.Chunk{text, {Type: chat.Done, Done: &chat.Completion{FinishReason: reason}}})
		require.Equal(t, uiFrames(`{"type":"text-end","id":"1"}`, `{"type":"finish-step"}`,
			`{"type":"finish","finishReason":"`+want+`"}`, `[DONE]`), got[4:])
	}
	stopped := chat.Chunk{Type: chat.Done, Done: &chat.Completion{FinishReason: chat.FinishStopped}}
	require.Equal(t, uiFrames(`{"type":"start","messageId":"m1"}`, `{"type":"start-step"}`, `{"type":"finish-step"}`,
		`{"type":"abort"}`, `[DONE]`), frames(uiEncoder(), []chat.Chunk{stopped}))
}

func TestAMessageThatFails(t *testing.T) {
	failure := &chat.Error{Code: chat.UpstreamError, Message: `it "broke"`, Err: errors.New("secret")}
	const told = `{"type":"error","errorText":"it \"broke\""}`
	require.Equal(t, uiFrames(told)[0], string(uiEncoder().Fail(nil, failure, 0)),
		"before its first chunk there is no message")

	e := uiEncoder()
	e.Chunk(nil, answerWithAll("")[3])
	require.Equal(t,
		strings.Join(uiFrames(`{"type":"tool-input-available","toolCallId":"1","toolName":"f","input":{"a":1}}`, told),
			""),
		string(e.Fail(nil, failure, 7)), "what came before is not lost")
	require.Equal(t, ": hb\n", string(e.Ping(nil)))
	require.Empty(t, e.Reconnect(nil, time.Second), "cut")
	require.Equal(t, `it "broke"`, string(ui.AppendRefusal(nil, failure, "r1")))
}

func TestArgumentsThatAreNoJSONAreACallsError(t *testing.T) {
	for arguments, want := range map[string]string{
		"{\n \"a\": [1,\t2]\r\n}": `-available","toolCallId":"c","toolName":"f","input":{"a":[1,2]}}`,
		"\"\xff\"":                `-available","toolCallId":"c","toolName":"f","input":"` + "\ufffd" + `"}`,
		"{\"a\":\n": `-error","toolCallId":"c","toolName":"f","input":"{\"a\":\n",` +
			`"errorText":"the arguments of this call are no valid JSON"}`,
	} {
		e := uiEncoder()
		got := string(e.Chunk(nil, chat.Chunk{Type: chat.Tool,
			Tool: &chat.ToolCall{ID: "c", Name: "f", Arguments: arguments}}))
		got += string(e.Chunk(nil, chat.Chunk{Type: chat.Content, Text: []byte("x")}))
		require.Contains(t, got, `{"type":"tool-input`+want)
		require.Equal(t, strings.Count(got, "data: "), strings.Count(got, "\n\n"))
		require.NotContains(t, strings.ReplaceAll(got, "\n\n", ""), "\n")
	}
}

func TestAllWhoFollowAnAnswerGetItAsOneMessage(t *testing.T) {
	head := chat.Head{ID: strings.Repeat("0a", 16), Dialect: "agui", Note: "not for us"}
	start := string(ui.Encoder(dialect.Response{Head: head}).Chunk(nil,
		chat.Chunk{Type: chat.Done, Done: &chat.Completion{}}))
	require.Contains(t, start, `"messageId":"msg-0a0a0a0a0a0a0a0a"`)
	require.NotContains(t, start, head.ID, "which is a key to the answer")
}

func TestPlainTextIsTextAlone(t *testing.T) {
	require.Equal(t, []string{"Hello"}, frames(dialect.UIText{}.Encoder(dialect.Response{}), answerWithAll("s")))
	e := dialect.UIText{}.Encoder(dialect.Response{})
	require.Empty(t, e.Ping(nil))
	require.Empty(t, e.Fail(nil, &chat.Error{Code: chat.Internal}, 0), "an error would be text: it is cut")
	require.Equal(t, "ui-messages", dialect.UIText{}.Name(), "so that the message is the same one in both")
}

func TestUITextDoesNotAllocate(t *testing.T) {
	buf := make([]byte, 0, 4096)
	for _, typ := range []chat.Type{chat.Content, chat.Reasoning} {
		e := uiEncoder()
		c := chat.Chunk{Type: typ, Text: []byte("a few words, \"quoted\", 和中文\n")}
		require.Zero(t, testing.AllocsPerRun(1000, func() { buf = e.Chunk(buf[:0], c) }))
	}
}

func BenchmarkUIText(b *testing.B) {
	e := uiEncoder()
	c := chat.Chunk{Type: chat.Content, Text: []byte(" a token or so")}
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		buf = e.Chunk(buf[:0], c)
	}
}
