package main_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
)

// A stranger may send headers of 64 KiB. They are of no use while an answer is sent, which may be for many minutes.
func TestALargeHeaderIsNotKeptForTheAnswer(t *testing.T) {
	const streams, large = 100, 60 << 10
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}`+"\n\n")
		_ = http.NewResponseController(w).Flush()
		<-req.Context().Done()
	}))
	t.Cleanup(provider.Close)
	p := relaytest.ServeBy(t, exec.Command(plainBinary(t)), "UPSTREAM_KIND=openai", "UPSTREAM_API_KEY=k-0123456789",
		"UPSTREAM_MODEL=m", "UPSTREAM_BASE_URL="+provider.URL+"/v1")
	heap := func() float64 {
		for range 3 {
			res, err := p.Client.Get("http://" + p.Admin + "/debug/pprof/heap?gc=1")
			require.NoError(t, err)
			relaytest.Body(t, res)
		}
		return p.Gauge(t, "go_memstats_heap_alloc_bytes")
	}
	each := func(body string, headers ...string) float64 {
		before := heap()
		for range streams {
			res := p.Ask(t, "/api/chat/stream", body, headers...)
			require.Equal(t, http.StatusOK, res.StatusCode)
			_, err := io.ReadAtLeast(res.Body, make([]byte, 1), 1)
			require.NoError(t, err)
		}
		return (heap() - before) / streams
	}
	const question = `{"messages":[{"role":"user","content":"hi"}]}`
	usual := each(question)
	t.Logf("%.0f KiB a stream", usual/1024)
	require.Less(t, each(question, "X-Large", strings.Repeat("x", large)), usual+large/4)
	var many []string
	for i := range large / 100 {
		many = append(many, fmt.Sprintf("X-%040d", i), strings.Repeat("x", 40))
	}
	require.Less(t, each(question, many...), usual+large/4)
}
