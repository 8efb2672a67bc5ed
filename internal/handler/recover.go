package handler

import (
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/rs/zerolog"

	"github.com/websopy/relay/internal/chat"
)

// recoverPanics turns a bug into an answer and a log line with its stack. Streams recover by themselves,
// because theirs have begun.
func recoverPanics(log panicLog, refuse refusal) func(http.Handler) http.Handler {
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

// panicLog is where bugs are told.
type panicLog struct {
	log    zerolog.Logger
	redact Redaction
}

// panicked logs what recover returned and gives the error for the client.
func (l panicLog) panicked(req *http.Request, v any) *chat.Error {
	l.log.Error().Str("request_id", visitOf(req).id).Str("panic", shorten(l.redact.Replace(fmt.Sprint(v)), longText)).
		Str("stack", shorten(string(debug.Stack()), 8*longText)).Msg("panic")
	return &chat.Error{Code: chat.Internal, Message: "internal error"}
}
