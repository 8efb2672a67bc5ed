package replicas_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
)

// front is a proxy with its configuration in deploy.
type front struct {
	name, file string
	// change makes it listen at addr, and whatever else a test needs. It gets a directory of the test's own.
	change func(swap func(old, new string), addr, dir string)
	// args run the program with the configuration.
	args func(conf, dir string) []string
	// waits is how long it waits for a relay to say something, in the words of its configuration. Empty: as others do.
	waits string
}

var fronts = []front{{
	name: "nginx", file: "nginx.conf",
	change: func(swap func(old, new string), addr, dir string) {
		swap("listen 80;", "listen "+addr+";")
		swap("resolver 127.0.0.11 valid=5s;", strings.ReplaceAll("access_log off; client_body_temp_path DIR/b; "+
			"proxy_temp_path DIR/p; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;", "DIR",
			dir))
		swap(" resolve ", " ") // it is newer than some machines' nginx, and there is nothing to resolve
	},
	args: func(conf, dir string) []string {
		global := "daemon off; error_log stderr crit; pid " + dir + "/pid;"
		return []string{"-p", dir, "-c", conf, "-e", "stderr", "-g", global}
	},
	waits: "proxy_read_timeout 60s",
}, {
	name: "haproxy", file: "haproxy.cfg",
	change: func(swap func(old, new string), addr, _ string) { swap("bind :80", "bind "+addr) },
	args:   func(conf, _ string) []string { return []string{"-q", "-db", "-f", conf} },
	waits:  "timeout server 60s",
}, {
	name: "caddy", file: "Caddyfile",
	change: func(swap func(old, new string), addr, _ string) { swap(":80 {", "http://"+addr+" {") },
	args:   func(conf, _ string) []string { return []string{"run", "--adapter", "caddyfile", "--config", conf} },
	waits:  "read_timeout 60s",
}, {
	name: "envoy", file: "envoy.yaml",
	change: func(swap func(old, new string), addr, _ string) {
		host, port, _ := net.SplitHostPort(addr)
		swap("{address: 0.0.0.0, port_value: 80}", fmt.Sprintf("{address: %s, port_value: %s}", host, port))
	},
	args: func(conf, _ string) []string {
		return []string{"-c", conf, "--disable-hot-restart", "--concurrency", "1", "-l", "error"}
	},
}}

// startNginx runs nginx in front of two relays, and gives its URL.
func startNginx(t *testing.T, relays ...*relay) string {
	t.Helper()
	return fronts[0].start(t, relays...)
}

// start runs the proxy with its configuration in deploy in front of two relays, and gives its URL. The test is
// skipped where the program is not installed, and fails for it in CI.
func (f front) start(t *testing.T, relays ...*relay) string {
	t.Helper()
	path := f.installed(t)
	if path == "" {
		t.Skipf("no %s here: install it to test the deployment behind it", f.name)
	}
	conf, err := os.ReadFile(filepath.Join("../../deploy", f.file))
	require.NoError(t, err)
	addr, dir, text := relaytest.FreeAddr(t), t.TempDir(), string(conf)
	swap := func(old, new string) {
		require.Contains(t, text, old)
		text = strings.ReplaceAll(text, old, new)
	}
	f.change(swap, addr, dir)
	for i, r := range relays {
		host, port, _ := net.SplitHostPort(r.Addr)
		if name := fmt.Sprintf("relay-%d:8080", i+1); strings.Contains(text, name) {
			swap(name, r.Addr)
			continue
		}
		const socket = "address: %s, port_value: %s"
		swap(fmt.Sprintf(socket, fmt.Sprintf("relay-%d", i+1), "8080"), fmt.Sprintf(socket, host, port))
	}
	file := filepath.Join(dir, f.file)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return runProxy(t, exec.Command(path, f.args(file, dir)...), addr, dir)
}

// installed gives the program, or nothing where there is none. In CI that is a failure.
func (f front) installed(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath(f.name)
	if err != nil {
		require.NotEqual(t, "true", os.Getenv("CI"), "%v", err)
	}
	return path
}

// A model thinks for 40 s: longer than Envoy's 15 s for a whole answer, and than the 30 s at which others give up. The
// relay pings as often as it does by default.
func TestASilenceOf40SecondsEndsNothing(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 20, time.Millisecond)
	_, a, b := pair(t, p, "RELAY_HEARTBEAT=15s")
	var reads sync.WaitGroup
	silent := map[*client]chan struct{}{}
	missing := ""
	for _, f := range fronts {
		if f.installed(t) == "" {
			missing += " " + f.name
			continue
		}
		url := f.start(t, a, b)
		c, over := newClient(t, "silence behind "+f.name), make(chan struct{})
		p.stepwise(c.question, over)
		silent[c] = over
		reads.Go(func() {
			if err := c.connect(background(t), url, func() bool { return false }); err != nil {
				t.Errorf("%s: %v", c.question, err)
			}
		})
	}
	time.Sleep(40 * time.Second)
	for _, over := range silent {
		close(over)
	}
	reads.Wait()
	for c := range silent {
		require.Equal(t, p.answer(c.question), c.text)
		require.Equal(t, "done", c.end.Type)
		require.Greater(t, c.silence, 39*time.Second)
	}
	if missing != "" {
		t.Skip("not tested behind" + missing)
	}
}

func TestBehindEachProxy(t *testing.T) {
	t.Parallel()
	for _, f := range fronts {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			p := startProvider(t, 100, 20*time.Millisecond)
			_, a, b := pair(t, p)
			url := f.start(t, a, b)
			t.Run("each frame arrives before the next one is made", func(t *testing.T) { framewise(t, p, url) })
			t.Run("a client that leaves is seen upstream", func(t *testing.T) { leaving(t, p, url) })
			t.Run("a cut answer is read on", func(t *testing.T) { cutting(t, p, url) })
			t.Run("a relay that is restarted costs nothing", func(t *testing.T) { restarting(t, p, url, a, b) })
		})
	}
}

// framewise has the provider say its next word only when the client has the one before. A proxy that holds
// frames back for others stops that for good, and one that does so for 0.2 s (as HAProxy does without
// http-no-delay) makes it take 10 s.
func framewise(t *testing.T, p *provider, url string) {
	const words = 50
	read := make(chan struct{})
	p.stepwise("framewise", read)
	defer close(read) // the rest comes at once
	c := newClient(t, "framewise")
	began := time.Now()
	err := c.connect(background(t), url, func() bool {
		n := strings.Count(c.text, "词")
		if n > 0 {
			read <- struct{}{}
		}
		return n == words
	})
	require.ErrorIs(t, err, errCut)
	require.Less(t, time.Since(began), 5*time.Second)
}

func leaving(t *testing.T, p *provider, url string) {
	p.stepwise("leaving", make(chan struct{}))
	body := `{"messages":[{"role":"user","content":"leaving"}]}`
	res, err := http.Post(url+"/api/chat/stream", "application/json", strings.NewReader(body))
	require.NoError(t, err)
	<-p.began("leaving")
	require.NoError(t, res.Body.Close())
	select {
	case <-p.wentAway("leaving"):
	case <-time.After(time.Second): // HAProxy without abortonclose takes 2 s: it finds out by the pings
		require.Fail(t, "the provider goes on for nobody")
	}
}

func cutting(t *testing.T, p *provider, url string) {
	c := newClient(t, "cutting")
	for i := range 5 {
		err := c.connect(background(t), url, func() bool { return strings.Count(c.text, "词") >= 10*(i+1) })
		require.ErrorIs(t, err, errCut)
	}
	require.NoError(t, c.run(background(t), func() string { return url }))
	require.Equal(t, p.answer("cutting"), c.text)
	require.Equal(t, "done", c.end.Type)
	require.Equal(t, 1, p.asked("cutting"))
}

func restarting(t *testing.T, p *provider, url string, relays ...*relay) {
	var reads sync.WaitGroup
	var all []*client
	for round, r := range relays {
		for i := range 20 {
			c := newClient(t, fmt.Sprintf("restarting %d %d", round, i))
			c.hasty = true
			all = append(all, c)
			gone := make(chan struct{})
			reads.Go(func() {
				defer close(gone)
				if err := c.run(background(t), func() string { return url }); err != nil {
					t.Errorf("%s: %v", c.question, err)
				}
			})
			select {
			case <-p.began(c.question):
			case <-gone:
			}
		}
		r.Stop(t)
		r.Restart(t)
	}
	reads.Wait()
	for _, c := range all {
		require.Equal(t, p.answer(c.question), c.text)
		require.Equal(t, "done", c.end.Type)
		require.Equal(t, 1, p.asked(c.question))
	}
}
