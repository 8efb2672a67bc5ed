package main_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
)

// What a short answer costs is mostly what is done once for each, and much of that is to make and forget objects. They
// creep in one by one, and their number is the one cost that is the same on every machine, busy or not.
func TestTheAllocationsOfAnAnswer(t *testing.T) {
	const (
		most    = 152 // 143 on the day of this test
		answers = 1000
	)
	events := openings["openai"].events +
		`data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},` +
		`"finish_reason":"stop"}]}` + "\n\n" + `data: {"id":"c","choices":[],"usage":{"prompt_tokens":3,` +
		`"completion_tokens":3,"total_tokens":6}}` + "\n\ndata: [DONE]\n\n"
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, events)
	}))
	defer provider.Close()
	p := relaytest.ServeBy(t, exec.Command(plainBinary(t)), "UPSTREAM_KIND=openai", "UPSTREAM_API_KEY=k-0123456789",
		"UPSTREAM_MODEL=m", "UPSTREAM_BASE_URL="+provider.URL+"/v1")
	ask := func(times int) {
		for range times {
			res, err := p.Client.Post(p.URL+"/api/chat/stream", "application/json",
				strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"hello"}]}`))
			require.NoError(t, err)
			require.Contains(t, relaytest.Body(t, res), "[DONE]")
		}
	}
	ask(50)
	p.Gauge(t, "go_memstats_mallocs_total")
	before := p.Gauge(t, "go_memstats_mallocs_total")
	ask(answers)
	each := (p.Gauge(t, "go_memstats_mallocs_total") - before) / answers
	t.Logf("%.1f allocations an answer", each)
	require.Less(t, each, float64(most))
}
