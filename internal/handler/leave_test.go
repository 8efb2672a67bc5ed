package handler_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/upstream"
	httpprovider "github.com/websopy/relay/internal/upstream/provider"
)

// lab is a provider's server that never ends an answer, with an upstream that asks it.
type lab struct {
	upstream chat.Streamer
	asked    chan struct{}
	left     chan time.Time // when the server saw that nobody listens any more
}

func newLab(t *testing.T, answer http.HandlerFunc) *lab {
	t.Helper()
	l := &lab{asked: make(chan struct{}, 1), left: make(chan time.Time, 1)}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		answer(w, req)
		l.asked <- struct{}{}
		<-req.Context().Done()
		l.left <- time.Now()
	}))
	t.Cleanup(srv.Close)
	provider, err := httpprovider.New(httpprovider.Options{Name: "lab", Kind: "openai", BaseURL: srv.URL,
		ConnectTimeout: patience, FirstChunkTimeout: patience, IdleTimeout: patience})
	require.NoError(t, err)
	l.upstream = &upstream.Fallback{Candidates: []*upstream.Candidate{{Streamer: provider, Retries: 2}},
		Budget: patience}
	return l
}

func TestAClientThatLeavesIsSeenByTheProvider(t *testing.T) {
	headers := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
	}
	for moment, tc := range map[string]struct {
		answer http.HandlerFunc
		chunks float64
	}{
		"before the provider's headers": {func(http.ResponseWriter, *http.Request) {}, 0},
		"before the first chunk":        {headers, 0},
		"in mid-stream": {func(w http.ResponseWriter, req *http.Request) {
			headers(w, req)
			_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"Hel"}}]}`+"\n\n")
			_ = http.NewResponseController(w).Flush()
		}, 1},
	} {
		for protocol, client := range protocols(t) {
			for kind, body := range map[string]string{"a stream": question,
				"a whole answer": `{"stream":false,` + question[1:]} {
				t.Run(moment+", "+protocol+", "+kind, func(t *testing.T) {
					l := newLab(t, tc.answer)
					r := start(t, handler.Options{Router: answering{l.upstream}})
					ctx, leave := context.WithCancel(t.Context())
					defer leave()
					read := make(chan struct{})
					var asking sync.WaitGroup
					asking.Go(func() {
						req, _ := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/api/chat/stream",
							strings.NewReader(body))
						req.Header.Set("Content-Type", "application/json")
						if res, err := client.Do(req); err == nil {
							_, _ = io.ReadAtLeast(res.Body, make([]byte, 1024), int(tc.chunks))
							close(read)
							_, _ = io.Copy(io.Discard, res.Body)
							res.Body.Close()
						}
					})
					receive(t, l.asked)
					if kind == "a stream" {
						receive(t, read)
					}
					left := time.Now()
					leave()
					require.Less(t, receive(t, l.left).Sub(left), 5*time.Second)
					asking.Wait()

					line := r.log.stream(t)
					require.Equal(t, "client_gone", line["reason"])
					require.Equal(t, "info", line["level"], "an outcome, not an error")
					require.NotContains(t, line, "error")
					if kind == "a stream" { // of a whole answer nobody can tell what had come
						require.Equal(t, tc.chunks, line["chunks"])
					}
					require.Equal(t, map[string]float64{"client_gone": 1}, r.counted(t, "relay_streams_ended_total"))
					require.Equal(t, map[string]float64{"cancelled,lab": 1},
						r.counted(t, "relay_upstream_attempts_total"))
					r.idle(t)
				})
			}
		}
	}
}

func TestAClientThatLeftIsNoFailureOfTheProvider(t *testing.T) {
	asked := make(chan struct{})
	r := start(t, handler.Options{
		Router: answering{provider(func(ctx context.Context, _ *chat.Request, yield func(chat.Chunk, error) bool) {
			close(asked)
			<-ctx.Done()
			yield(chat.Chunk{}, &chat.Error{Code: chat.UpstreamError, Message: "the provider failed"})
		})}})
	s := dial(t, r)
	s.post(t)
	s.head(t)
	receive(t, asked)
	s.Close()
	require.Equal(t, "client_gone", r.log.stream(t)["reason"])
}

func TestAClientThatDoesNotReadIsDropped(t *testing.T) {
	for protocol, client := range protocols(t) {
		t.Run(protocol, func(t *testing.T) {
			gone := make(chan error, 1)
			r := start(t, handler.Options{Router: answering{flood(gone)}, WriteTimeout: 250 * time.Millisecond})
			res := ask(t, client, http.MethodPost, r.url+"/api/chat/stream", question)
			defer res.Body.Close()
			receive(t, gone)
			line := r.log.stream(t)
			require.Equal(t, "slow_client", line["reason"])
			require.Equal(t, map[string]float64{"slow_client": 1}, r.counted(t, "relay_streams_ended_total"))
			require.GreaterOrEqual(t, line["duration_ms"], 250.0)
			r.idle(t)
			_, err := io.Copy(io.Discard, res.Body)
			require.Error(t, err, "a cut stream must not look complete")
		})
	}
}

func TestAClientThatReadsSlowlyIsNotDropped(t *testing.T) {
	for protocol, client := range protocols(t) {
		t.Run(protocol, func(t *testing.T) {
			const timeout = 400 * time.Millisecond
			steps := make(chan chat.Chunk)
			r := start(t, handler.Options{WriteTimeout: timeout,
				Router: answering{
					provider(func(_ context.Context, _ *chat.Request, yield func(chat.Chunk, error) bool) {
						for c := range steps {
							yield(c, nil)
						}
					})}})
			res := ask(t, client, http.MethodPost, r.url+"/api/chat/stream", question)
			defer res.Body.Close()
			steps <- content("Hel")
			<-time.After(timeout * 3 / 2) // silence may be longer than any one write
			steps <- content("lo")
			<-time.After(timeout * 3 / 2)
			steps <- done(chat.FinishStop)
			close(steps)
			body, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			require.Equal(t, helFrame+loFrame+doneFrame+endFrame, string(body))
			require.Equal(t, "completed", r.log.stream(t)["reason"])
		})
	}
}

func TestAConnectionServesAgainAfterAStream(t *testing.T) {
	const timeout = 10 * time.Second
	for name, tc := range map[string]struct{ again, status string }{
		"another stream": {"POST /api/chat/stream HTTP/1.1\r\nHost: relay\r\nContent-Type: application/json\r\n" +
			"Content-Length: 45\r\n\r\n" + question, "HTTP/1.1 200 OK"},
		"a refusal": {"GET /api/chat/stream HTTP/1.1\r\nHost: relay\r\n\r\n", "HTTP/1.1 400 Bad Request"},
		"a preflight": {"OPTIONS /api/chat/stream HTTP/1.1\r\nHost: relay\r\nOrigin: https://app.example.com\r\n" +
			"Access-Control-Request-Method: POST\r\n\r\n", "HTTP/1.1 200 OK"},
	} {
		t.Run(name+" long after", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, s := connect(t, handler.Options{Router: answering{hello}, WriteTimeout: timeout,
					CORSOrigins: []string{"https://app.example.com"}})
				s.post(t)
				s.head(t)
				require.Equal(t, helFrame+loFrame+doneFrame+endFrame, s.rest(t))
				wait(t.Context(), 10*timeout) // the deadlines of the first request are over
				s.send(t, tc.again)
				status, _ := s.head(t)
				require.Equal(t, tc.status, status)
				if name == "another stream" {
					require.Equal(t, helFrame+loFrame+doneFrame+endFrame, s.rest(t))
				}
			})
		})
	}
}

func TestARefusalOnHTTP2LeavesTheOtherStreamsOfTheConnectionAlone(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello}, MaxBody: 100})
	dials := make(chan net.Conn, 10)
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: h2, DialContext: func(ctx context.Context, network, addr string) (net.Conn,
		error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		dials <- conn
		return conn, err
	}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for range 3 {
		res := ask(t, client, http.MethodPost, r.url+"/api/chat/stream", strings.Repeat("x", 101))
		require.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, chat.BodyTooLarge, lastError(t, string(body)).Code)
		res = ask(t, client, http.MethodPost, r.url+"/api/chat/stream", question)
		body, err = io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, helFrame+loFrame+doneFrame+endFrame, string(body))
	}
	require.Len(t, dials, 1, "a balancer has many clients on one connection")
}

func TestHTTP2HeadersAndFrames(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello}})
	res := ask(t, protocols(t)["HTTP/2"], http.MethodPost, r.url+"/api/chat/stream", question)
	require.Equal(t, "HTTP/2.0", res.Proto)
	require.Empty(t, res.Header.Values("Connection"), "RFC 9113, 8.2.2 forbids it")
	require.Equal(t, "text/event-stream; charset=utf-8", res.Header.Get("Content-Type"))
	require.Equal(t, "no-cache, no-transform", res.Header.Get("Cache-Control"))
	require.Equal(t, "no", res.Header.Get("X-Accel-Buffering"))
	require.Equal(t, int64(-1), res.ContentLength)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, helFrame+loFrame+doneFrame+endFrame, string(body))
}
