package main_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
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

// A client may read just fast enough not to be dropped. What its provider has sent by HTTP/2 meanwhile, as all do that
// are asked over TLS, lies in the relay, and nobody counts it.
func TestAnAnswerThatIsReadSlowlyTakesLittleMemory(t *testing.T) {
	const streams, most = 10, 1 << 20 // bytes a stream, which took 4 MiB
	frame := `data: {"choices":[{"index":0,"delta":{"content":"` + strings.Repeat("x", 1000) + `"}}]}` + "\n\n"
	provider := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		for range 30000 {
			if _, err := io.WriteString(w, frame); err != nil {
				return
			}
		}
	}))
	provider.EnableHTTP2 = true
	provider.StartTLS()
	t.Cleanup(provider.Close)
	authority := filepath.Join(t.TempDir(), "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: provider.Certificate().Raw})
	require.NoError(t, os.WriteFile(authority, certificate, 0o600))
	p := relaytest.ServeBy(t, exec.Command(plainBinary(t)), "UPSTREAM_KIND=openai", "UPSTREAM_API_KEY=k-0123456789",
		"UPSTREAM_MODEL=m", "UPSTREAM_BASE_URL="+provider.URL, "UPSTREAM_CA_FILE="+authority,
		"RELAY_WRITE_TIMEOUT=1m")
	idle := heap(t, p)
	for range streams {
		conn, err := net.Dial("tcp", p.Addr)
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(4<<10))
		_, err = fmt.Fprintf(conn, "POST /api/chat/stream HTTP/1.1\r\nHost: localhost\r\n"+
			"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(question), question)
		require.NoError(t, err)
	}
	// until no more comes: the providers' sockets are full
	for last := 0; ; {
		time.Sleep(500 * time.Millisecond)
		held := heap(t, p)
		if held > idle+streams*(64<<10) && held < last+(64<<10) {
			break
		}
		last = held
	}
	require.Less(t, (heap(t, p)-idle)/streams, most)
}

// A stranger may send a URL of 64 KiB, and by HTTP/2 a hundred of them over one connection. They are of no use while an
// answer is sent, and still less when it goes on after its client has left.
func TestALongURLIsNotKeptForTheAnswer(t *testing.T) {
	const streams, long, most = 100, 60 << 10, 45 << 10
	p := plainRelay(t, saysHi)
	asked := func(transport http.RoundTripper, method, path, body string) (with int) {
		before := heap(t, p)
		var open []io.Closer
		for range streams {
			req, err := http.NewRequestWithContext(t.Context(), method, p.URL+path, strings.NewReader(body))
			require.NoError(t, err)
			req.Header.Set("Content-Type", "application/json")
			res, err := transport.RoundTrip(req)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, res.StatusCode)
			open = append(open, res.Body)
			for got, buf := []byte(nil), make([]byte, 4<<10); !bytes.Contains(got, []byte("Hi")); {
				n, err := res.Body.Read(buf)
				require.NoError(t, err)
				got = append(got, buf[:n]...)
			}
		}
		with = (heap(t, p) - before) / streams
		for _, body := range open {
			body.Close()
		}
		p.Until(t, "relay_streams_open", func(n float64) bool { return n == 0 })
		holds(t, p, before+streams*most) // once the connections are gone as well
		return with
	}
	http2 := &http.Transport{Protocols: new(http.Protocols)}
	http2.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(http2.CloseIdleConnections)
	const resumable = `{"resumable":true,"messages":[{"role":"user","content":"hi"}]}`
	x := strings.Repeat("x", long)
	for name, tc := range map[string]struct{ method, path, body string }{
		"an unknown parameter": {http.MethodPost, "/api/chat/stream?x=" + x, resumable},
		"a question":           {http.MethodGet, "/api/chat/stream?model=m&message=" + x, ""},
	} {
		require.Less(t, asked(http2, tc.method, tc.path, tc.body), most, name)
		// over HTTP/1 Go's server keeps the first line of a request with its connection
		asked(p.Client.Transport, tc.method, tc.path, tc.body)
	}
}

// A GET with a body is held until that has come, and its header with it, which is counted as that of a POST is.
func TestALargeHeaderBeforeABodyThatMeansNothingIsCounted(t *testing.T) {
	const requests, large = 20, 60 << 10
	p := relaytest.Serve(t, slowBodies)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	var asking sync.WaitGroup
	for range requests {
		body := &unended{strings.NewReader("x"), func() {}, ctx.Done()}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+"/v1/models", body)
		require.NoError(t, err)
		req.ContentLength = 2
		req.Header.Set("X-Large", strings.Repeat("x", large))
		asking.Go(func() {
			if res, err := transport.RoundTrip(req); err == nil {
				res.Body.Close()
			}
		})
	}
	p.Until(t, "relay_body_bytes", func(n float64) bool { return n > requests*large*9/10 })
	stop()
	asking.Wait()
	p.Until(t, "relay_body_bytes", func(n float64) bool { return n == 0 })
}

// A state of a few bytes may have thousands of items. They are of no use once the request is written, and a provider
// may take its time to begin.
func TestTheItemsOfStatesAreNotHeldUntilTheAnswer(t *testing.T) {
	const states, most = 140, 64 << 20 // bytes; what was asked is 8 MiB and took 100
	asked := make(chan struct{}, 1)
	end := make(chan struct{})
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		size, _ := io.Copy(io.Discard, req.Body)
		if size > 1<<10 {
			asked <- struct{}{}
			<-end
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for _, event := range []string{`{"type":"message_start","message":{}}`,
			`{"type":"content_block_start","index":0,"content_block":{"type":"redacted_thinking","data":"x"}}`,
			`{"type":"content_block_stop","index":0}`,
			`{"type":"content_block_start","index":1,"content_block":{"type":"text","text":"a"}}`,
			`{"type":"content_block_stop","index":1}`, `{"type":"message_delta","delta":{"stop_reason":"end_turn"}}`,
			`{"type":"message_stop"}`} {
			_, _ = io.WriteString(w, "data: "+event+"\n\n")
		}
	}))
	t.Cleanup(provider.Close)
	t.Cleanup(func() { close(end) })
	p := relaytest.ServeBy(t, exec.Command(plainBinary(t)), "UPSTREAM_KIND=anthropic", "UPSTREAM_API_KEY=k-0123456789",
		"UPSTREAM_MODEL=claude-opus-5", "UPSTREAM_BASE_URL="+provider.URL)
	own := stateIn(t, p.Ask(t, "/api/chat/stream",
		`{"model":"m","messages":[{"role":"user","content":"hi"}]}`))
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(own, "1."))
	require.NoError(t, err)
	head, _, found := strings.Cut(string(raw), `"i":`)
	require.True(t, found)
	forged := head + `"i":[["x",1]` + strings.Repeat(`,["r","x"]`, 4000) + `]}`
	answer := `{"role":"assistant","content":"a","state":"1.` + base64.RawURLEncoding.EncodeToString([]byte(forged)) +
		`"},`
	body := `{"model":"m","messages":[` + strings.Repeat(answer, states) + `{"role":"user","content":"hi"}]}`
	idle := heap(t, p)
	refused := make(chan struct{})
	go func() {
		if res, err := p.Client.Post(p.URL+"/api/chat/stream", "application/json", strings.NewReader(body)); err == nil {
			if res.StatusCode != http.StatusOK {
				close(refused)
			}
			<-end
			res.Body.Close()
		}
	}()
	select {
	case <-asked:
	case <-refused:
		t.Fatal("the question is refused")
	case <-time.After(relaytest.Patience):
		t.Fatal("the provider is not asked")
	}
	held := heap(t, p) - idle
	require.Less(t, held, most)
	require.Greater(t, held, len(body)/2, "the question is still there")
}
