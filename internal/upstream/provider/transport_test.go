package provider_test

import (
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/upstream"
	"github.com/websopy/relay/internal/upstream/provider"
)

// freezer passes bytes between clients and a server until its connections freeze: then they stay open,
// and nothing passes any more, as when a machine or a NAT entry on the way is gone.
type freezer struct {
	listener net.Listener
	server   string
	wg       sync.WaitGroup

	mu     sync.Mutex // guards the rest
	frozen chan struct{}
	conns  []net.Conn
}

func newFreezer(t *testing.T, server string) *freezer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &freezer{listener: l, server: server, frozen: make(chan struct{})}
	f.wg.Go(f.accept)
	t.Cleanup(func() {
		l.Close()
		f.mu.Lock()
		for _, c := range f.conns {
			c.Close()
		}
		f.mu.Unlock()
		f.wg.Wait()
	})
	return f
}

func (f *freezer) accept() {
	for {
		client, err := f.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", f.server)
		if err != nil {
			client.Close()
			continue
		}
		f.mu.Lock()
		f.conns = append(f.conns, client, server)
		frozen := f.frozen
		f.mu.Unlock()
		f.wg.Go(func() { pass(server, client, frozen) })
		f.wg.Go(func() { pass(client, server, frozen) })
	}
}

func pass(to io.Writer, from io.Reader, frozen <-chan struct{}) {
	buf := make([]byte, 4<<10)
	for {
		n, err := from.Read(buf)
		select {
		case <-frozen:
			return
		default:
		}
		if _, writeErr := to.Write(buf[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

// freeze freezes the connections that there are. New ones work.
func (f *freezer) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.frozen)
	f.frozen = make(chan struct{})
}

// tlsProvider serves HTTP/2 over TLS, and returns options with which it is trusted.
func tlsProvider(t *testing.T, h http.HandlerFunc) (*httptest.Server, provider.Options) {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	o := options("openai", srv.URL+"/v1")
	o.RootCAs = x509.NewCertPool()
	o.RootCAs.AddCert(srv.Certificate())
	return srv, o
}

// noticed is how long a dead HTTP/2 connection may go unnoticed: 13 s, and two for a busy machine.
const noticed = 15 * time.Second

func TestADeadConnectionIsNoticedWithin15Seconds(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 13 s of real time")
	}
	t.Parallel()
	t.Run("in mid-answer", func(t *testing.T) {
		t.Parallel()
		srv, o := tlsProvider(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, sse(delta(`"content":"Hi"`)))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
		f := newFreezer(t, srv.Listener.Addr().String())
		o.BaseURL = "https://" + f.listener.Addr().String()
		o.IdleTimeout = time.Minute
		s := newUpstream(t, o)
		t.Cleanup(func() { provider.CloseIdle(s) })
		var frozen time.Time
		var failure error
		for _, err := range s.Stream(t.Context(), question()) {
			if failure = err; err == nil {
				f.freeze()
				frozen = time.Now()
			}
		}
		require.Equal(t, chat.UpstreamTruncated, chat.AsError(failure).Code)
		require.Less(t, time.Since(frozen), noticed)
	})
	t.Run("before the answer, which another connection then brings", func(t *testing.T) {
		t.Parallel()
		var f *freezer
		asked := make(chan string, 3) // more than there are requests
		srv, o := tlsProvider(t, func(w http.ResponseWriter, r *http.Request) {
			asked <- r.Proto
			if len(asked) == 1 {
				f.freeze()
				<-r.Context().Done()
				return
			}
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, sse(delta(`"content":"Hi"`), "[DONE]"))
		})
		f = newFreezer(t, srv.Listener.Addr().String())
		o.BaseURL = "https://" + f.listener.Addr().String()
		o.FirstChunkTimeout = time.Minute
		s := newUpstream(t, o)
		t.Cleanup(func() { provider.CloseIdle(s) })
		begin := time.Now()
		chain := &upstream.Fallback{Budget: time.Minute, Candidates: []*upstream.Candidate{{Streamer: s, Retries: 1}}}
		got := chattest.Fold(t, chain.Stream(t.Context(), question()))
		require.NoError(t, got.Err)
		require.Equal(t, "Hi", got.Text)
		require.Equal(t, "HTTP/2.0", <-asked)
		require.Less(t, time.Since(begin), noticed)
	})
}

func TestAPrivateAuthorityIsTrustedWhenItIsGiven(t *testing.T) {
	var proto string
	_, o := tlsProvider(t, func(w http.ResponseWriter, r *http.Request) {
		proto = r.Proto
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, sse(delta(`"content":"Hi"`), "[DONE]"))
	})
	s := newUpstream(t, o)
	require.Equal(t, "Hi", chattest.Fold(t, s.Stream(t.Context(), question())).Text)
	require.Equal(t, "HTTP/2.0", proto)
	provider.CloseIdle(s)

	o.RootCAs = nil
	require.Equal(t, chat.UpstreamUnreachable,
		chat.AsError(chattest.Fold(t, newUpstream(t, o).Stream(t.Context(), question())).Err).Code)
}

func TestFurtherHeadersGoWithEachRequestAndBeforeTheFormats(t *testing.T) {
	var got http.Header
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, sse(delta(`"content":"Hi"`), "[DONE]"))
	}))
	defer srv.Close()
	o := options("openai", srv.URL)
	o.Headers = http.Header{"X-Team": {"a", "b"}, "Authorization": {"Basic eA=="}}
	s := newUpstream(t, o)
	for range 2 {
		require.Equal(t, "Hi", chattest.Fold(t, s.Stream(t.Context(), question())).Text)
		require.Equal(t, []string{"a", "b"}, got["X-Team"])
		require.Equal(t, []string{"Basic eA=="}, got["Authorization"])
		require.Equal(t, "application/json", got.Get("Content-Type"))
	}
}

func TestAServerThatSaysNothingInTheHandshakeIsGivenUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	o := options("openai", "https://"+l.Addr().String())
	o.ConnectTimeout = 50 * time.Millisecond
	e := chat.AsError(chattest.Fold(t, newUpstream(t, o).Stream(t.Context(), question())).Err)
	require.Equal(t, chat.UpstreamTimeout, e.Code)
	require.Equal(t, chat.PhaseConnect, e.Phase)
}

// TestTheProxyOfTheEnvironmentIsUsed runs itself again: the environment is read once in a process.
func TestTheProxyOfTheEnvironmentIsUsed(t *testing.T) {
	const child = "RELAY_TEST_BEHIND_PROXY"
	if os.Getenv(child) != "" {
		s := newUpstream(t, options("openai", "http://provider.invalid/v1"))
		require.Equal(t, "Hi", chattest.Fold(t, s.Stream(t.Context(), question())).Text)
		provider.CloseIdle(s)
		return
	}
	asked := ""
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.String()
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, sse(delta(`"content":"Hi"`), "[DONE]"))
	}))
	defer proxy.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), child+"=1", "HTTP_PROXY="+proxy.URL, "NO_PROXY=", "no_proxy=")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.True(t, strings.HasPrefix(asked, "http://provider.invalid/v1/"), asked)
}

// writes counts the writes to a connection.
type writes struct {
	net.Conn
	n *atomic.Int32
}

func (w writes) Write(p []byte) (int, error) {
	w.n.Add(1)
	return w.Conn.Write(p)
}

// A write is a system call and a packet, and costs more than anything else that the relay does for a short answer.
func TestAShortQuestionIsOneWrite(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	}))
	defer srv.Close()
	s := newUpstream(t, options("openai", srv.URL))
	var n atomic.Int32
	provider.DialThrough(s, func(c net.Conn) net.Conn { return writes{c, &n} })
	for i := range int32(3) {
		chattest.Fold(t, s.Stream(t.Context(), question()))
		require.Equal(t, i+1, n.Load())
	}
}
