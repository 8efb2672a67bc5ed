package handler_test

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/identity"
	"github.com/websopy/relay/internal/telemetry"
	"github.com/websopy/relay/internal/upstream"
)

func TestABugOutsideOfStreamsIsAnswered(t *testing.T) {
	r := start(t, handler.Options{
		Router: routed{hello,
			&upstream.Router{Routes: []*upstream.Route{{Has: func(string) bool { panic("a bug") }}}}}})
	res, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", `{"model":"m-2",`+question[1:])
	require.Equal(t, http.StatusInternalServerError, res.StatusCode)
	require.Equal(t, chat.Internal, lastError(t, body).Code)
	require.Contains(t, r.log.wait(t, "panic", 1)[0]["stack"], "handler_test")
}

func TestAuthentication(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello},
		Keys: identity.NewKeys([]identity.APIKey{{Name: "shop", Key: "k-shop"}, {Key: "k-nameless"}})})
	for name, tc := range map[string]struct {
		authorization string
		status        int
		message       string
	}{
		"a key":                            {"Bearer k-shop", 200, ""},
		"a key without a name":             {"Bearer k-nameless", 200, ""},
		"the scheme in any case":           {"bearer  k-shop ", 200, ""},
		"no key":                           {"", 401, "an API key is required: Authorization: Bearer <key>"},
		"a wrong key":                      {"Bearer k-shoq", 401, "the API key is not known"},
		"the beginning of a key":           {"Bearer k-sho", 401, "the API key is not known"},
		"a key and more":                   {"Bearer k-shop x", 401, "the API key is not known"},
		"the right key by a wrong scheme":  {"Basic k-shop", 401, "the API key is not known"},
		"the right key without any scheme": {"k-shop", 401, "the API key is not known"},
		"an empty key":                     {"Bearer ", 401, "the API key is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			for method, path := range map[string]string{http.MethodPost: "/api/chat/stream", http.MethodGet: "/v1/ai/chat?message=hi"} {
				res, body := fetch(t, method, r.url+path, question, "Authorization", tc.authorization)
				require.Equal(t, tc.status, res.StatusCode)
				if tc.status == http.StatusUnauthorized {
					require.Equal(t, "Bearer", res.Header.Get("WWW-Authenticate"))
					require.Equal(t, chat.Unauthorized, lastError(t, body).Code)
					require.Equal(t, tc.message, lastError(t, body).Error)
				}
			}
		})
	}
	t.Run("probes need none", func(t *testing.T) {
		res, body := fetch(t, http.MethodGet, r.url+"/healthz", "")
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.Equal(t, "ok\n", body)
		res, _ = fetch(t, http.MethodHead, r.url+"/readyz", "")
		require.Equal(t, http.StatusOK, res.StatusCode, "some balancers ask by HEAD")
	})
	t.Run("the log knows names, not keys", func(t *testing.T) {
		callers := make(map[any]bool)
		for _, line := range r.log.wait(t, "stream", 6) {
			callers[line["caller"]] = true
		}
		require.Equal(t, map[any]bool{"shop": true, nil: true}, callers)
		require.NotContains(t, r.log.String(), "k-sho")
		require.NotContains(t, r.log.String(), "k-nameless")
	})
}

func TestSecretsAreNeverShown(t *testing.T) {
	r := start(t, handler.Options{
		Router: answering{play(content("Hel"),
			&chat.Error{Code: chat.UpstreamRejected, Message: "no such key: sk-provider",
				Err: errors.New("got sk-provider")})},
		Redact: telemetry.Redactor([]string{"", "sk-provider", "k-shop"}),
	})
	_, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", question)
	require.Equal(t, "no such key: ***", lastError(t, body).Error)
	fetch(t, http.MethodGet, r.url+"/k-shop", "")
	fetch(t, http.MethodPost, r.url+"/api/chat/stream", `{"model":"sk-provider"`)
	fetch(t, http.MethodPost, r.url+"/api/chat/stream", `{"messages":[{"role":"k-shop","content":""}]}`)
	fetch(t, http.MethodPost, r.url+"/api/chat/stream", `{"model":"k-shop",`+question[1:])
	r.log.wait(t, "stream", 2)
	require.NotContains(t, r.log.String(), "sk-provider")
	require.NotContains(t, r.log.String(), "k-shop")
	require.Contains(t, r.log.String(), "got ***")
}

func TestASecretInAPanicIsNotLogged(t *testing.T) {
	r := start(t, handler.Options{Redact: telemetry.Redactor([]string{"sk-provider"}),
		Router: answering{provider(func(context.Context, *chat.Request, func(chat.Chunk, error) bool) {
			panic("with the key sk-provider in hand")
		})}})
	_, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", question)
	require.Equal(t, chat.Internal, lastError(t, body).Code)
	line := r.log.wait(t, "panic", 1)[0]
	require.Equal(t, "with the key *** in hand", line["panic"])
	require.NotContains(t, body, "sk-provider")
}

func TestPreflights(t *testing.T) {
	const app = "https://app.example.com"
	preflight := func(t *testing.T, origins []string, origin string) *http.Response {
		r := start(t, handler.Options{Router: answering{hello}, CORSOrigins: origins,
			Keys: identity.NewKeys([]identity.APIKey{{Key: "k"}})})
		res, body := fetch(t, http.MethodOptions, r.url+"/api/chat/stream", "", "Origin", origin,
			"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type")
		if len(origins) > 0 {
			require.Empty(t, body)
		}
		return res
	}
	for name, tc := range map[string]struct {
		allowed []string
		origin  string
	}{
		"an allowed origin":            {[]string{"https://other.example.com", app}, app},
		"any origin, where all may":    {[]string{"*"}, "http://localhost:3000"},
		"a page without an origin too": {[]string{"*"}, "null"},
	} {
		t.Run(name, func(t *testing.T) {
			res := preflight(t, tc.allowed, tc.origin)
			require.Equal(t, http.StatusOK, res.StatusCode, "without the key: preflights have none")
			require.Equal(t, tc.origin, res.Header.Get("Access-Control-Allow-Origin"))
			require.Equal(t, "POST", res.Header.Get("Access-Control-Allow-Methods"))
			require.Equal(t, "authorization, content-type",
				strings.ToLower(res.Header.Get("Access-Control-Allow-Headers")))
			require.Equal(t, "600", res.Header.Get("Access-Control-Max-Age"))
			require.Contains(t, res.Header.Values("Vary"), "Origin")
			credentials := map[bool]string{true: "true"}[tc.origin == app] // not where all may
			require.Equal(t, credentials, res.Header.Get("Access-Control-Allow-Credentials"))
		})
	}
	for name, tc := range map[string]struct {
		allowed []string
		origin  string
	}{
		"a foreign origin":                    {[]string{app}, "https://evil.example.com"},
		"an origin that ends like an allowed": {[]string{app}, "https://evil-app.example.com"},
		"another scheme":                      {[]string{app}, "http://app.example.com"},
		"another port":                        {[]string{app}, app + ":8443"},
		"a page without an origin":            {[]string{app}, "null"},
		"where no origin is allowed":          {nil, app},
	} {
		t.Run(name+" gets nothing", func(t *testing.T) {
			for header := range preflight(t, tc.allowed, tc.origin).Header {
				require.False(t, strings.HasPrefix(header, "Access-Control-"), header)
			}
		})
	}
}

func TestOrigins(t *testing.T) {
	const app = "https://app.example.com"
	for name, tc := range map[string]struct {
		allowed []string
		headers []string
		status  int
		marked  bool // for the origin's scripts to read
	}{
		"no browser": {nil, nil, 200, false},
		"an allowed origin": {[]string{app}, []string{"Origin", app, "Sec-Fetch-Site", "cross-site"},
			200, true},
		"an allowed origin, written in caps": {[]string{app}, []string{"Origin", "HTTPS://APP.example.com"}, 200,
			true},
		"any origin, where all may": {[]string{"*"},
			[]string{"Origin", "https://x.example", "Sec-Fetch-Site", "cross-site"}, 200, true},
		"a foreign origin": {[]string{app},
			[]string{"Origin", "https://evil.example.com", "Sec-Fetch-Site", "cross-site"}, 403, false},
		"a foreign origin, old browser": {[]string{app}, []string{"Origin", "https://evil.example.com"}, 403, false},
		"a foreign origin, no list": {nil, []string{"Origin", "https://evil.example.com", "Sec-Fetch-Site",
			"cross-site"}, 403, false},
		"a sandboxed page": {[]string{app}, []string{"Origin", "null", "Sec-Fetch-Site", "cross-site"}, 403,
			false},
		"the relay's own page": {nil, []string{"Origin", "http://relay.example.com", "Host", "relay.example.com",
			"Sec-Fetch-Site", "same-origin"}, 200, false},
		"its own page, old browser": {nil, []string{"Origin", "http://relay.example.com", "Host",
			"relay.example.com"}, 200, false},
		"typed into the address bar": {nil, []string{"Sec-Fetch-Site", "none"}, 200, false},
		"a foreign page's image": {[]string{app},
			[]string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Dest", "image"}, 403, false},
		"a sibling site's image": {nil, []string{"Sec-Fetch-Site", "same-site"}, 403, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, handler.Options{Router: answering{hello}, CORSOrigins: tc.allowed,
				Hosts: handler.Hosts{"relay.example.com"}})
			for method, path := range map[string]string{http.MethodPost: "/api/chat/stream", http.MethodGet: "/v1/ai/chat?message=hi"} {
				res, body := fetch(t, method, r.url+path, question, tc.headers...)
				require.Equal(t, tc.status, res.StatusCode)
				require.Equal(t, tc.marked, res.Header.Get("Access-Control-Allow-Origin") != "")
				if tc.marked {
					require.Equal(t, tc.headers[1], res.Header.Get("Access-Control-Allow-Origin"))
					require.Contains(t, res.Header.Get("Access-Control-Expose-Headers"), "X-Request-Id")
				}
				if tc.status == http.StatusForbidden {
					require.Equal(t, chat.Forbidden, lastError(t, body).Code)
				}
			}
		})
	}
}

func TestTheLogNamesTheClientThatTheProxyHeardFrom(t *testing.T) {
	trusting := start(t, handler.Options{Router: answering{hello},
		TrustedProxies: identity.Proxies{netip.MustParsePrefix("127.0.0.0/8")}})
	fetch(t, http.MethodPost, trusting.url+"/api/chat/stream", question, "X-Forwarded-For", "1.1.1.1, 203.0.113.7")
	require.Equal(t, "203.0.113.7", trusting.log.stream(t)["client"])

	other := start(t, handler.Options{Router: answering{hello}})
	fetch(t, http.MethodPost, other.url+"/api/chat/stream", question, "X-Forwarded-For", "203.0.113.7")
	require.Equal(t, "127.0.0.1", other.log.stream(t)["client"])
}

func TestARefusedOriginIsToldTheSettings(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello}})
	_, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", "{}", "Origin", "https://evil.example.com")
	require.Contains(t, body, "RELAY_CORS_ORIGINS")
	require.Contains(t, body, "RELAY_TRUSTED_PROXIES")
}
