package handler

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/identity"
)

// credentials are what a relay can be shown. See Options.
type credentials struct {
	keys   identity.Keys
	tokens *identity.Tokens
	cookie string
}

// none tells whether everybody may call.
func (c credentials) none() bool { return c.keys.None() && c.tokens == nil }

// authenticate lets a request pass that shows one of the credentials, or any when there are none. What it learns
// is in the request's visit.
func authenticate(accepted credentials, allowed origins) check {
	return func(w http.ResponseWriter, req *http.Request) *chat.Error {
		if accepted.none() {
			return nil
		}
		c, err := accepted.callerOf(req, allowed)
		if err != nil {
			return challenge(w, err)
		}
		v := visitOf(req)
		c.Addr = v.caller.Addr
		v.caller = c
		return nil
	}
}

// callerOf finds whose credential a request shows. A header counts before a cookie, which browsers send unasked.
//
// Errors: *chat.Error; those of identity.Tokens.Caller.
func (c credentials) callerOf(req *http.Request, allowed origins) (identity.Caller, error) {
	scheme, shown, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	shown = strings.TrimSpace(shown)
	if key := req.Header.Get("X-Api-Key"); scheme == "" && key != "" && visitOf(req).dialect.OfProvider {
		scheme, shown = "Bearer", key // Anthropic's SDKs show it so
	}
	switch {
	case scheme == "":
		return c.cookieCaller(req, allowed)
	case !strings.EqualFold(scheme, "Bearer"):
		return identity.Caller{}, c.unknown()
	}
	if caller, ok := c.keys.Caller(shown); ok {
		return caller, nil
	}
	if c.tokens == nil || strings.Count(shown, ".") != 2 {
		return identity.Caller{}, c.unknown()
	}
	return c.tokens.Caller(req.Context(), shown)
}

// cookieCaller finds whose token is in the cookie. A browser sends it with whatever any page makes it ask, so such a
// request has to show that the right page made it. Opening an address, as from a link in a mail, shows nothing.
func (c credentials) cookieCaller(req *http.Request, allowed origins) (identity.Caller, error) {
	if c.cookie == "" {
		return identity.Caller{}, c.missing()
	}
	tokens := make([]string, 0, 1)
	for _, cookie := range req.CookiesNamed(c.cookie) {
		if cookie.Value != "" && len(tokens) < mostCookies {
			tokens = append(tokens, cookie.Value)
		}
	}
	switch {
	case len(tokens) == 0:
		return identity.Caller{}, c.missing()
	case req.Header.Get("Sec-Fetch-Mode") == "navigate" || !allowed.signed(req):
		return identity.Caller{}, errCookieUnsigned
	}
	return c.firstGood(req, tokens)
}

// mostCookies of one name are looked at.
const mostCookies = 4

// firstGood finds whose token is the first one that is accepted. A browser sends all cookies of a name that it has,
// those of other paths and of the whole domain too, and in which order says nothing: a login that was moved leaves an
// expired one before the good one, for as long as the browser keeps it.
func (c credentials) firstGood(req *http.Request, tokens []string) (caller identity.Caller, err error) {
	for _, token := range tokens {
		caller, failure := c.tokens.Caller(req.Context(), token)
		if failure == nil {
			return caller, nil
		}
		// One that can't be checked now, or lacks a claim, is nearer to being accepted than one that is no good.
		if _, bad := errors.AsType[*identity.BadToken](failure); err == nil || !bad {
			err = failure
		}
	}
	return identity.Caller{}, err
}

var errCookieUnsigned = &chat.Error{Code: chat.Forbidden,
	Message: "a request with a cookie needs a sign that a script of the relay's own page or an allowed origin " +
		"made it: " +
		"Sec-Fetch-Site, Origin or Referer (see RELAY_CORS_ORIGINS)"}

func (c credentials) missing() *chat.Error {
	message := "an API key is required: Authorization: Bearer <key>"
	if c.tokens != nil {
		message = "a token is required: Authorization: Bearer <token>"
	}
	return &chat.Error{Code: chat.Unauthorized, Message: message}
}

func (c credentials) unknown() *chat.Error {
	message := "the API key is not known"
	if c.tokens != nil {
		message = "this is neither a token nor an API key that is known"
	}
	return &chat.Error{Code: chat.Unauthorized, Message: message}
}

// errNoKeys is not a 401, which is final to a client: its token may be good.
var errNoKeys = &chat.Error{Code: chat.Overloaded, RetryAfter: 5 * time.Second,
	Message: "tokens can't be checked now, because their issuer's keys can't be had"}

// challenge is the refusal for an error of callerOf, and sets the header that goes with it (RFC 6750, 3).
func challenge(w http.ResponseWriter, err error) *chat.Error {
	if bad, ok := errors.AsType[*identity.BadToken](err); ok {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token", error_description="`+bad.Error()+`"`)
		return &chat.Error{Code: chat.Unauthorized, Message: bad.Error()}
	}
	switch {
	case errors.Is(err, identity.ErrNoKeys):
		return errNoKeys
	case errors.Is(err, identity.ErrForbidden):
		w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope"`)
		return &chat.Error{Code: chat.Forbidden, Message: err.Error() + " (see RELAY_JWT_REQUIRE)"}
	case isChatError(err):
		failure := chat.AsError(err)
		if failure.Code == chat.Unauthorized {
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
		return failure
	}
	// and nobody reads this
	return &chat.Error{Code: chat.InvalidRequest, Message: "the request was given up", Err: err}
}
