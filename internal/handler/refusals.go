package handler

import (
	"net/http"
	"strings"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/stream"
	"github.com/websopy/relay/internal/telemetry"
)

// logRefusal tells operators of a request that was refused.
func (r *Relay) logRefusal(req *http.Request, e *chat.Error) {
	v := visitOf(req)
	r.telemetry.Refused(telemetry.Refusal{
		RequestID: v.id, Client: v.caller.Addr, Method: req.Method, Path: hideChat(req.URL.Path),
		HideID: stream.ValidID, Error: e,
	})
}

// hideChat cuts the id of a chat in a path: whole, it may let a reader of the log have the chat's answer.
func hideChat(path string) string {
	id, rest, ok := strings.Cut(strings.TrimPrefix(path, uiPath+"/"), "/")
	if !ok || !strings.HasPrefix(path, uiPath+"/") || id == "stream" || len(id) <= leastOpenChat/2 {
		return path
	}
	return uiPath + "/" + strings.ToValidUTF8(id[:leastOpenChat/2], "") + "…/" + rest
}
