package handler_test

import (
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/identity"
)

// tokenIssuer makes tokens, and serves the key that they are checked with while it is up.
type tokenIssuer struct {
	*httptest.Server
	key ed25519.PrivateKey
	up  atomic.Bool
}

func startTokenIssuer(t *testing.T) *tokenIssuer {
	is := &tokenIssuer{}
	is.up.Store(true)
	_, is.key, _ = ed25519.GenerateKey(nil)
	jwk, err := jwkset.NewJWKFromKey(is.key.Public(), jwkset.JWKOptions{})
	require.NoError(t, err)
	is.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !is.up.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(jwkset.JWKSMarshal{Keys: []jwkset.JWKMarshal{jwk.Marshal()}})
	}))
	t.Cleanup(is.Close)
	return is
}

// tokens checks them, with the claim group.
func (is *tokenIssuer) tokens(t *testing.T) *identity.Tokens {
	transport := &http.Transport{}
	keys := identity.OpenKeySet(identity.KeySetOptions{Source: is.URL, Client: &http.Client{Transport: transport}})
	t.Cleanup(func() {
		keys.Close()
		transport.CloseIdleConnections()
	})
	return identity.NewTokens(identity.TokensOptions{
		Audience: []string{"relay"}, Methods: []string{"EdDSA"}, NameClaim: "name",
		Require: []identity.Claim{{Name: "group", Value: "chat"}},
	}, keys)
}

func (is *tokenIssuer) token(t *testing.T, subject, group string, lasts time.Duration) string {
	signed, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": is.URL, "sub": subject, "aud": "relay", "group": group, "name": "Ms " + subject,
		"exp": time.Now().Add(lasts).Unix(),
	}).SignedString(is.key)
	require.NoError(t, err)
	return signed
}

func TestTokensBesideKeys(t *testing.T) {
	is := startTokenIssuer(t)
	r := start(t, handler.Options{Router: answering{hello}, Tokens: is.tokens(t),
		Keys: identity.NewKeys([]identity.APIKey{{Name: "shop", Key: "a.dotted.key"}})})
	good := is.token(t, "alice", "chat", time.Hour)
	for name, tc := range map[string]struct {
		authorization string
		status        int
		code          chat.Code
		message       string
		challenge     string
	}{
		"a token":                {"Bearer " + good, 200, "", "", ""},
		"the scheme in any case": {"bearer " + good, 200, "", "", ""},
		"a key":                  {"Bearer a.dotted.key", 200, "", "", ""},
		"nothing": {"", 401, chat.Unauthorized, "a token is required: Authorization: Bearer <token>",
			"Bearer"},
		"neither": {"Bearer a-key", 401, chat.Unauthorized,
			"this is neither a token nor an API key that is known", "Bearer"},
		"another scheme": {"Basic " + good, 401, chat.Unauthorized,
			"this is neither a token nor an API key that is known", "Bearer"},
		"an old token": {"Bearer " + is.token(t, "alice", "chat", -time.Hour), 401, chat.Unauthorized,
			"the token has expired",
			`Bearer error="invalid_token", error_description="the token has expired"`},
		"one without the claim": {"Bearer " + is.token(t, "alice", "mail", time.Hour), 403, chat.Forbidden,
			"the token does not have a claim that is required: group (see RELAY_JWT_REQUIRE)",
			`Bearer error="insufficient_scope"`},
	} {
		res, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", question, "Authorization", tc.authorization)
		require.Equal(t, tc.status, res.StatusCode, name)
		require.Equal(t, tc.challenge, res.Header.Get("WWW-Authenticate"), name)
		if tc.status != http.StatusOK {
			require.Equal(t, tc.code, lastError(t, body).Code, name)
			require.Equal(t, tc.message, lastError(t, body).Error, name)
		}
	}
	lines := r.log.wait(t, "stream", 3)
	require.Contains(t, []any{lines[0]["caller"], lines[1]["caller"], lines[2]["caller"]}, "Ms alice")
	require.NotContains(t, r.log.String(), good)

	res, _ := fetch(t, http.MethodPost, r.url+"/api/chat/stream", question, "Authorization", "Bearer "+good,
		"X-Request-Id", good[20:60])
	require.NotContains(t, good, res.Header.Get("X-Request-Id"), "a piece of a token is no id")
}

// While nobody can tell whether a token is good, its client comes again.
func TestTokensThatCanNotBeChecked(t *testing.T) {
	is := startTokenIssuer(t)
	is.up.Store(false)
	r := start(t, handler.Options{Router: answering{hello}, Tokens: is.tokens(t), Cookie: "session",
		Keys: identity.NewKeys([]identity.APIKey{{Key: "k"}})})
	token := is.token(t, "alice", "chat", time.Hour)

	res, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", question, "Authorization", "Bearer "+token)
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.Equal(t, chat.Overloaded, lastError(t, body).Code)
	require.Equal(t, "5", res.Header.Get("Retry-After"))
	res, _ = fetch(t, http.MethodPost, r.url+"/api/chat/stream", question, "Authorization", "Bearer k")
	require.Equal(t, http.StatusOK, res.StatusCode, "keys need nobody")
	res, _ = fetch(t, http.MethodGet, r.url+"/readyz", "")
	require.Equal(t, http.StatusOK, res.StatusCode)

	eventSource := []string{"Accept", "text/event-stream", "Cookie", "session=" + token, "Sec-Fetch-Site",
		"same-origin"}
	res = ask(t, http.DefaultClient, http.MethodGet, r.url+"/v1/ai/chat?message=hi", "", eventSource...)
	require.Equal(t, http.StatusOK, res.StatusCode, "any other status is final to it")
	http.DefaultClient.CloseIdleConnections()
	r.log.wait(t, "refused", 2)
}

// A browser has two cookies of one name where a login was moved to another path or domain, and sends both.
func TestTheTokenThatIsGoodCountsOfSeveralCookies(t *testing.T) {
	is := startTokenIssuer(t)
	r := start(t, handler.Options{Router: answering{hello}, Tokens: is.tokens(t), Cookie: "session"})
	good, expired, other := is.token(t, "alice", "chat", time.Hour), is.token(t, "alice", "chat", -time.Hour),
		is.token(t, "alice", "mail", time.Hour)
	status := func(tokens ...string) int {
		res, _ := fetch(t, http.MethodPost, r.url+"/api/chat/stream", question, "Sec-Fetch-Site", "same-origin",
			"Cookie", "session="+strings.Join(tokens, "; session="))
		return res.StatusCode
	}
	require.Equal(t, http.StatusOK, status(expired, good))
	require.Equal(t, http.StatusOK, status("", good))
	require.Equal(t, http.StatusOK, status(good, expired))
	require.Equal(t, http.StatusUnauthorized, status(expired, "x"))
	require.Equal(t, http.StatusForbidden, status(expired, other, "x"))
	require.Equal(t, http.StatusUnauthorized, status("1", "2", "3", "4", good), "it is not for ever")
}

func TestATokenInACookieNeedsASign(t *testing.T) {
	is := startTokenIssuer(t)
	r := start(t, handler.Options{Router: answering{hello}, Tokens: is.tokens(t), Cookie: "session",
		CORSOrigins: []string{"https://app.example"},
		Keys:        identity.NewKeys([]identity.APIKey{{Key: "k"}})})
	cookie := "other=1; session=" + is.token(t, "alice", "chat", time.Hour)
	own := r.url + "/page"
	for name, tc := range map[string]struct {
		status  int
		headers []string
	}{
		"the relay's own page": {200, []string{"Sec-Fetch-Site", "same-origin"}},
		"an allowed page": {200,
			[]string{"Sec-Fetch-Site", "cross-site", "Origin", "https://app.example"}},
		"an older browser":              {200, []string{"Referer", own}},
		"an older one, an allowed page": {200, []string{"Referer", "https://app.example/x"}},
		"nothing at all":                {403, nil},
		"no browser, as it says":        {403, []string{"User-Agent", "WebView/1"}},
		"a stranger's page":             {403, []string{"Sec-Fetch-Site", "cross-site"}},
		"a page of the same site":       {403, []string{"Sec-Fetch-Site", "same-site"}},
		"an older one, a stranger":      {403, []string{"Referer", "https://evil.example/"}},
		"a stranger's origin":           {403, []string{"Origin", "https://evil.example"}},
		"an opaque origin":              {403, []string{"Origin", "null"}},
		"a link in a mail":              {403, []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate"}},
		"a link on the own page": {403, []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode",
			"navigate"}},
	} {
		for request, path := range map[string]string{"GET": "/v1/ai/chat?message=hi", "POST": "/api/chat/stream",
			"DELETE": "/api/chat/stream/x"} {
			headers := append([]string{"Cookie", cookie}, tc.headers...)
			res, body := fetch(t, request, r.url+path, question, headers...)
			want := tc.status
			if request == http.MethodDelete && want == 200 {
				want = http.StatusNotFound
			}
			require.Equal(t, want, res.StatusCode, "%s %s: %s", request, name, body)
		}
	}
	res, _ := fetch(t, http.MethodPost, r.url+"/api/chat/stream", question, "Cookie", cookie, "Authorization",
		"Bearer k")
	require.Equal(t, http.StatusOK, res.StatusCode, "the header counts")
	res, _ = fetch(t, http.MethodPost, r.url+"/api/chat/stream", question, "Cookie", cookie, "Authorization",
		"Bearer wrong", "Sec-Fetch-Site", "same-origin")
	require.Equal(t, http.StatusUnauthorized, res.StatusCode, "and only it")
	res, _ = fetch(t, http.MethodGet, r.url+"/v1/ai/chat?message=hi", "", "Cookie", "session=", "Sec-Fetch-Site",
		"same-origin")
	require.Equal(t, http.StatusUnauthorized, res.StatusCode)

	r = start(t, handler.Options{Router: answering{hello}, Tokens: is.tokens(t)})
	res, _ = fetch(t, http.MethodPost, r.url+"/api/chat/stream", question, "Cookie", cookie, "Sec-Fetch-Site",
		"same-origin")
	require.Equal(t, http.StatusUnauthorized, res.StatusCode, "where no cookie is accepted")
}
