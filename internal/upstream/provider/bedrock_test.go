package provider_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/upstream/upstreamtest"
)

// converse is a stream of Converse events, given as types and payloads.
func converse(events ...string) string {
	var body strings.Builder
	for i := 0; i < len(events); i += 2 {
		body.WriteString(upstreamtest.AWSEvent(events[i], events[i+1]))
	}
	return body.String()
}

func exception(typ, payload string) string {
	return upstreamtest.AWSFrame(payload, ":message-type", "exception", ":exception-type", typ, ":content-type",
		"application/json")
}

const (
	converseUsage = `{"usage":{"inputTokens":4,"outputTokens":2,"totalTokens":9,"cacheReadInputTokens":3},` +
		`"metrics":{"latencyMs":1},"p":"ab"}`
	converseText = `{"contentBlockIndex":0,"delta":{"text":" token \u00e9"},"p":"abcdefghijklm"}`
	deltaEvent   = "contentBlockDelta"
)

func converseDone(reason chat.FinishReason) *chat.Completion {
	return &chat.Completion{FinishReason: reason,
		Usage: &chat.Usage{PromptTokens: 7, CompletionTokens: 2, CachedTokens: 3}}
}

var bedrockStreams = map[string]stream{
	"text, its end and its usage": {
		body: converse("messageStart", `{"role":"assistant","p":"x"}`, deltaEvent,
			`{"contentBlockIndex":0,"delta":{"text":"Hel"},"p":"abcd"}`,
			deltaEvent, `{"contentBlockIndex":0,"delta":{"text":"lo \u4f60\ud83d\ude00"},"p":"abcdefgh"}`,
			"contentBlockStop", `{"contentBlockIndex":0}`,
			"messageStop", `{"stopReason":"end_turn"}`, "metadata", converseUsage),
		want: chattest.Transcript{Text: "Hello 你😀", Done: converseDone("stop")},
	},
	"thinking that is signed, and some that is hidden": {
		body: converse(deltaEvent, `{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"h"}},"p":"abcd"}`,
			deltaEvent, `{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"m"}},"p":"ab"}`,
			deltaEvent, `{"contentBlockIndex":0,"delta":{"reasoningContent":{"signature":"c2ln"}},"p":"ab"}`,
			"contentBlockStop", `{"contentBlockIndex":0}`,
			deltaEvent, `{"contentBlockIndex":1,"delta":{"reasoningContent":{"redactedContent":"aGlkZGVu"}}}`,
			deltaEvent, `{"contentBlockIndex":2,"delta":{"text":"Hi"}}`, "messageStop", `{"stopReason":"max_tokens"}`,
			"metadata", converseUsage),
		want: chattest.Transcript{Reasoning: "hm", Text: "Hi", Done: converseDone("length")},
	},
	"tool calls come in pieces, by block": {
		body: converse(deltaEvent, `{"contentBlockIndex":0,"delta":{"text":"Let me"}}`, "contentBlockStop",
			`{"contentBlockIndex":0}`,
			"contentBlockStart", `{"contentBlockIndex":1,"start":{"toolUse":{"toolUseId":"a","name":"f"}}}`,
			deltaEvent, `{"contentBlockIndex":1,"delta":{"toolUse":{"input":"{\"x\""}}}`, deltaEvent,
			`{"contentBlockIndex":1,"delta":{"toolUse":{"input":":1}"}}}`,
			"contentBlockStop", `{"contentBlockIndex":1}`,
			"contentBlockStart", `{"contentBlockIndex":2,"start":{"toolUse":{"toolUseId":"b","name":"g"}}}`,
			"contentBlockStop", `{"contentBlockIndex":2}`,
			"messageStop", `{"stopReason":"tool_use"}`, "metadata", converseUsage),
		want: chattest.Transcript{Text: "Let me",
			Tools: []chat.ToolCall{call("a", "f", `{"x":1}`), call("b", "g", "{}")}, Done: converseDone("tool_calls")},
	},
	"a stop without usage is an end": {
		body: converse(deltaEvent, converseText, "messageStop", `{"stopReason":"guardrail_intervened"}`),
		want: chattest.Transcript{Text: " token é", Done: &chat.Completion{FinishReason: "content_filter"}},
	},
	"metadata without usage erases nothing, and ends nothing": {
		body: converse(deltaEvent, converseText, "metadata", converseUsage, "messageStop", `{"stopReason":"end_turn"}`,
			"metadata", `{"metrics":{"latencyMs":1}}`),
		want: chattest.Transcript{Text: " token é", Done: converseDone("stop")},
	},
	"what is not known is passed over": {
		body: converse("initial-response", `{}`, deltaEvent,
			`{"contentBlockIndex":0,"delta":{"citation":{"title":"t"}}}`, "newEvent",
			`{"text":"no","delta":{"text":"no"}}`, "", "",
			deltaEvent, converseText, "messageStop", `{"stopReason":"stop_sequence"}`, "metadata", converseUsage),
		want: chattest.Transcript{Text: " token é", Done: converseDone("stop")},
	},
	"without a stop the answer is truncated": {
		body: converse(deltaEvent, converseText, "contentBlockStop", `{"contentBlockIndex":0}`),
		want: chattest.Transcript{Text: " token é"}, code: chat.UpstreamTruncated,
	},
	"usage is no stop": {
		body: converse(deltaEvent, converseText, "metadata", converseUsage),
		want: chattest.Transcript{Text: " token é"}, code: chat.UpstreamTruncated,
	},
	"a call that is malformed": {
		body: converse(deltaEvent, converseText, "messageStop", `{"stopReason":"malformed_tool_use"}`),
		want: chattest.Transcript{Text: " token é"}, code: chat.UpstreamError,
	},
	"throttled": {body: exception("throttlingException",
		`{"message":"Too many tokens, please wait before trying again."}`), code: chat.UpstreamRateLimited},
	"unavailable in the midst": {
		body: converse(deltaEvent, converseText) + exception("serviceUnavailableException", `{"message":"x"}`),
		want: chattest.Transcript{Text: " token é"}, code: chat.UpstreamError,
	},
	"the model failed": {
		body: converse(deltaEvent, converseText) + exception("modelStreamErrorException",
			`{"message":"The system encountered an unexpected error","originalStatusCode":500}`),
		want: chattest.Transcript{Text: " token é"}, code: chat.UpstreamError,
	},
	"an exception after the text of the whole answer": {
		body: converse(deltaEvent, converseText, "contentBlockStop", `{"contentBlockIndex":0}`) +
			exception("internalServerException", ""),
		want: chattest.Transcript{Text: " token é"}, code: chat.UpstreamError,
	},
	"a request that is wrong": {body: exception("validationException",
		`{"message":"The model returned: malformed input"}`), code: chat.UpstreamRejected},
	"one that is too long": {body: exception("validationException",
		`{"message":"prompt is too long: 9 tokens > 8 maximum"}`), code: chat.ContextLengthExceeded},
	"an error": {
		body: upstreamtest.AWSFrame("", ":message-type", "error", ":error-code", "InternalFailure", ":error-message",
			"It failed"), code: chat.UpstreamError,
	},
	"a frame with a wrong checksum": {
		body: converse(deltaEvent, converseText) + strings.Replace(converse(deltaEvent, converseText), "token",
			"taken", 1), want: chattest.Transcript{Text: " token é"}, code: chat.UpstreamMalformed,
	},
	"no JSON": {body: converse(deltaEvent, `<text>`), code: chat.UpstreamMalformed},
	"an answer in one piece": {
		body: `{"output":{"message":{"role":"assistant","content":[{"reasoningContent":{"reasoningText":{` +
			`"text":"hm","signature":"c2ln"}}},{"text":"Hi"},` +
			`{"toolUse":{"toolUseId":"a","name":"f","input":{"x":1}}}]}},"stopReason":"tool_use",` +
			`"usage":{"inputTokens":4,"outputTokens":2,"totalTokens":9,"cacheReadInputTokens":3}}`,
		want: chattest.Transcript{Reasoning: "hm", Text: "Hi", Tools: []chat.ToolCall{call("a", "f", `{"x":1}`)},
			Done: converseDone("tool_calls")},
	},
}

func TestBedrockStreams(t *testing.T) {
	for name, tc := range bedrockStreams {
		t.Run(name, func(t *testing.T) {
			var header http.Header
			if strings.HasPrefix(tc.body, "{") { // it is no stream
				header = http.Header{"Content-Type": {"application/json"}}
			}
			for i, got := range answers(t, "bedrock", http.StatusOK, header, splits([]byte(tc.body))) {
				if tc.code != "" {
					require.Equal(t, tc.code, chat.AsError(got.Err).Code, "read %d: %v", i, got.Err)
				} else {
					require.NoError(t, got.Err, "read %d", i)
				}
				if got.Done != nil {
					got.Done.State = ""
				}
				got.Err, got.Chunks = nil, 0
				require.Equal(t, tc.want, got, "read %d", i)
			}
		})
	}
}

// TestABedrockStreamThatIsCut is complete only once its stop has come, wherever the cut is.
func TestABedrockStreamThatIsCut(t *testing.T) {
	before := converse("messageStart", `{"role":"assistant"}`, deltaEvent, converseText, "contentBlockStop",
		`{"contentBlockIndex":0}`)
	stop := converse("messageStop", `{"stopReason":"end_turn"}`)
	whole := before + stop + converse("metadata", converseUsage)
	for i := range len(whole) {
		got := decodeWith(t, "bedrock", func() io.Reader { return strings.NewReader(whole[:i]) })
		if i < len(before)+len(stop) {
			require.Equal(t, chat.UpstreamTruncated, chat.AsError(got.Err).Code, i)
		} else {
			require.NoError(t, got.Err, i)
			require.Equal(t, " token é", got.Text)
		}
	}
}

func TestDecodingBedrockTextDoesNotAllocate(t *testing.T) {
	last := converse("messageStop", `{"stopReason":"end_turn"}`, "metadata", converseUsage)
	requireNoAllocations(t, "bedrock", converse(deltaEvent, converseText), last)
	requireNoAllocations(t, "bedrock", converse(deltaEvent, converseText, deltaEvent,
		`{"contentBlockIndex":1,"delta":{"text":"x"},"p":"abc"}`), last)
}

func FuzzBedrock(f *testing.F) {
	for _, tc := range bedrockStreams {
		f.Add([]byte(tc.body))
	}
	// What a fuzzer makes of frames has no checksums, so it is payloads that it makes.
	for _, tc := range bedrockStreams {
		for _, part := range strings.Split(tc.body, "contentBlockDelta") {
			f.Add([]byte(part))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		typ, payload, _ := bytes.Cut(body, []byte("\n"))
		if len(payload) > 0 && len(typ) < 100 {
			body = []byte(upstreamtest.AWSEvent(string(typ), string(payload)))
		}
		whole := decodeWith(t, "bedrock", func() io.Reader { return bytes.NewReader(body) })
		bytewise := decodeWith(t, "bedrock", func() io.Reader { return oneByte{bytes.NewReader(body)} })
		requireSame(t, whole, bytewise)
	})
}

func BenchmarkBedrockEvent(b *testing.B) {
	benchmarkEvent(b, "bedrock", converse(deltaEvent, converseText),
		converse("messageStop", `{"stopReason":"end_turn"}`))
}

func TestBedrockRequest(t *testing.T) {
	req := conversation()
	req.Seed, req.User = "", ""
	got := ask(t, "bedrock", req)
	require.Equal(t, "Bearer test-key", got.header.Get("Authorization"))
	require.Equal(t, "application/vnd.amazon.eventstream", got.header.Get("Accept"))
	require.Equal(t, "/model/m/converse-stream", got.path)
	require.JSONEq(t, `{
		"system": [{"text":"s1"},{"text":"s2"}],
		"messages": [
			{"role":"user","content":[{"text":"what?"},{"image":{"format":"png","source":{"bytes":"AAEC"}}}]},
			{"role":"assistant","content":[{"text":"let me see"},{"toolUse":{"toolUseId":"a_1","name":"f","input":{"x":1}}},{"toolUse":{"toolUseId":"b","name":"g","input":{}}}]},
			{"role":"user","content":[{"toolResult":{"toolUseId":"a_1","content":[{"text":"4"}]}},{"toolResult":{"toolUseId":"b","content":[{"text":"{\"y\":2}"}]}},{"text":"and?"}]}
		],
		"inferenceConfig": {"maxTokens":900,"temperature":0.70,"topP":0.9,"stopSequences":["END"]},
		"outputConfig": {"textFormat":{"type":"json_schema","structure":{"jsonSchema":{"schema":"{\"type\":\"object\"}","name":"n"}}}},
		"toolConfig": {"tools":[
			{"toolSpec":{"name":"f","description":"d","inputSchema":{"json":{"type":"object","properties":{"x":{"type":"integer"}}}},"strict":true}},
			{"toolSpec":{"name":"g","inputSchema":{"json":{"type":"object"}}}}],
			"toolChoice":{"any":{}}}
	}`, got.body)
}

func TestTheModelsIDIsEscapedWholly(t *testing.T) {
	var path string
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { path = r.RequestURI }))
	defer srv.Close()
	o := options("bedrock", srv.URL)
	o.Model = "arn:aws:bedrock:eu-west-1:1:application-inference-profile/a b"
	chattest.Fold(t, newUpstream(t, o).Stream(t.Context(), question()))
	require.Equal(t,
		"/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Aapplication-inference-profile%2Fa%20b/converse-stream", path)
}

func TestBedrockRequestVariants(t *testing.T) {
	const opus, sonnet, nova, oss = "us.anthropic.claude-opus-5-v1:0", "anthropic.claude-sonnet-4-5-20250929-v1:0",
		"us.amazon.nova-2-lite-v1:0", "openai.gpt-oss-120b-1:0"
	marked := []byte(`{"type":"ephemeral","ttl":"1h"}`)
	effort := func(e string) func(*chat.Request) { return func(r *chat.Request) { r.ReasoningEffort = e } }
	mark := func(r *chat.Request) {
		r.Messages = append([]chat.Message{{Role: chat.RoleSystem, Content: "s", CacheControl: marked}}, r.Messages...)
	}
	choose := func(mode chat.ToolChoiceMode, name string) func(*chat.Request) {
		return func(r *chat.Request) {
			r.Tools, r.ToolChoice = []chat.ToolSpec{{Name: "f"}}, chat.ToolChoice{Mode: mode, Name: name}
		}
	}
	for name, tc := range map[string]struct {
		model  string
		change func(*chat.Request)
		has    string
		hasNot string
	}{
		"a plain question": {"m", func(*chat.Request) {},
			`{"messages":[{"role":"user","content":[{"text":"hi"}]}],"inferenceConfig":{}}`, ""},
		"opus thinks adaptively": {opus, effort("high"),
			`"outputConfig":{"effort":"high"},"additionalModelRequestFields":{"thinking":{"type":"adaptive",` +
				`"display":"summarized"}}`, ""},
		"sonnet 4.5 on a budget": {sonnet, effort("high"),
			`"additionalModelRequestFields":{"thinking":{"type":"enabled","budget_tokens":16384}}`, "effort"},
		"a budget below the limit": {sonnet,
			func(r *chat.Request) { r.ReasoningEffort, r.MaxTokens = "high", "4000" }, `"budget_tokens":2000`, ""},
		"Nova by its own word": {nova, effort("minimal"),
			`"additionalModelRequestFields":{"reasoningConfig":{"type":"enabled","maxReasoningEffort":"low"}}`, ""},
		"Nova without":         {nova, effort("none"), `{"reasoningConfig":{"type":"disabled"}}`, ""},
		"the first Nova can't": {"amazon.nova-pro-v1:0", effort("high"), `"inferenceConfig"`, "reasoning"},
		"gpt-oss": {oss, effort("xhigh"),
			`"additionalModelRequestFields":{"reasoning_effort":"high"}`, ""},
		"another model thinks as it does": {"meta.llama4-maverick-17b-instruct-v1:0", effort("high"),
			`"inferenceConfig"`, "additional"},
		"a mark for the cache": {opus, mark,
			`"system":[{"text":"s"},{"cachePoint":{"type":"default","ttl":"1h"}}]`, ""},
		"which other models do not take": {"meta.llama4-maverick-17b-instruct-v1:0", mark, `"system":[{"text":"s"}]`,
			"cachePoint"},
		"a system message in the midst": {opus, func(r *chat.Request) {
			r.Messages = append(r.Messages, chat.Message{Role: chat.RoleSystem, Content: "s"})
		}, `{"text":"hi"},{"text":"<system>\ns\n</system>"}`, `"role":"system"`},
		"a tool by name":           {"m", choose(chat.ChooseFunction, "f"), `"toolChoice":{"tool":{"name":"f"}}`, ""},
		"no tool":                  {"m", choose(chat.ChooseNone, ""), `"messages"`, "toolConfig"},
		"tools as the model likes": {"m", choose("", ""), `"toolConfig"`, "toolChoice"},
		"blank text is left out": {"m", func(r *chat.Request) {
			r.Messages = append(r.Messages, chat.Message{Role: chat.RoleUser, Content: " \n"})
		}, `[{"text":"hi"}]`, ""},
		"sampling that opus does not take": {opus, func(r *chat.Request) { r.Temperature = "0.5" },
			`"inferenceConfig":{}`, "temperature"},
		"an id that is too long": {"m", func(r *chat.Request) {
			r.Messages = append(r.Messages, chat.Message{Role: chat.RoleAssistant,
				ToolCalls: []chat.ToolCall{{ID: strings.Repeat("x", 65), Name: "f"}}},
				chat.Message{Role: chat.RoleTool, ToolCallID: strings.Repeat("x", 65), Content: "1"})
		}, `"toolUse"`, strings.Repeat("x", 33)},
	} {
		t.Run(name, func(t *testing.T) {
			req := question()
			req.Model = tc.model
			tc.change(req)
			body := ask(t, "bedrock", req).body
			require.Contains(t, body, tc.has)
			if tc.hasNot != "" {
				require.NotContains(t, body, tc.hasNot)
			}
		})
	}
}

func TestBedrockRefusals(t *testing.T) {
	image := func(url string) func(*chat.Request) {
		return func(r *chat.Request) {
			r.Messages[0].Content, r.Messages[0].Parts = "", []chat.Part{{Type: chat.PartImage, ImageURL: url}}
		}
	}
	for want, change := range map[string]func(*chat.Request){
		"messages[0].content[0].image_url: this provider loads no images; send a data: URL": image(
			"https://example.com/a.png"),
		"messages[0].content[0].image_url: this provider takes PNG, JPEG, GIF and WebP": image(
			"data:image/tiff;base64,AAEC"),
		"temperature: this provider takes 0 to 1": func(r *chat.Request) {
			r.Temperature = "1.5"
		},
		"response_format.type: this provider has no json_object; use json_schema": func(r *chat.Request) {
			r.ResponseFormat = []byte(`{"type":"json_object"}`)
		},
		"reasoning_effort: want none, minimal, low, medium, high, xhigh or max": func(r *chat.Request) {
			r.ReasoningEffort = "much"
		},
		"tool_choice: this provider has no none in a conversation with calls; use auto": func(r *chat.Request) {
			r.Tools, r.ToolChoice.Mode = []chat.ToolSpec{{Name: "f"}}, chat.ChooseNone
			r.Messages = append(r.Messages,
				chat.Message{Role: chat.RoleAssistant, ToolCalls: []chat.ToolCall{{ID: "a", Name: "f"}}},
				chat.Message{Role: chat.RoleTool, ToolCallID: "a", Content: "1"})
		},
		"messages[1]: this model does not go on with an assistant's message; end with the user's": func(r *chat.Request) {
			r.Model = "anthropic.claude-opus-5-v1:0"
			r.Messages = append(r.Messages, chat.Message{Role: chat.RoleAssistant, Content: "So"})
		},
	} {
		req := question()
		change(req)
		require.Equal(t, want, refused(t, "bedrock", req))
	}
}

// TestBedrocksStatuses: the name of the failure stands in a header.
func TestBedrocksStatuses(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		typ    string
		body   string
		want   chat.Code
	}{
		"throttled": {429, "ThrottlingException:http://internal.amazon.com/coral/com.amazon.bedrock/",
			`{"message":"Too many requests, please wait"}`, chat.UpstreamRateLimited},
		"a quota": {400, "ServiceQuotaExceededException", `{"message":"Too much"}`,
			chat.UpstreamRateLimited},
		"no access": {403, "AccessDeniedException",
			`{"message":"You don't have access to the model with the specified model ID."}`, chat.UpstreamAuth},
		"a token that is old": {403, "ExpiredTokenException",
			`{"message":"The security token included in the request is expired"}`, chat.UpstreamAuth},
		"no such model": {404, "ResourceNotFoundException",
			`{"message":"Could not resolve the foundation model"}`, chat.UpstreamRejected},
		"a wrong request": {400, "ValidationException",
			`{"message":"The provided model identifier is invalid."}`, chat.UpstreamRejected},
		"the model's own failure": {424, "ModelErrorException",
			`{"message":"The model failed","originalStatusCode":500}`, chat.UpstreamError},
		"it is not ready": {429, "ModelNotReadyException", `{"message":"Model is not ready"}`,
			chat.UpstreamRateLimited},
	} {
		srv := provide(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Amzn-Errortype", tc.typ)
			w.WriteHeader(tc.status)
			_, _ = io.WriteString(w, tc.body)
		})
		got := chattest.Fold(t, newUpstream(t, options("bedrock", srv.URL)).Stream(t.Context(), question()))
		require.Equal(t, tc.want, chat.AsError(got.Err).Code, "%s: %v", name, got.Err)
	}
}
