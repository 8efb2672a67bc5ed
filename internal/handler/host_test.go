package handler_test

import (
	"net/http"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/identity"
	"github.com/websopy/relay/internal/stream"
)

func TestHosts(t *testing.T) {
	hosts := handler.Hosts{"chat.example.com", "*.example.org"}
	for host, known := range map[string]bool{
		"":                                    true, // HTTP/1.0; every browser sends one
		"127.0.0.1:8080":                      true,
		"192.168.1.5":                         true,
		"203.0.113.7:80":                      true,
		"[::1]:8080":                          true,
		"[2001:db8::1]":                       true,
		"[fe80::1%eth0]:8080":                 true,
		"localhost":                           true,
		"LOCALHOST:8080":                      true,
		"localhost.":                          true,
		"relay:8080":                          true,
		"relay_1":                             true,
		"app.localhost:3000":                  true,
		"nas.local":                           true,
		"relay.corp.internal":                 true,
		"relay.default.svc":                   true,
		"relay.default.svc.cluster.local:80":  true,
		"chat.example.com":                    true,
		"Chat.Example.com.:443":               true,
		"a.example.org":                       true,
		"a.b.example.org:8080":                true,
		"example.org":                         false,
		"evilexample.org":                     false,
		"example.com":                         false,
		"chat.example.com.evil.example":       false,
		"evil.example":                        false,
		"127.0.0.1.evil.example":              false,
		"127.0.0.1.nip.io:8080":               false,
		"localhost.evil.example":              false,
		"relay.default.svc.evil.example":      false,
		"evil.example:localhost":              false,
		"local":                               true,
		"xn--fiq228c.example":                 false,
		"relay.default.svc.cluster.local.com": false,
	} {
		require.Equal(t, known, hosts.Has(host), host)
	}
	require.True(t, handler.Hosts{"*"}.Has("any.example"))
}

// The vectors by which a page of a stranger makes a browser ask. Over plain http there is no Sec-Fetch header.
func TestAStrangersPageSpendsNothing(t *testing.T) {
	const browser, own = "Mozilla/5.0 (X11; Linux x86_64)", "http://192.168.1.5:8080"
	for name, tc := range map[string]struct {
		headers []string
		status  int
	}{
		"curl":          {[]string{"User-Agent", "curl/8.5.0"}, 200},
		"no user agent": {[]string{"User-Agent", ""}, 200},
		"an image": {[]string{"User-Agent", browser, "Referer", "http://evil.example/page"},
			403},
		"an image without a referrer":       {[]string{"User-Agent", browser}, 403},
		"a fetch without CORS":              {[]string{"User-Agent", browser, "Referer", "http://evil.example/"}, 403},
		"an EventSource":                    {[]string{"User-Agent", browser, "Origin", "http://evil.example"}, 403},
		"a sandboxed frame":                 {[]string{"User-Agent", browser, "Origin", "null"}, 403},
		"an image, with TLS":                {[]string{"User-Agent", browser, "Sec-Fetch-Site", "cross-site"}, 403},
		"a browser by another name":         {[]string{"User-Agent", "TV/1.0", "Sec-Fetch-Mode", "no-cors"}, 403},
		"a referrer that is not a URL":      {[]string{"User-Agent", browser, "Referer", "192.168.1.5:8080"}, 403},
		"a referrer that begins like it":    {[]string{"User-Agent", browser, "Referer", own + ".evil.example/"}, 403},
		"a password in the URL":             {[]string{"User-Agent", browser, "Authorization", "Basic eDp5"}, 403},
		"the relay's own page":              {[]string{"User-Agent", browser, "Referer", own + "/"}, 200},
		"its own page, with Sec-Fetch-Site": {[]string{"User-Agent", browser, "Sec-Fetch-Site", "same-origin"}, 200},
		"the address bar":                   {[]string{"User-Agent", browser, "Sec-Fetch-Site", "none"}, 200},
		"an allowed page's EventSource":     {[]string{"User-Agent", browser, "Origin", "http://app.example"}, 200},
		"an allowed page's link":            {[]string{"User-Agent", browser, "Referer", "http://app.example/x"}, 200},
		"a key, which a page has to send":   {[]string{"User-Agent", browser, "Authorization", "Bearer wsp_123"}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, handler.Options{Router: answering{hello}, CORSOrigins: []string{"http://app.example"}})
			headers := slices.Concat(tc.headers, []string{"Host", "192.168.1.5:8080"})
			res, body := fetch(t, http.MethodGet, r.url+"/v1/ai/chat?message=hi", "", headers...)
			require.Equal(t, tc.status, res.StatusCode, body)
			if tc.status == http.StatusForbidden {
				require.Equal(t, chat.Forbidden, lastError(t, body).Code)
			}
		})
	}
}

func TestWithKeysABrowserNeedsASignOnlyBesideACookie(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello}, Keys: identity.NewKeys([]identity.APIKey{{Key: "k"}})})
	for _, headers := range [][]string{
		{"User-Agent", "Mozilla/5.0", "Authorization", "Bearer k"},
		{"User-Agent", "Mozilla/5.0", "Authorization", "Bearer k", "Cookie", "session=1"}, // the key is the sign
	} {
		res, _ := fetch(t, http.MethodGet, r.url+"/v1/ai/chat?message=hi", "",
			append(headers, "Host", "any.example")...)
		require.Equal(t, http.StatusOK, res.StatusCode)
	}
}

func TestReadingOnNeedsNoSign(t *testing.T) {
	hub := stream.New(stream.Options{})
	defer closeHub(hub)
	r := start(t, handler.Options{Router: answering{hello}, Streams: hub})
	for _, path := range []string{
		"/api/chat/stream/00000000000000000000000000000000", "/v1/ai/chat?message=hi&last_event_id=x.1",
	} {
		res, body := fetch(t, http.MethodGet, r.url+path, "", "User-Agent", "Mozilla/5.0")
		require.Equal(t, http.StatusNotFound, res.StatusCode)
		require.Equal(t, chat.StreamNotFound, lastError(t, body).Code)
	}
}

func TestAnOpenRelayAnswersToItsNamesOnly(t *testing.T) {
	for name, tc := range map[string]struct {
		trusted bool
		headers []string
		status  int
	}{
		"its address":                     {false, nil, 200},
		"one of its names":                {false, []string{"Host", "chat.example.com"}, 200},
		"a name that was bound to it":     {false, []string{"Host", "evil.example:8080"}, 403},
		"a proxy with the browser's name": {true, []string{"X-Forwarded-Host", "chat.example.com"}, 200},
		"a proxy with a bound name":       {true, []string{"X-Forwarded-Host", "evil.example"}, 403},
		"proxies, one with a bound name":  {true, []string{"X-Forwarded-Host", "localhost, evil.example"}, 403},
		"a page that invents the header": {true, []string{"Host", "evil.example", "X-Forwarded-Host", "localhost"},
			403},
		"nobody's word, which is not read": {false, []string{"X-Forwarded-Host", "evil.example"}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			o := handler.Options{Router: answering{hello}, UI: true, Hosts: handler.Hosts{"chat.example.com"}}
			if tc.trusted {
				o.TrustedProxies = identity.Proxies{netip.MustParsePrefix("127.0.0.0/8")}
			}
			r := start(t, o)
			for path, method := range map[string]string{
				"/api/chat/stream": http.MethodPost, "/v1/ai/chat?message=hi": http.MethodGet, "/": http.MethodGet,
			} {
				res, body := fetch(t, method, r.url+path, question, tc.headers...)
				require.Equal(t, tc.status, res.StatusCode)
				if tc.status == http.StatusForbidden {
					require.Contains(t, lastError(t, body).Error, "RELAY_HOSTS")
				}
			}
			for _, probe := range []string{"/healthz", "/readyz"} {
				res, _ := fetch(t, http.MethodGet, r.url+probe, "", tc.headers...)
				require.Equal(t, http.StatusOK, res.StatusCode)
			}
		})
	}
}

func TestAPageBehindAProxyIsTheRelaysOwn(t *testing.T) {
	page := []string{"Origin", "http://chat.example.com", "Host", "relay:8080", "X-Forwarded-Host", "chat.example.com"}
	o := handler.Options{Router: answering{hello}, Hosts: handler.Hosts{"chat.example.com"}}
	res, _ := fetch(t, http.MethodPost, start(t, o).url+"/api/chat/stream", question, page...)
	require.Equal(t, http.StatusForbidden, res.StatusCode)
	o.TrustedProxies = identity.Proxies{netip.MustParsePrefix("127.0.0.0/8")}
	res, _ = fetch(t, http.MethodPost, start(t, o).url+"/api/chat/stream", question, page...)
	require.Equal(t, http.StatusOK, res.StatusCode)
}
