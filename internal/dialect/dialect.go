package dialect

import (
	"time"

	"github.com/websopy/relay/internal/chat"
)

// A Dialect is a wire format that clients speak: how they ask, how an answer is streamed to them, and how
// they are refused. One value serves all requests, from any goroutine.
type Dialect interface {
	// Name is what the head of a stream calls the dialect, empty for the native one.
	Name() string

	// Decode reads the body of a request. Its errors are *chat.Error with code invalid_request, and name the
	// field.
	Decode(body []byte) (*Ask, error)

	// Encoder makes the frames of one response.
	Encoder(r Response) Encoder

	// AppendAnswer appends a whole answer as one JSON object, for a client that wants no stream.
	AppendAnswer(dst []byte, a *Answer) []byte

	// AppendRefusal appends the body that refuses a request, JSON unless the path has something else. The error's
	// cause stays out of it.
	AppendRefusal(dst []byte, e *chat.Error, requestID string) []byte
}

// Ask is what a client asks for.
type Ask struct {
	chat.Request
	Stream    bool // false: the caller wants one JSON object
	Resumable bool // the stream is to outlive its connection

	Note string // for the head of the answer
	Chat string // the client's id of the chat that the question is from; empty: it has told none
}

// Response is what an Encoder has to know of the response that it makes.
type Response struct {
	// Head is what is known of the answer. Its ID is that of a resumable stream, which tells positions; empty:
	// the stream is not resumable.
	Head chat.Head

	Resumed   bool   // the client has the beginning of the stream already
	After     uint64 // the position to which it has the stream
	RequestID string // for errors

	Grace     time.Duration // how long the stream goes on without a reader
	Retention time.Duration // how long it is kept after its end

	Get bool // the request was a GET, perhaps of a browser's EventSource
}

// has tells whether the client has a position already. Its encoder goes through the chunk all the same, for the sake
// of what follows from it, and appends nothing.
func (r *Response) has(seq uint64) bool { return seq > 0 && seq <= r.After }

// heartbeat says to clients of providers' APIs that the stream lives: a comment, which all of them pass over. It is
// one line, because a blank one after it would be an event without data to some.
const heartbeat = ": hb\n"

// hasFrames tells whether chunks of a type are shown to clients of providers' APIs: not those of a type that nobody
// has taught here, as may come from a newer replica or from a decoder that learnt it first.
func hasFrames(t chat.Type) bool {
	return t == chat.Content || t == chat.Reasoning || t == chat.Tool || t == chat.Done
}

// An Encoder makes the frames of one response. Each method appends whole frames, or nothing, to dst. It is
// used by one goroutine at a time, and does not allocate for text once dst has grown.
type Encoder interface {
	// Start appends what a response begins with, before the provider has answered.
	Start(dst []byte) []byte

	// Chunk appends the frames of a chunk. The last of them tells the chunk's position, if it has one.
	Chunk(dst []byte, c chat.Chunk) []byte

	// Ping appends what says: still here.
	Ping(dst []byte) []byte

	// Reconnect appends what asks the client to come back after wait. The connection is cut behind it.
	Reconnect(dst []byte, wait time.Duration) []byte

	// Fail appends the end of a stream that failed. seq is the position of the error, 0 when it is not the
	// stream's but this connection's own. Where it appends nothing the connection is cut.
	Fail(dst []byte, e *chat.Error, seq uint64) []byte

	// Close appends what follows the frames of a done chunk.
	Close(dst []byte) []byte
}
