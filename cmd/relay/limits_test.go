package main_test

import (
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
)

// Callers of a file have limits by their keys, and get others when the file changes.
func TestCallersHaveTheLimitsOfTheirTier(t *testing.T) {
	file := filepath.Join(t.TempDir(), "relay.yaml")
	write := func(gold string) {
		require.NoError(t, os.WriteFile(file, []byte("api_keys: shop:k-shop-0123456789,free:k-free-0123456789\n"+
			"limit_requests: 1/h\ntiers: {gold: {limit_requests: "+gold+"}}\ncallers: {shop: gold}\nupstreams: [{kind: demo}]\n"), 0o600))
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
	require.Eventually(t, func() bool { return asks("k-shop-0123456789") == http.StatusOK }, relaytest.Patience, 20*time.Millisecond)
	require.Equal(t, http.StatusTooManyRequests, asks("k-free-0123456789"))
}
