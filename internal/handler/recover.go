package handler

import (
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/websopy/relay/internal/chat"
)

// recoverPanics turns a bug into an answer and a log line with its stack. Streams recover by themselves,
// because theirs have begun.
func (r *Relay) recoverPanics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		defer func() {
			if v := recover(); v != nil {
				if v == http.ErrAbortHandler {
					panic(v)
				}
				r.fail(w, req, r.panicked(req, v))
			}
		}()
		next.ServeHTTP(w, req)
	})
}

// panicked logs what recover returned and gives the error for the client.
func (r *Relay) panicked(req *http.Request, v any) *chat.Error {
	r.Log.Error().Str("request_id", visitOf(req).id).Str("panic", shorten(r.redact.Replace(fmt.Sprint(v)), longText)).
		Str("stack", shorten(string(debug.Stack()), 8*longText)).Msg("panic")
	return &chat.Error{Code: chat.Internal, Message: "internal error"}
}
