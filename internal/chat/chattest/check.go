package chattest

import (
	"context"
	"fmt"
	"iter"
	"testing"

	"github.com/websopy/relay/internal/chat"
)

// Check is s with each of its sequences held to the contract of chat.Streamer, and with each consumer too: see
// Sequence.
func Check(t testing.TB, s chat.Streamer) chat.Streamer {
	return Player(func(ctx context.Context, req *chat.Request, yield func(chat.Chunk, error) bool) {
		for c, err := range Sequence(t, s.Stream(ctx, req)) {
			if !yield(c, err) {
				return
			}
		}
	})
}

// Sequence is seq, which fails t where it breaks the contract of a sequence of chunks. A consumer that breaks it is
// found as well: what a chunk lends is overwritten when the next one is asked for, so that who kept it without a copy
// has something else in its hands.
func Sequence(t testing.TB, seq iter.Seq2[chat.Chunk, error]) iter.Seq2[chat.Chunk, error] {
	return func(yield func(chat.Chunk, error) bool) {
		t.Helper()
		rules := rules{first: true}
		var lent loan
		defer func() { lent.end() }()
		for c, err := range seq {
			for _, broken := range rules.next(c, err) {
				t.Errorf("chattest: %s", broken)
			}
			lent.end()
			c = lent.begin(c)
			if !yield(c, err) {
				return
			}
		}
		for _, broken := range rules.end() {
			t.Errorf("chattest: %s", broken)
		}
	}
}

// loan is what a consumer has of a chunk until it asks for the next one.
type loan struct {
	text  []byte
	tool  chat.ToolCall
	done  chat.Completion
	usage chat.Usage
}

// begin is c with all that it points to in the loan.
func (l *loan) begin(c chat.Chunk) chat.Chunk {
	if len(c.Text) > 0 {
		l.text = append(l.text[:0], c.Text...)
		c.Text = l.text
	}
	if c.Tool != nil {
		l.tool = *c.Tool
		c.Tool = &l.tool
	}
	if c.Done != nil {
		l.done = *c.Done
		if l.done.Usage != nil {
			l.usage = *l.done.Usage
			l.done.Usage = &l.usage
		}
		c.Done = &l.done
	}
	return c
}

// end takes back what was lent.
func (l *loan) end() {
	for i := range l.text {
		l.text[i] = '#'
	}
	l.tool, l.done, l.usage = chat.ToolCall{}, chat.Completion{}, chat.Usage{}
}

// rules are what a sequence has shown so far.
type rules struct {
	first bool // nothing has come yet
	more  bool // the last chunk promised another one
	done  bool
	err   error
	seq   uint64
}

// next are the rules that a step breaks.
func (r *rules) next(c chat.Chunk, err error) (broken []string) {
	say := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	switch {
	case r.err != nil:
		say("something follows the error %q", r.err)
	case r.done:
		say("something follows done")
	}
	first, more := r.first, r.more
	r.first, r.more = false, err == nil && c.More && c.Type != chat.Done
	if c.Seq != 0 && c.Seq <= r.seq {
		say("position %d comes after %d", c.Seq, r.seq)
	}
	r.seq = max(r.seq, c.Seq)
	if err != nil {
		r.err = err
		return broken
	}
	if text := c.Type == chat.Content || c.Type == chat.Reasoning; text != (len(c.Text) > 0) {
		say("a chunk of type %d has %d bytes of text", c.Type, len(c.Text))
	}
	if (c.Type == chat.Tool) != (c.Tool != nil) {
		say("a chunk of type %d has the tool call %v", c.Type, c.Tool)
	}
	if (c.Type == chat.Done) != (c.Done != nil) {
		say("a chunk of type %d has the completion %v", c.Type, c.Done)
	}
	switch c.Type {
	case chat.Pause:
		if !first && !more {
			say("a pause neither keeps a promise nor says first that the answer is about to begin")
		}
		if c.More {
			say("a pause promises more")
		}
	case chat.Content, chat.Reasoning, chat.Tool:
	case chat.Done:
		r.done = true
	default:
		say("type %d is unknown", c.Type)
	}
	return broken
}

// end are the rules that the end of a sequence breaks.
func (r *rules) end() (broken []string) {
	if r.more {
		broken = append(broken, "a promise of more was not kept")
	}
	if !r.done && r.err == nil {
		broken = append(broken, "the sequence ended with neither done nor an error")
	}
	return broken
}
