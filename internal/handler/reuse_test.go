package handler_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/stream"
)

// The end of a provider's response may come a moment behind the end of its answer. Whoever cancels the request in
// between throws an HTTP/1.1 connection away.
func TestAConnectionToAProviderIsUsedAgainWhateverTheStreams(t *testing.T) {
	var connections atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}`+
			"\n\ndata: [DONE]\n\n")
		_ = http.NewResponseController(w).Flush()
		time.Sleep(5 * time.Millisecond) // the provider's own delay: there is no event to wait for
	}))
	srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	hub := stream.New(stream.Options{Grace: time.Minute, Retention: time.Minute})
	defer closeHub(hub)
	r := start(t, handler.Options{Router: answering{chain(t, srv.URL)}, Streams: hub})
	for _, body := range []string{question, resumableQuestion} {
		connections.Store(0)
		for range 5 {
			res, err := http.Post(r.url+"/api/chat/stream", "application/json", strings.NewReader(body))
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, res.Body)
			require.NoError(t, err)
			require.Eventually(t, func() bool { return hub.Stats().Live == 0 }, patience, time.Millisecond)
		}
		require.LessOrEqual(t, connections.Load(), int32(1), body)
	}
}
