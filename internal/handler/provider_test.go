package handler_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/telemetry"
	"github.com/websopy/relay/internal/upstream"
	httpprovider "github.com/websopy/relay/internal/upstream/provider"
)

// TestFromTheProviderToTheClient has everything real but the model.
func TestFromTheProviderToTheClient(t *testing.T) {
	const key = "sk-provider-123"
	type step = http.HandlerFunc
	status := func(code int, header, value, body string) step {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(header, value)
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}
	}
	stream := func(body string) step {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, body)
			_ = http.NewResponseController(w).Flush()
		}
	}
	stall := func(before step) step {
		return func(w http.ResponseWriter, req *http.Request) {
			before(w, req)
			<-req.Context().Done()
		}
	}
	const hel = `data: {"model":"m-1","choices":[{"index":0,"delta":{"content":"Hel"}}]}` + "\n\n"
	whole := stream(hel + `data: {"choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":"stop"}],` +
		`"usage":{"prompt_tokens":7,"completion_tokens":2}}` + "\n\ndata: [DONE]\n\n")

	for name, tc := range map[string]struct {
		attempts []step
		frames   string // up to the request id of an error
		counted  map[string]float64
		reason   string
	}{
		"an answer": {[]step{whole}, helFrame + loFrame + doneFrame + endFrame, map[string]float64{"ok,openai": 1},
			"completed"},
		"an answer at the third attempt": {[]step{status(503, "Retry-After-Ms", "1", ""),
			status(429, "Retry-After-Ms", "1", ""), whole}, helFrame + loFrame + doneFrame + endFrame,
			map[string]float64{"ok,openai": 1, "upstream_error,openai": 1, "upstream_rate_limited,openai": 1},
			"completed"},
		"a wrong key": {[]step{status(401, "X-A", "b", `{"error":{"message":"Incorrect API key provided: `+key+`"}}`)},
			`data: {"type":"error","error":"the provider does not accept the relay's credentials",` +
				`"code":"upstream_auth","retryable":false,`,
			map[string]float64{"upstream_auth,openai": 1}, "upstream_auth"},
		"a rejection that quotes the key": {
			[]step{status(400, "X-A", "b", `{"error":{"message":"No such thing. It has key=`+key+`"}}`)},
			`data: {"type":"error","error":"the provider rejected the request: No such thing.",` +
				`"code":"upstream_rejected","retryable":false,`,
			map[string]float64{"upstream_rejected,openai": 1}, "upstream_rejected"},
		"a rate limit": {[]step{status(429, "Retry-After", "120", "")},
			`data: {"type":"error","error":"the provider is limiting the relay's requests",` +
				`"code":"upstream_rate_limited","retryable":true,"retryAfter":120,`,
			map[string]float64{"upstream_rate_limited,openai": 1}, "upstream_rate_limited"},
		"an answer that breaks off": {[]step{stream(hel)},
			helFrame + `data: {"type":"error","error":"the provider's answer broke off","code":"upstream_truncated",` +
				`"retryable":true,`,
			map[string]float64{"upstream_truncated,openai": 1}, "upstream_truncated"},
		"a provider that stops in mid-answer": {[]step{stall(stream(hel))},
			helFrame + `data: {"type":"error","error":"the provider stopped in mid-answer",` +
				`"code":"upstream_timeout","phase":"idle","retryable":true,`,
			map[string]float64{"upstream_timeout,openai": 1}, "upstream_timeout"},
		"an answer that is not understood": {[]step{stream("data: <html>\n\n")},
			`data: {"type":"error","error":"the provider sent something that can't be read",` +
				`"code":"upstream_malformed","retryable":false,`,
			map[string]float64{"upstream_malformed,openai": 1}, "upstream_malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				_, _ = io.Copy(io.Discard, req.Body)
				tc.attempts[asked.Add(1)-1](w, req)
			}))
			defer srv.Close()
			next, err := httpprovider.New(httpprovider.Options{Name: "openai", Kind: "openai", BaseURL: srv.URL,
				APIKey:         key,
				ConnectTimeout: patience, FirstChunkTimeout: patience, IdleTimeout: 200 * time.Millisecond})
			require.NoError(t, err)
			r := start(t,
				handler.Options{Router: answering{&upstream.Fallback{
					Candidates: []*upstream.Candidate{{Streamer: next, Retries: 2}}, Budget: patience}},
					Redact: telemetry.Redactor([]string{key})})

			_, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", question)
			frames, _, _ := strings.Cut(body, `"requestId"`)
			require.Equal(t, tc.frames, frames)
			require.NotContains(t, body, srv.Listener.Addr().String())
			line := r.log.stream(t)
			require.Equal(t, tc.reason, line["reason"])
			require.Equal(t, "openai", line["upstream"])
			require.InDelta(t, len(tc.attempts), line["attempts"], 0)
			require.Equal(t, tc.counted, r.counted(t, "relay_upstream_attempts_total"))
			require.NotContains(t, r.log.String(), key)
		})
	}
}
