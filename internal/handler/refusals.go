package handler

import (
	"net/http"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/stream"
	"github.com/websopy/relay/internal/telemetry"
)

// logRefusal tells operators of a request that was refused.
func (r *Relay) logRefusal(req *http.Request, e *chat.Error) {
	v := visitOf(req)
	r.telemetry.Refused(telemetry.Refusal{
		RequestID: v.id, Client: v.caller.Addr, Method: req.Method, Path: req.URL.Path, HideID: stream.ValidID, Error: e,
	})
}
