package handler_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/stream"
	"github.com/websopy/relay/internal/upstream"
	httpprovider "github.com/websopy/relay/internal/upstream/provider"
)

// questions are 900 KiB each, and each takes memory in another way once it is decoded.
var questions = map[string]string{
	"a long text": `{"messages":[{"role":"user","content":"` + strings.Repeat("x", 900<<10) +
		`"}],"model":"m"`,
	"many small messages": `{"messages":[` + strings.Repeat(`{"role":"user","content":""},`, 30<<10) +
		`{"role":"user","content":"q"}],"model":"m"`,
	"a long field": `{"messages":[{"role":"user","content":"q"}],"model":"m","metadata":{"k":"` +
		strings.Repeat("x", 900<<10) + `"}`,
	"many tools": `{"messages":[{"role":"user","content":"q"}],"model":"m","tools":[` +
		strings.Repeat(`{"type":"function","function":{"name":"f","parameters":{"type":"object"}}},`, 12<<10) +
		`{"type":"function","function":{"name":"f"}}]`,
}

// forgetful is a provider over HTTP that says one word, and the rest when it is let. It reads questions and
// keeps nothing of them.
func forgetful(t *testing.T) (url string, rest chan struct{}) {
	rest = make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}`+"\n\n")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-rest:
		case <-req.Context().Done():
			return
		}
		_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`+
			"\n\ndata: [DONE]\n\n")
	}))
	t.Cleanup(srv.Close)
	return srv.URL, rest
}

// chain is a provider behind all that stands in front of one.
func chain(t *testing.T, url string) chat.Streamer {
	client, err := httpprovider.New(httpprovider.Options{
		Name: "openai", Kind: "openai", BaseURL: url, Model: "m",
		ConnectTimeout: patience, FirstChunkTimeout: patience, IdleTimeout: time.Hour,
	})
	require.NoError(t, err)
	return &upstream.Fallback{Budget: patience, Candidates: []*upstream.Candidate{{
		Streamer: upstream.NewLimit(client, 1000, 1000, time.Second),
		Model:    func(string) (string, bool) { return "another", true },
	}}}
}

// heap is what is in use, in bytes.
func heap() int64 {
	var m runtime.MemStats
	for range 3 { // what a pool keeps takes two
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// streams opens n streams and reads the first word of each. What each of them takes is in bytes.
func streams(t *testing.T, r *relay, body string, n int) (each int64, open []*http.Response) {
	before := heap()
	for range n {
		res, err := http.Post(r.url+"/api/chat/stream", "application/json", strings.NewReader(body))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, res.StatusCode)
		for lines := bufio.NewReader(res.Body); ; {
			line, err := lines.ReadString('\n')
			require.NoError(t, err)
			if strings.Contains(line, "Hi") {
				break
			}
		}
		open = append(open, res)
	}
	return (heap() - before) / int64(n), open
}

const shortQuestion = `{"messages":[{"role":"user","content":"q"}],"model":"m"`

func TestARunningAnswerDoesNotKeepItsQuestion(t *testing.T) {
	url, _ := forgetful(t)
	hub := stream.New(stream.Options{Grace: time.Minute, Retention: time.Minute})
	r := start(t, handler.Options{Router: answering{chain(t, url)}, Streams: hub})
	t.Cleanup(func() { closeNow(hub) })
	for mode, end := range map[string]string{"plain": `}`, "resumable": `,"resumable":true}`} {
		const n = 8
		small, open := streams(t, r, shortQuestion+end, n)
		t.Cleanup(func() {
			for _, res := range open {
				res.Body.Close()
			}
		})
		for name, question := range questions {
			t.Run(mode+", "+name, func(t *testing.T) {
				long, more := streams(t, r, question+end, n)
				// A question takes 900 KiB and more; what earlier tests of the process let go of meanwhile is a tenth
				// of that.
				require.Less(t, long, small+200<<10, "bytes a stream, %d with a short question", small)
				open = append(open, more...)
			})
		}
	}
}

// closeNow closes a hub without waiting for running streams.
func closeNow(h *stream.Hub) {
	over, end := context.WithCancel(context.Background())
	end()
	h.Close(over)
}

// What is held is counted at what it is: before the answer begins that is the question above all, and after its end
// the log.
func TestAResumableStreamTakesNoMoreThanItCountsFor(t *testing.T) {
	said := make(chan struct{}, 100)
	begin := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		said <- struct{}{}
		select {
		case <-begin:
		case <-req.Context().Done():
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}`+
			"\n\ndata: [DONE]\n\n")
	}))
	t.Cleanup(srv.Close)
	hub := stream.New(stream.Options{Grace: time.Minute, Retention: time.Minute})
	t.Cleanup(func() { closeHub(hub) })
	r := start(t, handler.Options{Router: answering{chain(t, srv.URL)}, Streams: hub})
	for name, question := range questions {
		t.Run(name, func(t *testing.T) {
			const n = 8
			var open []*http.Response
			body := question + `,"resumable":true}` // of all requests, so that it counts for none
			before, counted := heap(), hub.Stats().Bytes
			for range n {
				open = append(open, ask(t, http.DefaultClient, http.MethodPost, r.url+"/api/chat/stream", body))
				receive(t, said)
				defer open[len(open)-1].Body.Close()
			}
			const connections = 64 << 10 // of the client, the relay and the provider, all of them here
			taken, counts := (heap()-before)/n, (hub.Stats().Bytes-counted)/n
			require.Less(t, taken, counts+connections, "bytes a stream that waits, which counts for %d", counts)
			require.Less(t, counts, taken*3/2)
			for range n {
				begin <- struct{}{}
			}
			for _, res := range open {
				_, err := io.Copy(io.Discard, res.Body)
				require.NoError(t, err)
			}
			require.Eventually(t, func() bool { return hub.Stats().Live == 0 }, patience, time.Millisecond)
			http.DefaultClient.CloseIdleConnections()
			taken, counts = (heap()-before)/n, (hub.Stats().Bytes-counted)/n
			require.Less(t, taken, counts+connections, "bytes a stream that has ended, which counts for %d", counts)
			require.Less(t, counts, int64(8<<10))
		})
	}
}
