package handler

import (
	"context"
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/go-chi/chi/v5"

	"github.com/websopy/relay/internal/identity"
	"github.com/websopy/relay/internal/limit"
	"github.com/websopy/relay/internal/telemetry"
)

// visit is what the middlewares learn of a request. It is one value of the context, and a pointer, because each value
// costs a copy of the request.
type visit struct {
	id      string
	caller  identity.Caller
	byProxy bool          // it came through a proxy whose word on the client is taken
	dialect Dialect       // that it is answered in
	chat    string        // that the client asks in, where that is how it finds its stream
	ignored string        // the fields that do not reach the provider
	came    *http.Request // as the server has it, until its header is let go

	largeHeader int64 // bytes, see largeHeader

	// question is the memory that the body holds until the provider begins to answer. It is nil where there is
	// no body, and where somebody else is to release it.
	question *limit.Held
}

// visiting is the context of a visit, and of chi's routing, which would make another one, and another copy of the
// request. The visit is asked for twenty times in a request: it is found at once, and not by comparing keys.
type visiting struct {
	context.Context
	visit *visit
	route *chi.Context
}

// Value implements context.Context.
func (v *visiting) Value(key any) any {
	if key == chi.RouteCtxKey {
		return v.route
	}
	return v.Context.Value(key)
}

// visitOf is the visit of a request that came through receive.
func visitOf(req *http.Request) *visit { return req.Context().(*visiting).visit }

// receive begins a visit: it gives the request an id, in the response and in the log, which is the caller's
// own when that is a sane one and no secret, and the dialect of its path.
func receive(dialects []Dialect, secrets telemetry.Redaction, mux *chi.Mux) http.Handler {
	routes := sync.Pool{New: func() any { return chi.NewRouteContext() }}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		v := newVisit(req, dialects, secrets)
		w.Header().Set("X-Request-Id", v.id)
		if v.dialect.OfProvider {
			w.Header().Set("Request-Id", v.id) // as Anthropic's SDKs look for it
		}
		route := routes.Get().(*chi.Context)
		route.Reset()
		route.Routes = mux
		mux.ServeHTTP(w, req.WithContext(&visiting{req.Context(), v, route}))
		routes.Put(route)
	})
}

// header is the first value of a header. Its name must be as net/http writes it, which Header.Get sees to each time:
// most requests have none of a dozen headers that are looked for.
func header(req *http.Request, name string) string {
	if values := req.Header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// newVisit is apart from receive for the sake of the stack, on which receive's frame stays: see checked.
//
//go:noinline
func newVisit(req *http.Request, dialects []Dialect, secrets telemetry.Redaction) *visit {
	v := &visit{id: header(req, "X-Request-Id"), dialect: dialectOf(dialects, req.URL.Path), came: req,
		largeHeader: largeHeader(req)}
	if !sane(v.id) || secrets.Replace(v.id) != v.id || isCredential(req, v.id) {
		v.id = rand.Text()
	}
	return v
}

// isCredential tells whether an id is what the caller identifies itself with, or a part of that: perhaps it is a key
// of somebody's, for somebody else.
func isCredential(req *http.Request, id string) bool {
	const shortest = 8 // bytes; shorter ones are in many a key by chance
	_, key, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	other := req.Header.Get("X-Api-Key")
	if key == id || other == id {
		return true
	}
	shown := []string{key, other, req.Header.Get("Cookie")}
	return len(id) >= shortest && slices.ContainsFunc(shown, func(s string) bool { return strings.Contains(s, id) })
}

// sane reports whether an id from outside may be stored, logged and sent back.
func sane(id string) bool {
	const longest = 128
	if id == "" || len(id) > longest {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
