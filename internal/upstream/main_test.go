package upstream_test

import (
	"flag"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/leaktest"
	"github.com/websopy/relay/internal/upstream/provider"
)

func TestMain(m *testing.M) {
	// Parallel tests here wait for clocks and back-offs, not for processors.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	leaktest.Main(m)
}

func options(kind, baseURL string) provider.Options {
	return provider.Options{Name: kind, Kind: kind, BaseURL: baseURL, APIKey: "test-key", Model: "m",
		ConnectTimeout: 5 * time.Second, FirstChunkTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second}
}

func newUpstream(t testing.TB, o provider.Options) chat.Streamer {
	t.Helper()
	s, err := provider.New(o)
	require.NoError(t, err)
	return s
}

func question() *chat.Request {
	return &chat.Request{Messages: []chat.Message{{Role: chat.RoleUser, Content: "hi"}}}
}
