package chattest_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
)

// complaints is a test that only notes what it is told.
type complaints struct {
	testing.TB
	said []string
}

func (c *complaints) Helper() {}
func (c *complaints) Errorf(format string, args ...any) {
	c.said = append(c.said, fmt.Sprintf(format, args...))
}

func TestSequencesThatBreakTheContract(t *testing.T) {
	promise := chattest.Content("a")
	promise.More = true
	at := func(c chat.Chunk, seq uint64) chat.Chunk { c.Seq = seq; return c }
	text, pause, done := chattest.Content("a"), chat.Chunk{Type: chat.Pause}, chattest.Done(chat.Completion{})
	failure := errors.New("e")
	for name, tc := range map[string]struct {
		steps []any
		want  string // empty: nothing is broken
	}{
		"an answer":                 {steps: []any{pause, promise, text, promise, pause, done}},
		"an error":                  {steps: []any{text, failure}},
		"a kept promise":            {steps: []any{promise, failure}},
		"positions":                 {steps: []any{at(text, 1), at(text, 5), at(done, 6)}},
		"nothing":                   {nil, "the sequence ended with neither done nor an error"},
		"no end":                    {[]any{text}, "the sequence ended with neither done nor an error"},
		"a broken promise":          {[]any{promise}, "a promise of more was not kept"},
		"something behind done":     {[]any{done, text}, "something follows done"},
		"something behind an error": {[]any{failure, done}, `something follows the error "e"`},
		"text without text": {[]any{chat.Chunk{Type: chat.Content}, done},
			"a chunk of type 1 has 0 bytes of text"},
		"done with text": {[]any{chat.Chunk{Type: chat.Done, Text: []byte("x"),
			Done: &chat.Completion{}}}, "a chunk of type 4 has 1 bytes of text"},
		"a tool call without a call": {[]any{chat.Chunk{Type: chat.Tool}, done},
			"a chunk of type 3 has the tool call <nil>"},
		"done without a completion": {[]any{chat.Chunk{Type: chat.Done}},
			"a chunk of type 4 has the completion <nil>"},
		"a pause without a promise": {[]any{text, pause, done},
			"a pause neither keeps a promise nor says first that the answer is about to begin"},
		"a position that falls":    {[]any{at(text, 2), at(text, 2), done}, "position 2 comes after 2"},
		"a type that nobody knows": {[]any{chat.Chunk{Type: 99}, done}, "type 99 is unknown"},
		"a pause that promises more": {[]any{chat.Chunk{Type: chat.Pause, More: true}, done},
			"a pause promises more"},
		"a promise before the pauses": {steps: []any{promise, pause, text, done}},
	} {
		t.Run(name, func(t *testing.T) {
			var c complaints
			chattest.Fold(&c, chattest.Play(tc.steps...).Stream(t.Context(), nil))
			if tc.want == "" {
				require.Empty(t, c.said)
				return
			}
			require.Contains(t, c.said, "chattest: "+tc.want)
		})
	}
}

// A consumer that keeps what was lent reads something else later, in each test that has Check around its provider.
func TestWhatIsLentIsTakenBack(t *testing.T) {
	call := chat.ToolCall{ID: "1"}
	steps := []any{
		chattest.Content("abc"), chat.Chunk{Type: chat.Tool, Tool: &call},
		chattest.Done(chat.Completion{Model: "m", Usage: &chat.Usage{PromptTokens: 1}}),
	}
	var kept []chat.Chunk
	var usage *chat.Usage
	for c, err := range chattest.Check(t, chattest.Play(steps...)).Stream(t.Context(), nil) {
		require.NoError(t, err)
		kept = append(kept, c)
		if c.Done != nil {
			usage = c.Done.Usage
			require.Equal(t, int64(1), usage.PromptTokens)
		}
	}
	require.Equal(t, "###", string(kept[0].Text))
	require.Empty(t, kept[1].Tool.ID)
	require.Empty(t, kept[2].Done.Model)
	require.Zero(t, usage.PromptTokens)
	require.Equal(t, "1", call.ID, "the provider's own stays what it was")
}

func TestFold(t *testing.T) {
	got := chattest.Fold(t, chattest.Play(
		chat.Chunk{Type: chat.Reasoning, Text: []byte("th")}, chattest.Content("a"), chattest.Content("b"),
		chat.Chunk{Type: chat.Tool, Tool: &chat.ToolCall{ID: "1"}}, chattest.Done(chat.Completion{Model: "m"}),
	).Stream(t.Context(), nil))
	require.Equal(t, chattest.Transcript{
		Text: "ab", Reasoning: "th", Tools: []chat.ToolCall{{ID: "1"}}, Done: &chat.Completion{Model: "m"}, Chunks: 5,
	}, got)
	failure := errors.New("e")
	require.Equal(t, chattest.Transcript{Text: "a", Err: failure, Chunks: 1},
		chattest.Fold(t, chattest.Play(chattest.Content("a"), failure).Stream(t.Context(), nil)))
}
