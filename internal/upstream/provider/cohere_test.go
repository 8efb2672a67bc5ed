package provider_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
)

func cohereContent(fields string) string {
	return `{"type":"content-delta","index":0,"delta":{"message":{"content":{` + fields + `}}}}`
}

func cohereTool(typ, call string) string {
	return `{"type":"` + typ + `","index":1,"delta":{"message":{"tool_calls":{` + call + `}}}}`
}

const (
	cohereStart = `{"id":"x","type":"message-start","delta":{"message":{"role":"assistant","content":[],` +
		`"tool_plan":"","tool_calls":[],"citations":[]}}}`
	cohereEnd = `{"type":"message-end","delta":{"finish_reason":"COMPLETE",` +
		`"usage":{"billed_units":{"input_tokens":1,"output_tokens":1},"tokens":{"input_tokens":7,"output_tokens":2}}}}`
)

func cohereDone(reason chat.FinishReason) *chat.Completion {
	c := done(reason)
	c.Model = "" // Cohere does not say
	return c
}

var cohereStreams = map[string]stream{
	"thinking, text, usage and the terminator": {
		body: sse(cohereStart, `{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"thinking",`+
			`"thinking":""}}}}`, cohereContent(`"thinking":"hm"`), `{"type":"content-end","index":0}`,
			`{"type":"content-start","index":1,"delta":{"message":{"content":{"type":"text","text":""}}}}`,
			cohereContent(`"text":"Hel"`), cohereContent(`"text":"lo \u4f60\ud83d\ude00"`),
			`{"type":"content-end","index":1}`, cohereEnd, "[DONE]"),
		want: chattest.Transcript{Reasoning: "hm", Text: "Hello 你😀", Done: cohereDone("stop")},
	},
	"the terminator needs no [DONE], and billed tokens are better than none": {
		body: sse(cohereContent(`"text":"Hi"`),
			`{"delta":{"usage":{"billed_units":{"input_tokens":7,"output_tokens":2}},"finish_reason":"MAX_TOKENS"},`+
				`"type":"message-end"}`),
		want: chattest.Transcript{Text: "Hi", Done: cohereDone("length")},
	},
	"without the terminator the answer is truncated": {
		body: sse(cohereStart, cohereContent(`"text":"Hi"`), "[DONE]"),
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamTruncated,
	},
	"a cut through the last event is a truncated answer": {
		body: sse(cohereContent(`"text":"Hi"`)) + `data: {"type":"message-end","del`,
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamTruncated,
	},
	"an empty body is a truncated answer": {code: chat.UpstreamTruncated},
	"tool calls come in pieces": {
		body: sse(cohereStart, `{"type":"tool-plan-delta","delta":{"message":{"tool_plan":"I will"}}}`,
			cohereTool("tool-call-start", `"id":"a","type":"function","function":{"name":"f","arguments":""}`),
			cohereTool("tool-call-delta", `"function":{"arguments":"{\"x\""}`),
			cohereTool("tool-call-delta", `"function":{"arguments":":1}"}`), `{"type":"tool-call-end","index":1}`,
			strings.ReplaceAll(cohereTool("tool-call-start",
				`"id":"b","type":"function","function":{"name":"g","arguments":""}`), `"index":1`, `"index":2`),
			`{"type":"tool-call-end","index":2}`, strings.Replace(cohereEnd, "COMPLETE", "TOOL_CALL", 1)),
		want: chattest.Transcript{Tools: []chat.ToolCall{{ID: "a", Name: "f", Arguments: `{"x":1}`},
			{ID: "b", Name: "g", Arguments: "{}"}}, Done: cohereDone("tool_calls")},
	},
	"a failure at the end": {
		body: sse(cohereContent(`"text":"Hi"`),
			`{"type":"message-end","delta":{"error":"invalid tool generation","finish_reason":"ERROR"}}`, "[DONE]"),
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamError,
	},
	"an answer that was filtered": {
		body: sse(cohereContent(`"text":"Hi"`), strings.Replace(cohereEnd, "COMPLETE", "ERROR_TOXIC", 1)),
		want: chattest.Transcript{Text: "Hi", Done: cohereDone("content_filter")},
	},
	"an error inside a 200": {
		body: sse(cohereContent(`"text":"Hi"`), `{"id":"x","message":"internal server error"}`),
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamError,
	},
	"garbage is malformed": {body: sse(cohereStart, `<html>`), code: chat.UpstreamMalformed},
	"what is not known is passed over": {
		body: ": hi\n\n" + sse("",
			`{"type":"citation-start","index":0,"delta":{"message":{"citations":{"text":"no",`+
				`"sources":[{"type":"tool"}]}}}}`, `{"type":"citation-end","index":0}`,
			`{"type":"debug","prompt":"no","message":{}}`,
			`{"type":"content-delta","index":null,"delta":{"message":null}}`,
			cohereContent(`"text":null`), cohereContent(`"text":"Hi","later":1`),
			cohereTool("tool-call-delta", `"function":{"arguments":"no"}`), cohereEnd),
		want: chattest.Transcript{Text: "Hi", Done: cohereDone("stop")},
	},
}

func TestCohereStreams(t *testing.T) { requireStreams(t, "cohere", cohereStreams) }

func TestCohereRequest(t *testing.T) {
	req := conversation()
	req.ReasoningEffort = "low"
	got := ask(t, "cohere", req)
	require.Equal(t, "/v2/chat", got.path)
	require.Equal(t, "Bearer test-key", got.header.Get("Authorization"))
	require.JSONEq(t, `{
		"model": "m", "stream": true,
		"messages": [
			{"role":"system","content":"s1"}, {"role":"system","content":"s2"},
			{"role":"user","content":[{"type":"text","text":"what?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAEC","detail":"high"}}]},
			{"role":"assistant","content":"let me see","tool_calls":[{"id":"a.1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},{"id":"b","type":"function","function":{"name":"g","arguments":""}}]},
			{"role":"tool","tool_call_id":"a.1","content":"4"}, {"role":"tool","tool_call_id":"b","content":"{\"y\":2}"},
			{"role":"user","content":"and?"}],
		"temperature":0.70, "p":0.9, "max_tokens":900, "seed":7, "stop_sequences":["END"],
		"response_format": {"type":"json_object","json_schema":{"type":"object"}},
		"tools": [
			{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","properties":{"x":{"type":"integer"}}}}},
			{"type":"function","function":{"name":"g","parameters":{"type":"object","properties":{}}}}],
		"tool_choice": "REQUIRED", "thinking": {"type":"enabled","token_budget":2048}
	}`, got.body)
}

func TestCohereRequestVariants(t *testing.T) {
	user := []chat.Message{{Role: chat.RoleUser, Content: "hi"}}
	const hi = `{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true`
	tools := []chat.ToolSpec{{Name: "f"}, {Name: "g"}}
	const g = `{"type":"function","function":{"name":"g","parameters":{"type":"object","properties":{}}}}`
	const f = `{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{}}}}`
	for want, req := range map[string]chat.Request{
		hi + `,"tools":[` + f + `,` + g + `]}`: {Messages: user, Tools: tools,
			ToolChoice: chat.ToolChoice{Mode: chat.ChooseAuto}},
		hi + `,"tools":[` + f + `,` + g + `],"tool_choice":"NONE"}`: {Messages: user, Tools: tools,
			ToolChoice: chat.ToolChoice{Mode: chat.ChooseNone}},
		hi + `,"tools":[` + g + `],"tool_choice":"REQUIRED"}`: {Messages: user, Tools: tools,
			ToolChoice: chat.ToolChoice{Mode: chat.ChooseFunction, Name: "g"}},
		hi + `,"thinking":{"type":"disabled"}}`: {Messages: user, ReasoningEffort: "none"},
		hi + `,"response_format":{"type":"json_object"}}`: {Messages: user,
			ResponseFormat: []byte(`{"type":"json_object"}`)},
	} {
		require.JSONEq(t, want, ask(t, "cohere", &req).body)
	}
	calls := &chat.Request{Messages: []chat.Message{{Role: chat.RoleAssistant,
		ToolCalls: []chat.ToolCall{{ID: "a", Name: "f", Arguments: "{}"}}}, {Role: chat.RoleTool, ToolCallID: "a"}}}
	require.JSONEq(t, `{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"a","type":"function",`+
		`"function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":""}],"stream":true}`,
		ask(t, "cohere", calls).body)
}

func TestCohereRefusals(t *testing.T) {
	user := chat.Message{Role: chat.RoleUser, Content: "hi"}
	for want, req := range map[string]chat.Request{
		"messages[1].content[0].image_url: this provider takes no images in tool messages": {
			Messages: []chat.Message{user, {Role: chat.RoleTool, ToolCallID: "a",
				Parts: []chat.Part{{Type: chat.PartImage, ImageURL: "https://x"}}}}},
		"reasoning_effort: want none, minimal, low, medium, high, xhigh or max": {Messages: []chat.Message{user},
			ReasoningEffort: "huge"},
		"response_format.json_schema.schema: want a JSON Schema object": {Messages: []chat.Message{user},
			ResponseFormat: []byte(`{"type":"json_schema"}`)},
	} {
		require.Equal(t, want, refused(t, "cohere", &req))
	}
}

var cohereText = cohereContent(`"text":" token \u00e9"`)

func TestDecodingCohereTextDoesNotAllocate(t *testing.T) {
	requireNoAllocations(t, "cohere", cohereText, cohereEnd)
}

func FuzzCohereEvent(f *testing.F) { fuzzStreams(f, "cohere", cohereStreams) }

func BenchmarkCohereEvent(b *testing.B) { benchmarkEvent(b, "cohere", cohereText, cohereEnd) }
