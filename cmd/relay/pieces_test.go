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

// A body of a few MB may have tens of thousands of messages, parts or calls. What is done with each must not grow with
// the number of the others: a request would have a processor for itself for seconds, also after its client has left.
func TestARequestOfManyPiecesTakesNoLongerThanItsSize(t *testing.T) {
	const most = 2.5 // seconds of processor time of what takes 0.1 to 0.4, and took 8 to 60
	plain := plainBinary(t)
	refusal := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		w.WriteHeader(http.StatusBadRequest)
	}))
	t.Cleanup(refusal.Close)
	const (
		start, end = `{"model":"ok","messages":[{"role":"user","content":"q"},`, `,{"role":"user","content":"q"}]}`
		part       = `{"type":"text","text":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}`
		call       = `{"id":"c","function":{"name":"f","arguments":"{}"}`
	)
	many := func(n int, piece string) string { return strings.Repeat(piece+",", n-1) + piece }
	bodies := []struct{ path, name, body string }{
		{"/api/chat", "results of one call", start + `{"role":"assistant","tool_calls":[` + call + `}]},` +
			many(60000, `{"role":"tool","tool_call_id":"c","content":""}`) + end},
		{"/api/chat", "messages of the system", start + many(60000, `{"role":"system","content":"s"}`) + `]}`},
		{"/api/chat", "parts of an answer", start + `{"role":"assistant","content":[` + many(45000, part) + `]}` + end},
		{"/api/chat", "signed calls", start + `{"role":"assistant","tool_calls":[` +
			many(30000, call+`,"extra_content":{"google":{"thought_signature":"x"}}}`) + `]},` +
			`{"role":"tool","tool_call_id":"c","content":""}]}`},
		{"/v1/responses", "texts of an answer", `{"model":"ok","input":[` +
			many(25000, `{"role":"assistant","content":[`+strings.Replace(part, `"text"`, `"output_text"`, 1)+`]}`) +
			`,{"role":"user","content":"q"}]}`},
		{"/v1/messages", "thoughts of an answer", `{"model":"ok","max_tokens":5,"messages":[{"role":"user",` +
			`"content":"q"},{"role":"assistant","content":[` + many(45000, `{"type":"thinking","signature":"",`+
			`"thinking":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}`) + `,` + part + `]}` + end},
		{"/api/chat", "parts of a UI's answer", `{"id":"0123456789abcdef","trigger":"submit-message","messages":[` +
			`{"id":"1","role":"assistant","parts":[` + many(45000, part) + `]},{"id":"2","role":"user","parts":[` +
			part + `]}]}`},
	}
	for name, settings := range map[string][]string{
		"openai": {"UPSTREAM_KIND=openai"}, "gemini": {"UPSTREAM_KIND=gemini"}, "ollama": {"UPSTREAM_KIND=ollama"},
		"claude": {"UPSTREAM_KIND=anthropic", "UPSTREAM_FAMILY=claude-opus-5-5"},
	} {
		p := relaytest.ServeBy(t, exec.Command(plain), append(settings, "UPSTREAM_API_KEY=k-1", "UPSTREAM_MODEL=ok",
			"UPSTREAM_BASE_URL="+refusal.URL)...)
		for _, b := range bodies {
			before := processorTime(t, p)
			said := relaytest.Body(t, p.Ask(t, b.path, b.body))
			require.Contains(t, said, "the provider rejected the request", "%s: %s", name, b.name)
			require.Less(t, processorTime(t, p)-before, most, "%s: %s", name, b.name)
		}
	}
}

// processorTime is what a relay has had, in seconds.
func processorTime(t *testing.T, p *relaytest.Relay) float64 {
	t.Helper()
	return p.Gauge(t, "process_cpu_seconds_total")
}
