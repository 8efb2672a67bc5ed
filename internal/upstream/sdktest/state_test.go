package sdktest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
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

// secondTurn gives the body of the request that follows an answer, which brings its state back.
func secondTurn(t *testing.T, kind, model, answer string) []byte {
	t.Helper()
	var bodies [][]byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if bodies = append(bodies, body); len(bodies) > 1 {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", r.Header.Get("Accept"))
		_, _ = io.WriteString(w, answer)
	}))
	defer srv.Close()
	s := upstream(t, kind, srv.URL)
	req := &chat.Request{Model: model, Messages: []chat.Message{{Role: chat.RoleUser, Content: "hi"}}}
	m := chat.Message{Role: chat.RoleAssistant}
	for c, err := range s.Stream(t.Context(), req) {
		require.NoError(t, err)
		switch c.Type {
		case chat.Content:
			m.Content += string(c.Text)
		case chat.Tool:
			m.ToolCalls = append(m.ToolCalls, *c.Tool)
		case chat.Done:
			m.State = c.Done.State
		}
	}
	require.NotEmpty(t, m.State)
	req.Messages = append(req.Messages, m)
	for _, c := range m.ToolCalls {
		req.Messages = append(req.Messages, chat.Message{Role: chat.RoleTool, ToolCallID: c.ID, Content: "4"})
	}
	for _, err := range s.Stream(t.Context(), req) {
		require.Equal(t, chat.UpstreamRejected, chat.AsError(err).Code, "%v", err)
	}
	return bodies[1]
}

func events(data ...string) string { return "data: " + strings.Join(data, "\n\ndata: ") + "\n\n" }

func TestAnthropicAcceptsItsThinkingBack(t *testing.T) {
	body := secondTurn(t, "anthropic", "claude-opus-5-5", events(`{"type":"message_start","message":{}}`,
		`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"hm",`+
			`"signature":"c2ln"}}`, `{"type":"content_block_stop","index":0}`,
		`{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"ZGF0YQ=="}}`,
		`{"type":"content_block_stop","index":1}`,
		`{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"a","name":"f",`+
			`"input":{"x":1}}}`, `{"type":"content_block_stop","index":2}`,
		`{"type":"message_delta","delta":{"stop_reason":"tool_use"}}`, `{"type":"message_stop"}`))
	require.Contains(t, string(body), `"signature":"c2ln"`)
	require.Contains(t, string(body), `"redacted_thinking"`)
	requireKept(t, without(t, body, "stream"), &anthropic.MessageNewParams{})
}

func TestGeminiAcceptsItsSignaturesBack(t *testing.T) {
	body := secondTurn(t, "gemini", "gemini-3.5-flash",
		events(`{"candidates":[{"content":{"parts":[{"text":"so","thoughtSignature":"c2ln"},`+
			`{"functionCall":{"name":"f","args":{}},"thoughtSignature":"c2lnMg=="}]},"finishReason":"STOP"}]}`))
	var p struct {
		Contents         []*genai.Content        `json:"contents"`
		GenerationConfig *genai.GenerationConfig `json:"generationConfig"`
	}
	requireKnown(t, body, &p)
	require.Equal(t, "sig", string(p.Contents[1].Parts[0].ThoughtSignature))
	require.Equal(t, "sig2", string(p.Contents[1].Parts[1].ThoughtSignature))
}

func TestOpenAIAcceptsItsReasoningBack(t *testing.T) {
	body := secondTurn(t, "openai-responses", "gpt-6-luna", events(
		`{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","id":"rs_1",`+
			`"encrypted_content":"enc","summary":[{"type":"summary_text","text":"S"}]}}`,
		`{"type":"response.output_text.delta","output_index":1,"delta":"so"}`,
		`{"type":"response.output_item.done","output_index":1,"item":{"type":"message","phase":"commentary",`+
			`"content":[]}}`,
		`{"type":"response.output_item.done","output_index":2,"item":{"type":"function_call","call_id":"a",`+
			`"name":"f","arguments":"{}"}}`, `{"type":"response.completed","response":{}}`))
	rest, taken := parts(t, without(t, body, "stream"), "input")
	requireKept(t, rest, &responses.ResponseNewParams{})
	var items []json.RawMessage
	require.NoError(t, json.Unmarshal(taken["input"], &items))
	require.Len(t, items, 5)
	requireKept(t, items[1], &responses.ResponseReasoningItemParam{})
	requireKept(t, items[2], &responses.EasyInputMessageParam{})
	requireKept(t, items[3], &responses.ResponseFunctionToolCallParam{})
}

func TestCohereAndOllamaAcceptTheirThinkingBack(t *testing.T) {
	body := secondTurn(t, "cohere", "command-a-reasoning-08-2025",
		events(`{"type":"content-delta","index":0,"delta":{"message":{"content":{"thinking":"hm"}}}}`,
			`{"type":"content-delta","index":1,"delta":{"message":{"content":{"text":"so"}}}}`,
			`{"type":"message-end","delta":{"finish_reason":"COMPLETE"}}`))
	require.Contains(t, string(body), `"thinking":"hm"`)
	requireKept(t, body, &cohere.V2ChatStreamRequest{})

	body = secondTurn(t, "ollama", "qwen3", `{"message":{"thinking":"hm"}}`+"\n"+
		`{"message":{"content":"so"},"done":true}`+"\n")
	var p ollama.ChatRequest
	requireKnown(t, body, &p)
	require.Equal(t, "hm", p.Messages[1].Thinking)
}

// What servers that are compatible with OpenAI want back is not in OpenAI's own types, which keep it as further
// fields.
func TestCompatibleServersGetTheirFieldsBack(t *testing.T) {
	body := secondTurn(t, "openai", "m", events(`{"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}`,
		`{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"},`+
			`"extra_content":{"google":{"thought_signature":"c2ln"}}}]},"finish_reason":"tool_calls"}]}`, `[DONE]`))
	var p openai.ChatCompletionNewParams
	require.NoError(t, json.Unmarshal(body, &p))
	require.Contains(t, string(body), `"reasoning_content":"hm"`)
	require.Contains(t, string(body), `"extra_content":{"google":{"thought_signature":"c2ln"}}`)
}
