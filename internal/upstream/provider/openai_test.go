package provider_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/upstream/provider"
)

// sse makes an event stream of data lines.
func sse(data ...string) string {
	var b strings.Builder
	for _, d := range data {
		b.WriteString("data: " + d + "\n\n")
	}
	return b.String()
}

func delta(fields string) string {
	return `{"id":"c1","object":"chat.completion.chunk","model":"m-1","choices":[{"index":0,"delta":{` + fields +
		`},"finish_reason":null}]}`
}

func finished(reason string) string {
	return `{"model":"m-1","choices":[{"index":0,"delta":{},"finish_reason":"` + reason + `"}]}`
}

const usage = `{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}`

func done(reason chat.FinishReason) *chat.Completion {
	return &chat.Completion{FinishReason: reason, Model: "m-1",
		Usage: &chat.Usage{PromptTokens: 7, CompletionTokens: 2}}
}

func noUsage(c *chat.Completion) *chat.Completion { c.Usage = nil; return c }

var openaiStreams = map[string]stream{
	"text, usage and the terminator": {
		body: sse(`{"choices":[],"id":"","prompt_filter_results":[]}`, delta(`"role":"assistant","content":""`),
			delta(`"content":"Hel"`), delta(`"content":"lo \u4f60\ud83d\ude00"`), finished("stop"), usage, "[DONE]"),
		want: chattest.Transcript{Text: "Hello 你😀", Done: done("stop")},
	},
	"a finish reason is enough": {
		body: sse(delta(`"content":"Hi"`), finished("stop")),
		want: chattest.Transcript{Text: "Hi", Done: noUsage(done("stop"))},
	},
	"the terminator is enough": {
		body: sse(delta(`"content":"Hi"`), "[DONE]"),
		want: chattest.Transcript{Text: "Hi", Done: noUsage(done("stop"))},
	},
	"neither is a truncated answer": {
		body: sse(delta(`"content":"Hi"`)),
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamTruncated,
	},
	"a cut through the last event is a truncated answer": {
		body: sse(delta(`"content":"Hi"`)) + `data: {"choices":[{"delta":{"con`,
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamTruncated,
	},
	"a last event may lack its blank line": {
		body: sse(delta(`"content":"Hi"`)) + "data: " + finished("stop"),
		want: chattest.Transcript{Text: "Hi", Done: noUsage(done("stop"))},
	},
	"an empty body is a truncated answer": {code: chat.UpstreamTruncated},
	"garbage is malformed": {
		body: sse(delta(`"content":"Hi"`), `<html>`),
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamMalformed,
	},
	"a later null does not erase the finish reason": {
		body: sse(delta(`"content":"Hi"`), finished("length"), delta(`"content":""`), usage),
		want: chattest.Transcript{Text: "Hi", Done: done("length")},
	},
	"the last usage wins": {
		body: sse(`{"model":"m-1","choices":[{"index":0,"delta":{"content":"Hi"}}],"usage":{"prompt_tokens":7,`+
			`"completion_tokens":1}}`,
			`{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,`+
				`"completion_tokens":2}}`, `{"choices":[],"usage":null}`, "[DONE]"),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"Groq and Moonshot put usage elsewhere": {
		body: sse(`{"model":"m-1","choices":[{"delta":{"content":"Hi"},"usage":{"prompt_tokens":1,`+
			`"completion_tokens":1}}]}`, finished("stop"),
			`{"x_groq":{"usage":{"prompt_tokens":7,"completion_tokens":2}}}`),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"only choice 0 is relayed, wherever its index stands": {
		body: sse(`{"model":"m-1","choices":[{"delta":{"content":"no","tool_calls":[{"index":0,"id":"x",`+
			`"function":{"name":"x"}}]},"finish_reason":"length","index":1},{"delta":{"content":"Hi"},`+
			`"finish_reason":"stop","index":0},{"index":2,"delta":{"content":"no"},`+
			`"finish_reason":"content_filter"}]}`, usage),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"reasoning by any name is taken once": {
		body: sse(delta(`"reasoning_content":"a","reasoning":"a","reasoning_details":[{"type":"reasoning.text",`+
			`"text":"a"}]`),
			delta(`"reasoning":"b","reasoning_details":[{"text":"b"}]`),
			delta(`"content":"","reasoning_details":[{"type":"reasoning.summary","summary":"c"},`+
				`{"type":"reasoning.encrypted","data":"x"}]`),
			delta(`"content":"Hi"`), finished("stop"), usage),
		want: chattest.Transcript{Reasoning: "abc", Text: "Hi", Done: done("stop")},
	},
	"Mistral sends parts": {
		body: sse(delta(`"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"},{"type":"ref"}],`+
			`"closed":true},{"type":"text","text":"Hi"}]`), finished("stop"), usage),
		want: chattest.Transcript{Reasoning: "hm", Text: "Hi", Done: done("stop")},
	},
	"a refusal is content": {
		body: sse(delta(`"content":null,"refusal":"No"`), delta(`"refusal":"."`), finished("stop"), usage),
		want: chattest.Transcript{Text: "No.", Done: done("stop")},
	},
	"a refusal that breaks off is no content": {
		body: sse(delta(`"refusal":"I can't"`)), code: chat.UpstreamTruncated,
	},
	"the delta alone counts": {
		body: sse(`{"model":"m-1","choices":[{"index":0,"text":"Hi","message":{"content":"Hi"},` +
			`"delta":{"content":"Hi"},"finish_reason":"eos"}],"usage":{"prompt_tokens":7,"completion_tokens":2}}`),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"tool calls come in fragments": {
		body: sse(delta(`"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f",`+
			`"arguments":""}}]`), delta(`"tool_calls":[{"index":0,"function":{"arguments":"{\"x\""}}]`),
			delta(`"tool_calls":[{"index":0,"id":"","function":{"name":null,"arguments":":1}"}},{"index":1,"id":"b",`+
				`"function":{"name":"g","arguments":null}}]`), finished("tool_calls"), usage, "[DONE]"),
		want: chattest.Transcript{Tools: []chat.ToolCall{{ID: "a", Name: "f", Arguments: `{"x":1}`},
			{ID: "b", Name: "g", Arguments: "{}"}}, Done: done("tool_calls")},
	},
	"calls may interleave": {
		body: sse(delta(`"tool_calls":[{"index":0,"id":"a","function":{"name":"f"}},{"index":1,"id":"b",`+
			`"function":{"name":"g"}}]`),
			delta(`"tool_calls":[{"index":1,"function":{"arguments":"{\"y\":"}},{"index":0,`+
				`"function":{"arguments":"{\"x\":"}}]`),
			delta(`"tool_calls":[{"index":0,"function":{"arguments":"1}"}},{"index":1,`+
				`"function":{"arguments":"2}"}}]`), finished("tool_calls"), usage),
		want: chattest.Transcript{Tools: []chat.ToolCall{{ID: "a", Name: "f", Arguments: `{"x":1}`}, {ID: "b", Name: "g", Arguments: `{"y":2}`}}, Done: done("tool_calls")},
	},
	"a new id on an index in use opens a call, a repeated name does not": {
		body: sse(delta(`"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]`),
			delta(`"tool_calls":[{"index":0,"id":"b","function":{"name":"f","arguments":"{\"x\":"}}]`),
			delta(`"tool_calls":[{"index":0,"id":"b","function":{"name":"f","arguments":"1}"}}]`), finished("stop"),
			usage),
		want: chattest.Transcript{Tools: []chat.ToolCall{{ID: "a", Name: "f", Arguments: `{}`},
			{ID: "b", Name: "f", Arguments: `{"x":1}`}}, Done: done("tool_calls")},
	},
	"calls without an index go by id, then by the last": {
		body: sse(delta(`"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{\"x\":"}}]`),
			delta(`"tool_calls":[{"function":{"arguments":"1}"}}]`),
			delta(`"tool_calls":[{"id":"b","function":{"name":"g","arguments":{"y":2}}}]`), finished("tool_calls"),
			usage),
		want: chattest.Transcript{Tools: []chat.ToolCall{{ID: "a", Name: "f", Arguments: `{"x":1}`}, {ID: "b", Name: "g", Arguments: `{"y":2}`}}, Done: done("tool_calls")},
	},
	"a finish reason may stand between two calls": {
		body: sse(delta(`"tool_calls":[{"index":-1,"id":"a","function":{"name":"f","arguments":"{}"}}]`),
			finished("tool_calls"),
			delta(`"tool_calls":[{"index":-1,"id":"b","function":{"name":"g","arguments":"{}"}}]`),
			finished("tool_calls"), usage, "[DONE]"),
		want: chattest.Transcript{Tools: []chat.ToolCall{{ID: "a", Name: "f", Arguments: `{}`},
			{ID: "b", Name: "g", Arguments: `{}`}}, Done: done("tool_calls")},
	},
	"a call without an id gets one": {
		body: sse(delta(`"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{}"}}]`), finished("tool_calls"),
			usage),
		want: chattest.Transcript{Tools: []chat.ToolCall{{ID: "call_0", Name: "f", Arguments: `{}`}},
			Done: done("tool_calls")},
	},
	"arguments cut off by a token limit are kept as they came": {
		body: sse(delta(`"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\": \"y"}}]`),
			finished("length"), usage),
		want: chattest.Transcript{Tools: []chat.ToolCall{{ID: "a", Name: "f", Arguments: `{"x": "y`}},
			Done: done("length")},
	},
	"a call that never ended is not sent": {
		body: sse(delta(`"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\": \"y"}}]`)),
		code: chat.UpstreamTruncated,
	},
	"an error inside a 200": {
		body: sse(delta(`"content":"Hi"`), `{"error":{"message":"upstream had a bad day","code":502}}`, "[DONE]"),
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamError,
	},
	"an error beats the rest of its chunk": {
		body: sse(`{"choices":[{"index":0,"delta":{"content":"no"},"finish_reason":"stop"}],"error":{"message":"x"},` +
			`"usage":null}`),
		code: chat.UpstreamError,
	},
	"an error after the finish reason is an error": {
		body: sse(delta(`"content":"Hi"`), finished("stop"), `{"error":{"message":"x","code":429}}`),
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamRateLimited,
	},
	"an error by the event's name": {
		body: sse(delta(`"content":"Hi"`)) + "event: error\ndata: {\"message\":\"boom\"}\n\n",
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamError,
	},
	"an error by the object's name": {
		body: sse(`{"object":"error","message":"too long","type":"BadRequestError","code":400}`),
		code: chat.UpstreamRejected,
	},
	"an error as a field of its own": {
		body: sse(delta(`"content":"Hi"`)) + "error: {\"error\":{\"message\":\"x\"}}\n\n",
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamError,
	},
	"an error as a bare object": {
		body: sse(delta(`"content":"Hi"`)) + "{\n \"error\": {\"code\": 503}\n}\n",
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamError,
	},
	"an error as a finish reason": {
		body: sse(delta(`"content":"Hi"`), finished("insufficient_system_resource")),
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamError,
	},
	"what is not known is passed over": {
		body: "event: weird\nid: 5\nfoo: bar\n: comment\n\n" + sse("",
			`{"obfuscation":"xxxx","seed":15092511270073158000,"choices":null,"usage":[],"error":null,"x_groq":3}  `,
			delta(`"content":"Hi","audio":{},"tool_calls":null`),
			`{"choices":[null,{"content_filter_results":{},"index":0,"delta":null}]}`, finished("stop"), usage,
			"[DONE]"),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
}

func TestOpenAIStreams(t *testing.T) { requireStreams(t, "openai", openaiStreams) }

func TestToolCallsAreSentAsSoonAsTheyAreWhole(t *testing.T) {
	pr, pw := io.Pipe()
	s := newUpstream(t, options("openai", "http://provider.invalid"))
	provider.SetTransport(s, replies(func() io.Reader { return pr }))
	go func() {
		_, _ = io.WriteString(pw,
			sse(delta(`"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]`),
				delta(`"tool_calls":[{"index":1,"id":"b","function":{"name":"g"}}]`)))
	}() // and then silence
	for c, err := range s.Stream(t.Context(), question()) {
		require.NoError(t, err)
		if c.Type == chat.Tool {
			require.Equal(t, "a", c.Tool.ID)
			break
		}
	}
	pr.Close()
}

func TestOpenAIRequests(t *testing.T) {
	var got *http.Request
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, sse(delta(`"content":"Hi"`), finished("stop"), usage, "[DONE]"))
	}))
	defer srv.Close()
	strict := false
	req := &chat.Request{
		Messages: []chat.Message{
			{Role: chat.RoleSystem, Content: "s"},
			{Role: chat.RoleUser, Name: "ann", Parts: []chat.Part{{Type: chat.PartText, Text: "t"},
				{Type: chat.PartImage, ImageURL: "https://x/y.png", Detail: "high"}}},
			{Role: chat.RoleAssistant, ToolCalls: []chat.ToolCall{{ID: "1", Name: "f", Arguments: `{"a":1}`}}},
			{Role: chat.RoleTool, ToolCallID: "1", Content: ""},
		},
		Temperature: "0.70", TopP: "1", MaxTokens: "9", Seed: "15092511270073158000", Stop: []string{"x"}, User: "u",
		Tools: []chat.ToolSpec{{Name: "f", Description: "d", Parameters: []byte(`{"type":"object"}`),
			Strict: &strict}},
		ToolChoice:     chat.ToolChoice{Mode: chat.ChooseFunction, Name: "f"},
		ResponseFormat: []byte(`{"type":"json_object"}`), ReasoningEffort: "low",
		Extra: []chat.Field{{Name: "top_k", Value: []byte(`5`)}},
	}
	const common = `"messages":[{"role":"system","content":"s"},
		{"role":"user","name":"ann","content":[{"type":"text","text":"t"},{"type":"image_url","image_url":{"url":"https://x/y.png","detail":"high"}}]},
		{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},
		{"role":"tool","tool_call_id":"1","content":""}],
		"temperature":0.70,"top_p":1,"max_tokens":9,"seed":15092511270073158000,"user":"u","reasoning_effort":"low","stop":["x"],"response_format":{"type":"json_object"},
		"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"},"strict":false}}],
		"tool_choice":{"type":"function","function":{"name":"f"}},"stream":true,"top_k":5`

	t.Run("openai", func(t *testing.T) {
		require.NoError(t, chattest.Fold(t, newUpstream(t, options("openai", srv.URL+"/v1")).Stream(t.Context(),
			req)).Err)
		require.Equal(t, "/v1/chat/completions", got.URL.String())
		require.Equal(t, "Bearer test-key", got.Header.Get("Authorization"))
		require.Equal(t, "text/event-stream", got.Header.Get("Accept"))
		require.Equal(t, "identity", got.Header.Get("Accept-Encoding"))
		require.JSONEq(t, `{"model":"m","stream_options":{"include_usage":true},`+common+`}`, string(body))
		require.Contains(t, string(body), "15092511270073158000")
	})
	t.Run("azure", func(t *testing.T) {
		o := options("azure", srv.URL)
		o.APIVersion = "2024-10-21"
		require.NoError(t, chattest.Fold(t,
			newUpstream(t, o).Stream(t.Context(), &chat.Request{Model: "my gpt", Messages: question().Messages})).Err)
		require.Equal(t, "/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21", got.URL.String())
		require.Equal(t, "test-key", got.Header.Get("Api-Key"))
		require.Empty(t, got.Header.Get("Authorization"))
	})
	t.Run("websopy", func(t *testing.T) {
		require.Error(t, chattest.Fold(t, newUpstream(t, options("websopy", srv.URL)).Stream(t.Context(), req)).Err,
			"the server speaks another format")
		require.Equal(t, "/v1/ai/chat/stream", got.URL.String())
		var sent map[string]any
		require.NoError(t, json.Unmarshal(body, &sent))
		require.JSONEq(t, `{"model":"m",`+common+`}`, string(body))
	})
	t.Run("a server without a key gets none", func(t *testing.T) {
		o := options("openai", srv.URL)
		o.APIKey = ""
		require.NoError(t, chattest.Fold(t, newUpstream(t, o).Stream(t.Context(), question())).Err)
		require.NotContains(t, got.Header, "Authorization")
	})
}

// OpenAI's reasoning models refuse max_tokens, other servers know nothing else, and Mistral refuses
// stream_options.
func TestTheBaseURLDecidesOnFieldsThatNotAllProvidersKnow(t *testing.T) {
	const usageAsked, other = `"stream_options":{"include_usage":true}`, `"max_tokens":9`
	for baseURL, want := range map[string]string{
		"https://api.openai.com/v1":                         `"max_completion_tokens":9,` + usageAsked,
		"https://eu.api.openai.com/v1":                      `"max_completion_tokens":9,` + usageAsked,
		"https://api.openai.com.example.org/v1":             other + `,` + usageAsked,
		"https://notapi.openai.com/v1":                      other + `,` + usageAsked,
		"https://gateway.example/https://api.openai.com/v1": other + `,` + usageAsked,
		"http://localhost:8000/v1":                          other + `,` + usageAsked,
		"https://api.mistral.ai/v1":                         other,
		"https://codestral.mistral.ai/v1":                   other,
	} {
		t.Run(baseURL, func(t *testing.T) {
			var body []byte
			s := newUpstream(t, options("openai", baseURL))
			provider.SetTransport(s, roundTripper(func(req *http.Request) (res *http.Response, err error) {
				if body, err = io.ReadAll(req.Body); err != nil {
					return nil, err
				}
				return replies(func() io.Reader {
					return strings.NewReader(sse(finished("stop"), "[DONE]"))
				}).RoundTrip(req)
			}))
			req := question()
			req.MaxTokens = "9"
			require.NoError(t, chattest.Fold(t, s.Stream(t.Context(), req)).Err)
			require.JSONEq(t, `{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,`+want+`}`,
				string(body))
		})
	}
}

// A call and a refusal may be as long in pieces as they may be in one.
func TestWhatIsAssembledFromPiecesHasALimit(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for name, tc := range map[string]struct {
		kind, begin, end string
		piece            func(i int) string
		most, tooMany    int // pieces
	}{
		"arguments": {
			kind: "openai", end: finished("tool_calls"), most: 15, tooMany: 17,
			piece: func(int) string {
				return delta(`"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"` + long + `"}}]`)
			},
		},
		"names": {
			kind: "openai", end: finished("tool_calls"), most: 15, tooMany: 17,
			piece: func(i int) string {
				return delta(`"tool_calls":[{"index":` + strconv.Itoa(i) + `,"id":"a` + strconv.Itoa(i) +
					`","function":{"name":"` + long + `"}}]`)
			},
		},
		"ids": {
			kind: "ollama", end: line(`"content":""`, ollamaDone), most: 15, tooMany: 17,
			piece: func(int) string {
				return line(`"content":"","tool_calls":[{"id":"`+long+`","function":{"name":"f"}}]`, "")
			},
		},
		"arguments in a block": {
			kind: "anthropic", begin: blockStart(`"type":"tool_use","id":"a","name":"f","input":{}`),
			end: messageDelta("tool_use"), most: 15, tooMany: 17,
			piece: func(int) string { return blockDelta(`"type":"input_json_delta","partial_json":"` + long + `"`) },
		},
		"arguments at the end of calls": {
			kind: "openai-responses", end: responseCompleted, most: 15, tooMany: 17,
			piece: func(i int) string {
				return responseItem("done", strconv.Itoa(i),
					`"type":"function_call","call_id":"a`+strconv.Itoa(i)+`","name":"f","arguments":"`+long+`"`)
			},
		},
		"whole calls": {
			kind: "ollama", end: line(`"content":""`, ollamaDone), most: 15, tooMany: 17,
			piece: func(int) string {
				return line(`"content":"","tool_calls":[{"function":{"name":"f","arguments":"`+long+`"}}]`, "")
			},
		},
		"arguments in pieces and at the end of a call": {
			kind: "openai-responses", begin: responseItem("added", "0",
				`"type":"function_call","call_id":"a","name":"f"`), most: 15, tooMany: 17,
			end: `{"type":"response.function_call_arguments.done","output_index":0,"arguments":"` +
				strings.Repeat(long, 15) + `"}` + "\n\ndata: " + responseCompleted,
			piece: func(int) string {
				return `{"type":"response.function_call_arguments.delta","output_index":0,"delta":"` + long + `"}`
			},
		},
		"calls of nothing": {
			kind: "openai", end: finished("tool_calls"), most: 4096, tooMany: 4097,
			piece: func(i int) string { return delta(`"tool_calls":[{"id":"a` + strconv.Itoa(i) + `"}]`) },
		},
		"whole calls of nothing": {
			kind: "ollama", end: line(`"content":""`, ollamaDone), most: 4096, tooMany: 4097,
			piece: func(int) string { return line(`"content":"","tool_calls":[{"function":{"name":"f"}}]`, "") },
		},
		"a refusal": {
			kind: "openai", end: finished("stop"), most: 1, tooMany: 2,
			piece: func(int) string { return delta(`"refusal":"` + long + `"`) },
		},
		"a refusal in a response": {
			kind: "openai-responses", end: responseCompleted, most: 1, tooMany: 2,
			piece: func(int) string { return responseDelta("refusal", long) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			send := func(n int) chattest.Transcript {
				data := []string{tc.begin}
				for i := range n {
					data = append(data, tc.piece(i))
				}
				body := events(tc.kind, append(data, tc.end)...)
				return decodeWith(t, tc.kind, func() io.Reader { return strings.NewReader(body) })
			}
			require.NoError(t, send(tc.most).Err)
			require.Equal(t, chat.UpstreamMalformed, chat.AsError(send(tc.tooMany).Err).Code)
		})
	}
}

func TestACallMayComeInAnyNumberOfPieces(t *testing.T) {
	const n = 30_000
	id := strings.Repeat("a", 600) // says nothing new when it is repeated, 18 MB of it
	body := sse(delta(`"tool_calls":[{"index":0,"id":"`+id+`","function":{"name":"f","arguments":"\""}}]`)) +
		strings.Repeat(sse(delta(`"tool_calls":[{"index":0,"id":"`+id+`","function":{"name":"f","arguments":"x"}}]`)),
			n) +
		sse(delta(`"tool_calls":[{"index":0,"function":{"arguments":"\""}}]`), finished("tool_calls"), "[DONE]")
	a := decodeWith(t, "openai", func() io.Reader { return strings.NewReader(body) })
	require.NoError(t, a.Err)
	require.Len(t, a.Tools, 1)
	require.Len(t, a.Tools[0].Arguments, n+2)
}

// A call that is replaced by a shorter one, and held back because one before it is not whole, keeps no more
// than the shorter one.
func TestArgumentsThatWereReplacedAreForgotten(t *testing.T) {
	const kind, n = "openai-responses", 10
	call := func(i int, event, arguments string) string {
		return responseItem(event, strconv.Itoa(i),
			`"type":"function_call","call_id":"a`+strconv.Itoa(i)+`","name":"f","arguments":"`+arguments+`"`)
	}
	mib := strings.Repeat("x", 1<<20)
	var parts []io.Reader
	send := func(data string) { parts = append(parts, strings.NewReader(sse(data))) }
	send(call(0, "added", ""))
	for i := 1; i <= n; i++ {
		send(call(i, "added", ""))
		for range 10 {
			send(`{"type":"response.function_call_arguments.delta","output_index":` + strconv.Itoa(i) + `,"delta":"` +
				mib + `"}`)
		}
		send(call(i, "done", "{}"))
	}
	var before, after runtime.MemStats
	parts = append(parts, readerFunc(func([]byte) (int, error) {
		runtime.GC()
		runtime.ReadMemStats(&after)
		return 0, io.EOF
	}), strings.NewReader(sse(call(0, "done", "{}"), responseCompleted)))
	runtime.GC()
	runtime.ReadMemStats(&before)
	a := decodeWith(t, kind, func() io.Reader { return io.MultiReader(parts...) })
	require.NoError(t, a.Err)
	require.Len(t, a.Tools, n+1)
	require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(50<<20), "100 MiB were sent")
}

// An event can say something and fail.
func TestWhoLeftIsNotToldOfAFailure(t *testing.T) {
	s := newUpstream(t, options("openai", "http://provider.invalid"))
	provider.SetTransport(s, replies(func() io.Reader {
		return strings.NewReader(sse(`{"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"error"}]}`))
	}))
	for c, err := range s.Stream(t.Context(), question()) { // which panics when it is called again
		require.NoError(t, err)
		require.Equal(t, "Hi", string(c.Text))
		break
	}
	require.Equal(t, chat.UpstreamError, chat.AsError(chattest.Fold(t, s.Stream(t.Context(), question())).Err).Code)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestDecodingOpenAITextDoesNotAllocate(t *testing.T) {
	requireNoAllocations(t, "openai", delta(`"content":" token \u00e9"`), "[DONE]")
}

func FuzzOpenAIChunk(f *testing.F) { fuzzStreams(f, "openai", openaiStreams) }

func BenchmarkOpenAIChunk(b *testing.B) {
	benchmarkEvent(b, "openai",
		`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1763800000,"model":"m-1",`+
			`"system_fingerprint":"fp","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,`+
			`"finish_reason":null}]}`, "[DONE]")
}
