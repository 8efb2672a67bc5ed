package main_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// begin asks a question of a demo model and returns when the first frame has come.
func (p *process) begin(t *testing.T, model string) *http.Response {
	t.Helper()
	res := p.ask(t, "/api/chat/stream", strings.Replace(question, "demo-fast", model, 1))
	require.Equal(t, http.StatusOK, res.StatusCode)
	_, err := io.ReadFull(res.Body, make([]byte, 40))
	require.NoError(t, err)
	return res
}

func TestStreamsFinishWithinTheGrace(t *testing.T) {
	t.Parallel()
	p := serve(t, "RELAY_SHUTDOWN_DELAY=3s", "RELAY_SHUTDOWN_GRACE=60s")
	require.Equal(t, http.StatusOK, p.status(t, "/readyz"))
	running := p.begin(t, "demo")
	p.signal(t)
	p.wait(t, "draining")
	require.Eventually(t, func() bool { return p.status(t, "/readyz") == http.StatusServiceUnavailable }, patience, 10*time.Millisecond)
	require.Equal(t, http.StatusOK, p.status(t, "/healthz"))
	late := p.ask(t, "/api/chat/stream", question)
	require.Equal(t, http.StatusOK, late.StatusCode, "balancers still send streams during the delay")
	_, last := read(t, late, true)
	require.Equal(t, "done", last.Type)

	_, last = read(t, running, true)
	require.Equal(t, "done", last.Type)
	require.Equal(t, 0, p.exit(t))
	p.wait(t, "drained")
}

func TestStreamsThatOutlastTheGraceAreToldSo(t *testing.T) {
	p := serve(t, "RELAY_SHUTDOWN_GRACE=100ms")
	streams := []*http.Response{p.begin(t, "demo-long"), p.begin(t, "demo-long")}
	silent := p.ask(t, "/api/chat/stream", strings.Replace(question, "demo-fast", "demo-slow", 1))
	kept := p.ask(t, "/api/chat/stream", resumable(with("demo-long")))
	p.signal(t)
	for _, res := range append(streams, silent, kept) {
		_, last := read(t, res, false)
		require.Equal(t, "error", last.Type)
		require.Equal(t, "server_shutdown", last.Code)
	}
	require.Equal(t, 0, p.exit(t))
}

func TestAClosedListenerSendsClientsElsewhere(t *testing.T) {
	t.Parallel()
	p := serve(t, "RELAY_SHUTDOWN_GRACE=60s")
	running := p.begin(t, "demo")
	p.signal(t)
	require.Eventually(t, func() bool {
		fresh := &http.Transport{}
		defer fresh.CloseIdleConnections()
		res, err := (&http.Client{Transport: fresh}).Get(p.url + "/healthz")
		if err == nil {
			res.Body.Close()
		}
		return err != nil
	}, patience, 10*time.Millisecond, "no new connection is taken")
	_, last := read(t, running, true)
	require.Equal(t, "done", last.Type)
	require.Equal(t, 0, p.exit(t))
}

func TestASecondSignalExitsAtOnce(t *testing.T) {
	for step, settings := range map[string][]string{
		"during the delay": {"RELAY_SHUTDOWN_DELAY=10m"},
		"during the grace": {"RELAY_SHUTDOWN_GRACE=10m"},
	} {
		t.Run(step, func(t *testing.T) {
			p := serve(t, settings...)
			running := p.begin(t, "demo-long")
			p.signal(t)
			p.wait(t, "draining")
			p.signal(t)
			require.Equal(t, 1, p.exit(t))
			got, err := io.ReadAll(running.Body)
			require.NotContains(t, string(got), "[DONE]")
			if err == nil { // or else the connection was cut before the error was told
				require.Contains(t, string(got), `"code":"server_shutdown"`, "a cut stream must not look complete")
			}
			require.NotContains(t, fmt.Sprint(p.log), "client_gone", "it was the relay")
		})
	}
}
