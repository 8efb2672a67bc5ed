package main_test

import (
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
)

// admin asks the admin server, with a Host and perhaps another header.
func admin(t *testing.T, p *relaytest.Relay, path, host string, header ...string) int {
	t.Helper()
	_, port, err := net.SplitHostPort(p.Admin)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+port+path, nil)
	require.NoError(t, err)
	req.Host = host
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := p.Client.Do(req)
	require.NoError(t, err)
	relaytest.Body(t, res)
	return res.StatusCode
}

func TestTheAdminServerOfThisMachineIsNotForPages(t *testing.T) {
	p := relaytest.Serve(t, "RELAY_HOSTS=metrics.example.com")
	require.Equal(t, 200, admin(t, p, "/metrics", "localhost:9090"))
	require.Equal(t, 200, admin(t, p, "/metrics", "metrics.example.com"))
	require.Equal(t, 200, admin(t, p, "/debug/pprof/", "127.0.0.1", "Sec-Fetch-Site", "none"))
	require.Equal(t, 403, admin(t, p, "/metrics", "evil.example:9090"), "DNS rebinding")
	const image = "/debug/pprof/profile?seconds=60"
	require.Equal(t, 403, admin(t, p, image, "127.0.0.1", "Sec-Fetch-Site", "cross-site"), "a stranger's image")
	for _, page := range []string{"http://evil.example", "https://localhost:1", "null"} {
		require.Equal(t, 403, admin(t, p, image, "localhost:9090", "Referer", page+"/a"), "%s in an older browser", page)
		require.Equal(t, 403, admin(t, p, "/metrics", "localhost:9090", "Origin", page), page)
	}
	require.Equal(t, 200, admin(t, p, "/debug/pprof/heap", "localhost:9090", "Referer",
		"http://LOCALHOST:9090/debug/pprof/"), "its own list of profiles")
}

func TestProfilesAreForThisMachineUnlessAskedFor(t *testing.T) {
	container := relaytest.Serve(t, "RELAY_ADMIN_ADDR=0.0.0.0:0")
	require.Equal(t, 404, admin(t, container, "/debug/pprof/", "relay"))
	require.Equal(t, 200, admin(t, container, "/metrics", "relay-1.example.com"), "for Prometheus, by any name")
	asked := relaytest.Serve(t, "RELAY_ADMIN_ADDR=0.0.0.0:0", "RELAY_PPROF=true")
	require.Equal(t, 200, admin(t, asked, "/debug/pprof/", "relay"))
	require.Equal(t, 404, admin(t, relaytest.Serve(t, "RELAY_PPROF=false"), "/debug/pprof/", "localhost"))
}
