package handler

import (
	"errors"
	"net/http"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/limit"
)

// enter takes a place among the open connections of streams. The caller gives it back with leave.
func (r *Relay) enter(req *http.Request) (leave func(), err *chat.Error) {
	place, full := r.connections.Take(req.Context(), visitOf(req).caller.Share)
	if full, ok := errors.AsType[*limit.Full](full); ok {
		return nil, &chat.Error{Code: chat.Overloaded, Message: "too many streams are open (RELAY_MAX_STREAMS)",
			RetryAfter: full.After}
	}
	r.telemetry.Opened()
	return func() {
		place.Give()
		r.telemetry.Closed()
	}, nil
}

// noPlace tells the client that Options.Generations have no place for its answer. Other errors stay what they are.
func noPlace(err error) error {
	full, ok := errors.AsType[*limit.Full](err)
	if !ok {
		return err
	}
	return &chat.Error{Code: chat.Overloaded, RetryAfter: full.After,
		Message: "too many answers are being generated (RELAY_MAX_STREAMS)"}
}
