package handler_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/handler"
)

func TestPreviewDeployments(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello}, CORSOrigins: []string{
		"https://app.example.com", "https://*.example.app", "https://*.example.org:8443", "https://*.amazonaws.com",
		"http://*.localhost:3000",
	}})
	for origin, allowed := range map[string]bool{
		"https://pr-12.example.app":             true,
		"https://PR-12.example.app":             true,
		"https://web.pr-12.example.app":         true,
		"https://xn--bcher-kva.example.app":     true,
		"https://a.example.org:8443":            true,
		"http://tenant.localhost:3000":          true,
		"https://console.amazonaws.com":         true,
		"https://example.app":                   false,
		"https://.example.app":                  false,
		"https://..example.app":                 false,
		"https://evilexample.app":               false,
		"https://evil.com/.example.app":         false,
		"https://evil.com#.example.app":         false,
		"https://evil.com:1.example.app":        false,
		"https://user@pr-12.example.app":        false,
		"https://pr-12.example.app.evil.com":    false,
		"https://pr-12.example.app:8443":        false,
		"http://pr-12.example.app":              false,
		"https://a.example.org":                 false,
		"https://bucket.s3.amazonaws.com":       false, // anybody's
		"https://i.compute.amazonaws.com":       false,
		"https://stranger.vercel.app":           false,
		"http://tenant.localhost":               false,
		"https://pr-12.example.app, https://*.": false,
		"null":                                  false,
	} {
		t.Run(origin, func(t *testing.T) {
			res, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", question, "Origin", origin,
				"Sec-Fetch-Site", "cross-site")
			if !allowed {
				require.Equal(t, http.StatusForbidden, res.StatusCode)
				require.Contains(t, body, "RELAY_CORS_ORIGINS")
				require.Empty(t, res.Header.Get("Access-Control-Allow-Origin"))
				require.Empty(t, res.Header.Get("Access-Control-Allow-Credentials"))
				return
			}
			require.Equal(t, http.StatusOK, res.StatusCode)
			require.Equal(t, origin, res.Header.Get("Access-Control-Allow-Origin"))
			require.Contains(t, res.Header.Values("Vary"), "Origin")
			require.Equal(t, "true", res.Header.Get("Access-Control-Allow-Credentials"))
		})
	}
}

func TestAPageWithCredentialsMayReadWhatItAsked(t *testing.T) {
	const app = "https://app.example.com"
	for name, tc := range map[string]struct {
		allowed     []string
		credentials string
	}{
		"a listed origin":             {[]string{app}, "true"},
		"below a listed domain":       {[]string{"https://*.example.com"}, "true"},
		"where all may":               {[]string{"*"}, ""},
		"listed, and where all may":   {[]string{app, "*"}, ""},
		"below a domain, and all may": {[]string{"*", "https://*.example.com"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, handler.Options{Router: answering{hello}, CORSOrigins: tc.allowed, MaxBody: 1 << 10})
			for body, status := range map[string]int{question: http.StatusOK, "{": http.StatusBadRequest} {
				res, _ := fetch(t, http.MethodPost, r.url+"/api/chat/stream", body, "Origin", app, "Cookie",
					"session=1", "Sec-Fetch-Site", "cross-site")
				require.Equal(t, status, res.StatusCode)
				require.Equal(t, app, res.Header.Get("Access-Control-Allow-Origin"),
					"a page has to read refusals, too")
				require.Equal(t, tc.credentials, res.Header.Get("Access-Control-Allow-Credentials"))
			}
		})
	}
}
