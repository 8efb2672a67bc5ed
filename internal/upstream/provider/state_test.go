package provider_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/upstream"
	"github.com/websopy/relay/internal/upstream/provider"
	"github.com/websopy/relay/internal/upstream/trace"
)

// fake is a provider without a network. It keeps what it was asked.
type fake struct {
	answer func(path, body string) (status int, text string)
	paths  []string
	bodies []string
}

func (f *fake) RoundTrip(req *http.Request) (*http.Response, error) {
	raw, _ := io.ReadAll(req.Body)
	f.paths = append(f.paths, req.URL.String())
	f.bodies = append(f.bodies, string(raw))
	status, text := f.answer(req.URL.Path, string(raw))
	typ := "application/json"
	if status == http.StatusOK {
		typ = req.Header.Get("Accept")
	}
	return &http.Response{StatusCode: status, ProtoMajor: 1, Request: req, Header: http.Header{"Content-Type": {typ}},
		Body: io.NopCloser(strings.NewReader(text))}, nil
}

func (f *fake) last() string { return f.bodies[len(f.bodies)-1] }

// plain are answers that say "ok".
var plain = map[string]string{
	"openai": sse(`{"choices":[{"index":0,"delta":{"content":"ok"}}]}`,
		`{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`, "[DONE]"),
	"openai-responses": sse(`{"type":"response.output_text.delta","output_index":0,"delta":"ok"}`,
		`{"type":"response.completed","response":{}}`),
	"anthropic": sse(`{"type":"message_start","message":{}}`,
		`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"ok"}}`,
		`{"type":"content_block_stop","index":0}`, `{"type":"message_delta","delta":{"stop_reason":"end_turn"}}`,
		`{"type":"message_stop"}`),
	"gemini": sse(`{"candidates":[{"content":{"parts":[{"text":"ok"}]},"finishReason":"STOP"}]}`),
	"ollama": `{"message":{"content":"ok"},"done":true,"done_reason":"stop"}` + "\n",
	"cohere": sse(`{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"ok"}}}}`,
		`{"type":"message-end","delta":{"finish_reason":"COMPLETE"}}`),
	"bedrock": converse(deltaEvent, `{"delta":{"text":"ok"}}`, "messageStop", `{"stopReason":"end_turn"}`),
	"websopy": sse(`{"type":"content","content":"ok"}`, `{"type":"done","finishReason":"stop"}`, "[DONE]"),
}

func chunk(delta string) string { return `{"choices":[{"index":0,"delta":` + delta + `}]}` }

const aCall = `"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]`

var finishCalls = `{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}`

// twoTurns is an answer whose provider wants something back, and how it has to look in the next request.
type twoTurns struct {
	kind, base, model string
	first             string
	back              string // a regular expression on the next request
	fill              string // one on the next request of a client that keeps nothing
	refusal           string // of what the provider can't read again; "" where nothing is sealed
}

const sealedText = "U0VBTEVE" // is base64, as signatures are

var conversations = map[string]twoTurns{
	"Gemini: the first of parallel calls is signed": {
		"gemini", "https://generativelanguage.googleapis.com/v1beta", "gemini-3.5-flash",
		sse(`{"candidates":[{"content":{"parts":[{"text":"Let me see."},{"functionCall":{"name":"f","args":{"x":1}},` +
			`"thoughtSignature":"` + sealedText + `"},` +
			`{"functionCall":{"name":"g","args":{}}}]},"finishReason":"STOP"}]}`),
		`\{"text":"Let me see\."\},\{"thoughtSignature":"` + sealedText +
			`","functionCall":\{"id":"call_0","name":"f","args":\{"x":1\}\}\},\{"functionCall":`,
		`"thoughtSignature":"c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="`,
		`{"error":{"code":400,"message":"Corrupted thought signature.","status":"INVALID_ARGUMENT"}}`},
	"Gemini: text is signed, in a part of its own": {
		"gemini", "https://generativelanguage.googleapis.com/v1beta", "gemini-3-pro",
		sse(`{"candidates":[{"content":{"parts":[{"text":"one "}]}}]}`,
			`{"candidates":[{"content":{"parts":[{"text":"two"}]}}]}`,
			`{"candidates":[{"content":{"parts":[{"text":"","thoughtSignature":"`+sealedText+
				`"}]},"finishReason":"STOP"}]}`),
		`\{"text":"one two"\},\{"text":"","thoughtSignature":"` + sealedText + `"\}`, `\[\{"text":"one two"\}\]`,
		`{"error":{"code":400,"message":"Invalid thought signature"}}`},
	"Vertex: a call in pieces is signed at its beginning, and has no id": {
		"gemini", "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/" +
			"publishers/google", "gemini-3.1-pro",
		sse(`{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","willContinue":true},`+
			`"thoughtSignature":"`+sealedText+`"}]}}]}`,
			`{"candidates":[{"content":{"parts":[{"functionCall":{"partialArgs":[{"jsonPath":"$.x",`+
				`"numberValue":1}]}}]},"finishReason":"STOP"}]}`),
		`\{"thoughtSignature":"` + sealedText + `","functionCall":\{"name":"f","args":\{"x":1\}\}\}`,
		`"thoughtSignature":"c2tp`, `{"error":{"code":400,"message":"Corrupted thought signature"}}`},
	"Gemini behind OpenAI's format": {
		"openai", "https://generativelanguage.googleapis.com/v1beta/openai", "gemini-3.5-flash",
		sse(chunk(`{"tool_calls":[{"index":0,"id":"c1","function":{"name":"f","arguments":"{}"},`+
			`"extra_content":{"google":{"thought_signature":"`+sealedText+`"}}}]}`), finishCalls, "[DONE]"),
		`"extra_content":\{"google":\{"thought_signature":"` + sealedText + `"\}\}`, `"thought_signature":"c2tp`,
		`[{"error":{"code":400,"message":"Invalid thought signature"}}]`},
	"Claude: thinking, interleaved and redacted": {
		"anthropic", "https://api.anthropic.com", "claude-opus-5-5",
		sse(`{"type":"message_start","message":{}}`,
			`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"A."}}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"`+sealedText+
				`1"}}`, `{"type":"content_block_stop","index":0}`,
			`{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"`+sealedText+
				`2"}}`, `{"type":"content_block_stop","index":1}`,
			`{"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}`,
			`{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"Looking."}}`,
			`{"type":"content_block_stop","index":2}`,
			`{"type":"content_block_start","index":3,"content_block":{"type":"thinking","thinking":""}}`,
			`{"type":"content_block_delta","index":3,"delta":{"type":"signature_delta","signature":"`+sealedText+
				`3"}}`, `{"type":"content_block_stop","index":3}`,
			`{"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"c1","name":"f",`+
				`"input":{}}}`, `{"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta",`+
				`"partial_json":"{\"x\":1}"}}`,
			`{"type":"content_block_stop","index":4}`, `{"type":"message_delta","delta":{"stop_reason":"tool_use"}}`,
			`{"type":"message_stop"}`),
		`\{"type":"thinking","thinking":"A\.","signature":"` + sealedText +
			`1"\},\{"type":"redacted_thinking","data":"` + sealedText + `2"\},\{"type":"text","text":"Looking\."\},` +
			`\{"type":"thinking","thinking":"","signature":"` + sealedText + `3"\},\{"type":"tool_use","id":"c1"`,
		`"content":\[\{"type":"text","text":"Looking\."\},\{"type":"tool_use"`,
		`{"type":"error","error":{"type":"invalid_request_error","message":"messages.1.content.0: Invalid ` +
			"`signature` in `thinking`" + ` block. The block is bound to a different conversation."}}`},
	"Claude: two blocks that follow each other": {
		"anthropic", "https://api.anthropic.com", "claude-opus-5",
		sse(`{"type":"message_start","message":{}}`,
			`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"A","signature":"`+
				sealedText+`1"}}`,
			`{"type":"content_block_stop","index":0}`,
			`{"type":"content_block_start","index":1,"content_block":{"type":"thinking","thinking":"B","signature":"`+
				sealedText+`2"}}`,
			`{"type":"content_block_stop","index":1}`,
			`{"type":"content_block_start","index":2,"content_block":{"type":"text","text":"Yes."}}`,
			`{"type":"content_block_stop","index":2}`,
			`{"type":"message_delta","delta":{"stop_reason":"end_turn"}}`, `{"type":"message_stop"}`),
		`"thinking":"A","signature":"` + sealedText + `1"\},\{"type":"thinking","thinking":"B","signature":"` +
			sealedText + `2"\},\{"type":"text"`,
		`"content":\[\{"type":"text","text":"Yes\."\}\]`,
		`{"error":{"message":"Invalid signature in thinking block"}}`},
	"Claude as JSON": {
		"anthropic", "https://api.anthropic.com", "claude-opus-5-5",
		sse(`{"type":"message","role":"assistant","content":[{"type":"thinking","thinking":"","signature":"` +
			sealedText + `"},{"type":"tool_use","id":"c1","name":"f","input":{"x":1}}],"stop_reason":"tool_use"}`),
		`\{"type":"thinking","thinking":"","signature":"` + sealedText + `"\},\{"type":"tool_use"`,
		`"content":\[\{"type":"tool_use"`, `{"error":{"message":"Invalid signature in thinking block"}}`},
	"Responses: reasoning, a phase, a call": {
		"openai-responses", "https://api.openai.com/v1", "gpt-6-luna",
		sse(`{"type":"response.output_item.added","output_index":0,"item":{"type":"reasoning","id":"rs_1",`+
			`"summary":[]}}`,
			`{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","id":"rs_1",`+
				`"encrypted_content":"`+sealedText+`","summary":[{"type":"summary_text","text":"S."}]}}`,
			`{"type":"response.output_text.delta","output_index":1,"content_index":0,"delta":"Looking."}`,
			`{"type":"response.output_item.done","output_index":1,"item":{"type":"message","id":"m_1",`+
				`"role":"assistant","phase":"commentary","content":[{"type":"output_text","text":"Looking."}]}}`,
			`{"type":"response.output_item.done","output_index":2,"item":{"type":"function_call","id":"fc_1",`+
				`"call_id":"c1","name":"f","arguments":"{\"x\":1}"}}`,
			`{"type":"response.completed","response":{"output":[{"type":"reasoning","id":"rs_1","encrypted_content":"`+
				sealedText+`","summary":[{"type":"summary_text","text":"S."}]},`+
				`{"type":"message","phase":"commentary","content":[{"type":"output_text","text":"Looking."}]},`+
				`{"type":"function_call","id":"fc_1","call_id":"c1","name":"f","arguments":"{\"x\":1}"}]}}`),
		`\{"type":"reasoning","id":"rs_1","summary":\[\{"type":"summary_text","text":"S\."\}\],"encrypted_content":"` +
			sealedText + `"\},` +
			`\{"role":"assistant","content":"Looking\.","phase":"commentary"\},\{"type":"function_call",` +
			`"call_id":"c1"`,
		`\{"role":"assistant","content":"Looking\."\},\{"type":"function_call","call_id":"c1"`,
		`{"error":{"message":"The encrypted content could not be verified.","code":"invalid_encrypted_content"}}`},
	"Responses as JSON, in the order of its items": {
		"openai-responses", "https://api.openai.com/v1", "gpt-6-luna",
		sse(`{"object":"response","status":"completed","output":[{"type":"reasoning","id":"rs_1",` +
			`"encrypted_content":"` + sealedText + `","summary":[]},` +
			`{"type":"message","content":[{"type":"output_text","text":"Looking."}]},{"type":"function_call",` +
			`"call_id":"c1","name":"f","arguments":"{}"}]}`),
		`"encrypted_content":"` + sealedText +
			`"\},\{"role":"assistant","content":"Looking\."\},\{"type":"function_call"`,
		`\[\{"role":"user","content":"hi"\},\{"role":"assistant"`,
		`{"error":{"message":"x","code":"invalid_encrypted_content"}}`},
	"OpenRouter: details in pieces": {
		"openai", "https://openrouter.ai/api/v1", "anthropic/claude-opus-5",
		sse(chunk(`{"reasoning":"A","reasoning_details":[{"type":"reasoning.text","text":"A",`+
			`"format":"anthropic-claude-v1","index":0}]}`),
			chunk(`{"reasoning":"B","reasoning_details":[{"type":"reasoning.text","text":"B",`+
				`"format":"anthropic-claude-v1","index":0}]}`),
			chunk(`{"reasoning_details":[{"type":"reasoning.text","signature":"`+sealedText+`","index":0}]}`),
			chunk(`{"reasoning_details":[{"type":"reasoning.encrypted","data":"`+sealedText+
				`2","id":"c1","index":1}]}`),
			chunk(`{`+aCall+`}`), finishCalls, "[DONE]"),
		`"reasoning_details":\[\{"type":"reasoning.text","text":"AB","signature":"` + sealedText +
			`","format":"anthropic-claude-v1","index":0\},` +
			`\{"type":"reasoning.encrypted","data":"` + sealedText + `2","id":"c1","index":1\}\]`,
		`"content":null,"tool_calls"`,
		`{"error":{"message":"messages.1: Invalid signature in thinking block","code":400}}`},
	"DeepSeek": {
		"openai", "https://api.deepseek.com", "deepseek-v4-pro",
		sse(chunk(`{"reasoning_content":"I "}`), chunk(`{"reasoning_content":"think."}`), chunk(`{`+aCall+`}`),
			finishCalls, "[DONE]"),
		`"reasoning_content":"I think\."`, `"reasoning_content":""`, ``},
	"Kimi": {
		"openai", "https://api.moonshot.ai/v1", "kimi-k3",
		sse(chunk(`{"reasoning_content":"I think."}`), chunk(`{`+aCall+`}`), finishCalls, "[DONE]"),
		`"reasoning_content":"I think\."`, `"reasoning_content":" "`, ``},
	"GLM": {
		"openai", "https://api.z.ai/api/paas/v4", "glm-5.3",
		sse(chunk(`{"reasoning_content":"I think."}`), chunk(`{`+aCall+`}`), finishCalls, "[DONE]"),
		`"reasoning_content":"I think\."`, `"tool_calls"`, ``},
	"Qwen": {
		"openai", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "qwen3.7-max",
		sse(chunk(`{"reasoning_content":"I think."}`), chunk(`{"content":"Yes."}`), finishCalls, "[DONE]"),
		`"reasoning_content":"I think\."`, `"content":"Yes\."`, ``},
	"MiniMax with details": {
		"openai", "https://api.minimax.io/v1", "MiniMax-M3",
		sse(chunk(`{"reasoning_details":[{"type":"reasoning.text","text":"I think.","index":0}]}`),
			chunk(`{`+aCall+`}`), finishCalls, "[DONE]"),
		`"reasoning_details":\[\{"type":"reasoning.text","text":"I think\.","index":0\}\]`, `"tool_calls"`, ``},
	"Mistral's parts": {
		"openai", "https://api.mistral.ai/v1", "magistral-medium-latest",
		sse(chunk(`{"content":[{"type":"thinking","thinking":[{"type":"text","text":"I "}]}]}`),
			chunk(`{"content":[{"type":"thinking","thinking":[{"type":"text","text":"think."}]}]}`),
			chunk(`{"content":"Yes."}`), finishCalls, "[DONE]"),
		`"content":\[\{"type":"thinking","thinking":\[\{"type":"text","text":"I think\."\}\],"closed":true\},` +
			`\{"type":"text","text":"Yes\."\}\]`, `"content":"Yes\."`, ``},
	"a server of one's own": {
		"openai", "http://localhost:8000/v1", "Qwen/Qwen3-8B",
		sse(chunk(`{"reasoning":"I think."}`), chunk(`{"content":"Yes."}`), finishCalls, "[DONE]"),
		`"reasoning":"I think\."`, `"content":"Yes\."`, ``},
	"Copilot": {
		"openai", "https://gateway.example/v1", "gpt-x",
		sse(chunk(`{"reasoning_text":"I think."}`), chunk(`{"reasoning_opaque":"`+sealedText+`"}`),
			chunk(`{`+aCall+`}`), finishCalls, "[DONE]"),
		`"reasoning_text":"I think\.","reasoning_opaque":"` + sealedText + `"`, `"tool_calls"`, ``},
	"Cerebras' GLM thinks in its content": {
		"openai", "https://api.cerebras.ai/v1", "zai-glm-5.2",
		sse(chunk(`{"reasoning":"I think."}`), chunk(`{"content":"Yes."}`), finishCalls, "[DONE]"),
		`"content":"<think>I think\.</think>Yes\."`, `"content":"Yes\."`, ``},
	"Ollama": {
		"ollama", "http://localhost:11434", "qwen3",
		`{"message":{"thinking":"I "}}` + "\n" + `{"message":{"thinking":"think."}}` + "\n" +
			`{"message":{"content":"","tool_calls":[{"function":{"name":"f","arguments":{"x":1}}}]},"done":true}` +
			"\n",
		`"thinking":"I think\."`, `"tool_calls"`, ``},
	"Cohere": {
		"cohere", "https://api.cohere.com", "command-a-reasoning-08-2025",
		sse(`{"type":"content-delta","index":0,"delta":{"message":{"content":{"thinking":"I think."}}}}`,
			`{"type":"content-delta","index":1,"delta":{"message":{"content":{"text":"Yes."}}}}`,
			`{"type":"message-end","delta":{"finish_reason":"COMPLETE"}}`),
		`"content":\[\{"type":"thinking","thinking":"I think\."\},\{"type":"text","text":"Yes\."\}\]`,
		`"content":"Yes\."`, ``},
	"Bedrock: Claude's thinking, interleaved and redacted": {
		"bedrock", "https://bedrock-runtime.us-east-1.amazonaws.com", "us.anthropic.claude-opus-5-v1:0",
		converse(deltaEvent, `{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"I "}},"p":"abc"}`,
			deltaEvent, `{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"think."}},"p":"a"}`,
			deltaEvent, `{"contentBlockIndex":0,"delta":{"reasoningContent":{"signature":"`+sealedText+`1"}}}`,
			"contentBlockStop", `{"contentBlockIndex":0}`,
			deltaEvent, `{"contentBlockIndex":1,"delta":{"reasoningContent":{"redactedContent":"`+sealedText+`2"}}}`,
			"contentBlockStop", `{"contentBlockIndex":1}`,
			deltaEvent, `{"contentBlockIndex":2,"delta":{"text":"Looking."}}`, "contentBlockStop",
			`{"contentBlockIndex":2}`,
			deltaEvent, `{"contentBlockIndex":3,"delta":{"reasoningContent":{"signature":"`+sealedText+`3"}}}`,
			"contentBlockStop", `{"contentBlockIndex":3}`,
			"contentBlockStart", `{"contentBlockIndex":4,"start":{"toolUse":{"toolUseId":"c1","name":"f"}}}`,
			deltaEvent, `{"contentBlockIndex":4,"delta":{"toolUse":{"input":"{\"x\":1}"}}}`,
			"contentBlockStop", `{"contentBlockIndex":4}`, "messageStop", `{"stopReason":"tool_use"}`),
		`\[\{"reasoningContent":\{"reasoningText":\{"text":"I think\.","signature":"` + sealedText +
			`1"\}\}\},\{"reasoningContent":\{"redactedContent":"` + sealedText + `2"\}\},` +
			`\{"text":"Looking\."\},\{"reasoningContent":\{"reasoningText":\{"text":"","signature":"` + sealedText +
			`3"\}\}\},\{"toolUse":\{"toolUseId":"c1"`,
		`"content":\[\{"text":"Looking\."\},\{"toolUse"`,
		`{"message":"messages.1.content.0: Invalid ` + "`signature` in `thinking`" + ` block"}`},
	"another relay": {
		"websopy", "https://relay.example", "m",
		sse(`{"type":"content","content":"Yes."}`, `{"type":"done","finishReason":"stop","state":"1.`+sealedText+`"}`,
			"[DONE]"), `"state":"1\.` + sealedText + `"`, `"content":"Yes\."\}`, ``},
}

func (c twoTurns) options() provider.Options {
	o := options(c.kind, c.base)
	o.Model = c.model
	return o
}

// ask1 gives the first answer as the client's message.
func (c twoTurns) ask1(t *testing.T) chat.Message {
	t.Helper()
	s := newUpstream(t, c.options())
	provider.SetTransport(s, &fake{answer: func(string, string) (int, string) { return 200, c.first }})
	a := chattest.Fold(t, s.Stream(t.Context(), question()))
	require.NoError(t, a.Err)
	require.NotEmpty(t, a.Done.State)
	require.LessOrEqual(t, len(a.Done.State), chat.MaxState)
	return chat.Message{Role: chat.RoleAssistant, Content: a.Text, ToolCalls: a.Tools, State: a.Done.State}
}

// next is the request that goes on after a message: with results of its calls, or with a question.
func next(m chat.Message) *chat.Request {
	req := question()
	req.Messages = append(req.Messages, m)
	for _, c := range m.ToolCalls {
		req.Messages = append(req.Messages, chat.Message{Role: chat.RoleTool, ToolCallID: c.ID, Content: "4"})
	}
	if len(m.ToolCalls) == 0 {
		req.Messages = append(req.Messages, chat.Message{Role: chat.RoleUser, Content: "and?"})
	}
	return req
}

// ask2 asks the second question, and gives the provider.
func ask2(t *testing.T, o provider.Options, req *chat.Request, answer func(path, body string) (int, string)) *fake {
	t.Helper()
	if answer == nil {
		answer = func(path, _ string) (int, string) {
			switch {
			case strings.HasSuffix(path, "/responses"):
				return 200, plain["openai-responses"]
			case strings.HasSuffix(path, "/chat/completions"):
				return 200, plain["openai"]
			}
			return 200, plain[o.Kind]
		}
	}
	f := &fake{answer: answer}
	s := newUpstream(t, o)
	provider.SetTransport(s, f)
	a := chattest.Fold(t, s.Stream(t.Context(), req))
	require.NoError(t, a.Err)
	require.Equal(t, "ok", a.Text)
	return f
}

func TestASecondTurnBringsBackWhatTheProviderWants(t *testing.T) {
	for name, c := range conversations {
		t.Run(name, func(t *testing.T) {
			m := c.ask1(t)
			f := ask2(t, c.options(), next(m), nil)
			require.Len(t, f.bodies, 1)
			require.Regexp(t, c.back, f.last())

			parts := m // as parts, with arguments written anew
			parts.Content, parts.Parts = "", []chat.Part{{Type: chat.PartText, Text: m.Content}}
			parts.ToolCalls = nil
			for _, call := range m.ToolCalls {
				call.Arguments = " " + strings.ReplaceAll(call.Arguments, `:`, ` : `)
				parts.ToolCalls = append(parts.ToolCalls, call)
			}
			if len(c.refusal) > 0 {
				f = ask2(t, c.options(), next(parts), nil)
				require.Contains(t, f.last(), sealedText, "a client may write text and arguments in another way")
			}
		})
	}
}

func TestAClientThatKeepsNothingGetsAnAnswer(t *testing.T) {
	for name, c := range conversations {
		t.Run(name, func(t *testing.T) {
			m := c.ask1(t)
			m.State = ""
			f := ask2(t, c.options(), next(m), nil)
			require.Regexp(t, c.fill, f.last())
			require.NotContains(t, f.last(), sealedText)
		})
	}
}

func TestAStateGoesNowhereElse(t *testing.T) {
	for name, c := range conversations {
		t.Run(name, func(t *testing.T) {
			m := c.ask1(t)
			nowhere := func(o provider.Options, m chat.Message, why string) {
				t.Helper()
				for _, body := range ask2(t, o, next(m), nil).bodies {
					require.NotContains(t, body, sealedText, why)
					require.NotContains(t, body, "I think.", why)
				}
			}
			o := c.options()
			o.Model = "other-" + c.model
			nowhere(o, m, "another model")
			o = c.options()
			o.BaseURL = strings.Replace(o.BaseURL, "://", "://eu.", 1)
			nowhere(o, m, "another address")
			o.Kind, o.BaseURL = "anthropic", "https://api.anthropic.com/elsewhere"
			nowhere(o, m, "another kind")

			edited := m
			edited.Content += " Edited."
			nowhere(c.options(), edited, "another text")
			if len(m.ToolCalls) > 0 {
				edited = m
				edited.ToolCalls = append([]chat.ToolCall{{ID: "new", Name: "f", Arguments: `{"x":2}`}},
					m.ToolCalls...)
				nowhere(c.options(), edited, "other calls")
			}
			for _, broken := range []string{m.State[:len(m.State)-3], "1.", "1", "2" + m.State[1:], m.State + "!",
				"1.bm90IG91cnM", "\x00", strings.Repeat("1.", chat.MaxState)} {
				if c.kind == "websopy" && strings.HasPrefix(broken, m.State[:9]) {
					continue // what follows the dot is the other relay's
				}
				edited = m
				edited.State = broken
				nowhere(c.options(), edited, "a broken state")
			}
		})
	}
}

func TestWhatIsRefusedIsAskedOnceMoreWithoutIt(t *testing.T) {
	for name, c := range conversations {
		if c.refusal == "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			strict := func(status int) func(string, string) (int, string) {
				return func(path, body string) (int, string) {
					if strings.Contains(body, sealedText) {
						return status, c.refusal
					}
					return 200, plain[c.kind]
				}
			}
			m := c.ask1(t)
			f := ask2(t, c.options(), next(m), strict(400))
			require.Len(t, f.bodies, 2)
			require.Regexp(t, c.fill, f.last())

			tr := &trace.Trace{}
			fallback := &upstream.Fallback{Candidates: []*upstream.Candidate{{Streamer: newUpstream(t, c.options()),
				Breaker: upstream.NewBreaker(nil)}}, Budget: 5e9}
			provider.SetTransport(fallback.Candidates[0].Streamer, &fake{answer: strict(400)})
			a := chattest.Fold(t, fallback.Stream(trace.With(t.Context(), tr), next(m)))
			require.Equal(t, "ok", a.Text)
			require.Len(t, tr.Attempts, 1, "it is one attempt, and no failure")
			require.NoError(t, tr.Attempts[0].Err)
		})
	}
}

// A client may put together what the provider never said.
func TestAStateThatIsRefusedForItsPlacesIsLeftOut(t *testing.T) {
	for name, refusals := range map[string][]string{
		"Claude: thinking, interleaved and redacted": {
			"messages.1: The final block in an assistant message cannot be `thinking`.",
			"messages.1.content.0: Invalid `data` in `redacted_thinking` block",
			"messages.1.content.0: `thinking` or `redacted_thinking` blocks in the latest message cannot be modified."},
		"Responses: reasoning, a phase, a call": {
			"Invalid 'input[1].id': 'x'. Expected an ID that begins with 'rs'.",
			"Item 'rs_1' of type 'reasoning' was provided without its required following item.",
			"Duplicate item found with id rs_1. Remove duplicate items from your input and try again."},
	} {
		c := conversations[name]
		for _, refusal := range refusals {
			body := mustJSON(map[string]any{"type": "error", "error": map[string]any{"message": refusal}})
			f := ask2(t, c.options(), next(c.ask1(t)), func(_, asked string) (int, string) {
				if strings.Contains(asked, sealedText) {
					return 400, body
				}
				return 200, plain[c.kind]
			})
			require.Len(t, f.bodies, 2, refusal)
		}
	}
}

func TestARefusalThatGoesOnIsTold(t *testing.T) {
	c := conversations["Gemini: the first of parallel calls is signed"]
	f := &fake{answer: func(string, string) (int, string) { return 400, c.refusal }}
	s := newUpstream(t, c.options())
	provider.SetTransport(s, f)
	a := chattest.Fold(t, s.Stream(t.Context(), next(c.ask1(t))))
	require.Equal(t, chat.UpstreamRejected, chat.AsError(a.Err).Code)
	require.Len(t, f.bodies, 2)
}

// An error inside of a stream that has not begun is a refusal as well.
func TestAStateIsRefusedInsideOfAStream(t *testing.T) {
	c := conversations["OpenRouter: details in pieces"]
	f := ask2(t, c.options(), next(c.ask1(t)), func(_, body string) (int, string) {
		if strings.Contains(body, sealedText) {
			return 200, sse(`{"error":{"code":400,"message":"Invalid signature in thinking block"},"choices":[]}`)
		}
		return 200, plain["openai"]
	})
	require.Len(t, f.bodies, 2)
}

func TestAFallbackAndAHedgeDecideForThemselves(t *testing.T) {
	c := conversations["DeepSeek"]
	first := &fake{answer: func(string, string) (int, string) { return 503, `{"error":{"message":"overloaded"}}` }}
	second := &fake{answer: func(string, string) (int, string) { return 200, plain["openai"] }}
	kimi := options("openai", "https://api.moonshot.ai/v1")
	kimi.Model = "kimi-k3"
	chain := &upstream.Fallback{Budget: 5e9}
	for _, p := range []struct {
		o provider.Options
		f *fake
	}{{c.options(), first}, {kimi, second}} {
		s := newUpstream(t, p.o)
		provider.SetTransport(s, p.f)
		chain.Candidates = append(chain.Candidates,
			&upstream.Candidate{Streamer: s, Model: func(string) (string, bool) { return p.o.Model, true }})
	}
	require.Equal(t, "ok", chattest.Fold(t, chain.Stream(t.Context(), next(c.ask1(t)))).Text)
	require.Contains(t, first.last(), `"reasoning_content":"I think."`)
	require.Contains(t, second.last(), `"reasoning_content":" "`)
}

func TestNoStateOfAnAnswerThatIsNotWhole(t *testing.T) {
	for name, body := range map[string]string{
		"cut by its length": sse(chunk(`{"reasoning_content":"I think."}`), chunk(`{"content":"Yes"}`),
			`{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}`, "[DONE]"),
		"filtered": sse(chunk(`{"reasoning_content":"I think."}`), chunk(`{"content":"Yes"}`),
			`{"choices":[{"index":0,"delta":{},"finish_reason":"content_filter"}]}`, "[DONE]"),
		"nothing to keep": plain["openai"],
		"more than the room": sse(chunk(`{"reasoning_content":"`+strings.Repeat("x", chat.MaxState)+`"}`),
			chunk(`{"content":"Yes"}`), finishCalls, "[DONE]"),
	} {
		t.Run(name, func(t *testing.T) {
			o := options("openai", "https://api.deepseek.com")
			s := newUpstream(t, o)
			provider.SetTransport(s, &fake{answer: func(string, string) (int, string) { return 200, body }})
			tr := &trace.Trace{}
			a := chattest.Fold(t, s.Stream(trace.With(t.Context(), tr), question()))
			require.NoError(t, a.Err)
			require.Empty(t, a.Done.State)
			require.Equal(t, name == "more than the room", tr.TooMuch)
		})
	}
}

func TestWhatCallersKeepInOpenAIsStyleGoesBack(t *testing.T) {
	call := chat.ToolCall{ID: "c1", Name: "f", Arguments: `{}`}
	signed := call
	signed.ExtraContent = []byte(`{"google":{"thought_signature":"` + sealedText + `"}}`)
	for name, tc := range map[string]struct {
		kind, base, model string
		m                 chat.Message
		want, lacks       string
	}{
		"DeepSeek by another name": {"openai", "https://api.deepseek.com", "deepseek-v4",
			chat.Message{Reasoning: "R", ReasoningName: "reasoning"}, `"reasoning_content":"R"`, `"reasoning":`},
		"Groq by its name": {"openai", "https://api.groq.com/openai/v1", "openai/gpt-oss-20b",
			chat.Message{Reasoning: "R", ReasoningName: "reasoning_content"}, `"reasoning":"R"`, "reasoning_content"},
		"a server by the caller's": {"openai", "http://localhost:8000/v1", "m",
			chat.Message{Reasoning: "R", ReasoningName: "reasoning_content"}, `"reasoning_content":"R"`,
			`"reasoning":`},
		"OpenAI not at all": {"openai", "https://api.openai.com/v1", "gpt-5.1",
			chat.Message{Reasoning: "R", ReasoningName: "reasoning_content", ReasoningDetails: []byte(`[{}]`)},
			`"tool_calls"`, `reasoning`},
		"Claude not unsigned": {"anthropic", "https://api.anthropic.com", "claude-opus-5-5",
			chat.Message{Reasoning: "Rx", ReasoningName: "reasoning_content"}, `"tool_use"`, `Rx`},
		"Ollama as thinking": {"ollama", "http://localhost:11434", "m",
			chat.Message{Reasoning: "R", ReasoningName: "reasoning"}, `"thinking":"R"`, `"reasoning"`},
		"Mistral as a part": {"openai", "https://api.mistral.ai/v1", "m",
			chat.Message{Content: "T", Reasoning: "R", ReasoningName: "reasoning"},
			`[{"type":"thinking","thinking":[{"type":"text","text":"R"}],"closed":true},{"type":"text","text":"T"}]`,
			`reasoning`},
		"details as they are": {"openai", "https://openrouter.ai/api/v1", "m",
			chat.Message{ReasoningDetails: []byte(`[{"type":"later","x":null}]`)},
			`"reasoning_details":[{"type":"later","x":null}]`, `"reasoning":`},
		"details nowhere strict": {"openai", "https://api.mistral.ai/v1", "m",
			chat.Message{ReasoningDetails: []byte(`[{"type":"later"}]`)}, `"tool_calls"`, `later`},
		"Google's of a call": {"gemini", "https://generativelanguage.googleapis.com/v1beta", "gemini-3.5-flash",
			chat.Message{ToolCalls: []chat.ToolCall{signed, call}},
			`{"thoughtSignature":"` + sealedText +
				`","functionCall":{"id":"c1","name":"f","args":{}}},{"functionCall"`, `extra_content`},
		"Google's of the text": {"openai", "https://generativelanguage.googleapis.com/v1beta/openai",
			"gemini-3.5-flash",
			chat.Message{Content: "T", ExtraContent: []byte(`{"google":{"thought_signature":"` + sealedText + `"}}`)},
			`"extra_content":{"google":{"thought_signature":"` + sealedText + `"}}`, `state`},
		"marks of another maker": {"gemini", "https://generativelanguage.googleapis.com/v1beta", "gemini-3.5-flash",
			chat.Message{ReasoningDetails: []byte(`[{"data":"` + sealedText + `"}]`)}, `"c2tp`, sealedText},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(tc.kind, tc.base)
			o.Model = tc.model
			m := tc.m
			m.Role = chat.RoleAssistant
			if m.ToolCalls == nil {
				m.ToolCalls = []chat.ToolCall{call}
			}
			f := ask2(t, o, next(m), nil)
			require.Contains(t, f.last(), tc.want)
			require.NotContains(t, f.last(), tc.lacks)
		})
	}
}

// A gateway under a name of its own has DeepSeek, Kimi or Gemini behind it, and an old client keeps nothing.
func TestFillersStandInWhereTheProviderSaysWhatIsMissing(t *testing.T) {
	m := chat.Message{Role: chat.RoleAssistant, ToolCalls: []chat.ToolCall{{ID: "c1", Name: "f", Arguments: `{}`}}}
	for refusal, want := range map[string]string{
		"The `reasoning_content` in the thinking mode must be passed back to the API.":                           `"reasoning_content":" "`,
		"thinking is enabled but reasoning_content is missing in assistant tool call message at index 1":         `"reasoning_content":" "`,
		"Function call is missing a thought_signature in functionCall parts. This is required for tools to work": `"thought_signature":"c2tp`,
	} {
		f := ask2(t, options("openai", "https://gateway.example/v1"), next(m), func(_, body string) (int, string) {
			if !strings.Contains(body, want) {
				return 400, `{"error":{"message":"` + refusal + `"}}`
			}
			return 200, plain["openai"]
		})
		require.Len(t, f.bodies, 2)
	}
}

func TestAStateThroughTwoRelays(t *testing.T) {
	inner := conversations["DeepSeek"]
	model := &fake{answer: func(_, body string) (int, string) {
		if strings.Contains(body, `"role":"tool"`) {
			return 200, plain["openai"]
		}
		return 200, inner.first
	}}
	innerUpstream := newUpstream(t, inner.options())
	provider.SetTransport(innerUpstream, model)
	relay := func(next chat.Streamer) chat.Streamer { // what a relay is to the one before it
		s := newUpstream(t, options("websopy", "https://relay.example"))
		provider.SetTransport(s, &fake{answer: func(_, body string) (int, string) {
			req := decodeNative(t, body)
			a := chattest.Fold(t, next.Stream(context.Background(), req))
			var out []string
			for _, c := range a.Tools {
				out = append(out, mustJSON(map[string]any{"type": "tool_call",
					"tool": map[string]string{"id": c.ID, "name": c.Name, "arguments": c.Arguments}}))
			}
			if a.Text != "" {
				out = append(out, mustJSON(map[string]any{"type": "content", "content": a.Text}))
			}
			return 200, sse(append(out, mustJSON(map[string]any{"type": "done", "finishReason": a.Done.FinishReason,
				"state": a.Done.State}), "[DONE]")...)
		}})
		return s
	}
	outer := relay(relay(innerUpstream))
	a := chattest.Fold(t, outer.Stream(t.Context(), question()))
	require.NoError(t, a.Err)
	m := chat.Message{Role: chat.RoleAssistant, Content: a.Text, ToolCalls: a.Tools, State: a.Done.State}
	require.Equal(t, "ok", chattest.Fold(t, outer.Stream(t.Context(), next(m))).Text)
	require.Contains(t, model.last(), `"reasoning_content":"I think."`)
}

func mustJSON(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// decodeNative reads what a relay sends to another one, as far as these tests need it.
func decodeNative(t *testing.T, body string) *chat.Request {
	var in struct {
		Messages []struct {
			Role, Content, State string
			ToolCallID           string `json:"tool_call_id"`
			ToolCalls            []struct {
				ID       string
				Function struct{ Name, Arguments string }
			} `json:"tool_calls"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(body), &in))
	req := new(chat.Request)
	for _, m := range in.Messages {
		out := chat.Message{Role: chat.Role(m.Role), Content: m.Content, State: m.State, ToolCallID: m.ToolCallID}
		for _, c := range m.ToolCalls {
			out.ToolCalls = append(out.ToolCalls,
				chat.ToolCall{ID: c.ID, Name: c.Function.Name, Arguments: c.Function.Arguments})
		}
		req.Messages = append(req.Messages, out)
	}
	return req
}
