package provider_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/upstream/provider"
)

func candidate(parts, more string) string {
	return `{"candidates":[{"content":{"parts":[` + parts + `],"role":"model"}` + more + `}],"modelVersion":"m-1"}`
}

const (
	geminiUsage = `{"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":2,"totalTokenCount":9}}`
	geminiStop  = `,"finishReason":"STOP","index":0`
)

var geminiStreams = map[string]stream{
	"thoughts, text, usage and the end": {
		body: sse(candidate(`{"text":"hm","thought":true}`, `,"index":0`), candidate(`{"text":"Hel"}`, ""),
			candidate(`{"text":"lo \u4f60\ud83d\ude00"},{"text":"!"}`, geminiStop), geminiUsage),
		want: chattest.Transcript{Reasoning: "hm", Text: "Hello 你😀!", Done: done("stop")},
	},
	"thoughts are counted with the answer": {
		body: sse(candidate(`{"text":"Hi"}`, geminiStop),
			`{"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":1}}`,
			`{"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":1,"thoughtsTokenCount":1}}`,
			`{"usageMetadata":{"trafficType":"ON_DEMAND"}}`),
		want: chattest.Transcript{Text: "Hi", Done: &chat.Completion{FinishReason: "stop", Model: "m-1",
			Usage: &chat.Usage{PromptTokens: 7, CompletionTokens: 2, ReasoningTokens: 1}}},
	},
	"old models say STOP with every event": {
		body: sse(candidate(`{"text":"a"}`, geminiStop), candidate(`{"text":"b"}`, geminiStop),
			candidate(`{"text":"c"}`, geminiStop), geminiUsage),
		want: chattest.Transcript{Text: "abc", Done: done("stop")},
	},
	"the last reason wins": {
		body: sse(candidate(`{"text":"a"}`, geminiStop), candidate(`{"text":"b"}`, `,"finishReason":"MAX_TOKENS"`),
			geminiUsage),
		want: chattest.Transcript{Text: "ab", Done: done("length")},
	},
	"a reason may come without parts": {
		body: sse(candidate(`{"text":"a"}`, ""), `{"candidates":[{"finishReason":"STOP"}],"modelVersion":"m-1"}`,
			geminiUsage),
		want: chattest.Transcript{Text: "a", Done: done("stop")},
	},
	"without a reason the answer is truncated": {
		body: sse(candidate(`{"text":"a"}`, ""), geminiUsage),
		want: chattest.Transcript{Text: "a"}, code: chat.UpstreamTruncated,
	},
	"a cut through the last event is a truncated answer": {
		body: sse(candidate(`{"text":"a"}`, geminiStop)) + `data: {"candidates": [{"con`,
		want: chattest.Transcript{Text: "a"}, code: chat.UpstreamTruncated,
	},
	"a last event may lack its blank line": {
		body: "data: " + candidate(`{"text":"a"}`, geminiStop),
		want: chattest.Transcript{Text: "a", Done: noUsage(done("stop"))},
	},
	"an empty body is a truncated answer": {code: chat.UpstreamTruncated},
	"only candidate 0 is relayed, wherever its index stands": {
		body: sse(`{"candidates":[{"content":{"parts":[{"text":"no"},{"functionCall":{"name":"no"}}]},`+
			`"finishReason":"SAFETY","index":1},{"content":{"parts":[{"text":"Hi"}]},"finishReason":"STOP"}],`+
			`"modelVersion":"m-1"}`, geminiUsage),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"calls come whole, perhaps without an id": {
		body: sse(candidate(`{"functionCall":{"name":"f","args":{"x": [1, "a&b"]}},"thoughtSignature":"c2ln"},`+
			`{"functionCall":{"id":"b","name":"g"}}`, geminiStop), geminiUsage),
		want: chattest.Transcript{Tools: []chat.ToolCall{{ID: "call_0", Name: "f", Arguments: `{"x": [1, "a&b"]}`},
			{ID: "b", Name: "g", Arguments: "{}"}}, Done: done("tool_calls")},
	},
	"or value by value": {
		body: sse(candidate(`{"functionCall":{"id":"a","name":"f","willContinue":true}}`, ""),
			candidate(`{"functionCall":{"partialArgs":[{"jsonPath":"$.s","stringValue":"San ","willContinue":true}],`+
				`"willContinue":true}}`, ""),
			candidate(`{"functionCall":{"partialArgs":[{"jsonPath":"$.s","stringValue":"F<co>","willContinue":true},`+
				`{"jsonPath":"$.s","stringValue":""}],"willContinue":true}}`, ""),
			candidate(`{"functionCall":{"partialArgs":[{"jsonPath":"$.list[0].n","numberValue":1.50},`+
				`{"jsonPath":"$.list[1]","boolValue":false},{"jsonPath":"$['a.b'][\"c\\\"]\"]",`+
				`"nullValue":"NULL_VALUE"}],"willContinue":true}}`, ""),
			candidate(`{"functionCall":{}}`, ""),
			candidate(`{"functionCall":{"name":"g","args":{"k":9007199254740993},"partialArgs":[{"jsonPath":"$.l",`+
				`"numberValue":2}]}}`, geminiStop), geminiUsage),
		want: chattest.Transcript{Tools: []chat.ToolCall{
			{ID: "a", Name: "f", Arguments: `{"a.b":{"c\"]":null},"list":[{"n":1.50},false],"s":"San F<co>"}`},
			{ID: "call_1", Name: "g", Arguments: `{"k":9007199254740993,"l":2}`}}, Done: done("tool_calls")},
	},
	"a call that is not ended ends with the next or with the answer": {
		body: sse(candidate(`{"functionCall":{"name":"f","willContinue":true}}`, ""),
			candidate(`{"functionCall":{"name":"g","willContinue":true}}`, ""),
			candidate(`{"functionCall":{"name":"h","args":{}}},{"functionCall":{"name":"i","willContinue":true}}`,
				`,"finishReason":"MAX_TOKENS"`), geminiUsage),
		want: chattest.Transcript{Tools: []chat.ToolCall{{ID: "call_0", Name: "f", Arguments: "{}"},
			{ID: "call_1", Name: "g", Arguments: "{}"}, {ID: "call_2", Name: "h", Arguments: "{}"},
			{ID: "call_3", Name: "i", Arguments: "{}"}}, Done: done("length")},
	},
	"partial arguments may have no value, and [] is the end of a list": {
		body: sse(candidate(`{"functionCall":{"name":"f","willContinue":true}}`, ""),
			candidate(`{"functionCall":{"partialArgs":[{"jsonPath":"$"},{"jsonPath":"$.none[]"},`+
				`{"jsonPath":"$.tags[0]","stringValue":"a"},{"jsonPath":"$.tags[]"},`+
				`{"jsonPath":"$.more[]","stringValue":"b"},{"jsonPath":"$.more[]","numberValue":2},`+
				`{"jsonPath":"$.object"},{"jsonPath":"$.s","stringValue":"x"},{"jsonPath":"$.s"},`+
				`{"jsonPath":"$.s[]"},{"jsonPath":"$.null","nullValue":null}],"willContinue":true}}`, ""),
			candidate(`{"functionCall":{}}`, geminiStop), geminiUsage),
		want: chattest.Transcript{Tools: []chat.ToolCall{
			{ID: "call_0", Name: "f", Arguments: `{"more":["b",2],"none":[],"null":null,"object":{},"s":"x",` +
				`"tags":["a"]}`}}, Done: done("tool_calls")},
	},
	"a continuation is a part": {
		body: sse(candidate(`{"text":"Hi"}`, ""),
			candidate(``, `,"finishReason":"CONTINUATION","continuationToken":"Y29udA=="`), geminiUsage),
		want: chattest.Transcript{Text: "Hi", Done: done("length")},
	},
	"a value without a call belongs to none": {
		body: sse(candidate(`{"functionCall":{"partialArgs":[{"jsonPath":"$.s","stringValue":"x"}]}},`+
			`{"functionCall":{}},{"text":"Hi"}`, geminiStop), geminiUsage),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"a path that fits nothing is malformed": {
		body: sse(candidate(`{"functionCall":{"name":"f","partialArgs":[{"jsonPath":"$.list[9]","stringValue":"x"}]}}`,
			"")),
		code: chat.UpstreamMalformed,
	},
	"a blocked prompt": {
		body: sse(`{"promptFeedback":{"blockReason":"SAFETY","blockReasonMessage":"no"},` +
			`"usageMetadata":{"promptTokenCount":7}}`),
		code: chat.ContentFiltered,
	},
	"ratings of a prompt are no block": {
		body: sse(`{"promptFeedback":{"safetyRatings":[{"blocked":true}]}}`, candidate(`{"text":"Hi"}`, geminiStop),
			geminiUsage),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"a blocked answer": {
		body: sse(candidate(`{"text":"Hi"}`, ""),
			`{"candidates":[{"finishReason":"SAFETY","safetyRatings":[]}],"modelVersion":"m-1"}`, geminiUsage),
		want: chattest.Transcript{Text: "Hi", Done: done("content_filter")},
	},
	"a call that the model got wrong is an error": {
		body: sse(`{"candidates":[{"content":{},"finishReason":"MALFORMED_FUNCTION_CALL","finishMessage":"x"}]}`),
		code: chat.UpstreamError,
	},
	"an error inside a 200": {
		body: sse(candidate(`{"text":"Hi"}`, geminiStop),
			`{"error":{"code":429,"message":"x","status":"RESOURCE_EXHAUSTED"}}`),
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamRateLimited,
	},
	"an error as a bare object": {
		body: sse(candidate(`{"text":"Hi"}`, geminiStop)) +
			"{\n  \"error\": {\n    \"code\": 503,\n    \"status\": \"UNAVAILABLE\"\n  }\n}\n",
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamError,
	},
	"garbage is malformed": {body: sse(candidate(`{"text":"Hi"}`, geminiStop), `<html>`),
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamMalformed},
	"what is not known is passed over": {
		body: ": hi\n\n" + sse("", `{"responseId":"x","candidates":null}`,
			`{"candidates":[null,{"content":{"role":"model"}},{"content":null}]}`,
			candidate(`{"executableCode":{"code":"no"}},{"codeExecutionResult":{"output":"no"}},`+
				`{"inlineData":{"data":"bm8="}},{"text":"","thoughtSignature":"c2ln"},{"functionCall":null},null,`+
				`{"text":"Hi"}`, geminiStop+`,"groundingMetadata":{"text":"no"}`), geminiUsage, "[DONE]"),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
}

func TestGeminiStreams(t *testing.T) { requireStreams(t, "gemini", geminiStreams) }

func TestAReasonThatMayComeAgainCutsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pr, pw := io.Pipe()
		s := newUpstream(t, options("gemini", "http://provider.invalid"))
		provider.SetTransport(s, replies(func() io.Reader { return pr }))
		go func() {
			for _, text := range []string{"a", "b", "c"} {
				_, _ = io.WriteString(pw, sse(candidate(`{"text":"`+text+`"}`, geminiStop)))
				time.Sleep(9 * time.Second) // within the idle time, and beyond the grace after a finish reason
			}
			pw.Close()
		}()
		got := chattest.Fold(t, s.Stream(t.Context(), question()))
		require.NoError(t, got.Err)
		require.Equal(t, "abc", got.Text)
	})
}

func TestAReasonThatMayComeAgainEndsNoBrokenConnection(t *testing.T) {
	pr, pw := io.Pipe()
	go func() {
		_, _ = io.WriteString(pw, sse(candidate(`{"text":"a"}`, geminiStop)))
		pw.CloseWithError(io.ErrUnexpectedEOF)
	}()
	got := decodeWith(t, "gemini", func() io.Reader { return pr })
	require.Equal(t, chat.UpstreamTruncated, chat.AsError(got.Err).Code)
}

func TestWhatCostsMoreHereThanOnTheWireIsBounded(t *testing.T) {
	partial := strings.Repeat(`{"functionCall":{"partialArgs":[{"jsonPath":"$`+strings.Repeat(".a", 50)+
		`","stringValue":"x"}],"willContinue":true}},`, 1000)
	for name, body := range map[string]string{
		"parts": sse(`{"candidates":[{"content":{"parts":[` + strings.Repeat("{},", 5000) + `{}]}}]}`),
		"partial args": sse(candidate(`{"functionCall":{"name":"f","willContinue":true}}`, "")) +
			strings.Repeat(sse(candidate(partial+"{}", "")), 8),
	} {
		got := decodeWith(t, "gemini", func() io.Reader { return strings.NewReader(body) })
		require.Equal(t, chat.UpstreamMalformed, chat.AsError(got.Err).Code, name)
	}
	for kind, body := range map[string]string{
		"openai": sse(`{"choices":[{"delta":{"tool_calls":[` + strings.Repeat("{},", 5000) + `{}]}}]}`),
		"ollama": lines(`{"message":{"tool_calls":[` + strings.Repeat("{},", 5000) + `{}]}}`),
	} {
		got := decodeWith(t, kind, func() io.Reader { return strings.NewReader(body) })
		require.Equal(t, chat.UpstreamMalformed, chat.AsError(got.Err).Code, kind)
	}
}

// A piece costs many times on the wire what it adds to the arguments: more than these may have, and nothing happens.
func TestCallsInPiecesCountAsWhatTheyAre(t *testing.T) {
	const n, pieces = 30, 5_000
	name := strings.Repeat("s", 64)
	piece := `{"jsonPath":"$.` + name + `","stringValue":"xxxx","willContinue":true},`
	call := `{"functionCall":{"name":"f","partialArgs":[` + strings.Repeat(piece, pieces) +
		`{"jsonPath":"$.` + name + `","stringValue":""}]}}`
	body := strings.Repeat(sse(candidate(call, "")), n) + sse(candidate("", geminiStop))
	require.Greater(t, len(body), 16<<20)
	got := decodeWith(t, "gemini", func() io.Reader { return strings.NewReader(body) })
	require.NoError(t, got.Err)
	require.Len(t, got.Tools, n)
	require.Len(t, got.Tools[n-1].Arguments, len(`{"`+name+`":""}`)+4*pieces)
}

func TestGeminiRefusesInDetails(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		body   string
		want   chat.Code
		wait   time.Duration
	}{
		"a key that is wrong is no fault of the caller": {
			400, `{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT",` +
				`"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID",` +
				`"domain":"x","metadata":{"service":"y"}},null]}}`,
			chat.UpstreamAuth, 0,
		},
		"how long to wait stands in the body": {
			429, `[{"error":{"code":429,"message":"x","status":"RESOURCE_EXHAUSTED",` +
				`"details":[{"retryDelay":"19.5s"},{"reason":3}]}}]`,
			chat.UpstreamRateLimited, 19500 * time.Millisecond,
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			}))
			defer srv.Close()
			err := chat.AsError(chattest.Fold(t, newUpstream(t, options("gemini", srv.URL)).Stream(t.Context(),
				question())).Err)
			require.Equal(t, tc.want, err.Code)
			require.Equal(t, tc.wait, err.RetryAfter)
		})
	}
}

func TestGeminiRequest(t *testing.T) {
	got := ask(t, "gemini", conversation())
	require.Equal(t, "/models/m:streamGenerateContent?alt=sse", got.path)
	require.Equal(t, "test-key", got.header.Get("X-Goog-Api-Key"))
	require.Empty(t, got.header.Get("Authorization"))
	require.JSONEq(t, `{
		"systemInstruction": {"parts": [{"text":"s1\n\ns2"}]},
		"contents": [
			{"role": "user", "parts": [{"text":"what?"}, {"inlineData":{"mimeType":"image/png","data":"AAEC"}}]},
			{"role": "model", "parts": [{"text":"let me see"},
				{"thoughtSignature":"c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=","functionCall":{"id":"a.1","name":"f","args":{"x":1}}}, {"functionCall":{"id":"b","name":"g","args":{}}}]},
			{"role": "user", "parts": [{"functionResponse":{"id":"a.1","name":"f","response":{"output":"4"}}}, {"functionResponse":{"id":"b","name":"g","response":{"y":2}}}, {"text":"and?"}]}],
		"tools": [{"functionDeclarations": [{"name":"f","description":"d","parametersJsonSchema":{"type":"object","properties":{"x":{"type":"integer"}}}}, {"name":"g"}]}],
		"toolConfig": {"functionCallingConfig": {"mode":"ANY"}},
		"generationConfig": {"temperature":0.70,"topP":0.9,"maxOutputTokens":900,"seed":7,"stopSequences":["END"],"responseMimeType":"application/json","responseJsonSchema":{"type":"object"}}
	}`, got.body)
}

func TestGeminiRequestVariants(t *testing.T) {
	user := chat.Message{Role: chat.RoleUser, Content: "hi"}
	const hi = `"contents":[{"role":"user","parts":[{"text":"hi"}]}]`
	for name, tc := range map[string]struct {
		req  chat.Request
		want string
	}{
		"a plain one": {chat.Request{Messages: []chat.Message{user}}, `{` + hi + `,"generationConfig":{}}`},
		"an image may be elsewhere": {
			chat.Request{Messages: []chat.Message{
				{Role: chat.RoleUser, Parts: []chat.Part{{Type: chat.PartImage, ImageURL: "https://x/y.PNG?z"},
					{Type: chat.PartImage, ImageURL: "https://x/y"}}}}},
			`{"contents":[{"role":"user","parts":[{"fileData":{"mimeType":"image/png",` +
				`"fileUri":"https://x/y.PNG?z"}},{"fileData":{"fileUri":"https://x/y"}}]}],"generationConfig":{}}`,
		},
		"an image may be text": {
			chat.Request{Messages: []chat.Message{{Role: chat.RoleUser,
				Parts: []chat.Part{{Type: chat.PartImage, ImageURL: "data:image/svg+xml;charset=utf-8,%3Csvg/%3E"}}}}},
			`{"contents":[{"role":"user","parts":[{"inlineData":{"mimeType":"image/svg+xml","data":"PHN2Zy8+"}}]}],` +
				`"generationConfig":{}}`,
		},
		"an effort is a budget to earlier models": {
			chat.Request{Model: "gemini-2.5-flash", Messages: []chat.Message{user}, ReasoningEffort: "xhigh"},
			`{` + hi + `,"generationConfig":{"thinkingConfig":{"thinkingBudget":24576,"includeThoughts":true}}}`,
		},
		"no effort is no budget": {
			chat.Request{Model: "gemini-2.5-flash", Messages: []chat.Message{user}, ReasoningEffort: "none"},
			`{` + hi + `,"generationConfig":{"thinkingConfig":{"thinkingBudget":0}}}`,
		},
		"an effort is a level since Gemini 3": {
			chat.Request{Messages: []chat.Message{user}, ReasoningEffort: "medium"},
			`{` + hi + `,"generationConfig":{"thinkingConfig":{"thinkingLevel":"MEDIUM","includeThoughts":true}}}`,
		},
		"there are no more than three or four levels": {
			chat.Request{Messages: []chat.Message{user}, ReasoningEffort: "xhigh"},
			`{` + hi + `,"generationConfig":{"thinkingConfig":{"thinkingLevel":"HIGH","includeThoughts":true}}}`,
		},
		"no effort is the lowest level": {
			chat.Request{Model: "gemini-3.5-flash", Messages: []chat.Message{user}, ReasoningEffort: "none"},
			`{` + hi + `,"generationConfig":{"thinkingConfig":{"thinkingLevel":"MINIMAL"}}}`,
		},
		"which is a higher one for the large models": {
			chat.Request{Model: "gemini-3.1-pro", Messages: []chat.Message{user}, ReasoningEffort: "minimal"},
			`{` + hi + `,"generationConfig":{"thinkingConfig":{"thinkingLevel":"LOW","includeThoughts":true}}}`,
		},
		"one tool may be named": {
			chat.Request{Messages: []chat.Message{user}, Tools: []chat.ToolSpec{{Name: "f"}},
				ToolChoice:     chat.ToolChoice{Mode: chat.ChooseFunction, Name: "f"},
				ResponseFormat: []byte(`{"type":"text"}`)},
			`{` + hi + `,"tools":[{"functionDeclarations":[{"name":"f"}]}],"toolConfig":{"functionCallingConfig":{` +
				`"mode":"ANY","allowedFunctionNames":["f"]}},"generationConfig":{}}`,
		},
		"a seed too large is only a wish": {
			chat.Request{Messages: []chat.Message{user}, Seed: "15092511270073158000",
				ResponseFormat: []byte(`{"type":"json_object"}`)},
			`{` + hi + `,"generationConfig":{"responseMimeType":"application/json"}}`,
		},
		"earlier models want no signature": {
			chat.Request{Model: "models/gemini-2.5-flash",
				Messages: []chat.Message{{Role: chat.RoleAssistant,
					ToolCalls: []chat.ToolCall{{ID: "a", Name: "f"}}}}},
			`{"contents":[{"role":"model","parts":[{"functionCall":{"name":"f","args":{}}}]}],` +
				`"generationConfig":{"thinkingConfig":{"includeThoughts":true}}}`,
		},
	} {
		t.Run(name, func(t *testing.T) { require.JSONEq(t, tc.want, ask(t, "gemini", &tc.req).body) })
	}
}

func TestGeminiRefusals(t *testing.T) {
	user := chat.Message{Role: chat.RoleUser, Content: "hi"}
	for want, req := range map[string]chat.Request{
		"messages[1].tool_call_id: no call before it has this id": {
			Messages: []chat.Message{user, {Role: chat.RoleTool, ToolCallID: "a"}}},
		"messages[1].content[0].image_url: this provider takes no images in tool messages": {
			Messages: []chat.Message{user,
				{Role: chat.RoleTool, Parts: []chat.Part{{Type: chat.PartImage, ImageURL: "https://x"}}}}},
		"reasoning_effort: want none, minimal, low, medium, high, xhigh or max": {
			Messages: []chat.Message{user}, ReasoningEffort: "huge"},
		"messages[0].tool_calls[1].function.arguments: want the text of a JSON object": {
			Messages: []chat.Message{{Role: chat.RoleAssistant,
				ToolCalls: []chat.ToolCall{{ID: "a", Name: "f"}, {ID: "b", Name: "f", Arguments: `{"`}}}}},
		"messages: this provider needs a message that is not the system's": {
			Messages: []chat.Message{{Role: chat.RoleSystem, Content: "s"}}},
		"messages[0].content[0].image_url: this provider takes no images in system messages": {
			Messages: []chat.Message{{Role: chat.RoleSystem,
				Parts: []chat.Part{{Type: chat.PartImage, ImageURL: "https://x"}}}}},
	} {
		require.Equal(t, want, refused(t, "gemini", &req))
	}
}

const geminiText = `{"candidates": [{"content": {"parts": [{"text": " token \u00e9"}],"role": "model"},"index": 0}],` +
	`"usageMetadata": {"promptTokenCount": 9,"candidatesTokenCount": 18,"totalTokenCount": 27,` +
	`"promptTokensDetails": [{"modality": "TEXT","tokenCount": 9}]},"modelVersion": "m-1","responseId": "r"}`

func TestDecodingGeminiTextDoesNotAllocate(t *testing.T) {
	requireNoAllocations(t, "gemini", geminiText, candidate("", geminiStop))
}

func FuzzGeminiEvent(f *testing.F) { fuzzStreams(f, "gemini", geminiStreams) }

func BenchmarkGeminiEvent(b *testing.B) {
	benchmarkEvent(b, "gemini", geminiText, candidate("", geminiStop))
}
