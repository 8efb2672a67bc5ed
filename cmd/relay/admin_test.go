package main_test

import (
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
)

// admin asks the admin server, with a Host and perhaps Sec-Fetch-Site.
func admin(t *testing.T, p *relaytest.Relay, path, host, site string) int {
	t.Helper()
	_, port, err := net.SplitHostPort(p.Admin)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+port+path, nil)
	require.NoError(t, err)
	req.Host = host
	if site != "" {
		req.Header.Set("Sec-Fetch-Site", site)
	}
	res, err := p.Client.Do(req)
	require.NoError(t, err)
	relaytest.Body(t, res)
	return res.StatusCode
}

func TestTheAdminServerOfThisMachineIsNotForPages(t *testing.T) {
	p := relaytest.Serve(t, "RELAY_HOSTS=metrics.example.com")
	require.Equal(t, 200, admin(t, p, "/metrics", "localhost:9090", ""))
	require.Equal(t, 200, admin(t, p, "/metrics", "metrics.example.com", ""))
	require.Equal(t, 200, admin(t, p, "/debug/pprof/", "127.0.0.1", "none"))
	require.Equal(t, 403, admin(t, p, "/metrics", "evil.example:9090", ""), "DNS rebinding")
	require.Equal(t, 403, admin(t, p, "/debug/pprof/profile?seconds=60", "127.0.0.1", "cross-site"),
		"a stranger's image")
}

func TestProfilesAreForThisMachineUnlessAskedFor(t *testing.T) {
	container := relaytest.Serve(t, "RELAY_ADMIN_ADDR=0.0.0.0:0")
	require.Equal(t, 404, admin(t, container, "/debug/pprof/", "relay", ""))
	require.Equal(t, 200, admin(t, container, "/metrics", "relay-1.example.com", ""), "for Prometheus, by any name")
	asked := relaytest.Serve(t, "RELAY_ADMIN_ADDR=0.0.0.0:0", "RELAY_PPROF=true")
	require.Equal(t, 200, admin(t, asked, "/debug/pprof/", "relay", ""))
	require.Equal(t, 404, admin(t, relaytest.Serve(t, "RELAY_PPROF=false"), "/debug/pprof/", "localhost", ""))
}
