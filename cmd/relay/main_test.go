package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/leaktest"
)

// patience is for what must come, on a machine that is busy with other things.
const patience = 30 * time.Second

var binary string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "relay-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "relay")
	args := []string{"build", "-o", binary}
	if raceEnabled {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	return leaktest.Run(m)
}

// environ is what the process gets from its surroundings: the settings, and nothing that the machine
// happens to have set.
func environ(settings []string) []string {
	// The race detector makes each exit a second long unless it is told otherwise.
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "GORACE=atexit_sleep_ms=0"}, settings...)
}

// run runs the relay to its end.
func run(t *testing.T, settings []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = environ(settings)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		require.IsType(t, &exec.ExitError{}, err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errOut.String()
}

// process is a relay that serves.
type process struct {
	cmd     *exec.Cmd
	url     string
	metrics string // address of the admin listener
	client  *http.Client
	stderr  io.Closer // which nobody reads any more when it is closed
	exited  chan struct{}

	mu   sync.Mutex // guards the rest
	log  []map[string]any
	more chan struct{} // closed when a line comes, or the log ends
}

// serve starts a relay on free ports and waits until it listens.
func serve(t *testing.T, settings ...string) *process {
	t.Helper()
	return serveBy(t, exec.Command(binary), settings...)
}

// serveBy is serve, by a command that runs the relay.
func serveBy(t *testing.T, cmd *exec.Cmd, settings ...string) *process {
	t.Helper()
	p := &process{cmd: cmd, exited: make(chan struct{}), more: make(chan struct{})}
	p.cmd.Env = environ(append([]string{"RELAY_ADDR=127.0.0.1:0", "RELAY_ADMIN_ADDR=127.0.0.1:0", "RELAY_LOG_FORMAT=json"}, settings...))
	stderr, err := p.cmd.StderrPipe()
	require.NoError(t, err)
	p.stderr = stderr
	require.NoError(t, p.cmd.Start())
	go p.follow(stderr)
	transport := &http.Transport{DisableCompression: true}
	p.client = &http.Client{Transport: transport}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // long over, in most tests
		<-p.exited
		transport.CloseIdleConnections()
		if t.Failed() {
			for _, line := range p.log {
				t.Log(line)
			}
		}
	})
	p.metrics = p.wait(t, "metrics and pprof")["addr"].(string)
	listening := p.wait(t, "listening")
	p.url = fmt.Sprintf("%s://%s", listening["scheme"], listening["addr"])
	return p
}

// follow reads the log until the process ends.
func (p *process) follow(stderr io.Reader) {
	defer close(p.exited)
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		var line map[string]any
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			line = map[string]any{"message": lines.Text()}
		}
		p.mu.Lock()
		p.log = append(p.log, line)
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
	}
	_ = p.cmd.Wait()
}

// wait returns the first line of the log with this message, when it comes.
func (p *process) wait(t *testing.T, message string) map[string]any {
	t.Helper()
	timeout := time.After(patience)
	for {
		p.mu.Lock()
		i := slices.IndexFunc(p.log, func(line map[string]any) bool { return line["message"] == message })
		log, more := p.log, p.more
		p.mu.Unlock()
		if i >= 0 {
			return log[i]
		}
		select {
		case <-more:
		case <-p.exited:
			require.FailNow(t, "the relay exited", "%v", log)
		case <-timeout:
			require.FailNow(t, "no such line in the log", "%s in %v", message, log)
		}
	}
}

func (p *process) signal(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
}

// exit waits for the end of the process.
func (p *process) exit(t *testing.T) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		require.FailNow(t, "the relay does not exit")
		panic("not reached")
	}
}

// ask sends a question, or a GET when there is none.
func (p *process) ask(t *testing.T, path, question string, headers ...string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	method := http.MethodGet
	if question != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, p.url+path, strings.NewReader(question))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := p.client.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// status asks for a page that says little.
func (p *process) status(t *testing.T, path string) int {
	t.Helper()
	res := p.ask(t, path, "")
	body(t, res)
	return res.StatusCode
}

func body(t *testing.T, res *http.Response) string {
	t.Helper()
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(all)
}

// chunk is a frame as the clients of the seed read it.
type chunk struct {
	Type, Content, Code, FinishReason string
	Usage                             *struct{ PromptTokens, CompletionTokens int }
}

// read does what the seed's fetch reader does: it splits on lines and parses each data line as JSON, but
// for [DONE] where it expects that.
func read(t *testing.T, res *http.Response, marker bool) (text string, last chunk) {
	t.Helper()
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	ended := false
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		require.False(t, ended, "nothing follows the end")
		if marker && data == "[DONE]" {
			ended = true
			continue
		}
		last = chunk{}
		require.NoError(t, json.Unmarshal([]byte(data), &last), data)
		text += last.Content
	}
	require.NoError(t, lines.Err())
	require.Equal(t, marker, ended)
	return text, last
}
