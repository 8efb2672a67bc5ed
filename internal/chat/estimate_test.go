package chat_test

import (
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
)

func TestEstimates(t *testing.T) {
	r := chat.Request{
		Messages: []chat.Message{
			{Content: "twelve bytes"},
			{Parts: []chat.Part{{Type: chat.PartText, Text: "four"}, {Type: chat.PartImage, ImageURL: "data:…"}}},
			{ToolCalls: []chat.ToolCall{{ID: "not counted", Name: "f", Arguments: `{"x":"日本"}`}},
				Reasoning: "12345678"},
		},
		Tools: []chat.ToolSpec{{Name: "f", Description: "abc", Parameters: []byte(`{}{}`)}},
	}
	require.Equal(t, int64((12+4+1+8+8+1+3+4)/4+2+1000), r.EstimatePrompt())
	for given, want := range map[chat.Number]int64{
		"": 1000, "5": 5, "0": 1000, "007": 7, "999": 999, "1000": 1000, "200000": 1000, "1e9": 1000, "-5": 1000,
		"0.5": 1000,
	} {
		require.Equal(t, want, (&chat.Request{MaxTokens: given}).EstimateAnswer(), given)
	}
	var e chat.Estimate
	e.Chunk(&chat.Chunk{Type: chat.Content, Text: []byte("Grüße, 世界! ")})
	e.Chunk(&chat.Chunk{Type: chat.Tool, Tool: &chat.ToolCall{Name: "f", Arguments: "{}"}})
	require.Equal(t, int64((3+1+1+1+1+1+3)/4+2+2), e.Tokens())
}

func FuzzEstimate(f *testing.F) {
	f.Add("Grüße aus 東京 und 𝄞 überall")
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			return
		}
		var ascii, others int64
		for _, c := range text {
			if c < 0x80 {
				ascii++
			} else {
				others++
			}
		}
		var e chat.Estimate
		e.Text(text)
		require.Equal(t, ascii/4+others, e.Tokens())
	})
}

func BenchmarkEstimate(b *testing.B) {
	text := []byte("a piece of an answer, ")
	var e chat.Estimate
	for b.Loop() {
		e.Bytes(text)
	}
}
