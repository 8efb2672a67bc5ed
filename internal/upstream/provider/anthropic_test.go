package provider_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
)

const (
	messageStart = `{"type":"message_start","message":{"id":"msg_1","model":"m-1","role":"assistant","content":[],` +
		`"usage":{"input_tokens":4,"cache_creation_input_tokens":3,"cache_read_input_tokens":0,"output_tokens":1}}}`
	messageStop = `{"type":"message_stop"}`
	blockStop   = `{"type":"content_block_stop","index":0}`
)

func blockStart(block string) string {
	return `{"type":"content_block_start","index":0,"content_block":{` + block + `}}`
}

func blockDelta(delta string) string {
	return `{"type":"content_block_delta","index":0,"delta":{` + delta + `}}`
}

func messageDelta(reason string) string {
	return `{"type":"message_delta","delta":{"stop_reason":"` + reason +
		`","stop_sequence":null},"usage":{"output_tokens":2}}`
}

var anthropicStreams = map[string]stream{
	"thinking, text, usage and the terminator": {
		body: sse(messageStart, blockStart(`"type":"thinking","thinking":"","signature":""`), `{"type":"ping"}`,
			blockDelta(`"type":"thinking_delta","thinking":"hm"`),
			blockDelta(`"type":"signature_delta","signature":"c2ln"`), blockStop,
			blockStart(`"type":"text","text":""`), blockDelta(`"type":"text_delta","text":"Hel"`),
			blockDelta(`"type":"text_delta","text":"lo \u4f60\ud83d\ude00"`), blockStop, messageDelta("end_turn"),
			messageStop),
		want: chattest.Transcript{Reasoning: "hm", Text: "Hello 你😀", Done: done("stop")},
	},
	"events may be padded, and their type may come last": {
		body: sse(messageStart, `{"delta":{"text":"Hi","type":"text_delta"},"index":0,`+
			`"type":"content_block_delta"}        `, messageDelta("stop_sequence"), messageStop),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"blocks and deltas without an index": {
		body: sse(messageStart, `{"type":"content_block_start","content_block":{"type":"text","text":""}}`,
			`{"type":"content_block_delta","delta":{"type":"text_delta","text":"Hi"}}`,
			`{"type":"content_block_stop"}`,
			`{"type":"content_block_start","content_block":{"type":"tool_use","id":"a","name":"f","input":{}}}`,
			`{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{\"x\""}}`,
			`{"type":"content_block_start","content_block":{"type":"server_tool_use","id":"no","name":"no",`+
				`"input":{}}}`,
			`{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"no"}}`,
			`{"type":"content_block_start","content_block":{"type":"tool_use","id":"b","name":"g","input":{"y":2}}}`,
			`{"type":"content_block_stop"}`, messageDelta("tool_use"), messageStop),
		want: chattest.Transcript{Text: "Hi",
			Tools: []chat.ToolCall{call("a", "f", `{"x"`), call("b", "g", `{"y":2}`)}, Done: done("tool_calls")},
	},
	"two calls on one index": {
		body: sse(messageStart, blockStart(`"type":"tool_use","id":"a","name":"f","input":{}`),
			blockDelta(`"type":"input_json_delta","partial_json":"{\"x\":1}"`), blockStop,
			blockStart(`"type":"tool_use","id":"b","name":"f","input":{}`),
			blockDelta(`"type":"input_json_delta","partial_json":"{\"x\":2}"`), blockStop, messageDelta("tool_use"),
			messageStop),
		want: chattest.Transcript{Tools: []chat.ToolCall{call("a", "f", `{"x":1}`), call("b", "f", `{"x":2}`)},
			Done: done("tool_calls")},
	},
	"events whose type is their name only": {
		body: "event: content_block_delta\ndata: {\"index\":0,\"delta\":{\"text\":\"Hi\"}}\n\n" +
			sse(messageDelta("end_turn")) + "event: message_stop\ndata: {}\n\n",
		want: chattest.Transcript{Text: "Hi",
			Done: &chat.Completion{FinishReason: "stop", Usage: &chat.Usage{CompletionTokens: 2}}},
	},
	"a terminator after nothing": {body: sse(messageStart, messageStop), code: chat.UpstreamTruncated},
	"a stop reason is enough": {
		body: sse(messageStart, blockDelta(`"type":"text_delta","text":"Hi"`), messageDelta("max_tokens")),
		want: chattest.Transcript{Text: "Hi", Done: done("length")},
	},
	"without one the answer is truncated": {
		body: sse(messageStart, blockDelta(`"type":"text_delta","text":"Hi"`), blockStop),
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamTruncated,
	},
	"a cut through the last event is a truncated answer": {
		body: sse(messageStart, blockDelta(`"type":"text_delta","text":"Hi"`)) + `data: {"type":"message_del`,
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamTruncated,
	},
	"tool calls come in pieces, by block": {
		body: sse(messageStart, blockStart(`"type":"text","text":"Let me"`), blockStop,
			`{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"a","name":"f",`+
				`"input":{}}}`,
			`{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":""}}`,
			`{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"x\""}}`,
			`{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":":1}"}}`,
			`{"type":"content_block_stop","index":3}`,
			`{"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"b","name":"g",`+
				`"input":{}}}`, `{"type":"content_block_stop","index":4}`, messageDelta("tool_use"), messageStop),
		want: chattest.Transcript{Text: "Let me", Tools: []chat.ToolCall{{ID: "a", Name: "f", Arguments: `{"x":1}`},
			{ID: "b", Name: "g", Arguments: "{}"}}, Done: done("tool_calls")},
	},
	"a gateway may give the arguments at once": {
		body: sse(messageStart, blockStart(`"type":"tool_use","id":"a","name":"f","input":{"x":1}`), blockStop,
			messageDelta("tool_use"), messageStop),
		want: chattest.Transcript{Tools: []chat.ToolCall{{ID: "a", Name: "f", Arguments: `{"x":1}`}}, Done: done("tool_calls")},
	},
	"a gateway may give the arguments at once and again in pieces": {
		body: sse(messageStart, blockStart(`"type":"tool_use","id":"a","name":"f","input":{"x":1}`),
			blockDelta(`"type":"input_json_delta","partial_json":"{\"x\":1}"`), blockStop, messageDelta("tool_use"),
			messageStop),
		want: chattest.Transcript{Tools: []chat.ToolCall{{ID: "a", Name: "f", Arguments: `{"x":1}`}}, Done: done("tool_calls")},
	},
	"arguments cut off by a token limit are kept as they came": {
		body: sse(messageStart, blockStart(`"type":"tool_use","id":"a","name":"f","input":{}`),
			blockDelta(`"type":"input_json_delta","partial_json":"{\"x\": \"y"`), messageDelta("max_tokens"),
			messageStop),
		want: chattest.Transcript{Tools: []chat.ToolCall{{ID: "a", Name: "f", Arguments: `{"x": "y`}},
			Done: done("length")},
	},
	"the provider's own tools are no tool calls": {
		body: sse(messageStart, blockStart(`"type":"server_tool_use","id":"srv","name":"web_search","input":{}`),
			blockDelta(`"type":"input_json_delta","partial_json":"{\"query\":1}"`), blockStop,
			`{"type":"content_block_start","index":1,"content_block":{"type":"web_search_tool_result",`+
				`"tool_use_id":"srv","content":[{"type":"web_search_result","title":"t"}]}}`,
			`{"type":"content_block_stop","index":1}`,
			`{"type":"content_block_start","index":2,"content_block":{"type":"text","text":"","citations":[]}}`,
			`{"type":"content_block_delta","index":2,"delta":{"type":"citations_delta",`+
				`"citation":{"cited_text":"no","text":"no"}}}`,
			`{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"Hi"}}`,
			messageDelta("pause_turn"), messageStop),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"thinking that is not shown says nothing": {
		body: sse(messageStart, blockStart(`"type":"redacted_thinking","data":"secret"`), blockStop,
			blockDelta(`"type":"signature_delta","signature":"c2ln"`), blockDelta(`"type":"text_delta","text":"Hi"`),
			messageDelta("end_turn"), messageStop),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"a refusal is a content filter": {
		body: sse(messageStart, blockDelta(`"type":"text_delta","text":"Hi"`), messageDelta("refusal"), messageStop),
		want: chattest.Transcript{Text: "Hi", Done: done("content_filter")},
	},
	"the last counts win, and a null or a zero is none": {
		body: sse(`{"type":"message_start","message":{"model":"m-1","usage":{"input_tokens":0,"output_tokens":0}}}`,
			`{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":1}}`,
			`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":7,"output_tokens":2,`+
				`"cache_read_input_tokens":null}}`,
			`{"type":"message_delta","delta":{"stop_reason":null},"usage":{"input_tokens":0,"output_tokens":2}}`,
			messageStop),
		want: chattest.Transcript{Done: done("stop")},
	},
	"an error inside a 200": {
		body: sse(messageStart, blockDelta(`"type":"text_delta","text":"Hi"`)) +
			"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"," +
			"\"message\":\"Overloaded\"}}\n\n",
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamError,
	},
	"a rate limit inside a 200": {
		body: sse(`{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}`),
		code: chat.UpstreamRateLimited,
	},
	"garbage is malformed": {body: sse(messageStart, `<html>`), code: chat.UpstreamMalformed},
	"an empty body is a truncated answer": {
		code: chat.UpstreamTruncated,
	},
	"what is not known is passed over": {
		body: "event: from the future\n\n: hi\n\n" + sse("", "[DONE]", messageStart,
			`{"type":"later","delta":{"x":1}}`, blockStart(`"type":"later","text":"no"`),
			blockDelta(`"type":"later","data":"no"`), `{"type":"content_block_delta","index":null,"delta":null}`,
			blockDelta(`"type":"text_delta","text":"Hi"`), messageDelta("end_turn"), messageStop, "[DONE]"),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
}

func TestAnthropicStreams(t *testing.T) { requireStreams(t, "anthropic", anthropicStreams) }

func TestAnthropicRequest(t *testing.T) {
	got := ask(t, "anthropic", conversation())
	require.Equal(t, "/v1/messages", got.path)
	require.Equal(t, "test-key", got.header.Get("X-Api-Key"))
	require.Equal(t, "2023-06-01", got.header.Get("Anthropic-Version"))
	require.Empty(t, got.header.Get("Authorization"))
	require.JSONEq(t, `{
		"model": "m", "max_tokens": 900, "stream": true, "system": "s1\n\ns2",
		"messages": [
			{"role": "user", "content": [{"type":"text","text":"what?"}, {"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAEC"}}]},
			{"role": "assistant", "content": [{"type":"text","text":"let me see"}, {"type":"tool_use","id":"a_1","name":"f","input":{"x":1}}, {"type":"tool_use","id":"b","name":"g","input":{}}]},
			{"role": "user", "content": [
				{"type":"tool_result","tool_use_id":"a_1","content":[{"type":"text","text":"4"}]},
				{"type":"tool_result","tool_use_id":"b","content":[{"type":"text","text":"{\"y\":2}"}]},
				{"type":"text","text":"and?"}]}],
		"temperature": 0.70, "top_p": 0.9, "stop_sequences": ["END"], "metadata": {"user_id": "u"},
		"tools": [
			{"name":"f","description":"d","input_schema":{"type":"object","properties":{"x":{"type":"integer"}}},"strict":true},
			{"name":"g","input_schema":{"type":"object"}}],
		"tool_choice": {"type": "any"},
		"output_config": {"format": {"type":"json_schema","schema":{"type":"object"}}}
	}`, got.body)
}

func TestAnthropicRequestVariants(t *testing.T) {
	user := chat.Message{Role: chat.RoleUser, Content: "hi"}
	for name, tc := range map[string]struct {
		req  chat.Request
		want string
	}{
		"the token limit is required": {
			chat.Request{Messages: []chat.Message{user}},
			`{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"max_tokens":8192,` +
				`"stream":true}`,
		},
		"neighbours of a role are one turn, empty messages none": {
			chat.Request{Messages: []chat.Message{user, {Role: chat.RoleUser}, user,
				{Role: chat.RoleAssistant, Parts: []chat.Part{{Type: chat.PartText}}}}},
			`{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hi"},{"type":"text",` +
				`"text":"hi"}]}],"max_tokens":8192,"stream":true}`,
		},
		"an image may be elsewhere": {
			chat.Request{Messages: []chat.Message{
				{Role: chat.RoleUser, Parts: []chat.Part{{Type: chat.PartImage, ImageURL: "https://x/y.png"}}}}},
			`{"model":"m","messages":[{"role":"user","content":[{"type":"image","source":{"type":"url",` +
				`"url":"https://x/y.png"}}]}],"max_tokens":8192,"stream":true}`,
		},
		"an effort is a budget, on top of the answer": {
			chat.Request{Model: "claude-haiku-4-5", Messages: []chat.Message{user}, ReasoningEffort: "low"},
			`{"model":"claude-haiku-4-5","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],` +
				`"max_tokens":10240,"thinking":{"type":"enabled","budget_tokens":2048},"stream":true}`,
		},
		"a budget is below the caller's limit": {
			chat.Request{Model: "claude-haiku-4-5", Messages: []chat.Message{user}, ReasoningEffort: "high",
				MaxTokens: "4000", Temperature: "1"},
			`{"model":"claude-haiku-4-5","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],` +
				`"max_tokens":4000,"thinking":{"type":"enabled","budget_tokens":2000},"stream":true}`,
		},
		"a limit with no room for a budget leaves none": {
			chat.Request{Model: "claude-haiku-4-5", Messages: []chat.Message{user}, ReasoningEffort: "high",
				MaxTokens: "1500", Temperature: "0"},
			`{"model":"claude-haiku-4-5","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],` +
				`"max_tokens":1500,"temperature":0,"stream":true}`,
		},
		"an effort is an effort to later models": {
			chat.Request{Model: "claude-opus-4-6", Messages: []chat.Message{user}, ReasoningEffort: "minimal",
				MaxTokens: "1500"},
			`{"model":"claude-opus-4-6","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],` +
				`"max_tokens":1500,"thinking":{"type":"adaptive","display":"summarized"},` +
				`"output_config":{"effort":"low"},"stream":true}`,
		},
		"no effort is no thinking": {
			chat.Request{Messages: []chat.Message{user}, ReasoningEffort: "none"},
			`{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"max_tokens":8192,` +
				`"thinking":{"type":"disabled"},"stream":true}`,
		},
		"a tool that must be called is called without thinking": {
			chat.Request{Messages: []chat.Message{user}, ReasoningEffort: "low", Tools: []chat.ToolSpec{{Name: "f"}},
				ToolChoice: chat.ToolChoice{Mode: chat.ChooseFunction, Name: "f"}},
			`{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"max_tokens":8192,` +
				`"tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"tool","name":"f"},` +
				`"stream":true}`,
		},
		"a budget can't go on after tool results": {
			chat.Request{Messages: []chat.Message{user,
				{Role: chat.RoleAssistant, ToolCalls: []chat.ToolCall{{ID: "a", Name: "f"}}},
				{Role: chat.RoleTool, ToolCallID: "a"}}, ReasoningEffort: "low"},
			`{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]},{"role":"assistant",` +
				`"content":[{"type":"tool_use","id":"a","name":"f","input":{}}]},{"role":"user","content":[{` +
				`"type":"tool_result","tool_use_id":"a","content":[]}]}],"max_tokens":8192,"stream":true}`,
		},
	} {
		t.Run(name, func(t *testing.T) { require.JSONEq(t, tc.want, ask(t, "anthropic", &tc.req).body) })
	}
}

func TestAnthropicRefusals(t *testing.T) {
	user := []chat.Message{{Role: chat.RoleUser, Content: "hi"}}
	image := func(role chat.Role, url string) []chat.Message {
		return []chat.Message{user[0], {Role: role, Parts: []chat.Part{{Type: chat.PartImage, ImageURL: url}}}}
	}
	for want, req := range map[string]chat.Request{
		"messages: this provider needs a message that is not the system's": {
			Messages: []chat.Message{{Role: chat.RoleSystem, Content: "s"}}},
		"messages[1].content[0].image_url: this provider takes no images in system messages": {
			Messages: image(chat.RoleSystem, "https://x/y.png")},
		"messages[1].content[0].image_url: this provider takes no images in assistant messages": {
			Messages: image(chat.RoleAssistant, "https://x/y.png")},
		"messages[1].content[0].image_url: want data:<media type>;base64,<data>": {
			Messages: image(chat.RoleUser, "data:,x")},
		"messages[0].tool_calls[0].function.arguments: want the text of a JSON object": {
			Messages: []chat.Message{{Role: chat.RoleAssistant,
				ToolCalls: []chat.ToolCall{{ID: "a", Name: "f", Arguments: `[1]`}}}}},
		"temperature: this provider takes 0 to 1": {Messages: user,
			Temperature: "1.5"},
		"reasoning_effort: want none, minimal, low, medium, high, xhigh or max": {Messages: user,
			ReasoningEffort: "huge"},
		"response_format.type: this provider has no json_object; use json_schema": {Messages: user,
			ResponseFormat: []byte(`{"type":"json_object"}`)},
		"response_format.type: want text, json_object or json_schema": {Messages: user,
			ResponseFormat: []byte(`{"type":"yaml"}`)},
		"response_format.json_schema.schema: want a JSON Schema object": {Messages: user,
			ResponseFormat: []byte(`{"type":"json_schema","json_schema":{"name":"n"}}`)},
	} {
		require.Equal(t, want, refused(t, "anthropic", &req))
	}
}

const anthropicText = `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta",` +
	`"text":" token \u00e9"}      }`

func TestDecodingAnthropicTextDoesNotAllocate(t *testing.T) {
	requireNoAllocations(t, "anthropic", anthropicText, messageStop)
}

func FuzzAnthropicEvent(f *testing.F) { fuzzStreams(f, "anthropic", anthropicStreams) }

func BenchmarkAnthropicEvent(b *testing.B) {
	benchmarkEvent(b, "anthropic", anthropicText, messageStop)
}

func TestClaudeOnVertexHasItsModelInTheAddress(t *testing.T) {
	for _, host := range []string{"europe-west1-aiplatform.googleapis.com", "aiplatform.eu.rep.googleapis.com",
		"aiplatform.googleapis.com"} {
		o := options("anthropic", "https://"+host+"/v1/projects/p/locations/l/publishers/anthropic")
		o.Model = "claude-haiku-4-5@20251001"
		f := ask2(t, o, question(), nil)
		require.Equal(t, []string{o.BaseURL + "/models/claude-haiku-4-5@20251001:streamRawPredict"}, f.paths)
		require.Contains(t, f.last(), `{"anthropic_version":"vertex-2023-10-16","messages":`)
		require.NotContains(t, f.last(), `"model"`)
		require.Contains(t, f.last(), `"stream":true`)
	}
}
