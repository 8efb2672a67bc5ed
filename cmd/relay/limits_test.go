package main_test

import (
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/redistest"
	"github.com/websopy/relay/internal/relaytest"
)

// Callers of a file have limits by their keys, and get others when the file changes.
func TestCallersHaveTheLimitsOfTheirTier(t *testing.T) {
	file := filepath.Join(t.TempDir(), "relay.yaml")
	write := func(gold string) {
		require.NoError(t, os.WriteFile(file, []byte("api_keys: shop:k-shop-0123456789,free:k-free-0123456789\n"+
			"limit_requests: 1/h\ntiers: {gold: {limit_requests: "+gold+"}}\ncallers: {shop: gold}\n"+
			"upstreams: [{kind: demo}]\n"), 0o600))
	}
	write("3/h")
	p := relaytest.Serve(t, "RELAY_CONFIG="+file)
	asks := func(key string) int {
		req, err := http.NewRequest(http.MethodGet, p.URL+"/v1/ai/chat?model=demo-fast&message=hi", nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+key)
		res, err := p.Client.Do(req)
		require.NoError(t, err)
		relaytest.Body(t, res)
		return res.StatusCode
	}
	require.Equal(t, http.StatusOK, asks("k-free-0123456789"))
	for range 3 {
		require.Equal(t, http.StatusOK, asks("k-shop-0123456789"))
	}
	require.Equal(t, http.StatusTooManyRequests, asks("k-free-0123456789"))
	require.Equal(t, http.StatusTooManyRequests, asks("k-shop-0123456789"))

	write("1000/s")
	p.Signal(t, syscall.SIGHUP)
	require.Eventually(t, func() bool { return asks("k-shop-0123456789") == http.StatusOK }, relaytest.Patience,
		20*time.Millisecond)
	require.Equal(t, http.StatusTooManyRequests, asks("k-free-0123456789"))
}

// A loop is refused as the relay comes. Readers who come back at once, of as many answers, are not: as after a
// restart.
func TestAReaderInALoopIsRefusedAndACrowdOfReadersIsNot(t *testing.T) {
	file := filepath.Join(t.TempDir(), "relay.yaml")
	write := func(more string) {
		require.NoError(t, os.WriteFile(file,
			[]byte("api_keys: shop:k-shop-0123456789\nupstreams: [{kind: demo}]\n"+more), 0o600))
	}
	write("")
	p := relaytest.Serve(t, "RELAY_CONFIG="+file)
	come := func(path string) *http.Response {
		req, err := http.NewRequest(http.MethodGet, p.URL+path, nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer k-shop-0123456789")
		res, err := p.Client.Do(req)
		require.NoError(t, err)
		relaytest.Body(t, res)
		return res
	}
	var ids []string
	for range 200 {
		ids = append(ids, come("/v1/ai/chat?model=demo-fast&message=hi").Header.Get("X-Stream-Id"))
	}
	for range 5 {
		for _, id := range ids {
			require.Equal(t, http.StatusOK, come("/api/chat/stream/"+id).StatusCode)
		}
	}
	var refused *http.Response
	for range 5000 {
		if refused = come("/api/chat/stream/" + ids[0]); refused.StatusCode != http.StatusOK {
			break
		}
	}
	require.Equal(t, http.StatusTooManyRequests, refused.StatusCode)
	require.Equal(t, "1", refused.Header.Get("Retry-After"))
	require.Equal(t, http.StatusOK, come("/api/chat/stream/"+ids[1]).StatusCode)

	write("limit_attach: 2/h\n")
	p.Signal(t, syscall.SIGHUP)
	require.Eventually(t, func() bool {
		come("/api/chat/stream/" + ids[1])
		return come("/api/chat/stream/"+ids[1]).StatusCode == http.StatusTooManyRequests
	}, relaytest.Patience, 20*time.Millisecond)
	write("limit_attach: 0\n")
	p.Signal(t, syscall.SIGHUP)
	require.Eventually(t, func() bool { return come("/api/chat/stream/"+ids[1]).StatusCode == http.StatusOK },
		relaytest.Patience, 20*time.Millisecond)
}

// A relay that keeps limits, wherever it keeps them, ends as well as one that has none.
func TestARelayWithLimitsEndsWell(t *testing.T) {
	settings := map[string][]string{
		"none": nil, "in memory": {"RELAY_LIMIT_REQUESTS=100/m"}, "attach": {"RELAY_LIMIT_ATTACH=100/m"},
		"in Redis": {"RELAY_LIMIT_REQUESTS=100/m", "RELAY_REDIS_URL="},
	}
	for name, settings := range settings {
		t.Run(name, func(t *testing.T) {
			if name == "in Redis" {
				settings[1] += redistest.Start(t).URL()
			}
			p := relaytest.Serve(t, append(settings, "RELAY_API_KEYS=me:k-0123456789abcdef", "RELAY_SHUTDOWN_DELAY=0s")...)
			require.Contains(t, relaytest.Body(t, p.Ask(t, "/v1/ai/chat?model=demo-fast&message=hi", "",
				"Authorization", "Bearer k-0123456789abcdef")), `"type":"done"`)
			p.Stop(t)
			require.NotContains(t, p.Log(), "goroutine", "no stack of a bug")
		})
	}
}
