package dialect_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/dialect"
)

// plain makes the frames of a stream that is not resumable.
var plain = dialect.Native{}.Encoder(dialect.Response{RequestID: "r1"})

func TestChunksLookAsTheContractSays(t *testing.T) {
	for name, tc := range map[string]struct {
		chunk chat.Chunk
		want  string
	}{
		"content": {chat.Chunk{Type: chat.Content, Text: []byte("你好 \"x\"\n")},
			`{"type":"content","content":"你好 \"x\"\n"}`},
		"reasoning": {chat.Chunk{Type: chat.Reasoning, Text: []byte("hm")}, `{"type":"reasoning","content":"hm"}`},
		"a tool call": {chat.Chunk{Type: chat.Tool,
			Tool: &chat.ToolCall{ID: "call_1", Name: "weather", Arguments: `{"city":"Paris"}`}},
			`{"type":"tool_call","tool":{"id":"call_1","name":"weather","arguments":"{\"city\":\"Paris\"}"}}`},
		"done": {chat.Chunk{Type: chat.Done, Done: &chat.Completion{FinishReason: chat.FinishStop, Model: "m",
			Usage: &chat.Usage{PromptTokens: 1, CompletionTokens: 2}}},
			`{"type":"done","finishReason":"stop","model":"m","usage":{"promptTokens":1,"completionTokens":2}}`},
		"done with parts of the usage": {chat.Chunk{Type: chat.Done,
			Done: &chat.Completion{FinishReason: chat.FinishStop,
				Usage: &chat.Usage{PromptTokens: 9, CompletionTokens: 8, CachedTokens: 7, ReasoningTokens: 6}}},
			`{"type":"done","finishReason":"stop","usage":{"promptTokens":9,"completionTokens":8,"cachedTokens":7,` +
				`"reasoningTokens":6}}`},
		"done without usage": {chat.Chunk{Type: chat.Done, Done: &chat.Completion{FinishReason: chat.FinishLength}},
			`{"type":"done","finishReason":"length"}`},
		"what some line readers take for a line break is escaped": {
			chat.Chunk{Type: chat.Content, Text: []byte("a\u2028b\u2029c\u0085d\r")},
			`{"type":"content","content":"a\u2028b\u2029c\u0085d\r"}`},
		"bytes that are no UTF-8 are replaced": {chat.Chunk{Type: chat.Content, Text: []byte("a\xffb")},
			`{"type":"content","content":"a\ufffdb"}`},
	} {
		t.Run(name, func(t *testing.T) {
			got := plain.Chunk([]byte("before "), tc.chunk)
			require.Equal(t, "before data: "+tc.want+"\n\n", string(got))
		})
	}
}

func TestTextSurvivesWhateverItIs(t *testing.T) {
	var all strings.Builder
	for r := range rune(0x3000) {
		all.WriteRune(r)
	}
	all.WriteString("😀\U0010ffff")
	var got struct{ Content string }
	frame := plain.Chunk(nil, chat.Chunk{Type: chat.Content, Text: []byte(all.String())})
	data := bytes.TrimSuffix(bytes.TrimPrefix(frame, []byte("data: ")), []byte("\n\n"))
	require.NoError(t, json.Unmarshal(data, &got))
	require.Equal(t, all.String(), got.Content)
	require.NotContains(t, string(data), "\n")
}

func TestEncodingTextDoesNotAllocate(t *testing.T) {
	buf := make([]byte, 0, 4096)
	c := chat.Chunk{Type: chat.Content, Text: []byte("a few words, \"quoted\", 和中文\n")}
	require.Zero(t, testing.AllocsPerRun(1000, func() { buf = plain.Chunk(buf[:0], c) }))
}

func TestErrorsLookAsTheContractSays(t *testing.T) {
	e := &chat.Error{Code: chat.UpstreamRateLimited, Message: "slow down", RetryAfter: 1200 * time.Millisecond,
		Err: errors.New("secret cause")}
	require.JSONEq(t, `{"type":"error","error":"slow down","code":"upstream_rate_limited","retryable":true,`+
		`"retryAfter":2,"requestId":"r1"}`,
		string(dialect.Native{}.AppendRefusal(nil, e, "r1")))
	e = &chat.Error{Code: chat.UpstreamTimeout, Phase: chat.PhaseIdle, Message: "silence"}
	require.JSONEq(t, `{"type":"error","error":"silence","code":"upstream_timeout","phase":"idle","retryable":true,`+
		`"requestId":"r2"}`,
		string(dialect.Native{}.AppendRefusal(nil, e, "r2")))
}

func TestRetryAfterSecondsHaveAnEnd(t *testing.T) {
	require.EqualValues(t, 1, dialect.RetryAfterSeconds(time.Millisecond))
	require.Positive(t, dialect.RetryAfterSeconds(math.MaxInt64))
}

func TestAWholeAnswer(t *testing.T) {
	var a dialect.Answer
	for _, c := range []chat.Chunk{
		{Type: chat.Reasoning, Text: []byte("hm")},
		{Type: chat.Content, Text: []byte("Hel")},
		{Type: chat.Content, Text: []byte("lo")},
		{Type: chat.Tool, Tool: &chat.ToolCall{ID: "1", Name: "f", Arguments: "{}"}},
		{Type: chat.Tool, Tool: &chat.ToolCall{ID: "2", Name: "g", Arguments: "{}"}},
		{Type: chat.Done, Done: &chat.Completion{FinishReason: chat.FinishToolCalls, Model: "m",
			Usage: &chat.Usage{PromptTokens: 3, CompletionTokens: 4}}},
	} {
		a.Add(c)
	}
	require.JSONEq(t,
		`{"content":"Hello","reasoning":"hm","toolCalls":[{"id":"1","name":"f","arguments":"{}"},{"id":"2","name":"g","arguments":"{}"}],
		"finishReason":"tool_calls","model":"m","usage":{"promptTokens":3,"completionTokens":4}}`, string(dialect.Native{}.AppendAnswer(nil, &a)))

	require.JSONEq(t, `{"content":"","finishReason":""}`,
		string(dialect.Native{}.AppendAnswer(nil, new(dialect.Answer))))
}

func TestFramesTellTheirPositions(t *testing.T) {
	id := strings.Repeat("0a", 16)
	first := dialect.Native{}.Encoder(dialect.Response{
		Head: chat.Head{ID: id}, RequestID: "r1", Grace: time.Minute, Retention: time.Hour,
	})
	require.Equal(t, `data: {"type":"start","id":"`+id+`","graceMs":60000,"retentionMs":3600000}`+
		"\nretry: 1000\nid: "+id+".0\n\n", string(first.Start(nil)))
	require.Equal(t, `data: {"type":"content","content":"x"}`+"\nid: "+id+".7\n\n",
		string(first.Chunk(nil, chat.Chunk{Type: chat.Content, Text: []byte("x"), Seq: 7})))
	lost := &chat.Error{Code: chat.ProducerLost, Message: "gone"}
	require.True(t, strings.HasSuffix(string(first.Fail(nil, lost, 8)), "}\nid: "+id+".8\n\n"),
		"the stream's own error")
	require.True(t, strings.HasSuffix(string(first.Fail(nil, lost, 0)), "}\n\n"), "this connection's alone")
	require.Equal(t, "data: [DONE]\n\n", string(first.Close(nil)))

	again := dialect.Native{}.Encoder(dialect.Response{Head: chat.Head{ID: id}, Resumed: true, Get: true})
	require.Empty(t, again.Start(nil))
	require.Empty(t, again.Close(nil), "the readers of a GET parse each data line")
	require.Equal(t, `data: {"type":"ping"}`+"\nretry: 1500\n\n", string(again.Reconnect(nil, 1500*time.Millisecond)))
}

func BenchmarkAppendChunk(b *testing.B) {
	c := chat.Chunk{Type: chat.Content, Text: []byte(" a token or so")}
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		buf = plain.Chunk(buf[:0], c)
	}
}
