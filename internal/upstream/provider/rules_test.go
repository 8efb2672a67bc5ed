package provider_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/upstream/format"
	"github.com/websopy/relay/internal/upstream/provider"
)

// Addresses of providers.
const (
	atOpenAI    = "https://api.openai.com/v1"
	atClaude    = "https://api.anthropic.com"
	atGemini    = "https://generativelanguage.googleapis.com/v1beta"
	atMistral   = "https://api.mistral.ai/v1"
	atDeepSeek  = "https://api.deepseek.com"
	atKimi      = "https://api.moonshot.ai/v1"
	atZ         = "https://api.z.ai/api/paas/v4"
	atGroq      = "https://api.groq.com/openai/v1"
	atX         = "https://api.x.ai/v1"
	atRouter    = "https://openrouter.ai/api/v1"
	atCerebras  = "https://api.cerebras.ai/v1"
	atDashScope = "https://dashscope.aliyuncs.com/compatible-mode/v1"
	atHome      = "http://localhost:8000/v1"
)

var (
	someTools = []chat.ToolSpec{{Name: "f"}}
	forced    = chat.ToolChoice{Mode: chat.ChooseRequired}
	named     = chat.ToolChoice{Mode: chat.ChooseFunction, Name: "f"}
)

// ruled is a request to a model somewhere, and what of it is sent or why it is not.
type ruled struct {
	kind, base, model string
	req               chat.Request // with a question, if it has no messages
	has, lacks        string       // of the body; several are separated by spaces
	refusal           string
}

func (r ruled) check(t *testing.T, change func(*provider.Options)) {
	t.Helper()
	o := options(r.kind, r.base)
	o.Model = r.model
	if change != nil {
		change(&o)
	}
	req := r.req
	if req.Messages == nil {
		req.Messages = question().Messages
	}
	if r.refusal != "" {
		a := chattest.Fold(t, newUpstream(t, o).Stream(t.Context(), &req))
		require.Error(t, a.Err)
		require.Equal(t, chat.InvalidRequest, chat.AsError(a.Err).Code)
		require.Equal(t, r.refusal, chat.AsError(a.Err).Message)
		return
	}
	body := ask2(t, o, &req, nil).last()
	for part := range strings.FieldsSeq(r.has) {
		require.Contains(t, body, part)
	}
	for part := range strings.FieldsSeq(r.lacks) {
		require.NotContains(t, body, part)
	}
}

func TestAModelGetsWhatItTakes(t *testing.T) {
	warm := chat.Request{Temperature: "0.3", TopP: "0.9"}
	effort := func(e string) chat.Request { return chat.Request{ReasoningEffort: e} }
	call := func(choice chat.ToolChoice) chat.Request { return chat.Request{Tools: someTools, ToolChoice: choice} }
	with := func(r chat.Request, change func(*chat.Request)) chat.Request { change(&r); return r }
	prefill := chat.Request{Messages: []chat.Message{{Role: chat.RoleUser, Content: "hi"},
		{Role: chat.RoleAssistant, Content: "Well,\n"}}}
	penalty := chat.Request{Extra: []chat.Field{{Name: "presence_penalty", Value: []byte("1")},
		{Name: "top_k", Value: []byte("5")}}}
	const noPrefill = "messages[1]: this model does not go on with an assistant's message; end with the user's"
	const noForced = "tool_choice: this model can't be made to call a tool; use auto or none"
	for name, r := range map[string]ruled{
		// Claude
		"claude 3 takes both": {"anthropic", atClaude, "claude-3-5-haiku-latest", warm,
			`"temperature":0.3 "top_p":0.9`, `thinking`, ""},
		"claude 4.5 takes one": {"anthropic", atClaude, "claude-haiku-4-5-20251001", warm,
			`"temperature":0.3`, `top_p`, ""},
		"claude 4.6 takes one": {"anthropic", atClaude, "claude-opus-4-6", warm,
			`"temperature":0.3`, `top_p thinking`, ""},
		"claude 4.7 takes none": {"anthropic", atClaude, "claude-opus-4-7", warm,
			`"max_tokens":8192`, `temperature top_p thinking`, ""},
		"claude 5 takes none and shows its thought": {"anthropic", atClaude, "claude-sonnet-5", warm,
			`"thinking":{"type":"adaptive","display":"summarized"} "max_tokens":64000`, `temperature top_p effort`,
			""},
		"on Bedrock by another name": {"anthropic", "https://bedrock-mantle.us-east-1.api.aws/anthropic",
			"us.anthropic.claude-opus-5-5-v1:0", warm, `adaptive`, `temperature`, ""},
		"on Vertex with a date": {"anthropic", atClaude, "claude-sonnet-4-5@20250929", warm,
			`"temperature":0.3`, `top_p`, ""},
		"an unknown claude is the newest": {"anthropic", atClaude, "claude-saga-7", warm, `adaptive`,
			`temperature top_p`, ""},
		"another maker's goes as asked": {"anthropic", "https://api.minimax.io/anthropic", "MiniMax-M3", warm,
			`"temperature":0.3 "top_p":0.9`, `thinking`, ""},
		"claude 4.5 on a budget samples not": {"anthropic", atClaude, "claude-sonnet-4-5",
			with(warm, func(r *chat.Request) { r.ReasoningEffort = "high" }), `"budget_tokens":16384`,
			`temperature top_p`, ""},
		"xhigh is too much for 4.6": {"anthropic", atClaude, "claude-opus-4-6", effort("xhigh"),
			`"effort":"high"`, ``, ""},
		"xhigh from 4.7": {"anthropic", atClaude, "claude-opus-4-7", effort("xhigh"),
			`"effort":"xhigh"`, ``, ""},
		"minimal is low": {"anthropic", atClaude, "claude-opus-5", effort("minimal"),
			`"effort":"low"`, ``, ""},
		"none stops opus 5": {"anthropic", atClaude, "claude-opus-5", effort("none"),
			`"thinking":{"type":"disabled"}`, `output_config`, ""},
		"none stops sonnet 5.5 between tools": {"anthropic", atClaude, "claude-sonnet-5-5", effort("none"),
			`"thinking":{"type":"between_tools"}`, `display`, ""},
		"nothing stops opus 5.5": {"anthropic", atClaude, "claude-opus-5-5", effort("none"),
			`"effort":"low" "type":"adaptive"`, `disabled`, ""},
		"nothing stops fable 5": {"anthropic", atClaude, "claude-fable-5", effort("none"),
			`"effort":"low"`, `disabled`, ""},
		"opus 5.5 can't be forced": {"anthropic", atClaude, "claude-opus-5-5", call(forced), "", "",
			noForced},
		"nor to a tool by name": {"anthropic", atClaude, "claude-sonnet-5-5", call(named), "", "",
			noForced},
		"but may be free": {"anthropic", atClaude, "claude-opus-5-5",
			call(chat.ToolChoice{Mode: chat.ChooseAuto}), `"tool_choice":{"type":"auto"}`, ``, ""},
		"opus 5 can": {"anthropic", atClaude, "claude-opus-5", call(forced),
			`"tool_choice":{"type":"any"} adaptive`, ``, ""},
		"4.6 does not think then": {"anthropic", atClaude, "claude-opus-4-6",
			with(call(forced), func(r *chat.Request) { r.ReasoningEffort = "high" }), `"type":"any"`, `adaptive`, ""},
		"4.5 goes on with the assistant's": {"anthropic", atClaude, "claude-haiku-4-5", prefill,
			`{"type":"text","text":"Well,"}`, ``, ""},
		"on a budget it does not think then": {"anthropic", atClaude, "claude-haiku-4-5",
			with(prefill, func(r *chat.Request) { r.ReasoningEffort = "high" }), `"Well,"`, `thinking`, ""},
		"4.6 does not": {"anthropic", atClaude, "claude-sonnet-4-6", prefill, "", "", noPrefill},
		"5.5 does not": {"anthropic", atClaude, "claude-haiku-5-5", prefill, "", "", noPrefill},
		"one call at a time": {"anthropic", atClaude, "claude-haiku-4-5",
			with(call(chat.ToolChoice{}), func(r *chat.Request) {
				r.Extra = []chat.Field{{Name: "parallel_tool_calls", Value: []byte("false")}}
			}), `"tool_choice":{"type":"auto","disable_parallel_tool_use":true}`, ``, ""},
		"the caller's limit is the limit": {"anthropic", atClaude, "claude-opus-5-5", chat.Request{MaxTokens: "100"},
			`"max_tokens":100`, ``, ""},

		// OpenAI in chat completions
		"gpt-4.1 takes what it always took": {"openai", atOpenAI, "gpt-4.1",
			with(warm, func(r *chat.Request) { r.MaxTokens, r.Stop, r.ReasoningEffort = "9", []string{"x"}, "low" }),
			`"temperature":0.3 "max_completion_tokens":9 "stop":["x"]`, `reasoning_effort`, ""},
		"a fine-tuned one as well": {"openai", atOpenAI, "ft:gpt-4o:acme::x", warm, `"temperature":0.3`,
			``, ""},
		"o3 takes none":                        {"openai", atOpenAI, "o3", warm, ``, `temperature top_p`, ""},
		"gpt-5.1 takes them without an effort": {"openai", atOpenAI, "gpt-5.1", warm, `"temperature":0.3`, ``, ""},
		"but not with one": {"openai", atOpenAI, "gpt-5.1",
			with(warm, func(r *chat.Request) { r.ReasoningEffort = "low" }), `"reasoning_effort":"low"`, `temperature`,
			""},
		"gpt-6-luna with none only": {"openai", atOpenAI, "gpt-6-luna", warm, ``, `temperature`, ""},
		"and with none": {"openai", atOpenAI, "gpt-6-luna",
			with(warm, func(r *chat.Request) { r.ReasoningEffort = "none" }),
			`"temperature":0.3 "reasoning_effort":"none"`, ``, ""},
		"minimal is low from 5.6": {"openai", atOpenAI, "gpt-5.6", effort("minimal"),
			`"reasoning_effort":"low"`, ``, ""},
		"gpt-5 has minimal": {"openai", atOpenAI, "gpt-5-mini", effort("minimal"),
			`"reasoning_effort":"minimal"`, ``, ""},
		"gpt-5-pro only high": {"openai", atOpenAI, "gpt-5-pro", effort("low"),
			`"reasoning_effort":"high"`, ``, ""},
		"astra can't be none": {"openai", atOpenAI, "gpt-6-astra", effort("none"),
			`"reasoning_effort":"low"`, ``, ""},
		"chat models only medium": {"openai", atOpenAI, "gpt-5.3-chat-latest", effort("high"),
			`"reasoning_effort":"medium"`, ``, ""},
		"gpt-5-chat has none": {"openai", atOpenAI, "gpt-5-chat-latest",
			with(warm, func(r *chat.Request) { r.ReasoningEffort = "high" }), `"temperature":0.3`, `reasoning_effort`,
			""},
		"gpt-5 has no stop": {"openai", atOpenAI, "gpt-5", chat.Request{Stop: []string{"x"}}, "",
			"", "stop: this model has no stop sequences"},
		"nor penalties": {"openai", atOpenAI, "gpt-5", penalty, `top_k`, `presence_penalty`,
			""},
		"an unknown gpt is the newest": {"openai", atHome, "gpt-9-nova",
			with(warm, func(r *chat.Request) { r.MaxTokens = "9" }), `"max_completion_tokens":9`, `temperature`, ""},
		"gpt-oss goes as asked": {"openai", atHome, "gpt-oss-120b",
			with(warm, func(r *chat.Request) { r.MaxTokens = "9" }), `"temperature":0.3 "max_tokens":9`, ``, ""},
		"behind a gateway's prefix as well": {"openai", atRouter, "openai/gpt-6-luna", warm, `"temperature":0.3`,
			``, ""},
		"azure's limit by its new name": {"azure", "https://x.openai.azure.com", "my-deployment",
			chat.Request{MaxTokens: "9"}, `"max_completion_tokens":9`, `"max_tokens"`, ""},
		"a name that OpenAI refuses is left out": {"openai", atOpenAI, "gpt-4.1",
			chat.Request{Messages: []chat.Message{{Role: chat.RoleUser, Name: "Ann Lee", Content: "hi"}}}, ``, `Ann`,
			""},

		// OpenAI's Responses
		"responses: no sampling": {"openai-responses", atOpenAI, "gpt-6-luna", warm,
			`"reasoning":{"summary":"auto"} "include":["reasoning.encrypted_content"] "store":false`, `temperature`,
			""},
		"responses: with none, no summary": {"openai-responses", atOpenAI, "gpt-6-luna",
			with(warm, func(r *chat.Request) { r.ReasoningEffort = "none" }),
			`"temperature":0.3 "reasoning":{"effort":"none"}`, `summary include`, ""},
		"responses: max from 5.6": {"openai-responses", atOpenAI, "gpt-5.6", effort("max"), `"effort":"max"`,
			``, ""},
		"responses: gpt-4.1 seals nothing": {"openai-responses", atOpenAI, "gpt-4.1", warm, `"temperature":0.3`,
			`include summary`, ""},
		"responses: the caller's own": {"openai-responses", atOpenAI, "gpt-6-luna",
			with(warm, func(r *chat.Request) {
				r.Extra = []chat.Field{{Name: "reasoning", Value: []byte(`{"effort":"none"}`)}}
			}), `"reasoning":{"effort":"none"} "temperature":0.3`, `summary`, ""},
		"responses: of others as asked": {"openai-responses", atHome, "qwen3", warm, `"temperature":0.3`,
			`include summary`, ""},
		"responses: xAI's reasoning sealed": {"openai-responses", atX, "grok-4.5", warm,
			`"include":["reasoning.encrypted_content"] "temperature":0.3`, `summary`, ""},

		// Gemini
		"2.5 flash can be off": {"gemini", atGemini, "gemini-2.5-flash", effort("none"),
			`"thinkingBudget":0`, `includeThoughts`, ""},
		"2.5 pro can't": {"gemini", atGemini, "gemini-2.5-pro", effort("none"),
			`"thinkingBudget":128`, `includeThoughts`, ""},
		"3.5 flash has minimal": {"gemini", atGemini, "gemini-3.5-flash", effort("minimal"),
			`"thinkingLevel":"MINIMAL"`, ``, ""},
		"3.7 flash has not": {"gemini", atGemini, "gemini-3.7-flash", effort("minimal"),
			`"thinkingLevel":"LOW"`, ``, ""},
		"3 pro has two levels": {"gemini", atGemini, "gemini-3-pro", effort("medium"),
			`"thinkingLevel":"LOW"`, ``, ""},
		"4 has three": {"gemini", atGemini, "gemini-4-argon", effort("max"),
			`"thinkingLevel":"HIGH"`, ``, ""},
		"latest is the newest": {"gemini", atGemini, "gemini-flash-latest", effort("none"),
			`"thinkingLevel":"LOW"`, ``, ""},
		"thoughts are asked for": {"gemini", atGemini, "gemini-3.5-flash", chat.Request{},
			`"includeThoughts":true`, `thinkingLevel`, ""},
		"but not of 2.0": {"gemini", atGemini, "gemini-2.0-flash", chat.Request{}, ``,
			`includeThoughts`, ""},
		"nor of one that draws": {"gemini", atGemini, "gemini-3-pro-image", chat.Request{}, ``,
			`includeThoughts`, ""},
		"nor of another maker's": {"gemini", atGemini, "gemma-4-27b-it", warm, `"temperature":0.3`,
			`includeThoughts`, ""},
		"its levels behind OpenAI's door": {"openai", atGemini + "/openai", "gemini-3.7-flash", effort("none"),
			`"reasoning_effort":"low"`, ``, ""},

		// Others in chat completions
		"mistral's names": {"openai", atMistral, "mistral-small-latest",
			chat.Request{Seed: "7", MaxTokens: "9", MaxTokensName: "max_completion_tokens"},
			`"random_seed":7 "max_tokens":9`, `"seed" stream_options`, ""},
		"mistral's efforts": {"openai", atMistral, "mistral-small-latest", effort("low"),
			`"reasoning_effort":"high"`, ``, ""},
		"mistral goes on with a prefix": {"openai", atMistral, "m", prefill, `"prefix":true`, ``, ""},
		"deepseek's efforts": {"openai", atDeepSeek, "deepseek-v4-pro", effort("medium"),
			`"reasoning_effort":"low"`, `thinking`, ""},
		"deepseek's largest": {"openai", atDeepSeek, "deepseek-v4-pro", effort("max"),
			`"reasoning_effort":"max"`, ``, ""},
		"deepseek without thinking": {"openai", atDeepSeek, "deepseek-v4-pro", effort("none"),
			`"thinking":{"type":"disabled"}`, `reasoning_effort`, ""},
		"deepseek forced does not think": {"openai", atDeepSeek, "deepseek-v4-pro", call(forced),
			`"thinking":{"type":"disabled"} "tool_choice":"required"`, ``, ""},
		"deepseek has no schema": {"openai", atDeepSeek, "deepseek-v4-pro",
			chat.Request{ResponseFormat: []byte(`{"type":"json_schema","json_schema":{"name":"n","schema":{}}}`)}, "",
			"", "response_format.type: this provider has no json_schema; use json_object"},
		"kimi samples itself":  {"openai", atKimi, "kimi-k3", warm, ``, `temperature top_p`, ""},
		"kimi can't be forced": {"openai", atKimi, "kimi-k2.6", call(forced), "", "", noForced},
		"kimi k2.6 forced does not think": {"openai", atKimi, "kimi-k2.6", call(named),
			`"thinking":{"type":"disabled"}`, ``, ""},
		"kimi k3 not even so": {"openai", atKimi, "kimi-k3", call(named), "", "", noForced},
		"kimi k2.5 without thinking": {"openai", atKimi, "kimi-k2.5", effort("none"),
			`"thinking":{"type":"disabled"}`, `reasoning_effort`, ""},
		"kimi k3 thinks always": {"openai", atKimi, "kimi-k3", effort("none"),
			`"reasoning_effort":"low"`, `thinking`, ""},
		"kimi fetches no images": {"openai", atKimi, "kimi-k3",
			chat.Request{Messages: []chat.Message{
				{Role: chat.RoleUser, Parts: []chat.Part{{Type: chat.PartImage, ImageURL: "https://x/y.png"}}}}}, "",
			"", "messages[0].content[0].image_url: this provider fetches no images; use a data URL"},
		"glm 4.6 on or off": {"openai", atZ, "glm-4.6", effort("none"),
			`"thinking":{"type":"disabled"}`, `reasoning_effort`, ""},
		"glm 4.6 has no efforts": {"openai", atZ, "glm-4.6", effort("high"), ``,
			`reasoning_effort thinking`, ""},
		"glm 5.2 has all": {"openai", atZ, "glm-5.2", effort("xhigh"),
			`"reasoning_effort":"xhigh"`, ``, ""},
		"glm 5.3 thinks always": {"openai", atZ, "glm-5.3", effort("none"),
			`"reasoning_effort":"low"`, `thinking`, ""},
		"qwen on a budget": {"openai", atDashScope, "qwen-plus", effort("low"),
			`"enable_thinking":true "thinking_budget":2048`, `reasoning_effort`, ""},
		"qwen off": {"openai", atDashScope, "qwen-plus", effort("none"),
			`"enable_thinking":false`, `thinking_budget`, ""},
		"grok 4.5 thinks always": {"openai", atX, "grok-4.5", effort("none"),
			`"reasoning_effort":"low"`, ``, ""},
		"grok 4.3 can be off": {"openai", atX, "grok-4.3", effort("none"),
			`"reasoning_effort":"none"`, ``, ""},
		"grok 4 has no efforts": {"openai", atX, "grok-4-0709", effort("low"), ``, `reasoning_effort`,
			""},
		"grok has no stop": {"openai", atX, "grok-4.5", chat.Request{Stop: []string{"x"}}, "",
			"", "stop: this model has no stop sequences"},
		"groq's gpt-oss": {"openai", atGroq, "openai/gpt-oss-120b", effort("none"),
			`"reasoning_effort":"low"`, `reasoning_format`, ""},
		"groq's qwen": {"openai", atGroq, "qwen/qwen3-32b", effort("none"),
			`"reasoning_effort":"none" "reasoning_format":"parsed"`, ``, ""},
		"groq's others": {"openai", atGroq, "llama-3.3-70b-versatile", effort("low"), ``,
			`reasoning_effort`, ""},
		"cerebras": {"openai", atCerebras, "gpt-oss-120b", effort("none"),
			`"reasoning_effort":"low"`, ``, ""},
		"openrouter's words": {"openai", atRouter, "x/y",
			with(effort("low"), func(r *chat.Request) { r.MaxTokens, r.MaxTokensName = "9", "max_completion_tokens" }),
			`"reasoning":{"effort":"low"} "max_tokens":9`, `reasoning_effort max_completion`, ""},
		"a server of one's own goes as asked": {"openai", atHome, "m",
			with(warm, func(r *chat.Request) { r.ReasoningEffort, r.Stop, r.MaxTokens = "weird", []string{"x"}, "9" }),
			`"temperature":0.3 "reasoning_effort":"weird" "stop":["x"] "max_tokens":9 "stream_options"`, ``, ""},
		"a provider's name in another's is none": {"openai", "https://x.ai.example.com/v1", "grok-4.5", effort("none"),
			`"reasoning_effort":"none"`, ``, ""},
	} {
		t.Run(name, func(t *testing.T) { r.check(t, nil) })
	}
}

func TestOpenAIsRequestsGoToTheFormatThatCanCarryThem(t *testing.T) {
	withTools := chat.Request{Tools: someTools}
	for name, tc := range map[string]struct {
		kind, base, model string
		req               chat.Request
		path              string
		has, lacks        string
	}{
		"tools of a new model": {"openai", atOpenAI, "gpt-6-luna", withTools, "/v1/responses",
			`"type":"function"`, `stream_options`},
		"with none they may stay": {"openai", atOpenAI, "gpt-6-luna",
			chat.Request{Tools: someTools, ReasoningEffort: "none"}, "/v1/chat/completions",
			`"reasoning_effort":"none"`, ``},
		"never with the newest": {"openai", atOpenAI, "gpt-6-astra",
			chat.Request{Tools: someTools, ReasoningEffort: "none"}, "/v1/responses", `"effort":"low"`, ``},
		"an effort of 5.4": {"openai", atOpenAI, "gpt-5.4",
			chat.Request{Tools: someTools, ReasoningEffort: "low"}, "/v1/responses", `"effort":"low"`, ``},
		"5.4 without one": {"openai", atOpenAI, "gpt-5.4", withTools, "/v1/chat/completions",
			`"tools"`, ``},
		"what Responses does not know": {"openai", atOpenAI, "gpt-6-luna",
			chat.Request{Tools: someTools, Extra: []chat.Field{{Name: "frequency_penalty", Value: []byte("1")},
				{Name: "metadata", Value: []byte("{}")}}}, "/v1/responses", `"metadata":{}`, `frequency_penalty`},
		"max is of Responses": {"openai", atOpenAI, "gpt-5.6", chat.Request{ReasoningEffort: "max"},
			"/v1/responses", `"effort":"max"`, ``},
		"Responses by default": {"openai-responses", atOpenAI, "gpt-6-luna", chat.Request{},
			"/v1/responses", `"store":false`, ``},
		"a seed is of chat completions": {"openai-responses", atOpenAI, "gpt-6-luna", chat.Request{Seed: "7"},
			"/v1/chat/completions", `"seed":7`, ``},
		"but tools come first": {"openai-responses", atOpenAI, "gpt-6-luna",
			chat.Request{Seed: "7", Tools: someTools}, "/v1/responses", `"tools"`, `seed`},
		"stop of an old model": {"openai-responses", atOpenAI, "gpt-4.1",
			chat.Request{Stop: []string{"x"}, Tools: someTools}, "/v1/chat/completions", `"stop":["x"]`, ``},
		"logprobs": {"openai-responses", atOpenAI, "gpt-4.1",
			chat.Request{Extra: []chat.Field{{Name: "logprobs", Value: []byte("true")}}}, "/v1/chat/completions",
			`"logprobs":true`, ``},
		"a region of OpenAI": {"openai", "https://eu.api.openai.com/v1", "gpt-6-luna", withTools,
			"/v1/responses", ``, ``},
		"a gateway has the one that is set": {"openai", atHome, "gpt-6-luna", withTools, "/v1/chat/completions",
			`"tools"`, `reasoning_effort`},
		"so has another server with Responses": {"openai-responses", atHome, "m", chat.Request{Seed: "7"},
			"/v1/responses", ``, `seed`},
		"Azure's newer address": {"azure", "https://x.openai.azure.com/openai/v1", "gpt-6-luna", withTools,
			"/openai/v1/responses", `"model":"gpt-6-luna"`, ``},
		"and its chat completions": {"azure", "https://x.openai.azure.com/openai/v1", "dep", chat.Request{},
			"/openai/v1/chat/completions", `"model":"dep"`, ``},
		"Azure's older one has chat only": {"azure", "https://x.openai.azure.com", "gpt-6-luna", withTools,
			"/openai/deployments/gpt-6-luna/chat/completions?api-version=2024-10-21", `"reasoning_effort":"none"`, ``},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(tc.kind, tc.base)
			o.Model = tc.model
			if tc.kind == "azure" && !strings.HasSuffix(tc.base, "/v1") {
				o.APIVersion = "2024-10-21"
			}
			tc.req.Messages = question().Messages
			f := ask2(t, o, &tc.req, nil)
			require.True(t, strings.HasSuffix(f.paths[0], tc.path), f.paths[0])
			for part := range strings.FieldsSeq(tc.has) {
				require.Contains(t, f.last(), part)
			}
			for part := range strings.FieldsSeq(tc.lacks) {
				require.NotContains(t, f.last(), part)
			}
		})
	}
}

func TestWhereToolsCanGoNowhereTheUserHearsWhy(t *testing.T) {
	o := options("azure", "https://x.openai.azure.com")
	o.APIVersion = "2024-10-21"
	for model, want := range map[string]string{
		"gpt-6-astra": "tools: this model takes tools with the kind openai-responses only",
		"gpt-5.5": "reasoning_effort: this model takes tools with the effort none only, or with the kind " +
			"openai-responses",
	} {
		o.Model = model
		req := question()
		req.Tools, req.ReasoningEffort = someTools, "high"
		require.Equal(t, want, chat.AsError(chattest.Fold(t, newUpstream(t, o).Stream(t.Context(), req)).Err).Message)
	}
}

func TestAnOperatorSaysWhatAModelIs(t *testing.T) {
	family := func(names ...string) func(*provider.Options) {
		return func(o *provider.Options) {
			for _, n := range names {
				match, name, some := strings.Cut(n, "=")
				f := format.Family{Name: name, Match: func(m string) bool { return m == match }}
				if !some {
					f = format.Family{Name: match}
				}
				o.Families = append(o.Families, f)
			}
		}
	}
	warm := chat.Request{Temperature: "0.3", Seed: "7", MaxTokens: "9"}
	for name, tc := range map[string]struct {
		ruled
		families []string
	}{
		"a deployment is a model": {ruled{"azure", "https://x.openai.azure.com/openai/v1", "prod", warm, ``,
			`temperature`, ""}, []string{"prod=gpt-5.5"}},
		"some are": {ruled{"azure", "https://x.openai.azure.com/openai/v1", "other", warm,
			`temperature`, ``, ""}, []string{"prod=gpt-5.5"}},
		"a family is its newest": {ruled{"anthropic", "https://gateway.example", "thinker", warm,
			`adaptive`, `temperature`, ""}, []string{"claude"}},
		"a provider behind another address": {ruled{"openai", atHome, "m", warm, `"random_seed":7`,
			`"seed" stream_options`, ""}, []string{"mistral"}},
		"a name is not what it seems": {ruled{"openai", atHome, "gpt-9", warm,
			`"temperature":0.3 "max_tokens":9`, ``, ""}, []string{"none"}},
		"nor a provider what its address is": {ruled{"openai", atMistral, "m", warm, `"seed":7 stream_options`, ``,
			""}, []string{"none"}},
	} {
		t.Run(name, func(t *testing.T) { tc.check(t, family(tc.families...)) })
	}
	for _, name := range []string{"none", "gpt", "gpt-5.5", "o3", "claude", "claude-haiku-4-5", "gemini", "mistral",
		"kimi"} {
		require.True(t, format.KnowsFamily(name), name)
	}
	for _, name := range []string{"", "gtp", "llama"} {
		require.False(t, format.KnowsFamily(name), name)
	}
}

func TestAnOperatorChangesRequests(t *testing.T) {
	edits := func(e provider.Edits) func(*provider.Options) {
		return func(o *provider.Options) { o.Edits = &e }
	}
	req := chat.Request{Temperature: "0.3", Seed: "7", User: "u"}
	for name, tc := range map[string]struct {
		ruled
		change func(*provider.Options)
	}{
		"fields are dropped": {ruled{"openai", atHome, "m", req, `"seed":7`, `temperature "user":"u"`, ""},
			edits(provider.Edits{Drop: []string{"temperature", "user", "no"}})},
		"within objects, too": {ruled{"gemini", atGemini, "m", req, `"seed":7`, `temperature`, ""},
			edits(provider.Edits{Drop: []string{"generationConfig.temperature"}})},
		"fields get other names": {ruled{"openai", atHome, "m", req, `"random_seed":7`, `"seed"`, ""},
			edits(provider.Edits{Rename: map[string]string{"seed": "random_seed"}})},
		"which are there once": {ruled{"openai", atHome, "m", req, `"user":"u"`, `7`, ""},
			edits(provider.Edits{Rename: map[string]string{"user": "user", "seed": "temperature"}})},
		"fields are added": {ruled{"openai", atHome, "m", req,
			`"chat_template_kwargs":{"enable_thinking":false} "user":"u"`, ``, ""},
			edits(provider.Edits{Add: []byte(`{"chat_template_kwargs":{"enable_thinking":false}}`)})},
		"in place of the request's": {ruled{"openai", atHome, "m", req, `"seed":{"x":1} "temperature":1`, `0.3`,
			""}, edits(provider.Edits{Add: []byte(`{"seed":{"x":1},"temperature":1}`)})},
		"objects are merged": {ruled{"gemini", atGemini, "m", req, `"temperature":0.3 "seed":7 "topK":5`, ``,
			""}, edits(provider.Edits{Add: []byte(`{"generationConfig":{"topK":5}}`)})},
		"what is dropped can be added": {ruled{"openai", atHome, "m", req, `"stream_options":{"x":1}`, `include_usage`,
			""}, edits(provider.Edits{Drop: []string{"stream_options"}, Add: []byte(`{"stream_options":{"x":1}}`)})},
		"no edits": {ruled{"openai", atHome, "m", req, `"stream_options":{"include_usage":true}`, ``,
			""}, edits(provider.Edits{})},
		"usage is not asked for": {ruled{"openai", atHome, "m", req, ``, `stream_options`, ""},
			func(o *provider.Options) { o.NoStreamUsage = true }},
	} {
		t.Run(name, func(t *testing.T) { tc.check(t, tc.change) })
	}
}

func TestWhatNobodyAskedForIsLeftOutWhenItIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		kind, base, model string
		refused, message  string
		times             int // that it is refused in two requests
	}{
		"stream_options": {"openai", atHome, "m", `stream_options`,
			`{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],` +
				`"msg":"Extra inputs are not permitted"}]}`, 1},
		"a summary that the account may not have": {"openai-responses", atOpenAI, "gpt-6-luna", `"summary"`,
			`{"error":{"message":"Your organization must be verified to generate reasoning summaries.",` +
				`"param":"reasoning.summary"}}`, 1},
		"reasoning that a model does not seal": {"openai-responses", atOpenAI, "gpt-6-luna", `"include"`,
			`{"error":{"message":"Encrypted content is not supported with this model.","param":"include"}}`, 2},
		"thoughts": {"gemini", atGemini, "gemini-5-new", `includeThoughts`,
			`{"error":{"code":400,"message":"Thinking is not enabled for this model"}}`, 2},
		"a display": {"anthropic", atClaude, "claude-opus-9", `display`,
			`{"error":{"message":"thinking.adaptive.display: Extra inputs are not permitted"}}`, 2},
		"ids of calls": {"gemini", atHome, "gemini-3.5-flash", `"id"`,
			`[{"error":{"code":400,"message":"Unknown name \\"id\\" at 'contents[1].parts[0].function_call': Cannot ` +
				`find field."}}]`, 2},
		"a temperature of a deployment": {"openai", atHome, "prod", `temperature`,
			`{"error":{"message":"Unsupported value: 'temperature' does not support 0.3 with this model.",` +
				`"code":"unsupported_value"}}`, 2},
		"a limit by its old name": {"openai", atHome, "prod", `"max_tokens"`,
			`{"error":{"message":"'max_tokens' is not supported with this model. Use 'max_completion_tokens' ` +
				`instead."}}`, 2},
		"a format": {"openai", atGroq, "qwen/qwen3-32b", `reasoning_format`,
			`{"error":{"message":"reasoning_format is not supported with this model"}}`, 2},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(tc.kind, tc.base)
			o.Model = tc.model
			refusals := 0
			f := &fake{answer: func(_, body string) (int, string) {
				if strings.Contains(body, tc.refused) {
					refusals++
					return 400, tc.message
				}
				return 200, plain[tc.kind]
			}}
			s := newUpstream(t, o)
			provider.SetTransport(s, f)
			for range 2 {
				req := &chat.Request{Messages: said("user: a", "call: x", "result: x"), Temperature: "0.3",
					MaxTokens: "9"}
				require.Equal(t, "ok", chattest.Fold(t, s.Stream(t.Context(), req)).Text)
			}
			require.Equal(t, tc.times, refusals)
		})
	}
}

// A provider quotes what it refuses. A stranger whose function is called like a field of ours, and has a bad schema,
// must not take the field from all others: their usage would be counted no more until the relay is started again.
func TestARefusalThatQuotesAStrangerTakesNothingFromOthers(t *testing.T) {
	for name, tc := range map[string]struct{ kind, base, model, tool, kept string }{
		"usage":     {"openai", atHome, "m", "stream_options", `"stream_options"`},
		"summaries": {"openai-responses", atOpenAI, "gpt-6-luna", "make_summary", `"summary"`},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(tc.kind, tc.base)
			o.Model = tc.model
			f := &fake{answer: func(_, body string) (int, string) {
				if strings.Contains(body, tc.tool+`","`) || strings.Contains(body, `"name":"`+tc.tool) {
					return 400, `{"error":{"message":"Invalid schema for function '` + tc.tool +
						`': schema must be a JSON Schema of 'type: \"object\"'."}}`
				}
				return 200, plain[tc.kind]
			}}
			s := newUpstream(t, o)
			provider.SetTransport(s, f)
			bad := &chat.Request{Messages: said("user: a"),
				Tools: []chat.ToolSpec{{Name: tc.tool, Parameters: []byte(`{"type":"string"}`)}}}
			refused := chattest.Fold(t, s.Stream(t.Context(), bad))
			require.Equal(t, chat.UpstreamRejected, chat.AsError(refused.Err).Code)

			honest := &chat.Request{Messages: said("user: a")}
			require.Equal(t, "ok", chattest.Fold(t, s.Stream(t.Context(), honest)).Text)
			require.Contains(t, f.last(), tc.kept)
		})
	}
}

func TestThinkingInTagsIsToldFromTextIfTheOperatorSaysSo(t *testing.T) {
	for name, tc := range map[string]struct {
		pieces          []string
		text, reasoning string
		off             bool
	}{
		"in one piece": {[]string{"<think>hm</think>Yes."}, "Yes.", "hm", false},
		"in many": {[]string{"\n", "<th", "ink", ">h", "m</", "thi", "nk>", "Yes."}, "Yes.",
			"hm", false},
		"a tag that is none":            {[]string{"<thi", "s> is"}, "<this> is", "", false},
		"an end that is none":           {[]string{"<think>a</", "b></think>", "c"}, "c", "a</b>", false},
		"later it is text":              {[]string{"a<think>b</think>"}, "a<think>b</think>", "", false},
		"no end":                        {[]string{"<think>hm</th"}, "", "hm</th", false},
		"only space":                    {[]string{" \n"}, " \n", "", false},
		"not unless it is asked for":    {[]string{"<think>hm</think>Yes."}, "<think>hm</think>Yes.", "", true},
		"nothing but the tag's opening": {[]string{"<think>"}, "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			o := options("openai", atHome)
			o.ThinkTags = !tc.off
			var events []string
			for _, p := range tc.pieces {
				events = append(events, chunk(`{"content":`+mustJSON(p)+`}`))
			}
			s := newUpstream(t, o)
			f := &fake{answer: func(string, string) (int, string) {
				return 200, sse(append(events, `{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`,
					"[DONE]")...)
			}}
			provider.SetTransport(s, f)
			a := chattest.Fold(t, s.Stream(t.Context(), question()))
			require.NoError(t, a.Err)
			require.Equal(t, tc.text, a.Text)
			require.Equal(t, tc.reasoning, a.Reasoning)
			if a.Done.State != "" {
				chattest.Fold(t, s.Stream(t.Context(),
					next(chat.Message{Role: chat.RoleAssistant, Content: a.Text, State: a.Done.State})))
				require.Contains(t, f.last(), `"<think>`+tc.reasoning+`</think>`+tc.text+`"`,
					"it goes back as it came")
			}
		})
	}
}
