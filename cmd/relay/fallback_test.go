package main_test

import (
	"bufio"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
	"github.com/websopy/relay/internal/upstream/upstreamtest"
)

// faulty starts a provider that fails in one way until it is told otherwise.
func faulty(t *testing.T, kind string, f upstreamtest.Fault) *upstreamtest.Provider {
	t.Helper()
	i := slices.IndexFunc(upstreamtest.Formats, func(f upstreamtest.Format) bool { return f.Kind == kind })
	p := upstreamtest.New(t, upstreamtest.Formats[i], 1)
	p.Play(f)
	return p
}

// samples are those of a metric, a line each.
func samples(t *testing.T, p *relaytest.Relay, name string) string {
	t.Helper()
	var samples []string
	for line := range strings.Lines(p.Metrics(t)) {
		if strings.HasPrefix(line, name) {
			samples = append(samples, strings.TrimSpace(line))
		}
	}
	return strings.Join(samples, "\n")
}

var overloaded = upstreamtest.Fault{What: upstreamtest.BadStatus, Status: http.StatusServiceUnavailable}

func TestAFallbackAnswersAndTheBreakerSkipsWhatFails(t *testing.T) {
	first, second := faulty(t, "openai", overloaded), faulty(t, "anthropic",
		upstreamtest.Fault{What: upstreamtest.None})
	p := relaytest.Serve(t, "UPSTREAM_KIND=openai", "UPSTREAM_BASE_URL="+first.URL, "UPSTREAM_API_KEY=sk-1",
		"UPSTREAM_MODEL=gpt", "UPSTREAM_RETRIES=1",
		"UPSTREAM_2_KIND=anthropic", "UPSTREAM_2_BASE_URL="+second.URL, "UPSTREAM_2_API_KEY=sk-2",
		"UPSTREAM_2_MODEL=claude", "UPSTREAM_2_RETRIES=0")
	const asked = `{"messages":[{"role":"user","content":"Hello"}]}`
	text, last := read(t, p.Ask(t, "/api/chat/stream", asked), true)
	require.Equal(t, upstreamtest.Text, text)
	require.Equal(t, "done", last.Type)

	line := p.Wait(t, "stream")
	require.Equal(t, "completed", line["reason"])
	require.Equal(t, "anthropic-2", line["upstream"])
	require.Equal(t, []any{"openai upstream_error", "openai upstream_error", "anthropic-2 ok"}, line["tried"])
	require.Contains(t, samples(t, p, "relay_upstream_attempts_total"),
		`relay_upstream_attempts_total{outcome="upstream_error",upstream="openai"} 2`)

	for range 12 {
		read(t, p.Ask(t, "/api/chat/stream", asked), true)
	}
	require.Equal(t, 20, first.Requests(), "after ten failed requests it is skipped")
	require.Equal(t, 13, second.Requests())
	require.Equal(t, `relay_upstream_breaker_state{upstream="anthropic-2"} 0`+"\n"+
		`relay_upstream_breaker_state{upstream="openai"} 2`, samples(t, p, "relay_upstream_breaker_state"))
	require.Equal(t, "open", p.Wait(t, "circuit breaker")["state"])
	require.Equal(t, http.StatusOK, p.Status(t, "/readyz"), "the relay is fine")

	second.Play(overloaded)
	for range 10 {
		_, last = read(t, p.Ask(t, "/api/chat/stream", asked), false)
		require.Equal(t, "upstream_error", last.Code)
	}
	requests := first.Requests() + second.Requests()
	res := p.Ask(t, "/api/chat/stream", strings.Replace(asked, "{", `{"stream":false,`, 1))
	require.Equal(t, http.StatusBadGateway, res.StatusCode)
	require.Regexp(t, `^([1-9]|1[0-5])$`, res.Header.Get("Retry-After"))
	require.Contains(t, relaytest.Body(t, res), `"code":"upstream_unreachable","retryable":true`)
	require.Equal(t, requests, first.Requests()+second.Requests(), "nobody is asked")
	require.Equal(t, http.StatusOK, p.Status(t, "/readyz"))
}

func TestAKeyThatIsRefusedIsSaidAloudWhileAnotherProviderAnswers(t *testing.T) {
	first := faulty(t, "openai", upstreamtest.Fault{What: upstreamtest.BadStatus, Status: http.StatusUnauthorized})
	p := relaytest.Serve(t, "UPSTREAM_KIND=openai", "UPSTREAM_BASE_URL="+first.URL, "UPSTREAM_MODEL=gpt",
		"UPSTREAM_1_KIND=demo", "UPSTREAM_1_MODEL=demo-fast")
	read(t, p.Ask(t, "/api/chat/stream", question), true)
	line := p.Wait(t, "the provider refuses the relay's key or account")
	require.Equal(t, "error", line["level"])
	require.Equal(t, "openai", line["upstream"])
	require.Equal(t, 1, first.Requests())
}

func TestAHedgedStream(t *testing.T) {
	first := faulty(t, "openai", upstreamtest.Fault{What: upstreamtest.Stalled, At: upstreamtest.BeforeHeader})
	second := faulty(t, "gemini", upstreamtest.Fault{What: upstreamtest.None})
	p := relaytest.Serve(t, "RELAY_HEDGE_AFTER=100ms", "UPSTREAM_KIND=openai", "UPSTREAM_BASE_URL="+first.URL,
		"UPSTREAM_1_KIND=gemini", "UPSTREAM_1_BASE_URL="+second.URL, "UPSTREAM_1_MODEL=gemini")
	text, _ := read(t, p.Ask(t, "/api/chat/stream", question), true)
	require.Equal(t, upstreamtest.Text, text)
	require.NoError(t, first.WaitIdle(t.Context()), "the other is cancelled")
	line := p.Wait(t, "stream")
	require.Equal(t, []any{"openai cancelled", "gemini-1 ok"}, line["tried"])
	require.Equal(t, true, line["hedged"])
	require.Equal(t, "relay_upstream_hedges_total 1", samples(t, p, "relay_upstream_hedges_total"))
}

func TestAClientThatWaitsForAPlaceGetsPings(t *testing.T) {
	provider := faulty(t, "openai", upstreamtest.Fault{})
	provider.Play(upstreamtest.Fault{What: upstreamtest.Stalled, At: upstreamtest.AfterFirst},
		upstreamtest.Fault{What: upstreamtest.None})
	p := relaytest.Serve(t, "UPSTREAM_KIND=openai", "UPSTREAM_BASE_URL="+provider.URL, "UPSTREAM_MAX_STREAMS=1",
		"UPSTREAM_QUEUE_TIMEOUT=20s", "RELAY_HEARTBEAT=1s")

	holds := p.Ask(t, "/api/chat/stream", question)
	frame, err := bufio.NewReader(holds.Body).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, frame, `"one "`)

	waits := p.Ask(t, "/api/chat/stream", question)
	lines := bufio.NewReader(waits.Body)
	frame, err = lines.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, `data: {"type":"ping"}`+"\n", frame)
	_, last := read(t, p.Ask(t, "/api/chat/stream", question), false)
	require.Equal(t, "overloaded", last.Code, "there is one place to wait in")
	require.Equal(t, 1, provider.Requests())

	holds.Body.Close()
	rest, err := io.ReadAll(lines)
	require.NoError(t, err)
	require.Contains(t, string(rest), `"three"`)
	require.True(t, strings.HasSuffix(string(rest), "data: [DONE]\n\n"))
}

func TestAProviderWithAPrivateAuthorityAndHeaders(t *testing.T) {
	asked := make(chan *http.Request, 1) // there is one request
	provider := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		asked <- req
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"error":{"message":"no %s"}}`, req.Header.Get("X-Tenant"))
	}))
	provider.EnableHTTP2 = true
	provider.StartTLS()
	defer provider.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file,
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: provider.Certificate().Raw}), 0o600))
	p := relaytest.Serve(t, "UPSTREAM_KIND=openai", "UPSTREAM_BASE_URL="+provider.URL, "UPSTREAM_CA_FILE="+file,
		"RELAY_LOG_LEVEL=debug",
		"UPSTREAM_HEADERS=x-tenant: do-not-show,Authorization: Bearer do-not-show-either")
	_, last := read(t, p.Ask(t, "/api/chat/stream", question), false)
	require.Equal(t, "upstream_rejected", last.Code)
	require.Contains(t, p.Wait(t, "stream")["error"], "the provider rejected the request")
	require.Contains(t, p.Wait(t, "stream")["error"], "no ***")
	req := <-asked
	require.Equal(t, "HTTP/2.0", req.Proto)
	require.Equal(t, "Bearer do-not-show-either", req.Header.Get("Authorization"))
	p.Signal(t, syscall.SIGTERM)
	require.Equal(t, 0, p.Exit(t))
	require.NotContains(t, p.Log(), "do-not-show")
}
