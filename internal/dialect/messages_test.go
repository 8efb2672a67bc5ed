package dialect_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/dialect"
)

var messages dialect.Messages

const (
	messageHead  = `{"id":"msg_s1","type":"message","role":"assistant","model":"m","content":[`
	messageUsage = `"usage":{"input_tokens":10,"cache_creation_input_tokens":0,"cache_read_input_tokens":20,` +
		`"output_tokens":4,"output_tokens_details":{"thinking_tokens":1}}`
	noUsage = `"usage":{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,` +
		`"output_tokens":0}`
)

func TestAMessageIsStreamed(t *testing.T) {
	event := func(name, members string) string {
		return "event: " + name + "\ndata: " + `{"type":"` + name + `"` + members + "}\n\n"
	}
	start := func(index, block string) string {
		return event("content_block_start", `,"index":`+index+`,"content_block":`+block)
	}
	delta := func(index, delta string) string {
		return event("content_block_delta", `,"index":`+index+`,"delta":`+delta)
	}
	stop := func(index string) string { return event("content_block_stop", `,"index":`+index) }
	want := []string{
		event("message_start", `,"message":`+messageHead+`],"stop_reason":null,"stop_sequence":null,`+noUsage+`}`),
		start("0", `{"type":"thinking","thinking":"","signature":""}`),
		delta("0", `{"type":"thinking_delta","thinking":"hm"}`), stop("0"),
		start("1", `{"type":"text","text":""}`),
		delta("1", `{"type":"text_delta","text":"Hel"}`), delta("1", `{"type":"text_delta","text":"lo"}`), stop("1"),
		start("2", `{"type":"tool_use","id":"1","name":"f","input":{}}`),
		delta("2", `{"type":"input_json_delta","partial_json":"{\"a\":1}"}`), stop("2"),
		start("3", `{"type":"tool_use","id":"2","name":"g","input":{}}`),
		delta("3", `{"type":"input_json_delta","partial_json":"{}"}`), stop("3"),
		start("4", `{"type":"redacted_thinking","data":"1.abc"}`), stop("4"),
		event("message_delta", `,"delta":{"stop_reason":"tool_use","stop_sequence":null},`+messageUsage),
		event("message_stop", ""), "",
	}
	require.Equal(t, want, frames(messages.Encoder(dialect.Response{Head: completionsHead}), answerWithAll("1.abc")))

	e := messages.Encoder(dialect.Response{Head: completionsHead, RequestID: "r1"})
	failure := &chat.Error{Code: chat.Overloaded, Message: "no room"}
	require.Equal(t, "event: error\n"+`data: {"type":"error","error":{"type":"overloaded_error","message":"no room",`+
		`"code":"overloaded"},"request_id":"r1"}`+"\nid: s1.8\n\n", string(e.Fail(nil, failure, 8)))
	require.Equal(t, ": hb\n", string(e.Ping(nil)))
	require.Empty(t, e.Reconnect(nil, time.Second))
}

func TestAWholeMessage(t *testing.T) {
	whole := func(chunks ...chat.Chunk) string {
		a := dialect.Answer{Head: completionsHead}
		for _, c := range chunks {
			a.Add(c)
		}
		return string(messages.AppendAnswer(nil, &a))
	}
	require.Equal(t, messageHead+`{"type":"thinking","thinking":"hm","signature":""},{"type":"text","text":"Hello"},`+
		`{"type":"tool_use","id":"1","name":"f","input":{"a":1}},{"type":"tool_use","id":"2","name":"g","input":{}},`+
		`{"type":"redacted_thinking","data":"1.abc"}],"stop_reason":"tool_use","stop_sequence":null,`+messageUsage+`}`,
		whole(answerWithAll("1.abc")...))
	broken := chat.Chunk{Type: chat.Tool, Tool: &chat.ToolCall{ID: "1", Name: "f", Arguments: `{"a`}}
	for reason, want := range map[chat.FinishReason]string{
		chat.FinishStop: "end_turn", chat.FinishStopped: "end_turn", chat.FinishLength: "max_tokens",
		chat.FinishContentFilter: "refusal",
	} {
		end := chat.Chunk{Type: chat.Done, Done: &chat.Completion{FinishReason: reason}}
		require.Equal(t, messageHead+`{"type":"tool_use","id":"1","name":"f","input":{"INVALID_JSON":"{\"a"}}],`+
			`"stop_reason":"`+want+
			`","stop_sequence":null,`+noUsage+`}`, whole(broken, end),
			"and the arguments that a limit cut off are no object")
	}
}

// Clients take the input of a call for an object, and the body for UTF-8, whatever the model wrote.
func TestTheInputOfACallIsAnObject(t *testing.T) {
	for arguments, want := range map[string]string{
		`{"a": [1] }`: `{"a":[1]}`, "null": `{}`, `{"a`: `{"INVALID_JSON":"{\"a"}`, `[1]`: `{"INVALID_JSON":"[1]"}`,
		"{\"a\":\"\xff\"}": `{"a":"�"}`, "\xff": `{"INVALID_JSON":"\ufffd"}`,
	} {
		call := chat.Chunk{Type: chat.Tool, Tool: &chat.ToolCall{ID: "1", Name: "f", Arguments: arguments}}
		a := dialect.Answer{}
		a.Add(call)
		require.Contains(t, string(messages.AppendAnswer(nil, &a)), `"input":`+want+`}`, arguments)
		streamed := messages.Encoder(dialect.Response{}).Chunk(nil, call)
		quoted, err := json.Marshal(want)
		require.NoError(t, err)
		require.Contains(t, string(streamed), `"partial_json":`+string(quoted)+`}`, arguments)
	}
}

func TestTypesOfErrorsAreAnthropics(t *testing.T) {
	for want, e := range map[string]*chat.Error{
		"invalid_request_error": {Code: chat.InvalidRequest}, "authentication_error": {Code: chat.Unauthorized},
		"rate_limit_error": {Code: chat.UpstreamRateLimited}, "timeout_error": {Code: chat.UpstreamTimeout},
		"request_too_large": {Code: chat.BodyTooLarge}, "api_error": {Code: chat.UpstreamAuth},
		"billing_error": {Code: chat.UpstreamAuth, NoCredit: true},
	} {
		require.JSONEq(t, `{"type":"error","error":{"type":"`+want+`","message":"","code":"`+string(e.Code)+
			`"},"request_id":"r1"}`,
			string(messages.AppendRefusal(nil, e, "r1")))
	}
	require.Contains(t, string(messages.AppendRefusal(nil, &chat.Error{Code: chat.IdempotencyMismatch}, "")),
		"invalid_request_error")
}

func TestMessageTextDoesNotAllocate(t *testing.T) {
	buf := make([]byte, 0, 4096)
	for _, typ := range []chat.Type{chat.Content, chat.Reasoning} {
		e := messages.Encoder(dialect.Response{Head: completionsHead})
		c := chat.Chunk{Type: typ, Text: []byte("a few words, \"quoted\", 和中文\n")}
		require.Zero(t, testing.AllocsPerRun(1000, func() { buf = e.Chunk(buf[:0], c) }))
	}
}

func TestAMessagesRequest(t *testing.T) {
	const mark = `{"type":"ephemeral"}`
	n, err := messages.Decode(
		[]byte(`{"model":"claude","max_tokens":9,"stream":true,"temperature":1,"stop_sequences":["a"],
		"metadata":{"user_id":"u"},"thinking":{"type":"adaptive"},"output_config":{"effort":"high","format":{"type":"json_schema","schema":{"a":1}}},
		"context_management":{"edits":[]},"system":[{"type":"text","text":"be"},{"type":"text","text":"kind","cache_control":` + mark + `}],
		"tools":[{"name":"f","description":"d","input_schema":{"type":"object"},"cache_control":` + mark + `,"defer_loading":true},
			{"type":"web_search_20260209","name":"web_search"}],
		"tool_choice":{"type":"any","disable_parallel_tool_use":true},
		"messages":[{"role":"user","content":"q"},
			{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":""},{"type":"text","text":"a"},
				{"type":"tool_use","id":"1","name":"f","input":{"x": 1}},{"type":"redacted_thinking","data":"1.abc"},
				{"type":"redacted_thinking","data":"EqQB"}]},
			{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":[{"type":"text","text":"r"}]},
				{"type":"text","text":"and","cache_control":` + mark + `},
				{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA=="}}]},
			{"role":"system","content":"now"}]}`))
	require.NoError(t, err)
	marked := []byte(mark)
	require.Equal(t, &dialect.Ask{Stream: true, Request: chat.Request{
		Model: "claude", MaxTokens: "9", Temperature: "1", Stop: []string{"a"}, User: "u", ReasoningEffort: "high",
		ResponseFormat: []byte(`{"type":"json_schema","json_schema":{"name":"answer","strict":true,` +
			`"schema":{"a":1}}}`),
		Tools: []chat.ToolSpec{{Name: "f", Description: "d", Parameters: []byte(`{"type":"object"}`),
			CacheControl: marked}},
		ToolChoice: chat.ToolChoice{Mode: chat.ChooseRequired},
		Extra:      []chat.Field{{Name: "parallel_tool_calls", Value: []byte("false")}},
		Messages: []chat.Message{
			{Role: chat.RoleSystem, Parts: []chat.Part{{Type: chat.PartText, Text: "be"},
				{Type: chat.PartText, Text: "kind", CacheControl: marked}}},
			{Role: chat.RoleUser, Content: "q"},
			{Role: chat.RoleAssistant, Content: "a", State: "1.abc", Reasoning: "hm",
				ReasoningName: "reasoning_content",
				ToolCalls:     []chat.ToolCall{{ID: "1", Name: "f", Arguments: `{"x": 1}`}}},
			{Role: chat.RoleTool, ToolCallID: "1", Content: "r"},
			{Role: chat.RoleUser, Parts: []chat.Part{
				{Type: chat.PartText, Text: "and", CacheControl: marked},
				{Type: chat.PartImage, ImageURL: "data:image/png;base64,AA=="},
			}},
			{Role: chat.RoleSystem, Content: "now"},
		},
	}}, n)

	for thinking, want := range map[string]string{
		`{"type":"disabled"}`: "none", `{"type":"adaptive"}`: "", `{"type":"enabled","budget_tokens":2000}`: "low",
		`{"type":"enabled","budget_tokens":10000}`: "medium", `{"type":"enabled","budget_tokens":32000}`: "high",
	} {
		n, err := messages.Decode([]byte(`{"messages":[{"role":"user","content":"q"}],"thinking":` + thinking + `}`))
		require.NoError(t, err)
		require.Equal(t, want, n.ReasoningEffort, thinking)
		require.False(t, n.Stream)
	}
}

func TestWhatMessagesCannotDoIsRefused(t *testing.T) {
	for members, want := range map[string]string{
		`"messages":[]`: "messages: at least one message is required",
		`"messages":[{"role":"tool","content":"x"}]`:                                                                 "messages[0].role: unknown role",
		`"messages":[{"role":"user"}]`:                                                                               "messages[0].content: is required",
		`"messages":[{"role":"user","content":[{"type":"document","source":{}}]}]`:                                   "messages[0].content[0].type: unknown block",
		`"messages":[{"role":"user","content":[{"type":"image","source":{"type":"file"}}]}]`:                         "messages[0].content[0].source.type: unknown source",
		`"messages":[{"role":"user","content":[{"type":"tool_result","content":"x"}]}]`:                              "messages[0].content[0].tool_use_id: is required",
		`"messages":[{"role":"assistant","content":[{"type":"tool_use","name":"f"}]}]`:                               "messages[0].content[0]: id and name are required",
		`"messages":[{"role":"user","content":"q"}],"tool_choice":{"type":"some"}`:                                   "tool_choice.type: unknown choice",
		`"messages":[{"role":"user","content":"q"}],"tool_choice":{"type":"tool"}`:                                   "tool_choice.name: is required",
		`"messages":[{"role":"user","content":"q"}],"tool_choice":{"type":"any"}`:                                    "tool_choice: there is no function",
		`"messages":[{"role":"user","content":"q"}],"tools":[{"input_schema":{}}]`:                                   "tools[0].name: is required",
		`"messages":[{"role":"user","content":"q"}],"output_config":{"format":{"type":"x"}}`:                         "output_config.format: want a json_schema",
		`"system":[{"type":"image","source":{}}],"messages":[{"role":"user","content":"q"}]`:                         "system[0].type: unknown block",
		`"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":[{"type":"x"}]}]}]`: "content[0].type: unknown block",
	} {
		_, err := messages.Decode([]byte(`{` + members + `}`))
		require.ErrorContains(t, err, want, members)
		require.Equal(t, chat.InvalidRequest, chat.AsError(err).Code)
	}
}

func FuzzDecodeMessages(f *testing.F) {
	f.Add(`{"system":"x","messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"1",` +
		`"content":"r"},{"type":"text","text":"x"}]},` +
		`{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{}},` +
		`{"type":"redacted_thinking","data":"1.a"}]}]}`)
	f.Add(`{"messages":[{"role":"user","content":"x"}],"tools":[{"name":"f","input_schema":{}}],` +
		`"tool_choice":{"type":"tool","name":"f"}}`)
	f.Fuzz(func(t *testing.T, body string) {
		n, err := messages.Decode([]byte(body))
		if err != nil {
			require.Equal(t, chat.InvalidRequest, chat.AsError(err).Code)
			return
		}
		for _, m := range n.Messages {
			require.True(t, m.Role == chat.RoleAssistant || m.State == "" && m.ToolCalls == nil)
			for _, c := range m.ToolCalls {
				require.True(t, json.Valid([]byte(c.Arguments)))
			}
		}
		require.True(t, n.ResponseFormat == nil || json.Valid(n.ResponseFormat))
	})
}
