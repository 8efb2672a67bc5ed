package handler

import (
	"net/http"

	"github.com/websopy/relay/internal/chat"
)

// A check looks at a request before its handler does. Its error refuses the request.
type check func(w http.ResponseWriter, req *http.Request) *chat.Error

// checked runs checks, one after the other, before the handler. None of them is around the handler, as middlewares
// are: what is around it lies on the stack of each stream until its end, and eight of them make of 8 KiB a stream 16.
func checked(refuse refusal, checks ...check) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			for _, c := range checks {
				if err := c(w, req); err != nil {
					refuse(w, req, err)
					return
				}
			}
			next.ServeHTTP(w, req)
		})
	}
}
