package main_test

import (
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// admin asks the admin server, with a Host and perhaps Sec-Fetch-Site.
func (p *process) admin(t *testing.T, path, host, site string) int {
	t.Helper()
	_, port, err := net.SplitHostPort(p.metrics)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+port+path, nil)
	require.NoError(t, err)
	req.Host = host
	if site != "" {
		req.Header.Set("Sec-Fetch-Site", site)
	}
	res, err := p.client.Do(req)
	require.NoError(t, err)
	body(t, res)
	return res.StatusCode
}

func TestTheAdminServerOfThisMachineIsNotForPages(t *testing.T) {
	p := serve(t, "RELAY_HOSTS=metrics.example.com")
	require.Equal(t, 200, p.admin(t, "/metrics", "localhost:9090", ""))
	require.Equal(t, 200, p.admin(t, "/metrics", "metrics.example.com", ""))
	require.Equal(t, 200, p.admin(t, "/debug/pprof/", "127.0.0.1", "none"))
	require.Equal(t, 403, p.admin(t, "/metrics", "evil.example:9090", ""), "DNS rebinding")
	require.Equal(t, 403, p.admin(t, "/debug/pprof/profile?seconds=60", "127.0.0.1", "cross-site"), "a stranger's image")
}

func TestProfilesAreForThisMachineUnlessAskedFor(t *testing.T) {
	container := serve(t, "RELAY_ADMIN_ADDR=0.0.0.0:0")
	require.Equal(t, 404, container.admin(t, "/debug/pprof/", "relay", ""))
	require.Equal(t, 200, container.admin(t, "/metrics", "relay-1.example.com", ""), "for Prometheus, by any name")
	asked := serve(t, "RELAY_ADMIN_ADDR=0.0.0.0:0", "RELAY_PPROF=true")
	require.Equal(t, 200, asked.admin(t, "/debug/pprof/", "relay", ""))
	require.Equal(t, 404, serve(t, "RELAY_PPROF=false").admin(t, "/debug/pprof/", "localhost", ""))
}
