package replicas_test

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

// startIssuer serves a discovery document and a key set, and makes tokens for alice.
func startIssuer(t *testing.T) (url string, token func() string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	jwk, err := jwkset.NewJWKFromKey(key.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: "1"}})
	require.NoError(t, err)
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": server.URL, "jwks_uri": server.URL + "/keys"})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jwkset.JWKSMarshal{Keys: []jwkset.JWKMarshal{jwk.Marshal()}})
	})
	return server.URL, func() string {
		made := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
			"iss": server.URL, "sub": "alice", "aud": "relay", "exp": time.Now().Add(time.Hour).Unix(),
		})
		made.Header["kid"] = "1"
		signed, err := made.SignedString(key)
		require.NoError(t, err)
		return signed
	}
}

// visitor is a page that may use the relay (%[1]s): it asks by an EventSource, and by fetch, and has nothing but the
// cookie to show. Then it goes to a page that may not (%[2]s).
const visitor = `<!doctype html><script>
const api = '%[1]s/api/chat/stream'
const answer = new Promise((resolve, reject) => {
	const es = new EventSource(api + '?message=event-source', {withCredentials: true})
	es.onmessage = (e) => { if (JSON.parse(e.data).type === 'done') { es.close(); resolve() } }
	es.onerror = () => { if (es.readyState === EventSource.CLOSED) reject(new Error('the EventSource was refused')) }
})
const post = (credentials) => fetch(api, {
	method: 'POST', credentials, headers: {'Content-Type': 'application/json'},
	body: JSON.stringify({messages: [{role: 'user', content: 'post'}]}),
}).then(async (r) => { await r.text(); return r.status })
answer.then(() => post('include')).then((status) => {
	if (status !== 200) throw new Error('a POST with the cookie: ' + status)
	return post('omit')
}).then((status) => {
	if (status !== 401) throw new Error('a POST without it: ' + status)
	location = '%[2]s'
}).catch((e) => fetch('/outcome', {method: 'POST', body: String(e)}))
</script>`

// neighbour is a page of the same site, to which the browser lends the cookie.
const neighbour = `<!doctype html><meta name="referrer" content="no-referrer">
<img src="%[1]s/v1/ai/chat?message=image">
<img src="%[1]s/v1/ai/chat?message=image-with-referrer" referrerpolicy="unsafe-url">
<script src="%[1]s/v1/ai/chat?message=script"></script>
<link rel="stylesheet" href="%[1]s/v1/ai/chat?message=style">
<iframe src="%[1]s/v1/ai/chat?message=frame"></iframe>
<iframe name="sink"></iframe>
<form id="form" method="post" enctype="text/plain" target="sink" action="%[1]s/api/chat/stream">
	<input name='{"messages":[{"role":"user","content":"form"}],"x":"' value='"}'></form>
<form id="get" target="sink" action="%[1]s/v1/ai/chat"><input name="message" value="form-get"></form>
<script>
const api = '%[1]s/api/chat/stream', credentials = 'include', json = {'Content-Type': 'application/json'}
const body = JSON.stringify({messages: [{role: 'user', content: 'post'}]})
const fired = [
	fetch(api + '?message=no-cors', {mode: 'no-cors', credentials}),
	fetch(api + '?message=cors', {credentials}),
	fetch(api, {method: 'POST', mode: 'no-cors', credentials, body}),
	fetch(api, {method: 'POST', credentials, headers: json, body}),
]
new EventSource(api + '?message=event-source', {withCredentials: true})
navigator.sendBeacon(api, new Blob([body], {type: 'text/plain'}))
document.getElementById('form').submit()
setTimeout(() => document.getElementById('get').submit(), 300)
Promise.allSettled(fired).then(() => setTimeout(() => {
	fetch('/outcome', {method: 'POST', body: ''}).then(() => { location = '%[1]s/v1/ai/chat?message=opened' })
}, 1500))
</script>`

// A visitor who has signed in at one page, and then comes to another one that is in the same site but not allowed.
// Over plain http the browser tells the relay nothing of the page in Sec-Fetch headers.
func TestACookieServesThePagesThatMayAndNoOthers(t *testing.T) {
	t.Parallel()
	issuer, token := startIssuer(t)
	p := startProvider(t, 3, time.Millisecond)
	outcome := make(chan string, 2)
	mux := http.NewServeMux()
	site := httptest.NewServer(mux)
	defer site.Close()
	app, evil := strings.Replace(site.URL, "127.0.0.1", "app.shop.example", 1), strings.Replace(site.URL, "127.0.0.1",
		"evil.shop.example", 1)
	r := startRelay(t, p, "RELAY_CORS_ORIGINS="+app, "RELAY_JWT_ISSUER="+issuer, "RELAY_JWT_AUDIENCE=relay",
		"RELAY_JWT_COOKIE=session")
	_, port, _ := strings.Cut(r.Addr, ":")
	api := "http://relay.shop.example:" + port
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if strings.HasPrefix(req.Host, "evil") {
			fmt.Fprintf(w, neighbour, api)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "session", Value: token(), Domain: "shop.example", Path: "/",
			HttpOnly: true, SameSite: http.SameSiteLaxMode})
		fmt.Fprintf(w, visitor, api, evil+"/")
	})
	mux.HandleFunc("POST /outcome", func(_ http.ResponseWriter, req *http.Request) {
		text, _ := io.ReadAll(req.Body)
		outcome <- string(text)
	})

	browse(t, app+"/")
	select {
	case failure := <-outcome:
		require.Empty(t, failure)
	case <-time.After(2 * patience):
		require.Fail(t, "the pages do not get on")
	}
	require.Eventually(t, func() bool { return strings.Count(r.Log(), `"code":"forbidden"`) >= 12 }, patience,
		10*time.Millisecond,
		"the neighbour has asked: %s", r.Log())
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Equal(t, map[string]int{"event-source": 1, "post": 1}, p.calls, "what the provider was asked")
}
