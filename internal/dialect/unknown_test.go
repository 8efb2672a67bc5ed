package dialect

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
)

// A new type of chunk has no frames in a dialect until somebody teaches it some. Until then it is passed over, and the
// frames around it are as they would be without it.
func TestAChunkOfAnUnknownTypeHasNoFrames(t *testing.T) {
	for name, d := range map[string]Dialect{
		"native": Native{}, "chat completions": ChatCompletions{}, "responses": Responses{}, "messages": Messages{},
		"UI messages": UIMessages{}, "UI text": UIText{}, "AG-UI": AGUI{},
	} {
		t.Run(name, func(t *testing.T) {
			frames := func(chunks ...chat.Chunk) string {
				e := d.Encoder(Response{Head: chat.Head{ID: "0123456789abcdef0123456789abcdef", Model: "m"},
					RequestID: "r"})
				all := e.Start(nil)
				for _, c := range chunks {
					all = e.Chunk(all, c)
				}
				return string(e.Close(all))
			}
			text := chat.Chunk{Type: chat.Content, Text: []byte("a"), Seq: 1}
			unknown := chat.Chunk{Type: 99, Text: []byte("x")}
			done := chat.Chunk{Type: chat.Done, Done: &chat.Completion{FinishReason: chat.FinishStop, Model: "m"},
				Seq: 3}
			require.Equal(t, frames(text, done), frames(text, unknown, done))
		})
	}
}
