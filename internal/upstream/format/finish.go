package format

import (
	"bytes"
	"errors"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/report"
)

// finishReasons is what providers call the end of an answer, in all formats, because gateways mix them: theirs in
// lower case, and ours. What is not here is a stop.
var finishReasons = map[string]chat.FinishReason{
	"length":                        chat.FinishLength,
	"max_tokens":                    chat.FinishLength,
	"max_output_tokens":             chat.FinishLength,
	"max_completion_tokens":         chat.FinishLength,
	"model_length":                  chat.FinishLength, // Mistral
	"model_context_window_exceeded": chat.FinishLength, // Claude
	"continuation":                  chat.FinishLength, // Gemini: there is more, to be asked for

	"tool_calls":    chat.FinishToolCalls,
	"tool_call":     chat.FinishToolCalls, // Cohere
	"tool_use":      chat.FinishToolCalls, // Claude
	"function_call": chat.FinishToolCalls,

	"content_filter":           chat.FinishContentFilter,
	"content_filtered":         chat.FinishContentFilter, // Bedrock
	"guardrail_intervened":     chat.FinishContentFilter, // Bedrock
	"sensitive":                chat.FinishContentFilter, // GLM
	"refusal":                  chat.FinishContentFilter, // Claude
	"error_toxic":              chat.FinishContentFilter, // Cohere
	"safety":                   chat.FinishContentFilter, // this and what follows: Gemini
	"recitation":               chat.FinishContentFilter,
	"language":                 chat.FinishContentFilter,
	"blocklist":                chat.FinishContentFilter,
	"prohibited_content":       chat.FinishContentFilter,
	"spii":                     chat.FinishContentFilter,
	"image_safety":             chat.FinishContentFilter,
	"image_prohibited_content": chat.FinishContentFilter,
	"image_recitation":         chat.FinishContentFilter,
}

// failedReasons begin the reasons that say that the provider failed, or contain them where a * stands first.
var failedReasons = []string{
	"error", "network_error", "timeout", "insufficient_system_resource", // OpenRouter, Cohere; GLM; Cohere; DeepSeek
	"*malformed_", "unexpected_tool_call", "too_many_tool_calls", "missing_thought_signature", // Gemini
}

// finishReason puts a provider's word into our terms. The error is that of an answer that failed.
func finishReason(word []byte) (chat.FinishReason, error) {
	var room [40]byte
	lower := append(room[:0], word[:min(len(word), len(room))]...)
	for i, c := range lower {
		if 'A' <= c && c <= 'Z' {
			lower[i] = c | 0x20
		}
	}
	if reason, ok := finishReasons[string(lower)]; ok {
		return reason, nil
	}
	for _, f := range failedReasons {
		if f[0] == '*' && bytes.Contains(lower, []byte(f[1:])) || bytes.HasPrefix(lower, []byte(f)) {
			message := "the provider failed in mid-answer"
			if bytes.Contains(lower, []byte("call")) {
				message = "the model made a tool call that can't be used"
			}
			return "", &chat.Error{Code: chat.UpstreamError, Message: message,
				Err: errors.New("finish reason " + report.Excerpt(word))}
		}
	}
	return chat.FinishStop, nil
}

// FinishWith notes a provider's finish reason, if it is one.
func (o *Answer) FinishWith(word []byte) error {
	if len(word) == 0 {
		return nil
	}
	reason, err := finishReason(word)
	if err == nil {
		o.finish(reason)
	}
	return err
}
