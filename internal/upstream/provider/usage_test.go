package provider_test

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
)

// TestUsage holds every format to one way of counting: cached tokens are part of the prompt's, tokens that the
// model thought with are part of the answer's.
func TestUsage(t *testing.T) {
	completion := func(usage string) []string {
		return []string{delta(`"content":"Hi"`), finished("stop"), `{"choices":[],"usage":` + usage + `}`, "[DONE]"}
	}
	claude := func(start, end string) []string {
		return []string{`{"type":"message_start","message":{"model":"m-1","usage":` + start + `}}`,
			blockDelta(`"type":"text_delta","text":"Hi"`),
			`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":` + end + `}`, messageStop}
	}
	for name, tc := range map[string]struct {
		kind string
		data []string
		want chat.Usage
	}{
		"OpenAI": {"openai",
			completion(
				`{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16,"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},
			"completion_tokens_details":{"reasoning_tokens":5,"accepted_prediction_tokens":0}}`), chat.Usage{PromptTokens: 9, CompletionTokens: 7, CachedTokens: 4, ReasoningTokens: 5}},
		"xAI does not count reasoning as completion": {"openai",
			completion(`{"prompt_tokens":466,"completion_tokens":68,"total_tokens":800,` +
				`"completion_tokens_details":{"reasoning_tokens":266}}`),
			chat.Usage{PromptTokens: 466, CompletionTokens: 334, ReasoningTokens: 266}},
		"a total without a prompt says nothing": {"openai", completion(`{"completion_tokens":7,"total_tokens":16}`),
			chat.Usage{CompletionTokens: 7}},
		"a total that is too small": {"openai",
			completion(`{"prompt_tokens":9,"completion_tokens":7,"total_tokens":0}`),
			chat.Usage{PromptTokens: 9, CompletionTokens: 7}},
		"nulls": {"openai",
			completion(`{"prompt_tokens":9,"completion_tokens":7,"total_tokens":null,"prompt_tokens_details":null,
			"completion_tokens_details":{"reasoning_tokens":null}}`), chat.Usage{PromptTokens: 9, CompletionTokens: 7}},
		"DeepSeek": {"openai",
			completion(`{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16,"prompt_cache_hit_tokens":6,` +
				`"prompt_cache_miss_tokens":3}`),
			chat.Usage{PromptTokens: 9, CompletionTokens: 7, CachedTokens: 6}},
		"Moonshot": {"openai", completion(`{"prompt_tokens":9,"completion_tokens":7,"cached_tokens":6}`),
			chat.Usage{PromptTokens: 9, CompletionTokens: 7, CachedTokens: 6}},
		"more than there can be": {"openai", completion(`{"prompt_tokens":9,"completion_tokens":1e300}`),
			chat.Usage{PromptTokens: 9}},
		"less than there can be": {"openai", completion(`{"prompt_tokens":-9,"completion_tokens":7}`),
			chat.Usage{CompletionTokens: 7}},
		"zeroes first": {"openai", append([]string{`{"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0}}`},
			completion(`{"prompt_tokens":9,"completion_tokens":7}`)...),
			chat.Usage{PromptTokens: 9, CompletionTokens: 7}},
		"zeroes last": {"openai", append(completion(`{"prompt_tokens":9,"completion_tokens":7}`)[:3],
			`{"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0}}`, "[DONE]"),
			chat.Usage{PromptTokens: 9, CompletionTokens: 7}},
		"Responses": {"openai-responses", []string{responseDelta("output_text", "Hi"),
			`{"type":"response.completed","response":{"model":"m-1","usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":4},
			"output_tokens":7,"output_tokens_details":{"reasoning_tokens":5},"total_tokens":16}}}`}, chat.Usage{PromptTokens: 9, CompletionTokens: 7, CachedTokens: 4, ReasoningTokens: 5}},
		"Claude counts what was cached beside the prompt": {"anthropic",
			claude(`{"input_tokens":2,"cache_read_input_tokens":4,"cache_creation_input_tokens":3,"output_tokens":1}`,
				`{"output_tokens":7,"output_tokens_details":{"thinking_tokens":5}}`),
			chat.Usage{PromptTokens: 9, CompletionTokens: 7, CachedTokens: 4, ReasoningTokens: 5}},
		"Gemini counts thoughts beside the answer": {"gemini", []string{candidate(`{"text":"Hi"}`, geminiStop),
			`{"usageMetadata":{"promptTokenCount":9,"cachedContentTokenCount":4,
			"candidatesTokenCount":2,"thoughtsTokenCount":5,"toolUsePromptTokenCount":100,"totalTokenCount":116}}`}, chat.Usage{PromptTokens: 9, CompletionTokens: 7, CachedTokens: 4, ReasoningTokens: 5}},
		"Cohere": {"cohere", []string{cohereContent(`"text":"Hi"`),
			`{"type":"message-end","delta":{"finish_reason":"COMPLETE","usage":{"billed_units":{"input_tokens":1,"output_tokens":1},
			"tokens":{"input_tokens":9,"output_tokens":7},"cached_tokens":4}}}`}, chat.Usage{PromptTokens: 9, CompletionTokens: 7, CachedTokens: 4}},
		"another relay": {"websopy", []string{`{"type":"content","content":"Hi"}`,
			`{"type":"done","finishReason":"stop","usage":{"promptTokens":9,"completionTokens":7,"cachedTokens":4,` +
				`"reasoningTokens":5}}`, "[DONE]"},
			chat.Usage{PromptTokens: 9, CompletionTokens: 7, CachedTokens: 4, ReasoningTokens: 5}},
	} {
		t.Run(name, func(t *testing.T) {
			data := make([]string, len(tc.data))
			for i, d := range tc.data {
				data[i] = strings.ReplaceAll(strings.ReplaceAll(d, "\n", ""), "\t", "")
			}
			got := decodeWith(t, tc.kind, func() io.Reader { return strings.NewReader(events(tc.kind, data...)) })
			require.NoError(t, got.Err)
			require.Equal(t, &tc.want, got.Done.Usage)
		})
	}
}
