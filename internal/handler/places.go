package handler

import (
	"errors"
	"net/http"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/limit"
)

// enter takes a place among the open connections of streams. The caller gives it back to leave.
func (r *Relay) enter(req *http.Request) (limit.Place, *chat.Error) {
	place, full := r.connections.Take(req.Context(), visitOf(req).caller.Share)
	if full, ok := errors.AsType[*limit.Full](full); ok {
		return place, &chat.Error{Code: chat.Overloaded, Message: "too many streams are open (RELAY_MAX_STREAMS)",
			RetryAfter: full.After}
	}
	r.telemetry.Opened()
	return place, nil
}

func (r *Relay) leave(place limit.Place) {
	place.Give()
	r.telemetry.Closed()
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
