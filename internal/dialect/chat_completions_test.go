package dialect_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/dialect"
)

var completions dialect.ChatCompletions

// completionsHead is that of a stream, whose id and time a test can know.
var completionsHead = chat.Head{ID: "s1", Model: "m", Created: time.Unix(1_800_000_000, 0),
	Dialect: "chat-completions"}

const completionFrame = `data: {"id":"chatcmpl-s1","object":"chat.completion.chunk","created":1800000000,"model":"m",`

// answerWithAll has a chunk of each type.
func answerWithAll(state string) []chat.Chunk {
	return []chat.Chunk{
		{Type: chat.Reasoning, Text: []byte("hm")},
		{Type: chat.Content, Text: []byte("Hel")},
		{Type: chat.Content, Text: []byte("lo")},
		{Type: chat.Tool, Tool: &chat.ToolCall{ID: "1", Name: "f", Arguments: `{"a":1}`}},
		{Type: chat.Tool, Tool: &chat.ToolCall{ID: "2", Name: "g", Arguments: "{}"}},
		{Type: chat.Done, Done: &chat.Completion{
			FinishReason: chat.FinishToolCalls, Model: "m-2026", State: state,
			Usage: &chat.Usage{PromptTokens: 30, CompletionTokens: 4, CachedTokens: 20, ReasoningTokens: 1},
		}},
	}
}

const completionUsage = `"usage":{"prompt_tokens":30,"completion_tokens":4,"total_tokens":34,` +
	`"prompt_tokens_details":{"cached_tokens":20},"completion_tokens_details":{"reasoning_tokens":1}}`

// frames are those of a whole answer.
func frames(e dialect.Encoder, chunks []chat.Chunk) []string {
	all := e.Start(nil)
	for _, c := range chunks {
		all = e.Chunk(all, c)
	}
	return strings.SplitAfter(string(e.Close(all)), "\n\n")
}

func TestAChatCompletionIsStreamed(t *testing.T) {
	delta := func(members string) string {
		return completionFrame + `"choices":[{"index":0,"delta":{` + members + `},"finish_reason":null}]}` + "\n\n"
	}
	begin := []string{
		delta(`"role":"assistant","reasoning_content":"hm"`), delta(`"content":"Hel"`), delta(`"content":"lo"`),
		delta(`"tool_calls":[{"index":0,"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]`),
		delta(`"tool_calls":[{"index":1,"id":"2","type":"function","function":{"name":"g","arguments":"{}"}}]`),
	}
	finish := completionFrame + `"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]`

	got := frames(completions.Encoder(dialect.Response{Head: completionsHead}), answerWithAll(""))
	require.Equal(t, append(begin, finish+`,`+completionUsage+"}\n\n", "data: [DONE]\n\n", ""), got)

	asked := completionsHead
	asked.Note = "usage"
	got = frames(completions.Encoder(dialect.Response{Head: asked}), answerWithAll(""))
	usage := completionFrame + `"choices":[],` + completionUsage + "}\n\n"
	require.Equal(t, append(begin, finish+"}\n\n", usage, "data: [DONE]\n\n", ""), got)

	foreign := asked
	foreign.Dialect = "another"
	got = frames(completions.Encoder(dialect.Response{Head: foreign}), answerWithAll(""))
	require.Len(t, got, len(begin)+3, "the note of another dialect says nothing")

	for _, frame := range got[:len(begin)+1] {
		require.True(t, json.Valid([]byte(strings.TrimPrefix(strings.TrimSpace(frame), "data: "))), frame)
	}
}

func TestTheEndsOfAChatCompletion(t *testing.T) {
	end := func(c *chat.Completion) string {
		e := completions.Encoder(dialect.Response{Head: completionsHead})
		return strings.TrimPrefix(string(e.Chunk(nil, chat.Chunk{Type: chat.Done, Done: c})), completionFrame)
	}
	require.Equal(t, `"choices":[{"index":0,"delta":{"role":"assistant"},"finish_reason":"stop"}]}`+"\n\n",
		end(&chat.Completion{FinishReason: chat.FinishStopped}), "what a user stopped, and without a word of usage")
	require.Equal(t, `"choices":[{"index":0,"delta":{"role":"assistant","reasoning_details":[{`+
		`"type":"reasoning.encrypted","format":"websopy-v1","data":"1.abc"}]},"finish_reason":"length"}]}`+"\n\n",
		end(&chat.Completion{FinishReason: chat.FinishLength, State: "1.abc"}))

	e := completions.Encoder(dialect.Response{Head: completionsHead})
	failure := &chat.Error{Code: chat.UpstreamTruncated, Message: `broke "off"`, Err: errors.New("secret cause")}
	require.Equal(t, `data: {"error":{"message":"broke \"off\"","type":"server_error","param":null,`+
		`"code":"upstream_truncated"}}`+"\nid: s1.8\n\n", string(e.Fail(nil, failure, 8)))
	require.Equal(t, ": hb\n", string(e.Ping(nil)))
	require.Empty(t, e.Reconnect(nil, time.Second), "the connection is only cut")
}

func TestEveryAnswerHasAnIDOfItsOwn(t *testing.T) {
	ids := make(map[string]bool)
	for range 10 {
		var a dialect.Answer
		var got struct{ ID string }
		require.NoError(t, json.Unmarshal(completions.AppendAnswer(nil, &a), &got))
		require.Regexp(t, `^chatcmpl-[0-9a-z]{20,}$`, got.ID)
		ids[got.ID] = true
	}
	require.Len(t, ids, 10)
}

func TestAWholeChatCompletion(t *testing.T) {
	whole := func(chunks []chat.Chunk) string {
		a := dialect.Answer{Head: completionsHead}
		for _, c := range chunks {
			a.Add(c)
		}
		return string(completions.AppendAnswer(nil, &a))
	}
	all := answerWithAll("1.abc")
	head := `{"id":"chatcmpl-s1","object":"chat.completion","created":1800000000,"model":"m",
		"choices":[{"index":0,"logprobs":null,`
	calls := `"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},
		{"id":"2","type":"function","function":{"name":"g","arguments":"{}"}}],
		"reasoning_details":[{"type":"reasoning.encrypted","format":"websopy-v1","data":"1.abc"}]},
		"finish_reason":"tool_calls"}],` + completionUsage + `}`
	message := head + `"message":{"role":"assistant",`
	require.JSONEq(t, message+`"content":"Hello","reasoning_content":"hm",`+calls, whole(all))
	require.JSONEq(t, head+`"message":{"role":"assistant","content":null,`+calls, whole(all[3:]), "calls alone")
	require.JSONEq(t, head+`"message":{"role":"assistant","content":""},"finish_reason":"stop"}]}`,
		whole([]chat.Chunk{{Type: chat.Done, Done: &chat.Completion{FinishReason: chat.FinishStop}}}))
}

func TestErrorTypesSayWhatToDo(t *testing.T) {
	for code, want := range map[chat.Code]string{
		chat.RateLimited: "rate_limit_error", chat.UpstreamRateLimited: "rate_limit_error",
		chat.InvalidRequest: "invalid_request_error", chat.UpstreamAuth: "invalid_request_error",
		chat.UpstreamError: "server_error", chat.Overloaded: "server_error", chat.Internal: "server_error",
	} {
		require.JSONEq(t, `{"error":{"message":"m","type":"`+want+`","param":null,"code":"`+string(code)+`"}}`,
			string(completions.AppendRefusal(nil, &chat.Error{Code: code, Message: "m"}, "r1")))
	}
}

func TestAnAccountWithoutCreditIsNamedAsClientsKnowIt(t *testing.T) {
	e := &chat.Error{Code: chat.UpstreamAuth, NoCredit: true, Message: "m"}
	const want = `"message":"m","type":"invalid_request_error","param":null,"code":"insufficient_quota"`
	require.Equal(t, `{"error":{`+want+`}}`, string(completions.AppendRefusal(nil, e, "r1")))
	failed := string(responses.Encoder(dialect.Response{Head: completionsHead}).Fail(nil, e, 0))
	require.Equal(t, 3, strings.Count(failed, `"code":"insufficient_quota"`),
		"in the response, in the event and in its object")
}

func TestChatCompletionTextDoesNotAllocate(t *testing.T) {
	buf := make([]byte, 0, 4096)
	for _, typ := range []chat.Type{chat.Content, chat.Reasoning} {
		e := completions.Encoder(dialect.Response{Head: completionsHead})
		c := chat.Chunk{Type: typ, Text: []byte("a few words, \"quoted\", 和中文\n")}
		require.Zero(t, testing.AllocsPerRun(1000, func() { buf = e.Chunk(buf[:0], c) }))
	}
}

// completionsOf decodes a request with a question and further members.
func completionsOf(t *testing.T, members string) *dialect.Ask {
	t.Helper()
	n, err := completions.Decode([]byte(hi(members)))
	require.NoError(t, err)
	return n
}

func TestChatCompletionRequestsAreNativeOnesButForDefaults(t *testing.T) {
	n := completionsOf(t, `"model":"gpt-6","resumable":true,"temperature":0.5,"metadata":{"a":"b"}`)
	require.False(t, n.Stream, "the default of the API")
	require.False(t, n.Resumable)
	require.Empty(t, n.Note)
	require.Equal(t, "gpt-6", n.Model)
	require.Equal(t, chat.Number("0.5"), n.Temperature)
	require.Equal(t, []chat.Field{{Name: "metadata", Value: []byte(`{"a":"b"}`)}}, n.Extra)

	require.True(t, completionsOf(t, `"stream":true`).Stream)
	require.Equal(t, "usage", completionsOf(t,
		`"stream_options":{"include_usage":true,"include_obfuscation":false}`).Note)
	require.Empty(t, completionsOf(t, `"stream_options":{"include_usage":false}`).Note)
	n = completionsOf(t, `"n":1,"logprobs":false,"modalities":["text"],"functions":null,"function_call":null`)
	require.Empty(t, n.Extra)

	older, newer := `"max_tokens":5`, `"max_completion_tokens":9`
	for _, members := range []string{older + `,` + newer, newer + `,` + older} {
		n := completionsOf(t, members)
		require.Equal(t, chat.Number("9"), n.MaxTokens, "the newer name wins")
		require.Equal(t, "max_completion_tokens", n.MaxTokensName)
	}
	n = completionsOf(t, `"max_tokens":5`)
	require.Equal(t, chat.Number("5"), n.MaxTokens)
	require.Empty(t, n.MaxTokensName)
}

func TestADeveloperIsTheSystem(t *testing.T) {
	body := []byte(`{"messages":[{"role":"developer","content":"be brief"},{"role":"user","content":"hi"}]}`)
	n, err := completions.Decode(body)
	require.NoError(t, err)
	require.Equal(t, chat.Message{Role: chat.RoleSystem, Content: "be brief"}, n.Messages[0])
	_, err = dialect.Native{}.Decode(body)
	require.ErrorContains(t, err, "unknown role")
}

func TestWhatChatCompletionsCannotTellIsRefused(t *testing.T) {
	for members, want := range map[string]string{
		`"n":2`:                         "n: want 1",
		`"logprobs":true`:               "logprobs: want false",
		`"modalities":["text","audio"]`: "modalities[1]: want text",
		`"functions":[]`:                "functions: is not a field of this request; use tools",
		`"function_call":"auto"`:        "function_call: is not a field of this request; use tool_choice",
		`"tools":[{"type":"custom","custom":{"name":"f"}}]`:                      "tools[0].type: unknown tool type",
		`"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto"}}`: "tool_choice.type: unknown type",
		`"stream_options":{"include_usage":1}`:                                   "stream_options.include_usage: want",
		`"Model":"x"`:                                                            "Model: is taken for model",
		`"Logprobs":true`:                                                        "Logprobs: is taken for logprobs",
	} {
		_, err := completions.Decode([]byte(hi(members)))
		require.ErrorContains(t, err, want, members)
		require.Equal(t, chat.InvalidRequest, chat.AsError(err).Code)
	}
	for _, part := range []string{`{"type":"file","file":{"file_id":"x"}}`,
		`{"type":"input_audio","input_audio":{}}`} {
		_, err := completions.Decode([]byte(`{"messages":[{"role":"user","content":[` + part + `]}]}`))
		require.ErrorContains(t, err, "messages[0].content[0].type: unknown part type")
	}
	_, err := completions.Decode([]byte(`{"messages":[{"role":"function","name":"f","content":"x"}]}`))
	require.ErrorContains(t, err, "messages[0].role: unknown role")
}

func TestAStateComesBackInReasoningDetails(t *testing.T) {
	const ours = `{"type":"reasoning.encrypted","format":"websopy-v1","data":"1.abc"}`
	const theirs = `{"type":"reasoning.text","text":"hm","format":null}`
	for details, want := range map[string]chat.Message{
		`[` + ours + `]`:                     {State: "1.abc"},
		`[` + theirs + `]`:                   {ReasoningDetails: []byte(`[` + theirs + `]`)},
		`[` + theirs + `,` + ours + `]`:      {State: "1.abc", ReasoningDetails: []byte(`[` + theirs + `]`)},
		`[` + ours + `],"state":"1.own"`:     {State: "1.own"},
		`["websopy-v1",7]`:                   {ReasoningDetails: []byte(`["websopy-v1",7]`)},
		`[{"format":"websopy-v1","data":7}]`: {},
	} {
		for _, d := range []dialect.Dialect{completions, dialect.Native{}} {
			message := `{"role":"assistant","content":"x","reasoning_details":` + details + `}`
			n, err := d.Decode([]byte(`{"messages":[` + message + `]}`))
			require.NoError(t, err, details)
			want.Role, want.Content = chat.RoleAssistant, "x"
			require.Equal(t, want, n.Messages[0], details)
		}
	}
}

func FuzzDecodeChatCompletions(f *testing.F) {
	f.Add(hi(`"stream_options":{"include_usage":true},"max_completion_tokens":1,"max_tokens":2,"n":1,` +
		`"tool_choice":{}`))
	f.Add(`{"messages":[{"role":"developer","content":[{"type":"text","text":"x"}]},` +
		`{"role":"assistant","content":"","reasoning_details":[{"format":"websopy-v1","data":"1.a"},{}]}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		n, err := completions.Decode([]byte(body))
		if err != nil {
			require.Equal(t, chat.InvalidRequest, chat.AsError(err).Code)
			return
		}
		require.NotEmpty(t, n.Messages)
		for _, m := range n.Messages {
			require.True(t, m.ReasoningDetails == nil || json.Valid(m.ReasoningDetails))
			require.NotEqual(t, chat.Role("developer"), m.Role)
		}
	})
}

func BenchmarkChatCompletionChunk(b *testing.B) {
	e := completions.Encoder(dialect.Response{Head: completionsHead})
	c := chat.Chunk{Type: chat.Content, Text: []byte(" a token or so")}
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		buf = e.Chunk(buf[:0], c)
	}
}
