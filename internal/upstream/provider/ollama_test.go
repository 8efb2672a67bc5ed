package provider_test

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
)

func line(message, more string) string {
	return `{"model":"m-1","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant",` + message + `}` + more +
		`}`
}

const ollamaDone = `,"done_reason":"stop","done":true,"total_duration":1,"prompt_eval_count":7,"eval_count":2`

func lines(data ...string) string { return events("ollama", data...) }

var ollamaStreams = map[string]stream{
	"thinking, text, usage and the terminator": {
		body: lines(line(`"content":"","thinking":"hm"`, `,"done":false`), line(`"content":"Hel"`, `,"done":false`),
			line(`"content":"lo \u4f60\ud83d\ude00"`, `,"done":false`), line(`"content":""`, ollamaDone)),
		want: chattest.Transcript{Reasoning: "hm", Text: "Hello 你😀", Done: done("stop")},
	},
	"the last line may have text, and lack its end": {
		body: strings.TrimSpace(lines(line(`"content":"Hi"`, ollamaDone))),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"blank lines say nothing": {
		body: "\n\n" + lines(line(`"content":"Hi"`, ""), "", "  ", line(`"content":""`, ollamaDone), ""),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"nothing follows the terminator": {
		body: lines(line(`"content":"Hi"`, ollamaDone), line(`"content":"no"`, "")),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"calls come whole, with an object as arguments": {
		body: lines(line(`"content":"","tool_calls":[{"function":{"name":"f","arguments":{"x":1}}}]`, ""),
			line(`"content":"","tool_calls":[{"id":"b","function":{"index":1,"name":"g","arguments":{}}},`+
				`{"function":{"name":"h","arguments":"{\"y\":2}"}}]`, ""), line(`"content":""`, ollamaDone)),
		want: chattest.Transcript{Tools: []chat.ToolCall{{ID: "call_0", Name: "f", Arguments: `{"x":1}`},
			{ID: "b", Name: "g", Arguments: "{}"}, {ID: "call_2", Name: "h", Arguments: `{"y":2}`}},
			Done: done("tool_calls")},
	},
	"a token limit": {
		body: lines(line(`"content":"Hi"`, ""), strings.Replace(line(`"content":""`, ollamaDone), `"stop"`, `"length"`,
			1)),
		want: chattest.Transcript{Text: "Hi", Done: done("length")},
	},
	"without the terminator the answer is truncated": {
		body: lines(line(`"content":"Hi"`, `,"done":false`)),
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamTruncated,
	},
	"a cut through the last line is a truncated answer": {
		body: lines(line(`"content":"Hi"`, `,"done":false`)) + `{"model":"m-1","mess`,
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamTruncated,
	},
	"an empty body is a truncated answer": {code: chat.UpstreamTruncated},
	"an error inside a 200": {
		body: lines(line(`"content":"Hi"`, `,"done":false`),
			`{"error":"an unknown error was encountered while running the model"}`),
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamError,
	},
	"garbage is malformed": {body: lines(line(`"content":"Hi"`, ""), `<html>`), want: chattest.Transcript{Text: "Hi"},
		code: chat.UpstreamMalformed},
	"what is not known is passed over": {
		body: lines(`{"status":"loading","message":null,"done":null}`,
			line(`"content":null,"images":["no"],"tool_calls":null`, ""),
			line(`"content":"","tool_calls":[null,{"function":null,"later":1}]`, ""),
			line(`"content":"Hi"`, ollamaDone)),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
}

func TestOllamaStreams(t *testing.T) { requireStreams(t, "ollama", ollamaStreams) }

func TestALineOverTheLimitIsMalformed(t *testing.T) {
	got := decodeWith(t, "ollama", func() io.Reader {
		return io.MultiReader(strings.NewReader(lines(line(`"content":"Hi"`, ""))+`{"later":"`),
			io.LimitReader(spaces{}, 17<<20))
	})
	require.Equal(t, "Hi", got.Text)
	require.Equal(t, chat.UpstreamMalformed, chat.AsError(got.Err).Code)

	long := strings.Repeat("x", 15<<20)
	got = decodeWith(t, "ollama", func() io.Reader {
		return strings.NewReader(lines(line(`"content":"`+long+`"`, ollamaDone)))
	})
	require.NoError(t, got.Err)
	require.Len(t, got.Text, len(long))
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestOllamaRequest(t *testing.T) {
	req := conversation()
	req.ToolChoice = chat.ToolChoice{Mode: chat.ChooseAuto}
	req.ReasoningEffort = "medium"
	got := ask(t, "ollama", req)
	require.Equal(t, "/api/chat", got.path)
	require.Equal(t, "Bearer test-key", got.header.Get("Authorization"))
	require.Equal(t, "application/x-ndjson", got.header.Get("Accept"))
	require.JSONEq(t, `{
		"model": "m", "stream": true, "think": "medium", "format": {"type":"object"},
		"messages": [
			{"role":"system","content":"s1"}, {"role":"system","content":"s2"},
			{"role":"user","content":"what?","images":["AAEC"]},
			{"role":"assistant","content":"let me see","tool_calls":[{"id":"a.1","function":{"name":"f","arguments":{"x":1}}},{"id":"b","function":{"name":"g","arguments":{}}}]},
			{"role":"tool","content":"4","tool_name":"f","tool_call_id":"a.1"}, {"role":"tool","content":"{\"y\":2}","tool_name":"g","tool_call_id":"b"},
			{"role":"user","content":"and?"}],
		"tools": [
			{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","properties":{"x":{"type":"integer"}}}}},
			{"type":"function","function":{"name":"g","parameters":{"type":"object","properties":{}}}}],
		"options": {"temperature":0.70,"top_p":0.9,"num_predict":900,"seed":7,"stop":["END"]}
	}`, got.body)
}

func TestOllamaRequestVariants(t *testing.T) {
	user := []chat.Message{{Role: chat.RoleUser, Content: "hi"}}
	const hi = `{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"options":{}`
	for want, req := range map[string]chat.Request{
		hi + `}`: {Messages: user, Tools: []chat.ToolSpec{{Name: "f"}},
			ToolChoice: chat.ToolChoice{Mode: chat.ChooseNone}, Seed: "15092511270073158000"},
		hi + `,"think":false}`:   {Messages: user, ReasoningEffort: "none"},
		hi + `,"think":"low"}`:   {Messages: user, ReasoningEffort: "minimal"},
		hi + `,"think":"max"}`:   {Messages: user, ReasoningEffort: "max"},
		hi + `,"format":"json"}`: {Messages: user, ResponseFormat: []byte(`{"type":"json_object"}`)},
	} {
		require.JSONEq(t, want, ask(t, "ollama", &req).body)
	}
}

func TestOllamaRefusals(t *testing.T) {
	user := chat.Message{Role: chat.RoleUser, Content: "hi"}
	for want, req := range map[string]chat.Request{
		"tool_choice: this provider can't be made to call a tool; use auto or none": {
			Messages: []chat.Message{user}, Tools: []chat.ToolSpec{{Name: "f"}},
			ToolChoice: chat.ToolChoice{Mode: chat.ChooseRequired}},
		"messages[1].content[0].image_url: this provider fetches no images; use a data URL": {
			Messages: []chat.Message{user,
				{Role: chat.RoleUser, Parts: []chat.Part{{Type: chat.PartImage, ImageURL: "https://x"}}}}},
		"messages[1].tool_call_id: no call before it has this id": {
			Messages: []chat.Message{user, {Role: chat.RoleTool, ToolCallID: "a"}}},
		"reasoning_effort: want none, minimal, low, medium, high, xhigh or max": {
			Messages: []chat.Message{user}, ReasoningEffort: "huge"},
		"response_format.type: want text, json_object or json_schema": {
			Messages: []chat.Message{user}, ResponseFormat: []byte(`{"type":"yaml"}`)},
		"messages[0].tool_calls[0].function.arguments: want the text of a JSON object": {
			Messages: []chat.Message{{Role: chat.RoleAssistant,
				ToolCalls: []chat.ToolCall{{ID: "a", Name: "f", Arguments: "x"}}}}},
	} {
		require.Equal(t, want, refused(t, "ollama", &req))
	}
}

var ollamaText = line(`"content":" token \u00e9"`, `,"done":false`)

func TestDecodingOllamaTextDoesNotAllocate(t *testing.T) {
	requireNoAllocations(t, "ollama", ollamaText, line(`"content":""`, ollamaDone))
}

func FuzzOllamaLine(f *testing.F) { fuzzStreams(f, "ollama", ollamaStreams) }

func BenchmarkOllamaLine(b *testing.B) {
	benchmarkEvent(b, "ollama", ollamaText, line(`"content":""`, ollamaDone))
}
