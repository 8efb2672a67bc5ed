package replicas_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
)

// stranger is a page that asks by all ways that it has, each with a question of its own. %[1]s is the relay. The
// page's own server becomes the relay, too, as when its name is bound anew.
const stranger = `<!doctype html><meta name="referrer" content="no-referrer">
<img src="%[1]s/v1/ai/chat?message=image">
<img src="%[1]s/v1/ai/chat?message=image-with-referrer" referrerpolicy="unsafe-url">
<script src="%[1]s/v1/ai/chat?message=script"></script>
<link rel="stylesheet" href="%[1]s/v1/ai/chat?message=style">
<link rel="prefetch" href="%[1]s/v1/ai/chat?message=prefetch">
<iframe src="%[1]s/v1/ai/chat?message=frame"></iframe>
<iframe sandbox src="%[1]s/v1/ai/chat?message=sandbox"></iframe>
<video src="%[1]s/v1/ai/chat?message=video"></video>
<iframe name="sink"></iframe>
<form id="form" method="post" enctype="text/plain" target="sink" action="%[1]s/api/chat/stream">
	<input name='{"messages":[{"role":"user","content":"form"}],"x":"' value='"}'></form>
<form id="get" target="sink" action="%[1]s/v1/ai/chat"><input name="message" value="form-get"></form>
<script>
const body = (q) => JSON.stringify({messages: [{role: 'user', content: q}]})
const json = {'Content-Type': 'application/json'}
const api = '%[1]s/api/chat/stream', bound = '/api/chat/stream'
const fired = [
	fetch(api + '?message=no-cors', {mode: 'no-cors'}),
	fetch(api + '?message=cors'),
	fetch(api, {method: 'POST', mode: 'no-cors', headers: json, body: body('post-no-cors')}),
	fetch(api, {method: 'POST', mode: 'no-cors', body: new Blob([body('post-blob')], {type: 'application/json'})}),
	fetch(api, {method: 'POST', headers: json, body: body('post-cors')}),
	fetch(bound + '?message=rebinding-get'),
	fetch(bound, {method: 'POST', headers: json, body: body('rebinding-post')}),
	fetch(bound, {method: 'POST', headers: {...json, 'X-Forwarded-Host': 'localhost'}, body: body('rebinding-forwarded')}),
]
new EventSource(api + '?message=event-source')
new EventSource(bound + '?message=rebinding-event-source')
navigator.sendBeacon(api, new Blob([body('beacon')], {type: 'application/json'}))
document.getElementById('form').submit()
setTimeout(() => document.getElementById('get').submit(), 300)
Promise.allSettled(fired).then(() => setTimeout(() => fetch('/done'), 1500))
</script>`

// A stranger's page over plain http, in a browser that reaches an open relay: at home, or in an office.
func TestAStrangersPageSpendsNothing(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 3, time.Millisecond)
	r := startRelay(t, p)
	_, port, _ := strings.Cut(r.Addr, ":")
	done := make(chan struct{}, 1)
	mux := http.NewServeMux()
	site := httptest.NewServer(mux)
	defer site.Close()
	// The name has a dot and ends in .local, so that the relay answers to it; to a browser it is not this machine, so
	// that it says nothing of the page in Sec-Fetch headers.
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, stranger, "http://relay.local:"+port)
	})
	target, _ := url.Parse("http://" + r.Addr)
	rebound := &httputil.ReverseProxy{Rewrite: func(req *httputil.ProxyRequest) { // the DNS has changed its mind
		req.Out.URL.Scheme, req.Out.URL.Host = target.Scheme, target.Host
		req.Out.Host = req.In.Host
	}}
	mux.Handle("/api/", rebound)
	mux.HandleFunc("GET /done", func(http.ResponseWriter, *http.Request) { done <- struct{}{} })

	browse(t, strings.Replace(site.URL, "127.0.0.1", "evil.example", 1)+"/")
	select {
	case <-done:
	case <-time.After(2 * patience):
		require.Fail(t, "the page does not get on")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Empty(t, p.calls, "what the provider was asked")
}

// own is a page of the relay's own origin, over plain http.
const own = `<!doctype html><script>
const until = (es) => new Promise((resolve) => {
	es.onmessage = (e) => { if (JSON.parse(e.data).type === 'done') { es.close(); resolve() } }
})
const whole = (r) => r.text().then((text) => { if (!r.ok || !text.includes('"done"')) throw new Error(text) })
Promise.all([
	until(new EventSource('/api/chat/stream?message=event-source')),
	fetch('/v1/ai/chat?message=get').then(whole),
	fetch('/v1/ai/chat?message=get-with-key', {headers: {Authorization: 'Bearer wsp_123'}}).then(whole),
	fetch('/v1/ai/chat/stream', {
		method: 'POST', headers: {'Content-Type': 'application/json', Authorization: 'Bearer wsp_123'},
		body: JSON.stringify({messages: [{role: 'user', content: 'post'}]}),
	}).then(whole),
]).then(() => fetch('/done'), (e) => fetch('/failed', {method: 'POST', body: String(e)}))
</script>`

func TestTheRelaysOwnPageIsServedByAnyOfItsNames(t *testing.T) {
	t.Parallel()
	for name, host := range map[string]string{
		"an address": "127.0.0.1", "a name at home": "relay.local", "a domain of its own": "chat.example.com",
	} {
		t.Run(name, func(t *testing.T) {
			p := startProvider(t, 3, time.Millisecond)
			r := startRelay(t, p, "RELAY_HOSTS=chat.example.com")
			outcome := make(chan string, 1)
			mux := http.NewServeMux()
			mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				_, _ = io.WriteString(w, own)
			})
			mux.HandleFunc("GET /done", func(http.ResponseWriter, *http.Request) { outcome <- "" })
			mux.HandleFunc("POST /failed", func(_ http.ResponseWriter, req *http.Request) {
				text, _ := io.ReadAll(req.Body)
				outcome <- string(text)
			})
			target, _ := url.Parse("http://" + r.Addr)
			mux.Handle("/", &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(req *httputil.ProxyRequest) {
				req.Out.URL.Scheme, req.Out.URL.Host = target.Scheme, target.Host
				req.Out.Host = req.In.Host
			}})
			site := httptest.NewServer(mux)
			defer site.Close()
			browse(t, strings.Replace(site.URL, "127.0.0.1", host, 1)+"/")
			select {
			case failure := <-outcome:
				require.Empty(t, failure)
			case <-time.After(2 * patience):
				require.Fail(t, "the page does not get on")
			}
		})
	}
}

// The pair of deploy/compose.yaml without keys, under a domain: it answers to it once it is named, and sees who asks.
func TestThePairUnderADomainOfItsOwn(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 3, time.Millisecond)
	ask := func(front, host, origin string) (int, string) {
		req, err := http.NewRequestWithContext(background(t), http.MethodPost, front+"/api/chat/stream",
			strings.NewReader(`{"messages":[{"role":"user","content":"q"}]}`))
		require.NoError(t, err)
		req.Host = host
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Origin", origin)
		req.Header.Set("X-Forwarded-Host", "localhost") // what a client makes up
		req.Header.Set("X-Forwarded-For", "203.0.113.7")
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode, string(text)
	}
	compose := []string{"RELAY_TRUSTED_PROXIES=private", "RELAY_LOG_FORMAT=json"}
	a, b := startRelay(t, p, compose...), startRelay(t, p, compose...)
	status, text := ask(startNginx(t, a, b), "chat.example.com", "http://chat.example.com")
	require.Equal(t, http.StatusForbidden, status)
	require.Contains(t, text, "RELAY_HOSTS")

	compose = append(compose, "RELAY_HOSTS=chat.example.com")
	a, b = startRelay(t, p, compose...), startRelay(t, p, compose...)
	front := startNginx(t, a, b)
	status, text = ask(front, "chat.example.com", "http://chat.example.com")
	require.Equal(t, http.StatusOK, status, text)
	require.Contains(t, text, "data: [DONE]")
	status, _ = ask(front, "chat.example.com", "http://evil.example")
	require.Equal(t, http.StatusForbidden, status)
	require.Eventually(t, func() bool {
		return strings.Contains(a.Log()+b.Log(), `"client":"203.0.113.7"`)
	}, patience, 10*time.Millisecond)
}

// curl -N with a question in the URL, as the README begins.
func TestABareCurlNeedsNothing(t *testing.T) {
	curl := relaytest.Look(t, "curl")
	r := startRelay(t, startProvider(t, 3, time.Millisecond))
	_, port, _ := strings.Cut(r.Addr, ":")
	out, err := exec.Command(curl, "-sN", "http://localhost:"+port+"/api/chat/stream?message=Hello").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), `"type":"done"`)
}
