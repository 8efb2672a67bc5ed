// Package replicas_test runs what is deployed: relay processes with Redis, behind nginx with the
// configuration in deploy, and kills them.
package replicas_test

import (
	"flag"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
)

const patience = relaytest.Patience

// TestMain: the tests wait for leases and outages far more than they compute, so more of them run at once than there
// are processors.
func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "8") // what the command line says holds
	os.Exit(relaytest.Main(m.Run))
}

// relay is a relay process that can be run again on the same addresses.
type relay struct{ *relaytest.Relay }

// startRelay runs a relay in front of p until the test ends. settings may be any further ones.
func startRelay(t *testing.T, p *provider, settings ...string) *relay {
	t.Helper()
	r := &relay{relaytest.Serve(t, append([]string{
		"RELAY_HEARTBEAT=1s", "UPSTREAM_KIND=openai", "UPSTREAM_BASE_URL=" + p.server.URL + "/v1",
		"UPSTREAM_API_KEY=sk-test", "UPSTREAM_MODEL=m",
	}, settings...)...)}
	answers(t, r.URL+"/readyz")
	return r
}

// Restart runs the relay again after its end, and waits until it is ready.
func (r *relay) Restart(t *testing.T) {
	t.Helper()
	r.Relay.Restart(t)
	answers(t, r.URL+"/readyz")
}

// runProxy runs a program that passes requests on to relays, and gives its URL.
func runProxy(t *testing.T, cmd *exec.Cmd, addr, dir string) string {
	t.Helper()
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // nginx has workers
	relaytest.Start(t, cmd)
	answers(t, "http://"+addr+"/readyz")
	return "http://" + addr
}

// browse opens a page in Chromium, for which all names are this machine's, until the test ends.
func browse(t *testing.T, page string) {
	t.Helper()
	chromium := relaytest.Look(t, "chromium")
	home, err := os.MkdirTemp("", "chromium") // not t.TempDir: the browser's last process may still write
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	cmd := exec.Command(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--host-resolver-rules=MAP * 127.0.0.1", "--user-data-dir="+home,
		"--remote-debugging-port=0", page)
	cmd.Env = append(os.Environ(), "HOME="+home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	relaytest.Start(t, cmd)
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
