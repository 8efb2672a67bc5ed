package replicas_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
)

// examine runs relay doctor against a URL, and gives what it found.
func examine(t *testing.T, url string, args ...string) (ids []string, report string) {
	t.Helper()
	args = append([]string{"doctor", "--json", "--for", "10s", "--key", "k-doctor-1"}, args...)
	code, out, stderr := relaytest.Run(t, nil, append(args, url)...)
	require.Empty(t, stderr)
	var found struct {
		Findings []struct{ ID, Shows, Remedy string }
	}
	require.NoError(t, json.Unmarshal([]byte(out), &found), "%s", out)
	for _, f := range found.Findings {
		require.NotEmpty(t, f.Shows)
		require.NotEmpty(t, f.Remedy)
		if len(ids) == 0 || ids[len(ids)-1] != f.ID {
			ids = append(ids, f.ID)
		}
	}
	require.Equal(t, len(ids) > 0, code != 0, "the exit code says whether something was found")
	return ids, out
}

// runFront runs a proxy with a configuration, in which ADDR, RELAY and DIR stand for what they say.
func runFront(t *testing.T, name, conf string, r *relay, args func(file, dir string) []string) (url string) {
	t.Helper()
	path := relaytest.Look(t, name)
	addr, dir := relaytest.FreeAddr(t), t.TempDir()
	file := filepath.Join(dir, "conf")
	conf = strings.NewReplacer("ADDR", addr, "RELAY", r.Addr, "DIR", dir).Replace(conf)
	require.NoError(t, os.WriteFile(file, []byte(conf), 0o600))
	return runProxy(t, exec.Command(path, args(file, dir)...), addr, dir)
}

// nginxWith is a server of nginx that is good for streams, but for the lines given.
func nginxWith(lines string) string {
	good := []string{"proxy_http_version 1.1;", `proxy_set_header Connection "";`, "client_max_body_size 9m;",
		"client_body_buffer_size 9m;", "proxy_read_timeout 60s;"}
	var kept []string
	for _, line := range good {
		if name, _, _ := strings.Cut(line, " "); !strings.Contains(lines, name) {
			kept = append(kept, line)
		}
	}
	return `worker_processes 1; daemon off; error_log stderr crit; pid DIR/pid; events {}
http { access_log off; client_body_temp_path DIR/b; proxy_temp_path DIR/p; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u;
scgi_temp_path DIR/s; server { listen ADDR; location / { proxy_pass http://RELAY; proxy_set_header Host $host;
` + strings.Join(kept, "\n") + "\n" + lines + "\n} } }"
}

func haproxyWith(defaults, frontend string) string {
	return `global
  maxconn 1000
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
` + defaults + `
frontend f
  bind ADDR
` + frontend + `
  default_backend b
backend b
  server a RELAY
`
}

// Each row is a proxy that harms streams in one way, and what is found is that and nothing else.
func TestDoctorFindsWhatHarmsStreams(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 3, time.Millisecond)
	r := startRelay(t, p, "RELAY_HEARTBEAT=3s", "RELAY_PROBE=true", "RELAY_API_KEYS=k-doctor-1",
		"RELAY_CORS_ORIGINS=https://app.example.com")
	nginx := func(file, dir string) []string { return []string{"-p", dir, "-c", file, "-e", "stderr"} }
	haproxy := func(file, _ string) []string { return []string{"-q", "-db", "-f", file} }
	caddy := func(file, _ string) []string { return []string{"run", "--adapter", "caddyfile", "--config", file} }
	for name, tc := range map[string]struct {
		program, conf string
		args          func(file, dir string) []string
		want          []string
	}{
		"nginx as it should be": {"nginx", nginxWith(""), nginx, nil},
		"nginx that buffers": {"nginx", nginxWith("proxy_http_version 1.0; proxy_ignore_headers X-Accel-Buffering;"),
			nginx,
			[]string{"buffering", "http10-inside"}},
		"nginx that compresses": {"nginx",
			nginxWith("gzip on; gzip_types text/event-stream; gzip_min_length 0; gzip_proxied any;"), nginx,
			[]string{"compression"}},
		"nginx with HTTP/1.0":     {"nginx", nginxWith("proxy_http_version 1.0;"), nginx, []string{"http10-inside"}},
		"nginx that waits 2 s":    {"nginx", nginxWith("proxy_read_timeout 2s;"), nginx, []string{"idle-timeout"}},
		"nginx with small bodies": {"nginx", nginxWith("client_max_body_size 1m;"), nginx, []string{"body-limit"}},
		"nginx with its own errors": {"nginx",
			nginxWith("proxy_intercept_errors on; error_page 503 = @sorry; } location @sorry { return 500 sorry;"),
			nginx, []string{"rewriting"}},
		"nginx with two origins": {"nginx",
			nginxWith("add_header Access-Control-Allow-Origin $http_origin always;"), nginx, []string{"cors"}},
		"haproxy by default":         {"haproxy", haproxyWith("", ""), haproxy, []string{"buffering"}},
		"haproxy with http-no-delay": {"haproxy", haproxyWith("  option http-no-delay", ""), haproxy, nil},
		"haproxy without Last-Event-ID": {"haproxy",
			haproxyWith("  option http-no-delay", "  http-request del-header Last-Event-ID"), haproxy,
			[]string{"last-event-id"}},
		"caddy": {"caddy", "{\n admin off\n auto_https off\n}\nhttp://ADDR {\n reverse_proxy RELAY\n}\n", caddy, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found, report := examine(t, runFront(t, tc.program, tc.conf, r, tc.args), "--origin",
				"https://app.example.com")
			require.Equal(t, tc.want, found, report)
		})
	}
	t.Run("nothing between", func(t *testing.T) {
		t.Parallel()
		found, report := examine(t, r.URL, "--origin", "https://app.example.com")
		require.Empty(t, found, report)
	})
	t.Run("a proxy that cuts by the clock", func(t *testing.T) {
		t.Parallel()
		found, report := examine(t, cuttingByAge(t, r, 4*time.Second))
		require.Equal(t, []string{"clock"}, found, report)
		require.Regexp(t, `are cut when they are 4(\.\d)?s old`, report)
	})
	t.Run("a proxy that reads on", func(t *testing.T) {
		t.Parallel()
		found, report := examine(t, readingOn(t, r))
		require.Equal(t, []string{"leaving"}, found, report)
	})
}

// front of Go, with what a test changes about it.
func goFront(t *testing.T, handle http.Handler) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := &http.Server{Handler: handle}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	return "http://" + ln.Addr().String()
}

// cuttingByAge cuts each answer at its age.
func cuttingByAge(t *testing.T, r *relay, age time.Duration) string {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: r.Addr})
	return goFront(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(age))
		proxy.ServeHTTP(w, req)
	}))
}

// readingOn goes on reading from the relay when its client has left.
func readingOn(t *testing.T, r *relay) string {
	return goFront(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		out, _ := http.NewRequest(req.Method, fmt.Sprintf("http://%s%s", r.Addr, req.URL.RequestURI()), req.Body)
		out.Header, out.ContentLength = req.Header, req.ContentLength
		res, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer res.Body.Close()
		for name, values := range res.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(res.StatusCode)
		room := make([]byte, 32<<10)
		for {
			n, err := res.Body.Read(room)
			_, _ = w.Write(room[:n])
			_ = http.NewResponseController(w).Flush()
			if err != nil {
				return
			}
		}
	}))
}

func TestDoctorWithoutAProbe(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 3, time.Millisecond)
	r := startRelay(t, p, "RELAY_API_KEYS=k-doctor-1")
	found, report := examine(t, r.URL)
	require.Empty(t, found)
	require.Contains(t, report, "RELAY_PROBE=true adds it")

	for args, want := range map[string]string{
		"http://" + relaytest.FreeAddr(t):    "no relay answers there",
		"--key wrong http://" + r.Addr:       "it wants a key",
		"--for 1s http://" + r.Addr:          "--for is less than",
		"chat.example.com":                   "is not a URL like",
		"http://" + r.Addr + " http://other": "one URL is needed",
	} {
		code, stdout, stderr := relaytest.Run(t, nil, append([]string{"doctor"}, strings.Fields(args)...)...)
		require.NotZero(t, code, args)
		require.Contains(t, stdout+stderr, want, args)
	}
	res, err := http.Get("http://" + r.Addr + "/api/chat/probe")
	require.NoError(t, err)
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	require.Equal(t, http.StatusNotFound, res.StatusCode)
}
