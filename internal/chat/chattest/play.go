// Package chattest is for tests of whatever makes or takes the chunks of an answer: it plays them, checks that both
// sides keep the contract, and folds them into one value.
package chattest

import (
	"context"
	"iter"
	"testing"

	"github.com/websopy/relay/internal/chat"
)

// Player is a Streamer made of a func.
type Player func(ctx context.Context, req *chat.Request, yield func(chat.Chunk, error) bool)

// Stream gives the sequence of what the func yields.
func (p Player) Stream(ctx context.Context, req *chat.Request) iter.Seq2[chat.Chunk, error] {
	return func(yield func(chat.Chunk, error) bool) { p(ctx, req, yield) }
}

// Play yields steps, which are chunks (chat.Chunk) and at last perhaps an error. Like a decoder, it lends the text of
// all chunks from one buffer.
func Play(steps ...any) Player {
	return func(_ context.Context, _ *chat.Request, yield func(chat.Chunk, error) bool) {
		var text []byte
		for _, s := range steps {
			c, _ := s.(chat.Chunk)
			err, _ := s.(error)
			if len(c.Text) > 0 {
				text = append(text[:0], c.Text...)
				c.Text = text
			}
			if !yield(c, err) {
				return
			}
		}
	}
}

// Content is a chunk of text.
func Content(text string) chat.Chunk { return chat.Chunk{Type: chat.Content, Text: []byte(text)} }

// Done is the last chunk of an answer.
func Done(c chat.Completion) chat.Chunk { return chat.Chunk{Type: chat.Done, Done: &c} }

// Transcript is a whole sequence.
type Transcript struct {
	Text, Reasoning string
	Tools           []chat.ToolCall
	Done            *chat.Completion // nil: it ended with Err
	Err             error
	Chunks          int // without the pauses, which depend on what the provider's socket had
}

// Fold runs a sequence to its end, and checks it on the way.
func Fold(t testing.TB, seq iter.Seq2[chat.Chunk, error]) Transcript {
	t.Helper()
	var all Transcript
	for c, err := range Sequence(t, seq) {
		if err != nil {
			all.Err = err
			continue
		}
		if c.Type != chat.Pause {
			all.Chunks++
		}
		switch {
		case c.Type == chat.Content:
			all.Text += string(c.Text)
		case c.Type == chat.Reasoning:
			all.Reasoning += string(c.Text)
		case c.Tool != nil:
			all.Tools = append(all.Tools, *c.Tool)
		case c.Done != nil:
			all.Done = c.Done.Clone()
		}
	}
	return all
}
