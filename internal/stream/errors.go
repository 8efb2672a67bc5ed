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

	// ErrHeld ends a Follower that has waited in vain for a stream which may be found later, or elsewhere: the
	// client should attach again, from its cursor.
	ErrHeld = errors.New("the stream may still be found, but not now")

	// ErrUnavailable is Start's answer when Redis is not to be had and there is no room in memory either. The
	// answer can still be had, just not resumed.
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
