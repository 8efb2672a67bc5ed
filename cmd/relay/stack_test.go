package main_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
)

// openings are an answer's first events, in each wire format: text in more than one event, so that the general reading
// of the first has its turn, and the shorter way of those that look like it.
var openings = map[string]struct{ kind, base, typ, events string }{
	"openai": {"openai", "/v1", "text/event-stream", `data: {"id":"c","object":"chat.completion.chunk","model":"m",` +
		`"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n" +
		strings.Repeat(`data: {"id":"c","object":"chat.completion.chunk","model":"m",`+
			`"choices":[{"index":0,"delta":{"content":"wörd \"\n\" "},"finish_reason":null}]}`+"\n\n", 3)},
	"openai-responses": {"openai-responses", "/v1", "text/event-stream",
		"event: response.created\n" + `data: {"type":"response.created","response":{"id":"r","model":"m"}}` + "\n\n" +
			"event: response.output_item.added\n" + `data: {"type":"response.output_item.added","output_index":0,` +
			`"item":{"id":"i","type":"message","role":"assistant","content":[]}}` + "\n\n" +
			strings.Repeat("event: response.output_text.delta\n"+`data: {"type":"response.output_text.delta",`+
				`"item_id":"i","output_index":0,"content_index":0,"delta":"wörd \"\n\" "}`+"\n\n", 3)},
	"anthropic": {"anthropic", "", "text/event-stream",
		"event: message_start\n" + `data: {"type":"message_start","message":{"id":"m","type":"message",` +
			`"role":"assistant","model":"m","content":[],"usage":{"input_tokens":3,"output_tokens":1}}}` + "\n\n" +
			"event: content_block_start\n" + `data: {"type":"content_block_start","index":0,` +
			`"content_block":{"type":"text","text":""}}` + "\n\n" +
			strings.Repeat("event: content_block_delta\n"+`data: {"type":"content_block_delta","index":0,`+
				`"delta":{"type":"text_delta","text":"wörd \"\n\" "}}`+"\n\n", 3)},
	"gemini": {"gemini", "/v1beta", "text/event-stream", strings.Repeat(
		`data: {"candidates":[{"content":{"parts":[{"text":"wörd \"\n\" "}],"role":"model"},"index":0}],`+
			`"usageMetadata":{"promptTokenCount":3,"totalTokenCount":3},"modelVersion":"m"}`+"\r\n\r\n", 3)},
	"cohere": {"cohere", "", "text/event-stream",
		"event: message-start\n" + `data: {"id":"i","type":"message-start","delta":{"message":{"role":"assistant"}}}` +
			"\n\n" + strings.Repeat("event: content-delta\n"+`data: {"type":"content-delta","index":0,`+
			`"delta":{"message":{"content":{"text":"wörd \"\n\" "}}}}`+"\n\n", 3)},
	"ollama": {"ollama", "", "application/x-ndjson", strings.Repeat(
		`{"model":"m","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"wörd \"\n\" "},`+
			`"done":false}`+"\n", 3)},
}

// plainBinary is a relay without the race detector, whose frames and allocations are others.
func plainBinary(t *testing.T) string {
	if !raceEnabled {
		return relaytest.Binary(t)
	}
	plain := filepath.Join(t.TempDir(), "relay")
	require.NoError(t, relaytest.Build(plain))
	return plain
}

// A relay holds thousands of streams that wait for their next chunk. A goroutine's stack doubles when it is too small,
// and a single large frame on a chunk's way doubles that of each stream, of which nothing else would tell.
func TestTheStackOfAStream(t *testing.T) {
	const (
		streams = 200
		most    = 22 << 10 // bytes a stream, with those of its connections: 19 KiB, and 27 when one stack has doubled
	)
	plain := plainBinary(t)
	for name, tc := range openings {
		t.Run(name, func(t *testing.T) {
			begun := make(chan struct{})
			provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				_, _ = io.Copy(io.Discard, req.Body)
				w.Header().Set("Content-Type", tc.typ)
				<-begun // as providers do: the first word takes longer than the relay waits with its header
				_, _ = io.WriteString(w, tc.events)
				_ = http.NewResponseController(w).Flush()
				<-req.Context().Done()
			}))
			defer provider.Close()
			p := relaytest.ServeBy(t, exec.Command(plain), "UPSTREAM_KIND="+tc.kind, "UPSTREAM_API_KEY=k-0123456789",
				"UPSTREAM_MODEL=m", "UPSTREAM_BASE_URL="+provider.URL+tc.base)
			before := p.Gauge(t, "go_memstats_stack_inuse_bytes")
			var asking sync.WaitGroup
			defer asking.Wait()
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			var open []io.Closer
			defer func() {
				for _, c := range open {
					c.Close()
				}
			}()
			for range streams {
				res, err := client.Post(p.URL+"/api/chat/stream", "application/json", strings.NewReader(question))
				require.NoError(t, err)
				open = append(open, res.Body)
				begun <- struct{}{}
				read := make([]byte, 0, 4<<10)
				for strings.Count(string(read), "wörd") < 3 {
					n, err := res.Body.Read(read[len(read):cap(read)])
					require.NoError(t, err, string(read))
					read = read[:len(read)+n]
				}
			}
			p.Until(t, "relay_streams_open", func(n float64) bool { return n == streams })
			each := (p.Gauge(t, "go_memstats_stack_inuse_bytes") - before) / streams
			t.Logf("%.1f KiB of stack a stream", each/1024)
			require.Less(t, each, float64(most))
		})
	}
}
