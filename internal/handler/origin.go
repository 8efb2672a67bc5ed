package handler

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-chi/cors"

	"github.com/websopy/relay/internal/chat"
)

// cors answers preflights and marks responses for the allowed origins. Others get no marks.
func (r *Relay) cors() func(http.Handler) http.Handler {
	if len(r.CORSOrigins) == 0 { // the library takes an empty list for all
		return func(next http.Handler) http.Handler { return next }
	}
	return cors.Handler(cors.Options{
		AllowOriginFunc: func(_ *http.Request, origin string) bool { return r.allowsOrigin(origin) },
		AllowedMethods:  []string{http.MethodGet, http.MethodPost, http.MethodDelete},
		AllowedHeaders:  []string{"*"}, // an allowed origin may send what its proxies need
		ExposedHeaders:  []string{"X-Request-Id", "X-Stream-Id", "X-Relay-Ignored", "Idempotency-Replayed", "Retry-After"},
		MaxAge:          600,
	})
}

func (r *Relay) allowsOrigin(origin string) bool {
	return slices.Contains(r.CORSOrigins, "*") || slices.ContainsFunc(r.CORSOrigins, func(o string) bool { return strings.EqualFold(o, origin) })
}

var errOrigin = &chat.Error{Code: chat.Forbidden, Message: "this origin is not allowed (see RELAY_CORS_ORIGINS)"}

// checkOrigin refuses what a page of a foreign origin made the browser send. CORS only keeps such a
// page from reading the answer; the tokens would be spent all the same.
func (r *Relay) checkOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !r.fromAllowedOrigin(req) {
			r.fail(w, req, errOrigin)
			return
		}
		next.ServeHTTP(w, req)
	})
}

func (r *Relay) fromAllowedOrigin(req *http.Request) bool {
	origin, site := req.Header.Get("Origin"), req.Header.Get("Sec-Fetch-Site")
	switch {
	case site == "same-origin" || site == "none": // browsers let no page set it
		return true
	case origin != "" && r.allowsOrigin(origin):
		return true
	case site != "":
		return slices.Contains(r.CORSOrigins, "*")
	case origin == "":
		return true // no browser
	}
	u, err := url.Parse(origin) // an older browser, or one on a page without TLS
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, req.Host)
}
