package format

import (
	"bytes"
	"unicode"

	"github.com/websopy/relay/internal/chat"
)

// tags tells thinking from text where a server does not: in answers that begin with <think> (UPSTREAM_THINK_TAGS).
// A tag may come in pieces, so what may be one is held back. Everything else is passed on as it is.
type tags struct {
	state tagState
	held  []byte
}

type tagState uint8

const (
	beforeTag tagState = iota // nothing but white space has come, and perhaps a piece of the tag
	inThought
	behindTags
)

var openTag, closeTag = []byte("<think>"), []byte("</think>")

// untag passes on a piece of content as what it is.
func (o *Answer) untag(text []byte) {
	t := o.tags
	if t.state == beforeTag {
		t.held = append(t.held, text...)
		begun := bytes.TrimLeftFunc(t.held, unicode.IsSpace)
		switch {
		case bytes.HasPrefix(begun, openTag):
			text, t.held, t.state = begun[len(openTag):], nil, inThought
			o.keep.as = thinkTags
		case bytes.HasPrefix(openTag, begun):
			o.Progress = true
			return
		default:
			text, t.held, t.state = t.held, nil, behindTags
		}
	}
	if t.state == inThought {
		if len(t.held) > 0 {
			text = append(t.held, text...)
			t.held = nil
		}
		thought, rest, closed := bytes.Cut(text, closeTag)
		if !closed {
			keep := len(text) - partOf(text, closeTag)
			thought, t.held = text[:keep], bytes.Clone(text[keep:])
			o.Progress = true
		}
		if len(thought) > 0 {
			o.emit(chat.Chunk{Type: chat.Reasoning, Text: thought})
		}
		if !closed {
			return
		}
		text, t.state = rest, behindTags
	}
	if len(text) > 0 {
		o.emit(chat.Chunk{Type: chat.Content, Text: text})
	}
}

// flushTags passes on what was held back when the answer ends.
func (o *Answer) flushTags() {
	if o.tags == nil || len(o.tags.held) == 0 {
		return
	}
	typ := chat.Content
	if o.tags.state == inThought {
		typ = chat.Reasoning
	}
	held := o.tags.held
	o.tags.held = nil
	o.emit(chat.Chunk{Type: typ, Text: held})
}

// partOf counts the bytes at the end of text that may be the beginning of a tag.
func partOf(text, tag []byte) int {
	for n := min(len(text), len(tag)-1); n > 0; n-- {
		if bytes.HasPrefix(tag, text[len(text)-n:]) {
			return n
		}
	}
	return 0
}
