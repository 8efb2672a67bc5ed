package provider_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/upstream/provider"
)

// framingStreams are the ways in which servers and what stands before them spoil an event stream.
var framingStreams = map[string]stream{
	"one line break between events": {
		body: "data: " + delta(`"content":"Red"`) + "\ndata: " + delta(`"content":", green"`) + "\n\ndata: " +
			finished("stop") + "\ndata: " + usage + "\ndata: [DONE]\n\n",
		want: chattest.Transcript{Text: "Red, green", Done: done("stop")},
	},
	"several values on a line": {
		body: sse(delta(`"content":"Red"`)+delta(`"content":", green"`)+" "+finished("stop"), usage+"[DONE]"),
		want: chattest.Transcript{Text: "Red, green", Done: done("stop")},
	},
	"several events on a line": {
		body: "data: " + delta(`"content":"Red"`) + "data: " + delta(`"content":", green"`) + "data: " +
			finished("stop") + "data: " + usage + "data: [DONE]\n\n",
		want: chattest.Transcript{Text: "Red, green", Done: done("stop")},
	},
	"errors that are none": {
		body: sse(strings.Replace(delta(`"content":"Hi"`), `{"id"`, `{"error":"","id"`, 1),
			strings.Replace(finished("stop"), `{"model"`, `{"error":{},"model"`, 1), usage),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"an error that says so by its members only": {
		body: sse(delta(`"content":"Hi"`), `{"code":429,"message":"slow down","request_id":"q-1"}`),
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamRateLimited,
	},
	"a list of values": {
		body: sse("["+delta(`"content":"Red"`)+","+delta(`"content":", green"`)+"]", finished("stop"), usage),
		want: chattest.Transcript{Text: "Red, green", Done: done("stop")},
	},
	"the same text twice after another event": {
		body: sse(delta(`"content":"a"`), delta(`"content":"a"`)+delta(`"content":"b"`), delta(`"content":"a"`),
			finished("stop"), usage),
		want: chattest.Transcript{Text: "aaba", Done: done("stop")},
	},
	"JSON over several lines": {
		body: "data: {\"choices\":[{\ndata:   \"delta\":{\"content\":\"Hi\"}}],\ndata: \"model\":\"m-1\"}\n\n" +
			sse(finished("stop"), usage),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"chunks without data:": {
		body: delta(`"content":"Red"`) + "\n\n" + delta(`"content":", green"`) + "\n" + delta(`"content":"."`) +
			"\n\n" + sse(finished("stop"), usage),
		want: chattest.Transcript{Text: "Red, green.", Done: done("stop")},
	},
	"a byte order mark": {body: "\ufeff" + sse(delta(`"content":"Hi"`), finished("stop"), usage),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")}},
	"keep-alives as data": {
		body: sse(": keepalive", delta(`"content":"Hi"`), "ping", "keep-alive", `"ping"`, `""`, "{}", "[]", "null",
			"1", ": OPENROUTER PROCESSING", finished("stop"), usage),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"a failure as words": {body: sse(delta(`"content":"Hi"`), "Internal Server Error", "[DONE]"),
		want: chattest.Transcript{Text: "Hi"}, code: chat.UpstreamError},
	"a garbled event": {
		body: sse(delta(`"content":"Red"`), `{"choices":[{"index":0,"delta":{"con<`, delta(`"content":", blue"`),
			finished("stop"), usage),
		want: chattest.Transcript{Text: "Red"}, code: chat.UpstreamMalformed,
	},
	"an event cut by the next": {
		body: sse(delta(`"content":"Red"`), `{"id":"c1","object":"chat.cdata: `+delta(`"content":", blue"`),
			finished("stop"), usage),
		want: chattest.Transcript{Text: "Red"}, code: chat.UpstreamMalformed,
	},
	"an error behind an event that was cut": {
		body: sse(delta(`"content":"Red"`)) +
			"data: {\"id\":\"c1\",\"cho\ndata: {\"error\":{\"message\":\"slow down\",\"code\":429}}\n\n",
		want: chattest.Transcript{Text: "Red"}, code: chat.UpstreamRateLimited,
	},
	"an error field behind another stray line": {
		body: sse(delta(`"content":"Red"`)) + "oops\nerror: {\"message\":\"slow down\",\"code\":429}\n\n" +
			sse("[DONE]"),
		want: chattest.Transcript{Text: "Red"}, code: chat.UpstreamRateLimited,
	},
	"an error by the name of the last of several": {
		body: "event: chunk\ndata: " + delta(`"content":"Red"`) +
			"\nevent: error\ndata: {\"message\":\"slow down\",\"code\":429}\n\n",
		want: chattest.Transcript{Text: "Red"}, code: chat.UpstreamRateLimited,
	},
	"a terminator alone": {body: sse("[DONE]"), code: chat.UpstreamTruncated},
	"a terminator behind a role": {body: sse(delta(`"role":"assistant","content":""`), "[DONE]"),
		code: chat.UpstreamTruncated},
	"a terminator in quotes": {body: sse(delta(`"content":"Hi"`), `"[DONE]"`),
		want: chattest.Transcript{Text: "Hi", Done: noUsage(done("stop"))}},
	"a finish reason and no content": {body: sse(finished("stop"), usage, "[DONE]"),
		want: chattest.Transcript{Done: done("stop")}},
	"a whole answer as an event": {body: sse(completion(`"content":"Hi"`, `"stop"`), "[DONE]"),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")}},
	"a whole answer without data:": {body: completion(`"content":"Hi"`, `"stop"`) + "\n\n" + sse("[DONE]"),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")}},
	"a whole answer, glued to the end": {body: completion(`"content":"Hi"`, `"length"`) + "data: [DONE]\n\n",
		want: chattest.Transcript{Text: "Hi", Done: done("length")}},
	"a whole answer, and no word of end": {body: sse(completion(`"content":"Hi"`, `null`)),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")}},
	"a whole answer with a call": {
		body: sse(completion(`"content":null,"reasoning_content":"Hm","tool_calls":[{"id":"a","type":"function",`+
			`"function":{"name":"get","arguments":"{\"city\":\"Oslo\"}"}}]`, `"tool_calls"`)),
		want: chattest.Transcript{Reasoning: "Hm", Tools: []chat.ToolCall{call("a", "get", oslo)},
			Done: done("tool_calls")},
	},
	"a whole message at the end, when nothing came before": {
		body: sse(delta(`"role":"assistant","content":""`), completion(`"content":"Hi"`, `"stop"`)),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"a whole message at the end of its pieces": {
		body: sse(delta(`"content":"H"`), delta(`"content":"i"`), completion(`"content":"Hi"`, `"stop"`)),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"a finish reason on every chunk": {
		body: sse(strings.Replace(delta(`"content":"Red"`), "null", `"stop"`, 1),
			strings.Replace(delta(`"content":", green"`), "null", `"stop"`, 1), finished("length"), usage, "[DONE]"),
		want: chattest.Transcript{Text: "Red, green", Done: done("length")},
	},
	"half a surrogate pair at the end of an event": {
		body: sse(delta(`"content":"a\ud83d"`), delta(`"content":"\ude00b"`), finished("stop"), usage),
		want: chattest.Transcript{Text: "a😀b", Done: done("stop")},
	},
	"half a surrogate pair, and no more": {
		body: sse(delta(`"content":"a\ud83d"`), finished("stop"), usage),
		want: chattest.Transcript{Text: "a\ufffd", Done: done("stop")},
	},
	"half a surrogate pair, and something else": {
		body: sse(delta(`"content":"a\ud83d"`), delta(`"content":"b\ud83dc\ude00"`), delta(`"content":"\ude00"`),
			finished("stop"), usage),
		want: chattest.Transcript{Text: "a\ufffdb\ufffdc\ufffd\ufffd", Done: done("stop")},
	},
	"half a surrogate pair of reasoning": {
		body: sse(delta(`"reasoning":"a\ud83d"`), delta(`"content":"\ude00b"`), finished("stop"), usage),
		want: chattest.Transcript{Reasoning: "a\ufffd", Text: "\ufffdb", Done: done("stop")},
	},
	"a character in three events": {
		body: sse(delta("\"content\":\"a\xf0\""), delta("\"content\":\"\x9f\x98\""), delta("\"content\":\"\x80한\""),
			finished("stop"), usage),
		want: chattest.Transcript{Text: "a😀한", Done: done("stop")},
	},
	"a BOM, CRs and comments": {
		body: "\ufeff: hi\n\n" + sse(delta(`"content":"Hi"`)) + ":\n\n" + sse(finished("stop"), usage),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
	"reasoning by Copilot's name": {
		body: sse(delta(`"reasoning_text":"a"`), delta(`"reasoning_text":"b"`), delta(`"content":"Hi"`),
			finished("stop"), usage), want: chattest.Transcript{Reasoning: "ab", Text: "Hi", Done: done("stop")},
	},
	"pieces of the completions format": {
		body: sse(`{"model":"m-1","choices":[{"index":0,"text":"H"}]}`,
			`{"choices":[{"index":0,"text":"i","finish_reason":"stop"}]}`, usage),
		want: chattest.Transcript{Text: "Hi", Done: done("stop")},
	},
}

func completion(message, finish string) string {
	return `{"object":"chat.completion","model":"m-1","choices":[{"index":0,"message":{"role":"assistant",` + message +
		`},"finish_reason":` + finish +
		`}],"usage":{"prompt_tokens":7,"completion_tokens":2}}`
}

func TestSpoiltEventStreams(t *testing.T) { requireStreams(t, "openai", framingStreams) }

func FuzzSpoiltEventStreams(f *testing.F) { fuzzStreams(f, "openai", framingStreams) }

func TestFinishReasons(t *testing.T) {
	for word, want := range map[string]chat.FinishReason{
		"stop": "stop", "eos": "stop", "end_turn": "stop", "COMPLETE": "stop", "whatever comes next": "stop",
		"pause_turn": "stop", "STOP": "stop",
		"length": "length", "max_tokens": "length", "MAX_TOKENS": "length", "model_length": "length",
		"CONTINUATION": "length", "model_context_window_exceeded": "length",
		"tool_calls": "tool_calls", "tool_use": "tool_calls", "function_call": "tool_calls", "TOOL_CALL": "tool_calls",
		"content_filter": "content_filter", "sensitive": "content_filter", "refusal": "content_filter",
		"SAFETY": "content_filter", "RECITATION": "content_filter",
		"error": "", "network_error": "", "insufficient_system_resource": "", "MALFORMED_FUNCTION_CALL": "",
		"function_call_filter: MALFORMED_FUNCTION_CALL": "",
	} {
		t.Run(word, func(t *testing.T) {
			got := decodeWith(t, "openai", func() io.Reader {
				return strings.NewReader(sse(delta(`"content":"Hi"`), finished(word), "[DONE]"))
			})
			require.Equal(t, "Hi", got.Text)
			if want == "" {
				require.Equal(t, chat.UpstreamError, chat.AsError(got.Err).Code)
				return
			}
			require.NoError(t, got.Err)
			require.Equal(t, want, got.Done.FinishReason)
		})
	}
}

// whole is an answer of each format in one piece, as servers send it that can't stream.
var whole = map[string]string{
	"openai": completion(`"content":"Hi","tool_calls":[{"id":"a","function":{"name":"get",`+
		`"arguments":"{\"city\":\"Oslo\"}"}}]`, `"tool_calls"`),
	"openai-responses": `{"id":"resp_1","object":"response","status":"completed","model":"m-1","error":null,` +
		`"output":[{"type":"reasoning","summary":[]},{"type":"message","content":[{"type":"output_text",` +
		`"text":"Hi"}]},{"type":"function_call","call_id":"a","name":"get","arguments":"{\"city\":\"Oslo\"}"}],` +
		`"usage":{"input_tokens":7,"output_tokens":2}}`,
	"anthropic": `{"id":"msg_1","type":"message","role":"assistant","model":"m-1","content":[{"type":"text",` +
		`"text":"Hi"},{"type":"tool_use","id":"a","name":"get","input":{"city":"Oslo"}}],"stop_reason":"tool_use",` +
		`"usage":{"input_tokens":7,"output_tokens":2}}`,
	"gemini": `{"candidates":[{"content":{"parts":[{"text":"Hi"},{"functionCall":{"id":"a","name":"get",` +
		`"args":{"city":"Oslo"}}}]},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":7,` +
		`"candidatesTokenCount":2},"modelVersion":"m-1"}`,
	"ollama": `{"model":"m-1","message":{"role":"assistant","content":"Hi","tool_calls":[{"id":"a",` +
		`"function":{"name":"get","arguments":{"city":"Oslo"}}}]},"done_reason":"stop","done":true,` +
		`"prompt_eval_count":7,"eval_count":2}`,
	"cohere": `{"id":"x","finish_reason":"TOOL_CALL","message":{"role":"assistant","content":[{"type":"text",` +
		`"text":"Hi"}],"tool_calls":[{"id":"a","type":"function","function":{"name":"get",` +
		`"arguments":"{\"city\":\"Oslo\"}"}}]},"usage":{"tokens":{"input_tokens":7,"output_tokens":2}}}`,
}

func TestAWholeAnswerIsAnAnswer(t *testing.T) {
	for kind, object := range whole {
		pretty := strings.NewReplacer(`,"`, ",\n  \"", `{"`, "{\n \"").Replace(object)
		for typ, body := range map[string]string{
			"application/json":                 object,
			"application/json; charset=utf-8":  pretty,
			"application/x-ndjson":             pretty + "\n",
			"text/plain":                       "\n" + object,
			"text/event-stream":                "data: " + object + "\n\n",
			"text/event-stream; charset=utf-8": object,
			"":                                 "[" + object + "]",
		} {
			for _, status := range []int{200, 201} {
				t.Run(kind+" as "+typ, func(t *testing.T) {
					header := http.Header{"Content-Type": {typ}}
					for i, got := range answers(t, kind, status, header, splits([]byte(body))) {
						require.NoError(t, got.Err, "read %d", i)
						got.Tools[0].Arguments = strings.ReplaceAll(got.Tools[0].Arguments, "\n ", "")
						// Cohere does not tell, and neither does Responses in its events
						got.Done.Model, got.Chunks = "m-1", 0
						require.Equal(t, chattest.Transcript{Text: "Hi",
							Tools: []chat.ToolCall{call("a", "get", oslo)}, Done: done("tool_calls")}, got, "read %d",
							i)
					}
				})
			}
		}
	}
}

func TestAStreamUnderAnotherContentTypeIsAStream(t *testing.T) {
	body := sse(delta(`"content":"Hi"`), finished("stop"), usage, "[DONE]")
	lines := events("ollama", delta(`"content":"Hi"`), finished("stop"), usage)
	for name, tc := range map[string]struct{ typ, body string }{
		"text/plain":            {"text/plain", body},
		"JSON":                  {"application/json", body},
		"bytes":                 {"application/octet-stream", body},
		"none":                  {"", body},
		"HTML":                  {"text/html", "\n\n" + body},
		"comments first":        {"text/plain", ": hi\n\n" + body},
		"a byte order mark":     {"text/plain", "\ufeff" + body},
		"an event's name first": {"text/plain", "event: x\n" + body},
		"lines of JSON":         {"application/json", lines},
		"a list": {"application/json", "[" + strings.ReplaceAll(strings.TrimSpace(lines), "\n", "\n,") +
			"]"},
	} {
		t.Run(name, func(t *testing.T) {
			header := http.Header{"Content-Type": {tc.typ}}
			for i, got := range answers(t, "openai", 200, header, splits([]byte(tc.body))) {
				got.Chunks = 0
				require.Equal(t, chattest.Transcript{Text: "Hi", Done: done("stop")}, got, "read %d", i)
			}
		})
	}
	got := respond(t, "ollama", 200, http.Header{"Content-Type": {"text/event-stream"}}, func() io.Reader {
		return strings.NewReader(sse(line(`"content":"Hi"`, ""), line(`"content":""`, ollamaDone)))
	})
	got.Chunks = 0
	require.Equal(t, chattest.Transcript{Text: "Hi", Done: done("stop")}, got, "Ollama's lines as events")
}

func TestWhatIsNoAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		status    int
		typ, body string
		code      chat.Code
	}{
		"nothing":                     {200, "text/event-stream", "", chat.UpstreamTruncated},
		"nothing, under no type":      {200, "", "", chat.UpstreamTruncated},
		"nothing, and it says so":     {204, "", "", chat.UpstreamTruncated},
		"a page":                      {200, "text/html", "<!DOCTYPE html><p>Sign in", chat.UpstreamMalformed},
		"a page that claims a stream": {200, "text/event-stream", "<html>\n<body>\n", chat.UpstreamMalformed},
		"words":                       {200, "text/plain", "upstream connect error", chat.UpstreamMalformed},
		"other JSON":                  {200, "application/json", `{"status":"ok"}`, chat.UpstreamMalformed},
		"JSON that is cut":            {200, "application/json", whole["openai"][:100], chat.UpstreamTruncated},
		"an error": {200, "application/json", `{"error":{"message":"slow down","code":429}}`,
			chat.UpstreamRateLimited},
		"an error under 201": {201, "text/plain", `{"message":"slow down","code":429}`, chat.UpstreamRateLimited},
		"an error in a list": {200, "application/json", `[{"error":{"message":"slow down","code":429}}]`,
			chat.UpstreamRateLimited},
	} {
		t.Run(name, func(t *testing.T) {
			got := respond(t, "openai", tc.status, http.Header{"Content-Type": {tc.typ}},
				func() io.Reader { return strings.NewReader(tc.body) })
			require.Equal(t, tc.code, chat.AsError(got.Err).Code, "%v", got.Err)
			require.Empty(t, got.Text)
		})
	}
}

func TestAnErrorInABodyWaitsAsItsHeadersSay(t *testing.T) {
	got := respond(t, "openai", 200, http.Header{"Content-Type": {"application/json"}, "Retry-After": {"7"}},
		func() io.Reader {
			return strings.NewReader(`{"error":{"message":"slow down","code":429}}`)
		})
	require.Equal(t, 7*time.Second, chat.AsError(got.Err).RetryAfter)
}

func TestAnAnswerThatIsCompressedAllTheSame(t *testing.T) {
	body := sse(delta(`"content":"Hi"`), finished("stop"), usage, "[DONE]")
	for encoding, compress := range map[string]func(io.Writer) io.WriteCloser{
		"gzip":    func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"deflate": func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) },
	} {
		t.Run(encoding, func(t *testing.T) {
			var packed bytes.Buffer
			w := compress(&packed)
			_, err := io.WriteString(w, body)
			require.NoError(t, err)
			require.NoError(t, w.Close())
			header := http.Header{"Content-Type": {"text/event-stream"}, "Content-Encoding": {encoding}}
			for i, got := range answers(t, "openai", 200, header, splits(packed.Bytes())) {
				got.Chunks = 0
				require.Equal(t, chattest.Transcript{Text: "Hi", Done: done("stop")}, got, "read %d", i)
			}
			got := respond(t, "openai", 200, header, func() io.Reader { return strings.NewReader(body) })
			if encoding == "gzip" {
				require.NoError(t, got.Err, "it is not compressed at all")
			}
			got = respond(t, "openai", 200, header,
				func() io.Reader { return bytes.NewReader(packed.Bytes()[:packed.Len()/2]) })
			require.Equal(t, chat.UpstreamTruncated, chat.AsError(got.Err).Code)
		})
	}
	got := respond(t, "openai", 200, http.Header{"Content-Type": {"text/event-stream"}, "Content-Encoding": {"br"}},
		func() io.Reader { return strings.NewReader("x") })
	require.Equal(t, chat.UpstreamMalformed, chat.AsError(got.Err).Code)
}

// What a compressor has flushed is passed on before the next word comes.
func TestACompressedStreamIsAStream(t *testing.T) {
	pr, pw := io.Pipe()
	defer pr.Close()
	flushed := make(chan struct{})
	go func() {
		w := gzip.NewWriter(pw)
		_, _ = io.WriteString(w, sse(delta(`"content":"Hi"`)))
		_ = w.Flush()
		<-flushed // and no byte more until the first word has been seen
		_, _ = io.WriteString(w, sse(finished("stop"), "[DONE]"))
		_ = w.Close()
		_ = pw.Close()
	}()
	s := newUpstream(t, options("openai", "http://provider.invalid"))
	provider.SetTransport(s, roundTripper(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, Request: req, Body: pr,
			Header: http.Header{"Content-Type": {"text/event-stream"}, "Content-Encoding": {"gzip"}}}, nil
	}))
	text := ""
	for c, err := range s.Stream(t.Context(), question()) {
		require.NoError(t, err)
		if text += string(c.Text); c.Type == chat.Content {
			close(flushed)
		}
	}
	require.Equal(t, "Hi", text)
}
