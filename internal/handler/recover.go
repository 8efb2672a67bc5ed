package handler

import (
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/telemetry"
)

// recoverPanics turns a bug into an answer and a log line with its stack. Streams recover by themselves,
// because theirs have begun.
func recoverPanics(log bugs, refuse refusal) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			defer func() {
				if v := recover(); v != nil {
					if v == http.ErrAbortHandler {
						panic(v)
					}
					refuse(w, req, log.panicked(req, v))
				}
			}()
			next.ServeHTTP(w, req)
		})
	}
}

// bugs is where they are told.
type bugs struct{ *telemetry.Telemetry }

// panicked tells what recover returned and gives the error for the client.
func (b bugs) panicked(req *http.Request, v any) *chat.Error {
	b.Panicked(visitOf(req).id, fmt.Sprint(v), debug.Stack())
	return &chat.Error{Code: chat.Internal, Message: "internal error"}
}
