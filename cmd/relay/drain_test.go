package main_test

import (
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
)

// begin asks a question of a demo model and returns when the first frame has come.
func begin(t *testing.T, p *relaytest.Relay, model string) *http.Response {
	t.Helper()
	res := p.Ask(t, "/api/chat/stream", strings.Replace(question, "demo-fast", model, 1))
	require.Equal(t, http.StatusOK, res.StatusCode)
	_, err := io.ReadFull(res.Body, make([]byte, 40))
	require.NoError(t, err)
	return res
}

func TestStreamsFinishWithinTheGrace(t *testing.T) {
	t.Parallel()
	p := relaytest.Serve(t, "RELAY_SHUTDOWN_DELAY=3s", "RELAY_SHUTDOWN_GRACE=60s")
	require.Equal(t, http.StatusOK, p.Status(t, "/readyz"))
	running := begin(t, p, "demo")
	p.Signal(t, syscall.SIGTERM)
	p.Wait(t, "draining")
	require.Eventually(t, func() bool { return p.Status(t, "/readyz") == http.StatusServiceUnavailable },
		relaytest.Patience, 10*time.Millisecond)
	require.Equal(t, http.StatusOK, p.Status(t, "/healthz"))
	late := p.Ask(t, "/api/chat/stream", question)
	require.Equal(t, http.StatusOK, late.StatusCode, "balancers still send streams during the delay")
	_, last := read(t, late, true)
	require.Equal(t, "done", last.Type)

	_, last = read(t, running, true)
	require.Equal(t, "done", last.Type)
	require.Equal(t, 0, p.Exit(t))
	p.Wait(t, "drained")
}

func TestStreamsThatOutlastTheGraceAreToldSo(t *testing.T) {
	p := relaytest.Serve(t, "RELAY_SHUTDOWN_GRACE=100ms")
	streams := []*http.Response{begin(t, p, "demo-long"), begin(t, p, "demo-long")}
	silent := p.Ask(t, "/api/chat/stream", strings.Replace(question, "demo-fast", "demo-slow", 1))
	kept := p.Ask(t, "/api/chat/stream", resumable(with("demo-long")))
	p.Signal(t, syscall.SIGTERM)
	for _, res := range append(streams, silent, kept) {
		_, last := read(t, res, false)
		require.Equal(t, "error", last.Type)
		require.Equal(t, "server_shutdown", last.Code)
	}
	require.Equal(t, 0, p.Exit(t))
}

func TestAClosedListenerSendsClientsElsewhere(t *testing.T) {
	t.Parallel()
	p := relaytest.Serve(t, "RELAY_SHUTDOWN_GRACE=60s")
	running := begin(t, p, "demo")
	p.Signal(t, syscall.SIGTERM)
	require.Eventually(t, func() bool {
		fresh := &http.Transport{}
		defer fresh.CloseIdleConnections()
		res, err := (&http.Client{Transport: fresh}).Get(p.URL + "/healthz")
		if err == nil {
			res.Body.Close()
		}
		return err != nil
	}, relaytest.Patience, 10*time.Millisecond, "no new connection is taken")
	_, last := read(t, running, true)
	require.Equal(t, "done", last.Type)
	require.Equal(t, 0, p.Exit(t))
}

func TestASecondSignalExitsAtOnce(t *testing.T) {
	for step, settings := range map[string][]string{
		"during the delay": {"RELAY_SHUTDOWN_DELAY=10m"},
		"during the grace": {"RELAY_SHUTDOWN_GRACE=10m"},
	} {
		t.Run(step, func(t *testing.T) {
			p := relaytest.Serve(t, settings...)
			running := begin(t, p, "demo-long")
			p.Signal(t, syscall.SIGTERM)
			p.Wait(t, "draining")
			p.Signal(t, syscall.SIGTERM)
			require.Equal(t, 1, p.Exit(t))
			got, err := io.ReadAll(running.Body)
			require.NotContains(t, string(got), "[DONE]")
			if err == nil { // or else the connection was cut before the error was told
				require.Contains(t, string(got), `"code":"server_shutdown"`, "a cut stream must not look complete")
			}
			require.NotContains(t, p.Log(), "client_gone", "it was the relay")
		})
	}
}
