package sdktest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"
	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
)

// actor is a provider in OpenAI's format that behaves as the name of the model says.
type actor struct {
	mu    sync.Mutex
	asked map[string][]string // bodies by model
	left  chan struct{}       // a value for each stream that the relay gave up
}

func chunk(delta, finish string) string {
	return `data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{` + delta +
		`},"finish_reason":` + finish + "}]}\n\n"
}

const actorEnd = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3," +
	"\"total_tokens\":10}}\n\ndata: [DONE]\n\n"

func (a *actor) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	var asked struct {
		Model    string
		Messages []struct{ Role, Content string }
	}
	_ = json.Unmarshal(body, &asked)
	a.mu.Lock()
	a.asked[asked.Model] = append(a.asked[asked.Model], string(body))
	a.mu.Unlock()
	last := asked.Messages[len(asked.Messages)-1]
	switch {
	case asked.Model == "limited":
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}`)
		return
	case asked.Model == "tools" && last.Role == "tool":
		_, _ = io.WriteString(w, chunk(`"content":"The tool says: `+last.Content+`"`, "null")+chunk("", `"stop"`)+
			actorEnd)
		return
	case asked.Model == "tools":
		_, _ = io.WriteString(w,
			chunk(`"reasoning_content":"I need a tool.","tool_calls":[{"index":0,"id":"call_1","type":"function",`+
				`"function":{"name":"weather","arguments":"{\"city\":\"Paris\"}"}}]`, "null")+chunk("",
				`"tool_calls"`)+actorEnd)
		return
	}
	_, _ = io.WriteString(w, chunk(`"content":"Hel"`, "null"))
	_ = http.NewResponseController(w).Flush()
	switch asked.Model {
	case "cut":
		panic(http.ErrAbortHandler)
	case "endless":
		<-req.Context().Done()
		a.left <- struct{}{}
	default:
		_, _ = io.WriteString(w, chunk(`"content":"lo"`, "null")+chunk("", `"stop"`)+actorEnd)
	}
}

func (a *actor) requests(model string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked[model]
}

// TestTheGoSDKsAsClients has OpenAI's and Anthropic's Go SDKs, unchanged, speak to the relay's binary.
func TestTheGoSDKsAsClients(t *testing.T) {
	provider := &actor{asked: make(map[string][]string), left: make(chan struct{}, 2)}
	srv := httptest.NewServer(provider)
	t.Cleanup(srv.Close)
	address := relaytest.Serve(t, "RELAY_ADMIN_ADDR=", "RELAY_API_KEYS=test:relay-key", "UPSTREAM_KIND=openai",
		"UPSTREAM_BASE_URL="+srv.URL+"/v1", "UPSTREAM_API_KEY=provider-key", "UPSTREAM_MODEL=text").URL
	client := openai.NewClient(option.WithBaseURL(address+"/v1/"), option.WithAPIKey("relay-key"))
	chat := func(model string, messages ...openai.ChatCompletionMessageParamUnion) openai.ChatCompletionNewParams {
		if messages == nil {
			messages = []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hi")}
		}
		return openai.ChatCompletionNewParams{Model: model, Messages: messages}
	}

	t.Run("text and both usages", func(t *testing.T) {
		for _, asked := range []bool{false, true} {
			params := chat("text")
			if asked {
				params.StreamOptions.IncludeUsage = openai.Bool(true)
			}
			stream := client.Chat.Completions.NewStreaming(t.Context(), params)
			var whole openai.ChatCompletionAccumulator
			for stream.Next() {
				require.True(t, whole.AddChunk(stream.Current()))
			}
			require.NoError(t, stream.Err())
			require.Equal(t, "Hello", whole.Choices[0].Message.Content)
			require.Equal(t, "stop", whole.Choices[0].FinishReason)
			require.EqualValues(t, 10, whole.Usage.TotalTokens)
		}
		whole, err := client.Chat.Completions.New(t.Context(), chat("text"))
		require.NoError(t, err)
		require.Equal(t, "Hello", whole.Choices[0].Message.Content)
		require.EqualValues(t, 3, whole.Usage.CompletionTokens)
	})

	t.Run("tools over two turns", func(t *testing.T) {
		tools := []openai.ChatCompletionToolUnionParam{
			openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{Name: "weather"})}
		messages := []openai.ChatCompletionMessageParamUnion{openai.UserMessage("How is it in Paris?")}
		params := chat("tools", messages...)
		params.Tools = tools
		first, err := client.Chat.Completions.New(t.Context(), params)
		require.NoError(t, err)
		call := first.Choices[0].Message.ToolCalls[0]
		require.JSONEq(t, `{"city":"Paris"}`, call.Function.Arguments)
		params = chat("tools", append(messages, first.Choices[0].Message.ToParam(),
			openai.ToolMessage("21 degrees", call.ID))...)
		params.Tools = tools
		second, err := client.Chat.Completions.New(t.Context(), params)
		require.NoError(t, err)
		require.Equal(t, "The tool says: 21 degrees", second.Choices[0].Message.Content)
	})

	t.Run("errors before the answer and in it", func(t *testing.T) {
		stream := client.Chat.Completions.NewStreaming(t.Context(), chat("limited"))
		require.False(t, stream.Next())
		var failure *openai.Error
		require.ErrorAs(t, stream.Err(), &failure)
		require.Equal(t, http.StatusTooManyRequests, failure.StatusCode)
		require.Equal(t, "upstream_rate_limited", failure.Code)
		require.Len(t, provider.requests("limited"), 3, "the relay's attempts, and no more")

		stream = client.Chat.Completions.NewStreaming(t.Context(), chat("cut"))
		require.True(t, stream.Next())
		require.Equal(t, "Hel", stream.Current().Choices[0].Delta.Content)
		require.False(t, stream.Next())
		require.ErrorContains(t, stream.Err(), "upstream_truncated")
	})

	t.Run("an abort", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		stream := client.Chat.Completions.NewStreaming(ctx, chat("endless"))
		require.True(t, stream.Next())
		cancel()
		require.False(t, stream.Next())
		select {
		case <-provider.left:
		case <-time.After(10 * time.Second):
			require.FailNow(t, "the provider does not see that the client has left")
		}
	})

	t.Run("models", func(t *testing.T) {
		page, err := client.Models.List(t.Context())
		require.NoError(t, err)
		require.Equal(t, "text", page.Data[0].ID)
		_, err = client.Models.Get(t.Context(), "no/such")
		var failure *openai.Error
		require.ErrorAs(t, err, &failure)
		require.Equal(t, "model_not_found", failure.Code)
	})

	t.Run("Anthropic's SDK", func(t *testing.T) {
		client := anthropic.NewClient(anthropicoption.WithBaseURL(address), anthropicoption.WithAPIKey("relay-key"))
		read := func(model string) (message anthropic.Message, err error) {
			stream := client.Messages.NewStreaming(t.Context(), anthropic.MessageNewParams{
				Model: anthropic.Model(model), MaxTokens: 100,
				Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("hi"))},
			})
			for stream.Next() {
				require.NoError(t, message.Accumulate(stream.Current()))
			}
			return message, stream.Err()
		}
		message, err := read("text")
		require.NoError(t, err)
		require.Equal(t, "Hello", message.Content[0].Text)
		require.Equal(t, anthropic.StopReasonEndTurn, message.StopReason)
		require.EqualValues(t, 3, message.Usage.OutputTokens)
		message, err = read("tools")
		require.NoError(t, err)
		require.Equal(t, anthropic.StopReasonToolUse, message.StopReason)
		message, err = read("cut")
		require.ErrorContains(t, err, "upstream_truncated")
		require.Equal(t, "Hel", message.Content[0].Text)
		before := len(provider.requests("limited"))
		_, err = read("limited")
		var failure *anthropic.Error
		require.ErrorAs(t, err, &failure)
		require.Equal(t, http.StatusTooManyRequests, failure.StatusCode)
		require.Len(t, provider.requests("limited"), before+3, "the relay's attempts, and no more")
	})

	t.Run("Responses", func(t *testing.T) {
		response := func(model string, input responses.ResponseNewParamsInputUnion) responses.ResponseNewParams {
			return responses.ResponseNewParams{Model: model, Input: input, Store: openai.Bool(false)}
		}
		hi := responses.ResponseNewParamsInputUnion{OfString: openai.String("hi")}
		read := func(params responses.ResponseNewParams) (text, last string, err error) {
			stream := client.Responses.NewStreaming(t.Context(), params)
			for stream.Next() {
				last = stream.Current().Type
				if last == "response.output_text.delta" {
					text += stream.Current().Delta
				}
			}
			return text, last, stream.Err()
		}
		text, last, err := read(response("text", hi))
		require.NoError(t, err)
		require.Equal(t, "Hello", text)
		require.Equal(t, "response.completed", last)
		text, last, err = read(response("cut", hi))
		require.Equal(t, "Hel", text)
		require.Equal(t, "response.failed", last)
		require.ErrorContains(t, err, "upstream_truncated")

		tool := responses.ToolUnionParam{OfFunction: &responses.FunctionToolParam{Name: "weather",
			Parameters: map[string]any{"type": "object"}}}
		params := response("tools", hi)
		params.Tools = []responses.ToolUnionParam{tool}
		first, err := client.Responses.New(t.Context(), params)
		require.NoError(t, err)
		var items responses.ResponseInputParam
		var id string
		for _, item := range first.Output {
			items = append(items, responses.ResponseInputItemUnionParam{})
			require.NoError(t, json.Unmarshal([]byte(item.RawJSON()), &items[len(items)-1]))
			if item.Type == "function_call" {
				id = item.AsFunctionCall().CallID
			}
		}
		require.Equal(t, "call_1", id)
		result := responses.ResponseInputItemParamOfFunctionCallOutput("21 degrees")
		result.OfFunctionCallOutput.CallID = openai.String(id)
		params.Input = responses.ResponseNewParamsInputUnion{OfInputItemList: append(items, result)}
		second, err := client.Responses.New(t.Context(), params)
		require.NoError(t, err)
		require.Equal(t, "The tool says: 21 degrees", second.OutputText())
		sent := provider.requests("tools")
		require.True(t, strings.Contains(sent[len(sent)-1], `"reasoning_content":"I need a tool."`),
			"what the provider wants back")

		_, err = client.Responses.New(t.Context(), response("limited", hi))
		var failure *openai.Error
		require.True(t, errors.As(err, &failure))
		require.Equal(t, http.StatusTooManyRequests, failure.StatusCode)
	})
}
