package main_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
)

// heap is what the relay's heap has in use, in bytes, once the garbage is gone.
func heap(t *testing.T, p *relaytest.Relay) int {
	t.Helper()
	for range 3 { // what a pool keeps takes two
		res, err := p.Client.Get("http://" + p.Admin + "/debug/pprof/heap?gc=1")
		require.NoError(t, err)
		require.NotEmpty(t, relaytest.Body(t, res))
	}
	return int(p.Gauge(t, "go_memstats_heap_alloc_bytes"))
}

// plainRelay runs a relay without the race detector, whose memory and time are a user's, in front of a provider that
// speaks OpenAI's format.
func plainRelay(t *testing.T, provider http.HandlerFunc, settings ...string) *relaytest.Relay {
	t.Helper()
	server := httptest.NewServer(provider)
	t.Cleanup(server.Close)
	return relaytest.ServeBy(t, exec.Command(plainBinary(t)), append([]string{"UPSTREAM_KIND=openai",
		"UPSTREAM_API_KEY=k-0123456789", "UPSTREAM_MODEL=m", "UPSTREAM_BASE_URL=" + server.URL}, settings...)...)
}

// saysHi is a provider whose answers have one word, and no end.
func saysHi(w http.ResponseWriter, req *http.Request) {
	_, _ = io.Copy(io.Discard, req.Body)
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}`+"\n\n")
	_ = http.NewResponseController(w).Flush()
	<-req.Context().Done()
}

// unended is a body that is sent but for its end.
type unended struct {
	io.Reader
	sent func()          // called when all of it but the end is sent
	over <-chan struct{} // the end
}

func (e *unended) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	if err == io.EOF && e.sent != nil {
		e.sent()
		e.sent = nil
		<-e.over
	}
	return n, err
}

// besiege sends requests at once over HTTP/2, each with a body of a MiB that does not end. When each was sent, but for
// its end, or answered, it looks at what the relay has.
func besiege(t *testing.T, p *relaytest.Relay, requests int, look func(), method, path string, headers ...string) {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	ctx, stop := context.WithCancel(t.Context())
	mib := bytes.Repeat([]byte(" "), 1<<20-1)
	var there, over sync.WaitGroup
	defer over.Wait()
	defer stop()
	for range requests {
		there.Add(1)
		once := sync.OnceFunc(there.Done)
		req, err := http.NewRequestWithContext(ctx, method, p.URL+path,
			&unended{bytes.NewReader(mib), once, ctx.Done()})
		require.NoError(t, err)
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		over.Go(func() {
			defer once()
			if res, err := transport.RoundTrip(req); err == nil {
				res.Body.Close()
			}
		})
	}
	sent := make(chan struct{})
	go func() { there.Wait(); close(sent) }()
	select {
	case <-sent:
		look()
	case <-time.After(2 * relaytest.Patience): // the race detector looks at every byte, several times
		t.Error("the bodies are neither taken nor refused")
	}
}

// A body without an end stays for as long as the test looks.
const slowBodies = "RELAY_BODY_TIMEOUT=10m"

// What counts is what is held. How much the process takes meanwhile is up to the collector, which lets twice as much
// lie as there is in use, and more while bodies come fast; and under the race detector, which keeps notes on all
// memory that was ever touched.
func TestBodiesOfStrangersTakeNoMemory(t *testing.T) {
	const key = "key-0123456789abcdef"
	for name, attack := range map[string]struct {
		method, path string
		most         int // MiB, of 150
		headers      []string
	}{
		"with GET":             {http.MethodGet, "/api/chat/stream?message=hi", 8, nil},
		"with HEAD":            {http.MethodHead, "/healthz", 8, nil},
		"with GET of a page":   {http.MethodGet, "/", 8, nil},
		"with DELETE":          {http.MethodDelete, "/api/chat/stream/x", 8, nil},
		"with OPTIONS":         {http.MethodOptions, "/api/chat/stream", 8, nil},
		"to an unknown path":   {http.MethodPut, "/nowhere", 8, nil},
		"with POST and no key": {http.MethodPost, "/api/chat/stream", 8, nil},
		"with POST from a foreign origin": {http.MethodPost, "/api/chat/stream", 8,
			[]string{"Authorization", "Bearer " + key, "Origin", "https://evil.example"}},
		"with GET and a key": {http.MethodGet, "/api/chat/stream?message=hi", 8,
			[]string{"Authorization", "Bearer " + key}},
		// half the budget, and what HTTP/2 has of each
		"with POST and a key": {http.MethodPost, "/api/chat/stream", 64 + 16,
			[]string{"Authorization", "Bearer " + key}},
	} {
		t.Run(name, func(t *testing.T) {
			p := relaytest.Serve(t, "RELAY_API_KEYS="+key, slowBodies)
			idle := heap(t, p)
			headers := append([]string{"Content-Type", "application/json"}, attack.headers...)
			besiege(t, p, 150, func() { holds(t, p, idle+attack.most<<20) }, attack.method, attack.path, headers...)
		})
	}
}

// holds waits until the relay has no more than that in use, in bytes: requests that are refused are over a moment
// after their answers.
func holds(t *testing.T, p *relaytest.Relay, most int) {
	t.Helper()
	held := heap(t, p)
	for end := time.Now().Add(relaytest.Patience); held > most && time.Now().Before(end); held = heap(t, p) {
		time.Sleep(20 * time.Millisecond)
	}
	require.LessOrEqual(t, held, most)
}

func TestBodiesOnAnOpenRelayAreBounded(t *testing.T) {
	p := relaytest.Serve(t, slowBodies)
	idle := heap(t, p)
	look := func() {
		holds(t, p, idle+(128+16)<<20)
		require.Greater(t, p.Gauge(t, "relay_body_bytes"), 120.0*(1<<20), "the bodies that were taken are still there")
	}
	besiege(t, p, 300, look, http.MethodPost, "/api/chat/stream", "Content-Type", "application/json")
	p.Until(t, "relay_body_bytes", func(n float64) bool { return n == 0 })
	text, _ := read(t, p.Ask(t, "/api/chat/stream", question), true)
	require.NotEmpty(t, text, "afterwards it answers as ever")
}
