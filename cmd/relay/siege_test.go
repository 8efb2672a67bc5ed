package main_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
)

// deaf is a connection that reads until its client goes deaf.
type deaf struct {
	net.Conn
	deafened <-chan struct{}
	closed   chan struct{}
	once     sync.Once
}

func (d *deaf) Read(p []byte) (int, error) {
	select {
	case <-d.deafened:
		<-d.closed
		return 0, net.ErrClosed
	default:
		return d.Conn.Read(p)
	}
}

func (d *deaf) Close() error {
	d.once.Do(func() { close(d.closed) })
	return d.Conn.Close()
}

// narrow has both ends of a connection hold little. Otherwise the kernel takes all that the relay has to write: on the
// loopback interface that is some MB, for segments of 64 KiB.
func narrow(_, _ string, conn syscall.RawConn) error {
	return conn.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10)
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 536)
	})
}

// A socket that is not read takes HTTP/2's own frames with it: neither a stream's deadline nor its reset is written.
func TestASocketThatIsNotReadFreesItsStreams(t *testing.T) {
	flood := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		event := `data: {"choices":[{"index":0,"delta":{"content":"` + strings.Repeat("x", 8<<10) + `"}}]}` + "\n\n"
		for req.Context().Err() == nil {
			if _, err := io.WriteString(w, event); err != nil {
				return
			}
		}
	}))
	t.Cleanup(flood.Close)
	for name, tc := range map[string]struct{ method, path string }{
		"streams":          {http.MethodPost, "/api/chat/stream"},
		"the page's files": {http.MethodGet, "/ui/sdk.js"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The requests have that time, at the least, to come and to be seen.
			p := relaytest.Serve(t, "RELAY_WRITE_TIMEOUT=3s", "UPSTREAM_KIND=openai", "UPSTREAM_API_KEY=k-1",
				"UPSTREAM_MODEL=m",
				"UPSTREAM_BASE_URL="+flood.URL)
			idle := p.Gauge(t, "go_goroutines")
			deafened := make(chan struct{})
			dial := func(ctx context.Context, _, addr string) (net.Conn, error) {
				conn, err := (&net.Dialer{Control: narrow}).DialContext(ctx, "tcp", addr)
				if err != nil {
					return nil, err
				}
				d := &deaf{Conn: conn, deafened: deafened, closed: make(chan struct{})}
				t.Cleanup(func() { d.Close() })
				return d, nil
			}
			transport := &http.Transport{Protocols: new(http.Protocols), DialContext: dial}
			transport.Protocols.SetUnencryptedHTTP2(true)

			ctx, leave := context.WithCancel(t.Context())
			var asking sync.WaitGroup
			defer asking.Wait()
			defer leave()
			ask := func(method, path string) {
				req, _ := http.NewRequestWithContext(ctx, method, p.URL+path, strings.NewReader(question))
				req.Header.Set("Content-Type", "application/json")
				if res, err := transport.RoundTrip(req); err == nil {
					<-ctx.Done()
					res.Body.Close()
				}
			}
			asking.Go(func() { ask(http.MethodPost, "/api/chat/stream") })
			p.Until(t, "relay_streams_open", func(n float64) bool { return n == 1 })
			close(deafened)
			for range 95 {
				asking.Go(func() { ask(tc.method, tc.path) })
			}
			p.Until(t, "go_goroutines", func(n float64) bool { return n > idle+50 })
			began := time.Now()
			p.Until(t, "go_goroutines", func(n float64) bool { return n < idle+20 })
			t.Logf("free after %v", time.Since(began))
			require.Less(t, time.Since(began), 25*time.Second, "HTTP/2's pings end a dead connection after 30 s")
		})
	}
}

func TestALogThatNobodyReadsAnyMoreCutsNoStream(t *testing.T) {
	p := relaytest.Serve(t)
	res := p.Ask(t, "/api/chat/stream", strings.Replace(question, "demo-fast", "demo", 1))
	p.CloseOutput()
	for range 3 {
		p.Status(t, "/nowhere") // each a line
	}
	_, last := read(t, res, true)
	require.Equal(t, "done", last.Type)
	p.Until(t, "relay_log_lines_lost_total", func(n float64) bool { return n >= 3 })
	p.Signal(t, syscall.SIGTERM)
	require.Zero(t, p.Exit(t))
}

func TestConnectionsThatCanNotBeTakenAreWarnedOf(t *testing.T) {
	p := relaytest.ServeBy(t, exec.Command("sh", "-c", `ulimit -n 32; exec "$0"`, relaytest.Binary(t)))
	var conns []net.Conn
	for range 40 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.URL, "http://"))
		require.NoError(t, err)
		conns = append(conns, conn)
	}
	line := p.Wait(t, "a connection could not be taken (see ulimit -n)")
	require.Equal(t, "warn", line["level"])
	require.Contains(t, line["error"], "too many open files")
	for _, conn := range conns {
		conn.Close()
	}
	require.Eventually(t, func() bool { return p.Status(t, "/healthz") == 200 }, relaytest.Patience,
		100*time.Millisecond,
		"and then it goes on")
}
