package handler

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/dialect"
)

// body writes a whole response. It is for everything but event streams.
func (r *Relay) body(w http.ResponseWriter, req *http.Request, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	r.extendDeadline(w, req)
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone can't be told
}

func (r *Relay) plain(w http.ResponseWriter, req *http.Request, status int, text string) {
	r.body(w, req, status, "text/plain; charset=utf-8", []byte(text))
}

// extendDeadline gives a response its time. On HTTP/1 the server may first have to wait for the rest of a body
// that nobody has read.
func (r *Relay) extendDeadline(w http.ResponseWriter, req *http.Request) {
	timeout := r.writeTimeout
	if req.ProtoMajor == 1 && req.ContentLength != 0 {
		timeout += r.bodyTimeout
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(timeout)) // a recorder has none
}

// refusal answers a request with an error object and logs it: Relay.fail is one.
type refusal func(w http.ResponseWriter, req *http.Request, e *chat.Error)

// refuse answers every request with e.
func (r *Relay) refuse(e *chat.Error) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) { r.fail(w, req, e) }
}

// methodNotAllowed also names the methods that the path takes, which RFC 9110, 15.5.6 demands.
func (r *Relay) methodNotAllowed(routes chi.Routes) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		var allowed []string
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete} {
			if routes.Match(chi.NewRouteContext(), method, req.URL.Path) {
				allowed = append(allowed, method)
			}
		}
		if len(allowed) == 0 { // a method that no path takes
			r.fail(w, req, errNoPath)
			return
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		r.fail(w, req, &chat.Error{Code: chat.MethodNotAllowed, Message: "this path does not take this method"})
	}
}

// fail answers with an error object and logs it. The response must not have begun.
func (r *Relay) fail(w http.ResponseWriter, req *http.Request, e *chat.Error) {
	r.respondError(w, req, e)
	r.logRefusal(req, e)
}

func (r *Relay) respondError(w http.ResponseWriter, req *http.Request, e *chat.Error) {
	wait := e.RetryAfter
	if wait == 0 && e.Code.Status() == http.StatusServiceUnavailable {
		wait = time.Second // who has to come again is told when, whichever 503 it is
	}
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(dialect.RetryAfterSeconds(wait), 10))
	}
	if visitOf(req).dialect.OfProvider && isFinal(e) {
		w.Header().Set("X-Should-Retry", "false")
	}
	body := visitOf(req).dialect.AppendRefusal(nil, r.shown(e), visitOf(req).id)
	if visitOf(req).dialect.Words {
		w.Header().Set("X-Relay-Error", string(e.Code))
		r.body(w, req, e.Code.Status(), "text/plain; charset=utf-8", body)
		return
	}
	r.body(w, req, e.Code.Status(), "application/json; charset=utf-8", append(body, '\n'))
}

// isFinal tells whether a client that asks once more would ask in vain. What a provider did not answer, the relay has
// asked it, and others, as often as it is set to: each retry of an SDK's would be as many again.
func isFinal(e *chat.Error) bool {
	return !e.Code.Retryable() || strings.HasPrefix(string(e.Code), "upstream_")
}

// shown is an error as clients see it.
func (r *Relay) shown(e *chat.Error) *chat.Error {
	shown := *e
	shown.Message = r.redact.Replace(e.Message)
	return &shown
}
