package upstream_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
)

// answer is a stream, folded.
type answer struct {
	text, reasoning string
	tools           []chat.ToolCall
	done            *chat.Completion
	err             error
	chunks          int // less the pauses, which depend on the reads
}

// fold runs a stream to its end and holds it to the contract of Streamer on the way.
func fold(t testing.TB, s chat.Streamer, ctx context.Context, req *chat.Request) answer {
	t.Helper()
	var a answer
	more, first := false, true
	for c, err := range s.Stream(ctx, req) {
		require.Nil(t, a.err, "nothing follows an error")
		require.Nil(t, a.done, "nothing follows done")
		if err != nil {
			a.err = err
			continue
		}
		switch c.Type {
		case chat.Pause:
			require.True(t, more || first, "a pause only follows a promise, or says first that the answer has begun")
		case chat.Content:
			require.NotEmpty(t, c.Text)
			a.text += string(c.Text)
		case chat.Reasoning:
			require.NotEmpty(t, c.Text)
			a.reasoning += string(c.Text)
		case chat.Tool:
			a.tools = append(a.tools, *c.Tool)
		case chat.Done:
			done := *c.Done
			a.done = &done
		}
		more, first = c.More, false
		if c.Type != chat.Pause {
			a.chunks++
		}
	}
	require.True(t, (a.err == nil) != (a.done == nil), "a stream ends with done or with an error")
	return a
}

func question() *chat.Request {
	return &chat.Request{Messages: []chat.Message{{Role: chat.RoleUser, Content: "hi"}}}
}
