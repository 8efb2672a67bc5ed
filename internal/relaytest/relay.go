package relaytest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Relay is a relay that serves.
type Relay struct {
	*Program
	URL    string       // scheme, host and port
	Addr   string       // host and port
	Admin  string       // those of the admin server; empty without one
	Client *http.Client // what Ask and Status use; a test may put another one here
}

// Serve runs a relay on free ports until the test ends, and waits until it listens.
func Serve(t testing.TB, settings ...string) *Relay {
	t.Helper()
	return ServeBy(t, exec.Command(Binary(t)), settings...)
}

// ServeBy is Serve, by a command that runs a relay.
func ServeBy(t testing.TB, cmd *exec.Cmd, settings ...string) *Relay {
	t.Helper()
	common := []string{"RELAY_ADDR=" + FreeAddr(t), "RELAY_ADMIN_ADDR=" + FreeAddr(t), "RELAY_LOG_FORMAT=json"}
	cmd.Env = environ(append(common, settings...))
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	r := &Relay{Program: Start(t, cmd), Client: &http.Client{Transport: transport}}
	t.Cleanup(func() { r.end(t) })
	listening := r.Wait(t, "listening")
	r.Addr = listening["addr"].(string)
	r.URL = fmt.Sprintf("%s://%s", listening["scheme"], r.Addr)
	if admin := r.Lines("metrics and pprof"); len(admin) > 0 {
		r.Admin = admin[0]["addr"].(string)
	}
	return r
}

// Restart runs the relay again on the same addresses, after it has exited.
func (r *Relay) Restart(t testing.TB) {
	t.Helper()
	r.command.Env = append(r.command.Env, "RELAY_ADDR="+r.Addr, "RELAY_ADMIN_ADDR="+r.Admin)
	r.Program.Restart(t)
	r.Wait(t, "listening")
}

// Lines are those of the present run's log with a message.
func (r *Relay) Lines(message string) []map[string]any {
	lines, _ := r.present()
	return withMessage(lines, message)
}

func withMessage(lines []string, message string) (found []map[string]any) {
	for _, text := range lines {
		var line map[string]any
		if strings.Contains(text, message) && json.Unmarshal([]byte(text), &line) == nil &&
			line["message"] == message {
			found = append(found, line)
		}
	}
	return found
}

// Wait gives the first line of the present run's log with a message, when it comes.
func (r *Relay) Wait(t testing.TB, message string) map[string]any {
	t.Helper()
	return r.WaitN(t, message, 1)
}

// WaitN gives the nth line of the present run's log with a message, when it comes.
func (r *Relay) WaitN(t testing.TB, message string, n int) map[string]any {
	t.Helper()
	timeout := time.After(Patience)
	for over := false; ; {
		lines, more := r.present()
		if found := withMessage(lines, message); len(found) >= n {
			return found[n-1]
		}
		if over {
			require.FailNow(t, "the relay exited, or says nothing of it", "%q, %d times", message, n)
		}
		select {
		case <-more:
		case <-r.exited: // all its lines are here
			over = true
		case <-timeout:
			over = true
		}
	}
}

// Stop is SIGTERM, and the wait until the relay has drained and ended well.
func (r *Relay) Stop(t testing.TB) {
	t.Helper()
	r.Signal(t, syscall.SIGTERM)
	require.Zero(t, r.Exit(t), "the exit code")
}

// signOfBug is the begin of what Go's runtime and its race detector say, or a line of the log about a panic.
var signOfBug = regexp.MustCompile(`(?m)^(panic: |fatal error: |WARNING: DATA RACE)|` +
	`^.*"message":"(panic"|http2?: panic|internal error)`)

// bug is what a relay's output says of a bug of its own, from there on. Empty: nothing.
func bug(output string) string {
	if at := signOfBug.FindStringIndex(output); at != nil {
		return output[at[0]:]
	}
	return ""
}

// end ends a relay that serves until its test does, and looks how: a bug in what comes last is there in all tests.
func (r *Relay) end(t testing.TB) {
	r.Wake()
	timeout := time.After(Patience)
	for running := true; running; {
		_ = r.cmd.Process.Signal(syscall.SIGTERM) // the second one ends what still runs
		select {
		case <-r.exited:
			running = false
		case <-time.After(50 * time.Millisecond): // signals that come together are one
		case <-timeout:
			t.Error("the relay does not end")
			return
		}
	}
	if said := bug(r.Log()); said != "" {
		t.Errorf("the relay has a bug: %.4000s", said)
	}
}

// Ask sends a question, or a GET when there is none. The answer's body is closed at the end of the test.
func (r *Relay) Ask(t testing.TB, path, question string, headers ...string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	method := http.MethodGet
	if question != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, r.URL+path, strings.NewReader(question))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := r.Client.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// Status asks for a page that says little.
func (r *Relay) Status(t testing.TB, path string) int {
	t.Helper()
	res := r.Ask(t, path, "")
	Body(t, res)
	return res.StatusCode
}

// Body reads an answer to its end.
func Body(t testing.TB, res *http.Response) string {
	t.Helper()
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(all)
}

// Metrics is the page of the admin server.
func (r *Relay) Metrics(t testing.TB) string {
	t.Helper()
	res, err := r.Client.Get("http://" + r.Admin + "/metrics")
	require.NoError(t, err)
	return Body(t, res)
}

// Metric is a metric's value as the page has it. Empty: there is none of this name and labels.
func (r *Relay) Metric(t testing.TB, series string) string {
	t.Helper()
	for line := range strings.Lines(r.Metrics(t)) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Gauge is the number that Metric is.
func (r *Relay) Gauge(t testing.TB, series string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(r.Metric(t, series), 64)
	require.NoError(t, err, series)
	return n
}

// Until waits until a metric is as it should be.
func (r *Relay) Until(t testing.TB, series string, is func(float64) bool) {
	t.Helper()
	for end := time.Now().Add(Patience); ; time.Sleep(20 * time.Millisecond) {
		now := r.Gauge(t, series)
		if is(now) {
			return
		}
		require.False(t, time.Now().After(end), "%s is still %v", series, now)
	}
}
