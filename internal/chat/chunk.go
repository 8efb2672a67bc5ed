// Package chat is the domain: a request, the chunks of its answer, and the ways an answer can fail.
// It does no I/O and knows no provider and no wire format; every other package speaks it.
package chat

import "time"

// Type says what a Chunk carries.
type Type uint8

// The types of a Chunk, each with the field that it fills.
const (
	Pause     Type = iota // nothing: see Streamer
	Content               // Text: a piece of the answer
	Reasoning             // Text: a piece of the model's visible thinking
	Tool                  // Tool: one complete tool call
	Done                  // Done: the provider proved that the answer is complete; always the last chunk
)

// Chunk is one step of an answer.
type Chunk struct {
	Type Type

	// More promises another chunk, or the end, at once, so that whoever writes this one may let both share a write:
	// see Streamer.
	More bool

	// Text is never empty in a Content or Reasoning chunk. It is lent, as all else that a chunk points to.
	Text []byte

	Tool *ToolCall
	Done *Completion

	// Seq is the chunk's position in a resumable stream, from 1 on; 0 in an answer that has no positions.
	// Beside the error that ends a sequence it is the position of that error, 0 when the stream itself goes
	// on and only this reading of it failed.
	Seq uint64
}

// Size is how many bytes of the answer the chunk has, which is less than any client gets of it: text, or a whole call.
func (c *Chunk) Size() int {
	if c.Tool != nil {
		return len(c.Tool.ID) + len(c.Tool.Name) + len(c.Tool.Arguments)
	}
	return len(c.Text)
}

// ToolCall is a call that the model wants made.
type ToolCall struct {
	ID        string
	Name      string
	Arguments string // complete JSON text, "{}" when there are none

	ExtraContent []byte // of a request: Google's JSON object that came with the call, nil when absent
}

// Head is what is known of an answer before its first chunk.
type Head struct {
	ID      string    // of the stream
	Created time.Time // exact to the millisecond
	Model   string    // as it was asked for; empty: the provider's own choice
	Dialect string    // in which it was asked for; empty: the native one

	// Note is what that dialect has to remember of the request to tell the answer, in terms of its own. Other
	// dialects don't read it. It is some hundred bytes, at most some ten thousand, and empty when there is nothing.
	Note string

	// Trace tells who follows the answer in which trace it is generated, as a traceparent. Empty: in none.
	Trace string
}

// Completion is what is known at the end of a complete answer.
type Completion struct {
	FinishReason FinishReason
	Model        string // as the provider names it; may be empty
	Usage        *Usage // nil when the provider did not say

	// State is what the provider wants back with this answer's message: text that only package upstream
	// reads, at most MaxState bytes, empty when there is nothing.
	State string
}

// Clone returns a copy that shares nothing with c. A producer keeps what it yields in memory of its own, and with
// it perhaps all that it needed to ask: what outlives the answer is a copy.
func (c *Completion) Clone() *Completion {
	kept := *c
	if c.Usage != nil {
		usage := *c.Usage
		kept.Usage = &usage
	}
	return &kept
}

// MaxState bounds a Completion's State, in bytes.
const MaxState = 256 << 10

// Usage is counted in tokens, as the provider counts them.
type Usage struct {
	PromptTokens     int64
	CompletionTokens int64
	CachedTokens     int64 // of PromptTokens, those that the provider read from a cache; 0 when it did not say
	ReasoningTokens  int64 // of CompletionTokens, those that the model thought with; 0 when it did not say
}

// FinishReason says why the model stopped.
type FinishReason string

// The finish reasons of the wire contract (docs/protocol.md, 3).
const (
	FinishStop          FinishReason = "stop"
	FinishLength        FinishReason = "length"
	FinishToolCalls     FinishReason = "tool_calls"
	FinishContentFilter FinishReason = "content_filter"
	FinishStopped       FinishReason = "stopped" // by the user
)
