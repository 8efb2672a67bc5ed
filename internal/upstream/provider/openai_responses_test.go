package provider_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
)

const (
	responseCreated = `{"type":"response.created","response":{"id":"resp_1","model":"m-1","status":"in_progress",` +
		`"error":null,"usage":null,"tools":[{"name":"f"}]}}`
	responseCompleted = `{"type":"response.completed","response":{"id":"resp_1","model":"m-1","status":"completed",` +
		`"error":null,"incomplete_details":null,"output":[],"usage":{"input_tokens":7,` +
		`"input_tokens_details":{"cached_tokens":0},"output_tokens":2,"total_tokens":9}}}`
)

func responseDelta(kind, text string) string {
	return `{"type":"response.` + kind + `.delta","item_id":"msg_1","output_index":0,"content_index":0,"delta":"` +
		text + `","sequence_number":4,"logprobs":[]}`
}

func responseWhole(text string) string {
	return `{"type":"response.completed","response":{"model":"m-1","status":"completed","output":[{"type":"message",` +
		`"content":[{"type":"output_text","text":"` + text +
		`"}]}],"usage":{"input_tokens":7,"output_tokens":2}}}`
}

func responseItem(event, index, item string) string {
	return `{"type":"response.output_item.` + event + `","output_index":` + index + `,"item":{` + item + `}}`
}

func responseIncomplete(reason string) string {
	return `{"type":"response.incomplete","response":{"model":"m-1","status":"incomplete",` +
		`"incomplete_details":{"reason":"` + reason + `"},"usage":{"input_tokens":7,"output_tokens":2}}}`
}

var responsesStreams = map[string]stream{
	"reasoning, text, usage and the terminator": {
		body: sse(responseCreated, responseItem("added", "0", `"type":"reasoning","id":"rs_1","summary":[]`),
			responseDelta("reasoning_summary_text", "h"), responseDelta("reasoning_text", "m"),
			`{"type":"response.reasoning_text.done","text":"hm"}`,
			responseDelta("output_text", "Hel"), responseDelta("output_text", `lo \u4f60\ud83d\ude00`),
			`{"type":"response.output_text.done","text":"Hello"}`,
			responseItem("done", "0", `"type":"message","content":[{"type":"output_text","text":"Hello"}]`),
			responseCompleted),
		want: chattest.Transcript{Reasoning: "hm", Text: "Hello 你😀", Done: done("stop")},
	},
	"text that comes in .done only": {
		body: sse(responseCreated, `{"type":"response.output_text.done","output_index":0,"content_index":0,`+
			`"text":"Hi"}`, responseWhole("Hi")),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"text that comes in a part only": {
		body: sse(`{"type":"response.content_part.done","output_index":0,"content_index":0,`+
			`"part":{"type":"output_text","text":"Hi"}}`, responseWhole("Hi")),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"text that comes in an item only": {
		body: sse(responseItem("done", "0",
			`"type":"message","content":[{"type":"output_text","text":"H"},{"type":"output_text","text":"i"}]`),
			responseCompleted),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"text that comes at the end only": {body: sse(responseCreated, responseWhole("Hi")),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")}},
	"the rest of a text comes at the end only": {
		body: sse(responseDelta("output_text", "H"), responseWhole("Hi")),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"a text that is another at the end": {
		body: sse(responseDelta("output_text", "Hi"), responseWhole("No")),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"everything four times": {
		body: sse(responseItem("added", "0", `"type":"reasoning","summary":[]`),
			`{"type":"response.reasoning_summary_part.added","output_index":0,"summary_index":0,`+
				`"part":{"type":"summary_text","text":""}}`,
			`{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":0,"delta":"Hm."}`,
			`{"type":"response.reasoning_summary_text.done","output_index":0,"summary_index":0,"text":"Hm."}`,
			`{"type":"response.reasoning_summary_part.done","output_index":0,"summary_index":0,`+
				`"part":{"type":"summary_text","text":"Hm."}}`,
			`{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":1,"delta":"Well."}`,
			responseItem("done", "0", `"summary":[{"type":"summary_text","text":"Hm."},{"type":"summary_text",`+
				`"text":"Well."}],"type":"reasoning"`),
			`{"type":"response.output_text.delta","output_index":1,"content_index":0,"delta":"Hi"}`,
			`{"type":"response.output_text.done","output_index":1,"content_index":0,"text":"Hi"}`,
			responseItem("done", "1", `"type":"message","content":[{"type":"output_text","text":"Hi"}]`),
			`{"type":"response.completed","response":{"model":"m-1","output":[{"type":"reasoning",`+
				`"summary":[{"type":"summary_text","text":"Hm."},{"type":"summary_text","text":"Well."}]},`+
				`{"type":"message","content":[{"type":"output_text","text":"Hi"}]}],"usage":{"input_tokens":7,`+
				`"output_tokens":2}}}`),
		want: chattest.Transcript{Reasoning: "Hm.\n\nWell.", Text: "Hi", Done: done("stop")},
	},
	"deltas without an index": {
		body: sse(`{"type":"response.output_text.delta","delta":"Hi"}`,
			`{"type":"response.output_text.done","output_index":1,"content_index":0,"text":"Hi"}`,
			responseWhole("Hi")),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"a .done that comes too early": {
		body: sse(responseDelta("output_text", "H"),
			`{"type":"response.output_text.done","output_index":0,"content_index":0,"text":"H"}`,
			responseItem("done", "0", `"type":"message","content":[{"type":"output_text","text":"H"}]`),
			responseDelta("output_text", "i"), responseCompleted),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"events whose type is their name only": {
		body: "event: response.output_text.delta\ndata: {\"output_index\":0,\"delta\":\"Hi\"}\n\n" +
			sse(responseCompleted), want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"a refusal that comes in .done only": {
		body: sse(`{"type":"response.refusal.done","output_index":0,"content_index":0,"refusal":"No."}`,
			responseCompleted), want: chattest.Transcript{Text: "No.", Done: done("stop")},
	},
	"a call that comes at the end only": {
		body: sse(`{"type":"response.completed","response":{"model":"m-1","output":[{"type":"function_call",` +
			`"call_id":"a","name":"f","arguments":"{\"x\":1}"},{"type":"function_call","call_id":"b","name":"f",` +
			`"arguments":"{\"x\":1}"}],"usage":{"input_tokens":7,"output_tokens":2}}}`),
		want: chattest.Transcript{Tools: []chat.ToolCall{call("a", "f", `{"x":1}`), call("b", "f", `{"x":1}`)},
			Done: done("tool_calls")},
	},
	"calls without an index, and whole at the end": {
		body: sse(`{"type":"response.output_item.added","item":{"type":"function_call","call_id":"a","name":"f"}}`,
			`{"type":"response.function_call_arguments.delta","delta":"{\"x\":"}`,
			`{"type":"response.function_call_arguments.delta","delta":"1}"}`,
			`{"type":"response.output_item.added","item":{"type":"function_call","call_id":"b","name":""}}`,
			`{"type":"response.function_call_arguments.done","arguments":"{\"x\":2}"}`,
			`{"type":"response.output_item.done","item":{"type":"function_call","call_id":"b","name":"g",`+
				`"arguments":"{\"x\":2}"}}`,
			`{"type":"response.completed","response":{"model":"m-1","output":[{"type":"function_call","call_id":"a",`+
				`"name":"f","arguments":"{\"x\":1}"},{"type":"function_call","call_id":"b","name":"g",`+
				`"arguments":"{\"x\":2}"}],"usage":{"input_tokens":7,"output_tokens":2}}}`),
		want: chattest.Transcript{Tools: []chat.ToolCall{call("a", "f", `{"x":1}`), call("b", "g", `{"x":2}`)},
			Done: done("tool_calls")},
	},
	"a call whose arguments are there from the start": {
		body: sse(responseItem("added", "0",
			`"type":"function_call","call_id":"a","name":"f","arguments":"{\"x\":1}"`),
			`{"type":"response.function_call_arguments.delta","output_index":0,"delta":"{\"x\""}`,
			`{"type":"response.function_call_arguments.delta","output_index":0,"delta":":1}"}`,
			`{"type":"response.function_call_arguments.done","output_index":0,"arguments":"{\"x\":1}"}`,
			responseCompleted),
		want: chattest.Transcript{Tools: []chat.ToolCall{call("a", "f", `{"x":1}`)}, Done: done("tool_calls")},
	},
	"a refusal is content": {
		body: sse(responseCreated, responseDelta("refusal", "No."), `{"type":"response.refusal.done","refusal":"No."}`,
			responseCompleted),
		want: chattest.Transcript{Text: "No.", Done: done("stop")},
	},
	"a refusal that breaks off is no content": {
		body: sse(responseCreated, responseDelta("refusal", "No.")), code: chat.UpstreamTruncated,
	},
	"without the terminator the answer is truncated": {
		body: sse(responseCreated, responseDelta("output_text", "Hi"), "[DONE]"),
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamTruncated,
	},
	"a cut through the last event is a truncated answer": {
		body: sse(responseCreated, responseDelta("output_text", "Hi")) + `data: {"type":"response.completed","resp`,
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamTruncated,
	},
	"an empty body is a truncated answer": {code: chat.UpstreamTruncated},
	"a token limit": {
		body: sse(responseDelta("output_text", "Hi"), responseIncomplete("max_output_tokens")),
		want: chattest.Transcript{Text: "Hi", Done: done("length")},
	},
	"a content filter": {
		body: sse(responseDelta("output_text", "Hi"), responseIncomplete("content_filter")),
		want: chattest.Transcript{Text: "Hi", Done: done("content_filter")},
	},
	"tool calls come in pieces, by item": {
		body: sse(responseCreated, responseItem("added", "1",
			`"type":"function_call","id":"fc_1","call_id":"a","name":"f","arguments":""`),
			`{"type":"response.function_call_arguments.delta","output_index":1,"item_id":"fc_1","delta":"{\"x\"",`+
				`"obfuscation":"zzz"}`,
			`{"type":"response.function_call_arguments.delta","output_index":1,"item_id":"fc_1","delta":":1}"}`,
			`{"type":"response.function_call_arguments.done","output_index":1,"item_id":"fc_1",`+
				`"arguments":"{\"x\":1}"}`, responseItem("done", "1",
				`"type":"function_call","id":"fc_1","call_id":"a","name":"f","arguments":"{\"x\":1}"`),
			responseItem("added", "2", `"type":"function_call","call_id":"b","name":"g","arguments":""`),
			responseItem("done", "2", `"type":"function_call","call_id":"b","name":"g","arguments":""`),
			responseCompleted),
		want: chattest.Transcript{Tools: []chat.ToolCall{{ID: "a", Name: "f", Arguments: `{"x":1}`},
			{ID: "b", Name: "g", Arguments: "{}"}}, Done: done("tool_calls")},
	},
	"a gateway may give a call at its end only": {
		body: sse(responseCreated, responseItem("done", "0",
			`"type":"function_call","call_id":"a","name":"f","arguments":"{\"x\":1}"`), responseCompleted),
		want: chattest.Transcript{Tools: []chat.ToolCall{{ID: "a", Name: "f", Arguments: `{"x":1}`}},
			Done: done("tool_calls")},
	},
	"arguments cut off by a token limit are kept as they came": {
		body: sse(responseCreated, responseItem("added", "0", `"type":"function_call","call_id":"a","name":"f"`),
			`{"type":"response.function_call_arguments.delta","output_index":0,"delta":"{\"x\": \"y"}`,
			responseIncomplete("max_output_tokens")),
		want: chattest.Transcript{Tools: []chat.ToolCall{{ID: "a", Name: "f", Arguments: `{"x": "y`}},
			Done: done("length")},
	},
	"the provider's own tools are no tool calls": {
		body: sse(responseCreated, responseItem("added", "0",
			`"type":"tool_search_call","arguments":{},"call_id":null`),
			responseItem("done", "0", `"type":"tool_search_call","arguments":{"x":1}`),
			responseItem("added", "1", `"type":"mcp_call","name":"no","arguments":"{}"`),
			`{"type":"response.mcp_call_arguments.delta","output_index":1,"delta":"{}"}`,
			responseItem("done", "1", `"type":"mcp_call","name":"no","arguments":"{}"`),
			`{"type":"response.web_search_call.completed","output_index":2}`, responseDelta("output_text", "Hi"),
			responseCompleted),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"a failure comes twice": {
		body: sse(responseCreated, responseDelta("output_text", "Hi"),
			`{"type":"error","error":{"type":"tokens","code":"rate_limit_exceeded","message":"slow down"}}`,
			`{"type":"response.failed","response":{"error":{"code":"rate_limit_exceeded","message":"slow down"}}}`),
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamRateLimited,
	},
	"a failure of the response": {
		body: sse(responseCreated,
			`{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"x"},`+
				`"usage":null}}`),
		code: chat.UpstreamError,
	},
	"a failure without a reason": {body: sse(`{"type":"response.failed","response":{"error":null}}`),
		code: chat.UpstreamError},
	"an error of the old shape": {body: sse(`{"type":"error","code":"server_error","message":"x","param":null}`),
		code: chat.UpstreamError},
	"an error without a type": {body: sse(`{"error":{"message":"x","code":429}}`), code: chat.UpstreamRateLimited},
	"garbage is malformed":    {body: sse(responseCreated, `<html>`), code: chat.UpstreamMalformed},
	"what is not known is passed over": {
		body: "event: later\n\n: hi\n\n" + sse("", `{"ping":true}`,
			`{"type":"response.later","delta":{"x":1},"item":null,"response":null}`,
			responseItem("added", "null", `"type":"later","call_id":null,"name":3`), responseDelta("output_text", ""),
			responseDelta("output_text", "Hi"), responseCompleted, "[DONE]"),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
}

func TestResponsesStreams(t *testing.T) { requireStreams(t, "openai-responses", responsesStreams) }

func TestResponsesRequest(t *testing.T) {
	req := conversation()
	req.Stop = nil
	req.ReasoningEffort = "low"
	got := ask(t, "openai-responses", req)
	require.Equal(t, "/responses", got.path)
	require.Equal(t, "Bearer test-key", got.header.Get("Authorization"))
	require.JSONEq(t, `{
		"model": "m", "stream": true, "store": false,
		"input": [
			{"role":"system","content":"s1"}, {"role":"system","content":[{"type":"input_text","text":"s2"}]},
			{"role":"user","content":[{"type":"input_text","text":"what?"},{"type":"input_image","image_url":"data:image/png;base64,AAEC","detail":"high"}]},
			{"role":"assistant","content":"let me see"},
			{"type":"function_call","call_id":"a.1","name":"f","arguments":"{\"x\":1}"}, {"type":"function_call","call_id":"b","name":"g","arguments":"{}"},
			{"type":"function_call_output","call_id":"a.1","output":"4"}, {"type":"function_call_output","call_id":"b","output":"{\"y\":2}"},
			{"role":"user","content":"and?"}],
		"temperature":0.70, "top_p":0.9, "max_output_tokens":900, "user":"u", "reasoning":{"effort":"low"},
		"tools": [
			{"type":"function","name":"f","description":"d","parameters":{"type":"object","properties":{"x":{"type":"integer"}}},"strict":true},
			{"type":"function","name":"g","parameters":{"type":"object","properties":{}},"strict":false}],
		"tool_choice": "required", "top_k": 5,
		"text": {"format":{"type":"json_schema","name":"n","schema":{"type":"object"},"strict":true}}
	}`, got.body)
}

func TestResponsesRequestVariants(t *testing.T) {
	user := []chat.Message{{Role: chat.RoleUser, Content: "hi"}}
	const hi = `{"model":"m","input":[{"role":"user","content":"hi"}],"stream":true`
	for want, req := range map[string]chat.Request{
		hi + `,"store":false}`: {Messages: user},
		hi + `,"store":true,"reasoning":{"summary":"auto"},"text":{"format":{"type":"text"},"verbosity":"low"}}`: {
			Messages: user, ReasoningEffort: "low", ResponseFormat: []byte(`{"type":"text"}`),
			Extra: []chat.Field{{Name: "store", Value: []byte("true")},
				{Name: "reasoning", Value: []byte(`{"summary":"auto"}`)},
				{Name: "text", Value: []byte(`{"verbosity":"low"}`)}}},
		hi + `,"store":false,"text":{"verbosity":"high"}}`: {Messages: user,
			Extra: []chat.Field{{Name: "verbosity", Value: []byte(`"high"`)}}},
		hi + `,"store":false,"text":{"format":{"type":"json_object"}}}`: {Messages: user,
			ResponseFormat: []byte(`{"type":"json_object"}`)},
		hi + `,"store":false,"tools":[{"type":"function","name":"f","parameters":{"type":"object","properties":{}},` +
			`"strict":false}],"tool_choice":{"type":"function","name":"f"}}`: {Messages: user,
			Tools: []chat.ToolSpec{{Name: "f"}}, ToolChoice: chat.ToolChoice{Mode: chat.ChooseFunction, Name: "f"}},
	} {
		require.JSONEq(t, want, ask(t, "openai-responses", &req).body)
	}
}

func TestResponsesRefusals(t *testing.T) {
	user := chat.Message{Role: chat.RoleUser, Content: "hi"}
	for want, req := range map[string]chat.Request{
		"stop: this provider has no stop sequences": {
			Messages: []chat.Message{user}, Stop: []string{"x"}},
		"messages[1].content[0].image_url: this provider takes no images in assistant messages": {
			Messages: []chat.Message{user,
				{Role: chat.RoleAssistant, Parts: []chat.Part{{Type: chat.PartImage, ImageURL: "https://x"}}}}},
		"response_format: want {\"type\": …} in OpenAI's terms": {Messages: []chat.Message{user},
			ResponseFormat: []byte(`{"type":3}`)},
	} {
		require.Equal(t, want, refused(t, "openai-responses", &req))
	}
}

var responsesText = responseDelta("output_text", ` token \u00e9`)

func TestDecodingResponsesTextDoesNotAllocate(t *testing.T) {
	requireNoAllocations(t, "openai-responses", responsesText, responseCompleted)
}

func FuzzResponsesEvent(f *testing.F) { fuzzStreams(f, "openai-responses", responsesStreams) }

func BenchmarkResponsesEvent(b *testing.B) {
	benchmarkEvent(b, "openai-responses", responsesText, responseCompleted)
}
