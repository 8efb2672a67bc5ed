package sdktest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	cohere "github.com/cohere-ai/cohere-go/v2"
	ollama "github.com/ollama/ollama/api"
	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"github.com/stretchr/testify/require"
	"google.golang.org/genai"
)

// difference is where an SDK makes something else of a recorded stream, and why.
type difference struct {
	why    string
	fields []string // of answer
}

// requireSameFold folds the recorded streams of some dialects with an SDK and with ours.
func requireSameFold(
	t *testing.T, kind, contentType string, dialects []string,
	fold func(ctx context.Context, baseURL string) (answer, error), differences map[string]difference,
) {
	for id, body := range transcripts(t, dialects...) {
		t.Run(id, func(t *testing.T) {
			theirs, err := fold(t.Context(), replay(t, contentType, body))
			theirs.Failed = err != nil
			got := ours(t, kind, contentType, body)
			if kind == "openai" {
				got.Reasoning = "" // OpenAI's chat completions have none, and so the SDK
			}
			for _, name := range differences[id].fields {
				sdk, we := reflect.ValueOf(&theirs).Elem().FieldByName(name), reflect.ValueOf(got).FieldByName(name)
				require.NotEqual(t, sdk.Interface(), we.Interface(), "%s is no difference any more: %s", name,
					differences[id].why)
				sdk.Set(we)
			}
			require.Equal(t, theirs, got, "%v", err)
		})
	}
}

func TestOpenAIFoldsTheSame(t *testing.T) {
	fold := func(ctx context.Context, baseURL string) (a answer, err error) {
		client := openai.NewClient(openaioption.WithBaseURL(baseURL), openaioption.WithAPIKey("k"))
		stream := client.Chat.Completions.NewStreaming(ctx, openai.ChatCompletionNewParams{})
		var acc openai.ChatCompletionAccumulator
		for stream.Next() {
			if !acc.AddChunk(stream.Current()) {
				err = errors.New("the accumulator refused a chunk")
			}
		}
		if len(acc.Choices) > 0 {
			m := acc.Choices[0].Message
			a.Text = m.Content + m.Refusal
			for _, c := range m.ToolCalls {
				a.Tools = append(a.Tools, newTool(c.Function.Name, c.Function.Arguments))
			}
		}
		a.Prompt, a.Completion = acc.Usage.PromptTokens, acc.Usage.CompletionTokens
		return a, errors.Join(err, stream.Err())
	}
	requireSameFold(t, "openai", "text/event-stream", []string{"openai-chat", "azure", "mistral"}, fold,
		map[string]difference{
			"avian/01-kimi-reasoning-tool-id-changes": {"the SDK refuses a stream whose id changes",
				[]string{"Text", "Tools", "Prompt", "Completion", "Failed"}},
			"groq/03-compound-id-changes": {"the SDK refuses a stream whose id changes",
				[]string{"Text", "Prompt", "Completion", "Failed"}},
			"groq/04-kimi-k2-parallel-tools": {"the SDK adds up usage that comes twice",
				[]string{"Prompt", "Completion"}},
			"groq/06-gpt-oss-reasoning": {"the SDK adds up usage that comes twice",
				[]string{"Prompt", "Completion"}},
			"perplexity/01-sonar-crlf-no-done": {"the SDK adds up usage that comes with every chunk",
				[]string{"Prompt", "Completion"}},
			"perplexity/02-online-2024-crlf": {"the SDK adds up usage that comes with every chunk",
				[]string{"Prompt", "Completion"}},
			"xai/01-grok-code-reasoning-parallel-tools": {
				"the SDK does not count xAI's reasoning as part of the answer", []string{"Completion"}},
			"mistral/02-hybrid-reasoning": {"the SDK takes a list of parts for a string",
				[]string{"Text"}},
			"openrouter/02-same-index-many-calls-then-error": {
				"the SDK goes by the index alone, and makes one call of fifteen", []string{"Tools"}},
			"gpustack/01-error-field-mid-stream": {"the SDK passes over an error in a field of its own",
				[]string{"Failed"}},
		})
}

func TestResponsesFoldTheSame(t *testing.T) {
	fold := func(ctx context.Context, baseURL string) (a answer, err error) {
		client := openai.NewClient(openaioption.WithBaseURL(baseURL), openaioption.WithAPIKey("k"))
		stream := client.Responses.NewStreaming(ctx, responses.ResponseNewParams{})
		var final responses.Response
		for stream.Next() {
			switch e := stream.Current(); e.Type {
			case "response.completed", "response.incomplete":
				final = e.Response
			case "response.failed", "error":
				err = errors.New(e.Type)
			}
		}
		a.Prompt, a.Completion = final.Usage.InputTokens, final.Usage.OutputTokens
		for _, item := range final.Output {
			switch item.Type {
			case "message":
				for _, c := range item.Content {
					a.Text += c.Text + c.Refusal
				}
			case "reasoning":
				for _, s := range item.Summary {
					a.Reasoning += s.Text
				}
				for _, c := range item.AsReasoning().Content {
					a.Reasoning += c.Text
				}
			case "function_call":
				a.Tools = append(a.Tools, newTool(item.Name, item.Arguments.OfString))
			}
		}
		return a, errors.Join(err, stream.Err())
	}
	requireSameFold(t, "openai-responses", "text/event-stream", []string{"openai-responses"}, fold, nil)
}

func TestAnthropicFoldsTheSame(t *testing.T) {
	fold := func(ctx context.Context, baseURL string) (a answer, err error) {
		client := anthropic.NewClient(anthropicoption.WithBaseURL(baseURL), anthropicoption.WithAPIKey("k"))
		stream := client.Messages.NewStreaming(ctx, anthropic.MessageNewParams{})
		var acc anthropic.Message
		for stream.Next() {
			err = errors.Join(err, acc.Accumulate(stream.Current()))
		}
		for _, b := range acc.Content {
			switch b.Type {
			case "text":
				a.Text += b.Text
			case "thinking":
				a.Reasoning += b.Thinking
			case "tool_use":
				a.Tools = append(a.Tools, newTool(b.Name, string(b.Input)))
			}
		}
		a.Prompt = acc.Usage.InputTokens + acc.Usage.CacheReadInputTokens + acc.Usage.CacheCreationInputTokens
		a.Completion = acc.Usage.OutputTokens
		return a, errors.Join(err, stream.Err())
	}
	requireSameFold(t, "anthropic", "text/event-stream", []string{"anthropic"}, fold, map[string]difference{
		"openrouter/13-anthropic-messages-done-event": {"the SDK takes the [DONE] after message_stop for JSON",
			[]string{"Failed"}},
	})
}

// The SDKs below have no accumulators: their types are folded here, which holds our reading of the
// events to theirs.

func TestGeminiFoldsTheSame(t *testing.T) {
	fold := func(ctx context.Context, baseURL string) (a answer, err error) {
		client, err := genai.NewClient(ctx, &genai.ClientConfig{APIKey: "k", Backend: genai.BackendGeminiAPI,
			HTTPOptions: genai.HTTPOptions{BaseURL: baseURL}})
		if err != nil {
			return a, err
		}
		for res, err := range client.Models.GenerateContentStream(ctx, "m", genai.Text("hi"), nil) {
			if err != nil {
				return a, err
			}
			if res.PromptFeedback != nil && res.PromptFeedback.BlockReason != "" {
				return a, errors.New("blocked")
			}
			if u := res.UsageMetadata; u != nil && u.PromptTokenCount+u.CandidatesTokenCount > 0 {
				a.Prompt, a.Completion = int64(u.PromptTokenCount), int64(u.CandidatesTokenCount+u.ThoughtsTokenCount)
			}
			for _, c := range res.Candidates {
				if c.Content == nil {
					continue
				}
				for _, p := range c.Content.Parts {
					switch {
					case p.Thought:
						a.Reasoning += p.Text
					case p.FunctionCall != nil:
						args, _ := json.Marshal(p.FunctionCall.Args)
						if p.FunctionCall.Args == nil {
							args = nil
						}
						a.Tools = append(a.Tools, newTool(p.FunctionCall.Name, string(args)))
					default:
						a.Text += p.Text
					}
				}
			}
		}
		return a, nil
	}
	requireSameFold(t, "gemini", "text/event-stream", []string{"gemini"}, fold, map[string]difference{
		"vertex/07-partial-args-function-call": {
			"the SDK leaves it to its user to put arguments together that come value by value", []string{"Tools"}},
	})
}

func TestOllamaFoldsTheSame(t *testing.T) {
	fold := func(ctx context.Context, baseURL string) (a answer, err error) {
		base, err := url.Parse(baseURL)
		if err != nil {
			return a, err
		}
		err = ollama.NewClient(base, http.DefaultClient).Chat(ctx, &ollama.ChatRequest{Model: "m"},
			func(res ollama.ChatResponse) error {
				a.Text += res.Message.Content
				a.Reasoning += res.Message.Thinking
				for _, c := range res.Message.ToolCalls {
					a.Tools = append(a.Tools, newTool(c.Function.Name, c.Function.Arguments.String()))
				}
				if res.Done {
					a.Prompt, a.Completion = int64(res.PromptEvalCount), int64(res.EvalCount)
				}
				return nil
			})
		return a, err
	}
	requireSameFold(t, "ollama", "application/x-ndjson", []string{"ollama"}, fold, nil)
}

func TestCohereFoldsTheSame(t *testing.T) {
	// The SDK's reader fails on an event that two reads split, so only its types are used.
	fold := func(ctx context.Context, baseURL string) (a answer, err error) {
		res, err := http.Get(baseURL)
		if err != nil {
			return a, err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return a, err
		}
		var name, args string
		for line := range strings.Lines(string(body)) {
			data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: ")
			if !ok || data == "[DONE]" {
				continue
			}
			var e cohere.V2ChatStreamResponse
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				return a, err
			}
			switch {
			case e.ContentDelta != nil:
				c := e.ContentDelta.Delta.Message.Content
				if c.Text != nil {
					a.Text += *c.Text
				}
				if c.Thinking != nil {
					a.Reasoning += *c.Thinking
				}
			case e.ToolCallStart != nil:
				f := e.ToolCallStart.Delta.Message.ToolCalls.Function
				name, args = *f.Name, *f.Arguments
			case e.ToolCallDelta != nil:
				args += *e.ToolCallDelta.Delta.Message.ToolCalls.Function.Arguments
			case e.ToolCallEnd != nil:
				a.Tools = append(a.Tools, newTool(name, args))
			case e.MessageEnd != nil:
				d := e.MessageEnd.Delta
				if *d.FinishReason == cohere.ChatFinishReasonError {
					return a, errors.New("the provider failed")
				}
				a.Prompt, a.Completion = int64(*d.Usage.Tokens.InputTokens), int64(*d.Usage.Tokens.OutputTokens)
			}
		}
		return a, nil
	}
	requireSameFold(t, "cohere", "text/event-stream", []string{"cohere"}, fold, nil)
}
