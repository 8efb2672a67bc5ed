package handler

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-chi/cors"
	"golang.org/x/net/publicsuffix"

	"github.com/websopy/relay/internal/chat"
)

// origins are those of pages that may use the relay, like https://app.example.com, https://*.example.com for all hosts
// below a domain, or "*" for all. The relay's own page may without being listed.
type origins []string

func (o origins) any() bool { return slices.Contains(o, "*") }

func (o origins) allow(origin string) bool {
	return slices.ContainsFunc(o, func(listed string) bool {
		return listed == "*" || strings.EqualFold(listed, origin) || isBelow(listed, strings.ToLower(origin))
	})
}

// isBelow tells whether a listed origin with a wildcard is meant to have this one among its own. Where people of all
// kinds have names, it is not: https://*.amazonaws.com has none of a stranger's bucket.s3.amazonaws.com.
func isBelow(listed, origin string) bool {
	scheme, domain, wildcard := strings.Cut(listed, "*.")
	host, ofScheme := strings.CutPrefix(origin, scheme)
	name, below := strings.CutSuffix(host, "."+domain)
	if !wildcard || !ofScheme || !below || !isNameOfHost(name) {
		return false
	}
	domain, _, _ = strings.Cut(domain, ":")
	suffix, _ := publicsuffix.PublicSuffix(name + "." + domain)
	return len(suffix) <= len(domain)
}

// isNameOfHost tells whether a text has only what is in names, and ends where one can go on with a dot.
func isNameOfHost(s string) bool {
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == "" && !strings.Contains("."+s+".", "..")
}

// markOrigins answers preflights and marks responses for the allowed origins. Others get no marks.
func markOrigins(allowed origins) func(http.Handler) http.Handler {
	if len(allowed) == 0 { // the library takes an empty list for all
		return func(next http.Handler) http.Handler { return next }
	}
	return cors.Handler(cors.Options{
		AllowOriginFunc: func(_ *http.Request, origin string) bool { return allowed.allow(origin) },
		AllowedMethods:  []string{http.MethodGet, http.MethodPost, http.MethodDelete},
		AllowedHeaders:  []string{"*"}, // an allowed origin may send what its proxies need
		ExposedHeaders: append([]string{
			"X-Request-Id", "X-Stream-Id", "X-Relay-Ignored", "Idempotency-Replayed", "Retry-After", "X-Should-Retry",
			"Request-Id",
			"X-Relay-Error",
		}, limitHeaders...),
		MaxAge: 600,
		// The library echoes the origin where all may, so that any page could use a visitor's cookie.
		AllowCredentials: !allowed.any(),
	})
}

var (
	errOrigin = &chat.Error{Code: chat.Forbidden, Message: "this origin is not allowed: list it in " +
		"RELAY_CORS_ORIGINS, or, if a proxy of yours passes its page's requests on, the proxy in " +
		"RELAY_TRUSTED_PROXIES"}
	errNoSign = &chat.Error{Code: chat.Forbidden, Message: "a browser's GET needs a sign that it is of the relay's " +
		"own page or an allowed origin: Sec-Fetch-Site, Origin or Referer (see RELAY_CORS_ORIGINS); a POST needs none"}
)

// checkOrigin refuses what a page of a foreign origin made the browser send. CORS only keeps such a
// page from reading the answer; the tokens would be spent all the same.
func checkOrigin(allowed origins) check {
	return func(_ http.ResponseWriter, req *http.Request) *chat.Error {
		if !allowed.sent(req) {
			return errOrigin
		}
		return nil
	}
}

// sent tells whether a request is of an allowed page, or of no page that is known.
func (o origins) sent(req *http.Request) bool {
	origin, site := header(req, "Origin"), header(req, "Sec-Fetch-Site")
	switch {
	case site == "same-origin" || site == "none": // browsers let no page set it
		return true
	case origin != "" && o.allow(origin):
		return true
	case site != "":
		return o.any()
	case origin == "":
		return true // no browser, or a GET: see checkSign
	}
	return isOwnOrigin(req, origin) // an older browser, or one on a page without TLS
}

// isOwnOrigin tells whether the page at a URL is of the relay's own origin. The scheme is not compared: a proxy
// may take TLS off.
func isOwnOrigin(req *http.Request, page string) bool {
	u, err := url.Parse(page)
	return err == nil && u.Host != "" && slices.ContainsFunc(hostsOf(req), func(host string) bool {
		return strings.EqualFold(withoutDefaultPort(u.Host), withoutDefaultPort(host))
	})
}

func withoutDefaultPort(host string) string {
	return strings.TrimSuffix(strings.TrimSuffix(host, ":80"), ":443")
}

// checkSign refuses a question in a URL that any page could have made the browser ask, by an image or a frame.
// Without TLS a browser says nothing of the page with such a GET, so that a sign of the right page is needed.
// A key that the page has to send is one; where there is none, or the browser sends a cookie by itself, it has to be
// another. Who reads on what was asked before needs none.
func checkSign(allowed origins, open bool) check {
	return func(_ http.ResponseWriter, req *http.Request) *chat.Error {
		byItself := open || req.Header.Get("Cookie") != ""
		if byItself && isBrowser(req) && !allowed.signed(req) && lastEventID(req) == "" {
			return errNoSign
		}
		return nil
	}
}

func isBrowser(req *http.Request) bool {
	if strings.HasPrefix(req.UserAgent(), "Mozilla/") {
		return true
	}
	for name := range req.Header {
		if strings.HasPrefix(name, "Sec-Fetch-") {
			return true
		}
	}
	return false
}

// signed tells whether anything says that the right page asks, in a request that checkOrigin let pass.
func (o origins) signed(req *http.Request) bool {
	if req.Header.Get("Sec-Fetch-Site") != "" || req.Header.Get("Origin") != "" {
		return true
	}
	// No page can make a browser send such a header to another origin that does not allow it.
	if scheme, _, _ := strings.Cut(req.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		return true
	}
	page, err := url.Parse(req.Referer())
	if err != nil || page.Host == "" {
		return false
	}
	return isOwnOrigin(req, req.Referer()) || o.allow(page.Scheme+"://"+page.Host)
}
