package handler

import (
	"net/http"
	"strings"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/identity"
)

// authenticate lets a request pass that shows one of the keys, or any when there are none. What it learns
// is in the request's visit.
func authenticate(keys identity.Keys, refuse refusal) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		if keys.None() {
			return next
		}
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			c, err := callerOf(req, keys)
			if err != nil {
				w.Header().Set("WWW-Authenticate", "Bearer")
				refuse(w, req, err)
				return
			}
			v := visitOf(req)
			c.Addr = v.caller.Addr
			v.caller = c
			next.ServeHTTP(w, req)
		})
	}
}

var (
	errKeyMissing = &chat.Error{Code: chat.Unauthorized, Message: "an API key is required: Authorization: Bearer <key>"}
	errKeyUnknown = &chat.Error{Code: chat.Unauthorized, Message: "the API key is not known"}
)

// callerOf finds whose key the request shows.
func callerOf(req *http.Request, keys identity.Keys) (identity.Caller, *chat.Error) {
	scheme, key, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	c, ok := keys.Caller(strings.TrimSpace(key))
	switch {
	case scheme == "":
		return identity.Caller{}, errKeyMissing
	case !ok || !strings.EqualFold(scheme, "Bearer"):
		return identity.Caller{}, errKeyUnknown
	}
	return c, nil
}
