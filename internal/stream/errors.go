package stream

import (
	"errors"

	"github.com/websopy/relay/internal/chat"
)

var (
	// ErrEnd is Attach's answer to a cursor that has seen the end of the stream.
	ErrEnd = errors.New("the cursor is at the end of the stream")

	// ErrReleased ends a Follower of a stream that goes on without it: this replica is going away,
	// and the client should attach elsewhere, from its cursor.
	ErrReleased = errors.New("this replica is going away, the stream is not")

	// ErrUnavailable is Start's answer while Redis is away. The answer can still be had, just not
	// resumed.
	ErrUnavailable = errors.New("resumable streams are not available now")
)

func notFound() error {
	return &chat.Error{Code: chat.StreamNotFound, Message: "there is no such stream"}
}

func notReached() error {
	return &chat.Error{Code: chat.CursorExpired, Message: "the stream has no such position"}
}

func mismatch() error {
	return &chat.Error{Code: chat.IdempotencyMismatch, Message: "this idempotency key was used with another request"}
}
