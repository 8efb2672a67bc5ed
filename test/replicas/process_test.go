// Package replicas_test runs what is deployed: relay processes with Redis, behind nginx with the
// configuration in deploy, and kills them.
package replicas_test

import (
	"bytes"
	"flag"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const patience = 30 * time.Second

var binary string // of the relay

// TestMain builds the relay, unless RELAY_TEST_BINARY names another one to compare with. The tests wait for leases and
// outages far more than they compute, so more of them run at once than there are processors.
func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "8") // what the command line says holds
	if binary = os.Getenv("RELAY_TEST_BINARY"); binary != "" {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "relay")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "relay")
	build := exec.Command("go", "build", "-o", binary, "github.com/websopy/relay/cmd/relay")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// relay is a relay process that can be run again on the same address.
type relay struct {
	addr, admin string
	env         []string
	cmd         *exec.Cmd
	log         *logs
	exited      chan struct{} // closed when the process has
}

// startRelay runs a relay in front of p until the test ends. env may set anything further.
func startRelay(t *testing.T, p *provider, env ...string) *relay {
	t.Helper()
	r := &relay{addr: freeAddr(t), admin: freeAddr(t)}
	r.env = append([]string{
		"RELAY_ADDR=" + r.addr, "RELAY_ADMIN_ADDR=" + r.admin, "RELAY_HEARTBEAT=1s",
		"UPSTREAM_KIND=openai", "UPSTREAM_BASE_URL=" + p.server.URL + "/v1", "UPSTREAM_API_KEY=sk-test", "UPSTREAM_MODEL=m",
	}, env...)
	r.start(t)
	t.Cleanup(func() {
		r.kill()
		if t.Failed() {
			t.Logf("relay %s ends with:\n%s", r.addr, r.log.last(16<<10))
		}
	})
	return r
}

func (r *relay) start(t *testing.T) {
	t.Helper()
	if r.log == nil {
		r.log = &logs{}
	}
	r.cmd = exec.Command(binary)
	r.cmd.Env = r.env
	r.cmd.Stderr = r.log
	require.NoError(t, r.cmd.Start())
	r.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		defer close(exited)
		_ = cmd.Wait()
	}(r.cmd, r.exited)
	answers(t, "http://"+r.addr+"/readyz")
}

// kill is kill -9.
func (r *relay) kill() {
	_ = r.cmd.Process.Kill()
	<-r.exited
}

// stop is SIGTERM, and the wait for the process to have drained.
func (r *relay) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-r.exited:
		require.Zero(t, r.cmd.ProcessState.ExitCode())
	case <-time.After(patience):
		require.Fail(t, "the relay does not drain")
	}
}

// metric gives the line of a metric as the relay has it now.
func (r *relay) metric(t *testing.T, name string) string {
	t.Helper()
	res, err := http.Get("http://" + r.admin + "/metrics")
	require.NoError(t, err)
	defer res.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(res.Body)
	require.NoError(t, err)
	for line := range strings.Lines(b.String()) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// logs are what a process said; it may still be speaking.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// last gives the last n bytes or less.
func (l *logs) last(n int) string {
	all := l.String()
	return all[max(0, len(all)-n):]
}

func answers(t *testing.T, url string) {
	t.Helper()
	require.Eventually(t, func() bool {
		res, err := http.Get(url)
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	}, patience, 10*time.Millisecond, url)
}

func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().String()
}
