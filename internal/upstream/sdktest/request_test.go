package sdktest

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	cohere "github.com/cohere-ai/cohere-go/v2"
	ollama "github.com/ollama/ollama/api"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/responses"
	"github.com/stretchr/testify/require"
	"google.golang.org/genai"

	"github.com/websopy/relay/internal/chat"
)

// requests use all there is, between them. Each kind gets those that it does not refuse.
func requests(kind string) map[string]*chat.Request {
	strict := true
	tools := []chat.ToolSpec{
		{Name: "f", Description: "d",
			Parameters: []byte(`{"type":"object","properties":{"x":{"type":"integer","description":"n"}},` +
				`"required":["x"],"additionalProperties":false}`), Strict: &strict},
		{Name: "g"},
	}
	user := chat.Message{Role: chat.RoleUser, Content: "and?"}
	inline := chat.Part{Type: chat.PartImage, ImageURL: "data:image/png;base64,AAEC", Detail: "high"}
	all := map[string]*chat.Request{
		"plain": {Model: "m", Messages: []chat.Message{{Role: chat.RoleSystem, Content: "s"}, user}},
		"conversation with tools": {
			Messages: []chat.Message{
				{Role: chat.RoleSystem, Parts: []chat.Part{{Type: chat.PartText, Text: "s"}}},
				{Role: chat.RoleUser, Parts: []chat.Part{{Type: chat.PartText, Text: "what?"}, inline}},
				{Role: chat.RoleAssistant, Content: "let me see",
					ToolCalls: []chat.ToolCall{{ID: "a", Name: "f", Arguments: `{"x":1}`},
						{ID: "b", Name: "g", Arguments: "{}"}}},
				{Role: chat.RoleTool, ToolCallID: "a", Content: "4"},
				{Role: chat.RoleTool, ToolCallID: "b", Content: `{"y":2}`},
				user,
			},
			Tools: tools, ToolChoice: chat.ToolChoice{Mode: chat.ChooseAuto},
		},
		"numbers": {Messages: []chat.Message{user}, Temperature: "0.7", TopP: "0.9",
			MaxTokens: "900", Seed: "7", User: "u"},
		"stop sequences": {Messages: []chat.Message{user}, Stop: []string{"END"}},
		"schema": {Messages: []chat.Message{user},
			ResponseFormat: []byte(`{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"},` +
				`"strict":true}}`)},
		"JSON": {Messages: []chat.Message{user},
			ResponseFormat: []byte(`{"type":"json_object"}`)},
		"effort": {Messages: []chat.Message{user}, ReasoningEffort: "low"},
		"effort of a model with a budget": {Model: "claude-haiku-4-5 gemini-2.5", Messages: []chat.Message{user},
			ReasoningEffort: "high"},
		"effort of a model without": {Model: "claude-opus-5", Messages: []chat.Message{user}, ReasoningEffort: "high"},
		"no effort":                 {Messages: []chat.Message{user}, ReasoningEffort: "none"},
		"no tool": {Messages: []chat.Message{user}, Tools: tools,
			ToolChoice: chat.ToolChoice{Mode: chat.ChooseNone}},
		"any tool": {Messages: []chat.Message{user}, Tools: tools,
			ToolChoice: chat.ToolChoice{Mode: chat.ChooseRequired}},
		"one tool": {Messages: []chat.Message{user}, Tools: tools,
			ToolChoice: chat.ToolChoice{Mode: chat.ChooseFunction, Name: "f"}},
		"an image elsewhere": {Messages: []chat.Message{
			{Role: chat.RoleUser, Parts: []chat.Part{{Type: chat.PartImage, ImageURL: "https://x/y.png"}}}}},
	}
	refused := map[string][]string{
		"openai-responses": {"stop sequences"},
		"anthropic":        {"JSON"},
		"ollama":           {"any tool", "one tool", "an image elsewhere"},
	}
	for _, name := range refused[kind] {
		delete(all, name)
	}
	return all
}

// requireKept holds that an SDK's type takes JSON in and gives it out again, so that it knows each of its
// members and their types.
func requireKept(t *testing.T, raw []byte, sdk any) {
	t.Helper()
	require.NoError(t, json.Unmarshal(raw, sdk), "%s", raw)
	if p, ok := sdk.(interface{ ExtraFields() map[string]any }); ok {
		require.Empty(t, p.ExtraFields())
	}
	again, err := json.Marshal(sdk)
	require.NoError(t, err)
	require.JSONEq(t, string(raw), string(again))
}

// parts takes members out of an object: those of a union type, whose variants OpenAI's SDK does not tell
// apart when it decodes a request, are held to the variant that is meant.
func parts(t *testing.T, object []byte, names ...string) (rest []byte, taken map[string]json.RawMessage) {
	t.Helper()
	taken = map[string]json.RawMessage{}
	require.NoError(t, json.Unmarshal(object, &taken))
	return without(t, object, names...), taken
}

func TestOpenAIAcceptsChatRequests(t *testing.T) {
	for name, req := range requests("openai") {
		t.Run(name, func(t *testing.T) {
			body := without(t, sent(t, "openai", req), "stream")
			if name == "one tool" {
				rest, taken := parts(t, body, "tool_choice")
				requireKept(t, taken["tool_choice"], &openai.ChatCompletionNamedToolChoiceParam{})
				body = rest
			}
			requireKept(t, body, &openai.ChatCompletionNewParams{})
		})
	}
}

func TestOpenAIAcceptsResponsesRequests(t *testing.T) {
	for name, req := range requests("openai-responses") {
		t.Run(name, func(t *testing.T) {
			body := without(t, sent(t, "openai-responses", req), "stream")
			rest, taken := parts(t, body, "input", "tool_choice")
			requireKept(t, rest, &responses.ResponseNewParams{})
			switch choice := taken["tool_choice"]; name {
			case "one tool":
				requireKept(t, choice, &responses.ToolChoiceFunctionParam{})
			case "any tool", "no tool", "conversation with tools":
				require.Contains(t, []responses.ToolChoiceOptions{"auto", "none", "required"},
					responses.ToolChoiceOptions(bytes.Trim(choice, `"`)))
			default:
				require.Nil(t, choice)
			}
			var items []json.RawMessage
			require.NoError(t, json.Unmarshal(taken["input"], &items))
			for _, item := range items {
				_, members := parts(t, item)
				switch typ := string(members["type"]); typ {
				case `"function_call"`:
					requireKept(t, item, &responses.ResponseFunctionToolCallParam{})
				case `"function_call_output"`:
					requireKept(t, item, &responses.ResponseInputItemFunctionCallOutputParam{})
				default:
					requireKept(t, item, &responses.EasyInputMessageParam{})
				}
			}
		})
	}
}

func TestAnthropicAcceptsRequests(t *testing.T) {
	for name, req := range requests("anthropic") {
		t.Run(name, func(t *testing.T) {
			rest, taken := parts(t, without(t, sent(t, "anthropic", req), "stream"), "system")
			requireKept(t, rest, &anthropic.MessageNewParams{})
			if system := taken["system"]; system != nil { // the SDK makes a list of the one text
				require.Equal(t, `"s"`, string(system))
			}
		})
	}
}

func TestCohereAcceptsRequests(t *testing.T) {
	for name, req := range requests("cohere") {
		t.Run(name, func(t *testing.T) { requireKept(t, sent(t, "cohere", req), &cohere.V2ChatStreamRequest{}) })
	}
}

func TestGeminiAcceptsRequests(t *testing.T) {
	for name, req := range requests("gemini") {
		t.Run(name, func(t *testing.T) {
			var p struct { // the SDK assembles it from these
				Contents          []*genai.Content        `json:"contents"`
				SystemInstruction *genai.Content          `json:"systemInstruction"`
				Tools             []*genai.Tool           `json:"tools"`
				ToolConfig        *genai.ToolConfig       `json:"toolConfig"`
				GenerationConfig  *genai.GenerationConfig `json:"generationConfig"`
			}
			requireKnown(t, sent(t, "gemini", req), &p)
			require.NotEmpty(t, p.Contents)
		})
	}
}

func TestOllamaAcceptsRequests(t *testing.T) {
	for name, req := range requests("ollama") {
		t.Run(name, func(t *testing.T) {
			var p ollama.ChatRequest
			// The caller's own schemas may have more keywords than the SDK's type of them.
			requireKnown(t, bytes.ReplaceAll(sent(t, "ollama", req), []byte(`,"additionalProperties":false`), nil), &p)
			options, err := json.Marshal(p.Options)
			require.NoError(t, err)
			requireKnown(t, options, &ollama.Options{})
		})
	}
}

// requireKnown decodes a body into v, which must have a field for each of its members.
func requireKnown(t *testing.T, body []byte, v any) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(v), "%s", body)
}
