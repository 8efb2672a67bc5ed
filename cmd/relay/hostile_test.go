package main_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
)

// What a broken provider sends in a few MiB has no processor for itself: while that is read, no time-out ends it, and
// neither does its client, who may have left.
func TestAnswersThatAreBrokenTakeNoLongerThanTheirSize(t *testing.T) {
	const (
		size = 8 << 20
		most = 2 // seconds of processor time of what takes 0.1 to 0.4, and took 3 to 30 and more
	)
	call := func(function string) string {
		return `data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":` + function +
			`}]}}]}` + "\n\n"
	}
	for name, answer := range map[string]string{
		"lines that each could begin an error": "data: {\"a\": x\n" + strings.Repeat("data: {\n", size/8) + "\n",
		"the same as no field of a stream":     strings.Repeat("{\n", size/2) + "\n",
		"a name in pieces": call(`{"name":"`+strings.Repeat("x", size)+`"}`) +
			strings.Repeat(call(`{"name":"y"}`), 10000),
		"lines that end in CR": "data: " + strings.Repeat("a\r", size/2) + "\r",
	} {
		t.Run(name, func(t *testing.T) {
			p := plainRelay(t, func(w http.ResponseWriter, req *http.Request) {
				_, _ = io.Copy(io.Discard, req.Body)
				w.Header().Set("Content-Type", "text/event-stream")
				_, _ = io.WriteString(w, answer)
			}, "UPSTREAM_RETRIES=0", "RELAY_MAX_DURATION=1m")
			before := processorTime(t, p)
			said := relaytest.Body(t, p.Ask(t, "/api/chat/stream", `{"messages":[{"role":"user","content":"hi"}]}`))
			require.Contains(t, said, `"type":"error"`)
			require.Less(t, processorTime(t, p)-before, float64(most))
		})
	}
}

func TestAProvidersHeadersAreBounded(t *testing.T) {
	p := plainRelay(t, func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		w.Header().Set("X-Large", strings.Repeat("x", 1<<20))
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}`+"\n\n")
	}, "UPSTREAM_RETRIES=0")
	said := relaytest.Body(t, p.Ask(t, "/api/chat/stream", `{"messages":[{"role":"user","content":"hi"}]}`))
	require.NotContains(t, said, "Hi")
	require.Contains(t, said, "upstream_unreachable")
}
