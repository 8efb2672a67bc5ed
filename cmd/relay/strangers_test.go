package main_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// peakMemory is the most memory that the process ever had, in MiB.
func (p *process) peakMemory(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if os.IsNotExist(err) {
		t.Skip("needs /proc")
	}
	require.NoError(t, err)
	found := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	require.NotNil(t, found)
	kib, err := strconv.Atoi(string(found[1]))
	require.NoError(t, err)
	return kib >> 10
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

// besiege sends requests at once over HTTP/2, each with a body of a MiB that does not end. It returns when each
// was sent, but for its end, or answered.
func (p *process) besiege(t *testing.T, requests int, method, path string, headers ...string) {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	ctx, stop := context.WithCancel(t.Context())
	mib := bytes.Repeat([]byte(" "), 1<<20-1)
	var there, over sync.WaitGroup
	for range requests {
		there.Add(1)
		once := sync.OnceFunc(there.Done)
		req, err := http.NewRequestWithContext(ctx, method, p.url+path, &unended{bytes.NewReader(mib), once, ctx.Done()})
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
	case <-time.After(patience):
		t.Error("the bodies are neither taken nor refused")
	}
	stop()
	over.Wait()
}

// The collector lets as much garbage lie as there is in use, and more while bodies come fast: the process takes some
// three times of what they hold. The race detector remembers who used which word of memory last, and takes as much
// again, twice.
func TestBodiesOfStrangersTakeNoMemory(t *testing.T) {
	const key = "key-0123456789abcdef"
	for name, attack := range map[string]struct {
		method, path string
		most         int // MiB
		headers      []string
	}{
		"with GET":             {http.MethodGet, "/api/chat/stream?message=hi", 48, nil},
		"with HEAD":            {http.MethodHead, "/healthz", 48, nil},
		"with GET of a page":   {http.MethodGet, "/", 48, nil},
		"with DELETE":          {http.MethodDelete, "/api/chat/stream/x", 48, nil},
		"with OPTIONS":         {http.MethodOptions, "/api/chat/stream", 48, nil},
		"to an unknown path":   {http.MethodPut, "/nowhere", 48, nil},
		"with POST and no key": {http.MethodPost, "/api/chat/stream", 48, nil},
		"with POST from a foreign origin": {http.MethodPost, "/api/chat/stream", 48,
			[]string{"Authorization", "Bearer " + key, "Origin", "https://evil.example"}},
		"with GET and a key": {http.MethodGet, "/api/chat/stream?message=hi", 160,
			[]string{"Authorization", "Bearer " + key}},
		"with POST and a key": {http.MethodPost, "/api/chat/stream", 256, []string{"Authorization", "Bearer " + key}},
	} {
		t.Run(name, func(t *testing.T) {
			p := serve(t, "RELAY_API_KEYS="+key)
			before := p.peakMemory(t)
			p.besiege(t, 300, attack.method, attack.path, append(attack.headers, "Content-Type", "application/json")...)
			more := p.peakMemory(t) - before
			t.Logf("%d MiB more", more)
			require.Less(t, more, attack.most*memoryOfRaces)
		})
	}
}

func TestBodiesOnAnOpenRelayAreBounded(t *testing.T) {
	p := serve(t)
	before := p.peakMemory(t)
	p.besiege(t, 600, http.MethodPost, "/api/chat/stream", "Content-Type", "application/json")
	more := p.peakMemory(t) - before
	t.Logf("%d MiB more", more)
	require.Less(t, more, 512*memoryOfRaces)
	text, _ := read(t, p.ask(t, "/api/chat/stream", question), true)
	require.NotEmpty(t, text, "afterwards it answers as ever")
}
