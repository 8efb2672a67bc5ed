package upstream_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream"
)

// short is a time-out that a test waits for, patience one that it must not reach.
const (
	short    = 100 * time.Millisecond
	patience = 20 * time.Second
)

// provide starts a provider that has read the request when it answers.
func provide(t *testing.T, answer http.HandlerFunc) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		answer(w, req)
	}))
	t.Cleanup(srv.Close)
	return srv
}

// streamHeaders sends the headers of a stream and nothing yet.
func streamHeaders(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream")
	_ = http.NewResponseController(w).Flush()
}

// send writes a part of a stream at once.
func send(w io.Writer, part string) {
	_, _ = io.WriteString(w, part)
	_ = http.NewResponseController(w.(http.ResponseWriter)).Flush()
}

func TestProvidersThatFail(t *testing.T) {
	hang := func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }
	for name, tc := range map[string]struct {
		answer      http.HandlerFunc
		first, idle time.Duration // time-outs; patience when not set
		text        string
		code        chat.Code
		phase       chat.Phase
	}{
		"one that stalls before its headers": {answer: hang, first: short, code: chat.UpstreamTimeout, phase: chat.PhaseFirstChunk},
		"one that stalls after its headers": {
			answer: func(w http.ResponseWriter, req *http.Request) { streamHeaders(w); hang(w, req) },
			first:  short, code: chat.UpstreamTimeout, phase: chat.PhaseFirstChunk,
		},
		"one that says only what is no content yet": {
			answer: func(w http.ResponseWriter, req *http.Request) {
				streamHeaders(w)
				send(w, sse(delta(`"role":"assistant","content":""`)))
				hang(w, req)
			},
			first: short, code: chat.UpstreamTimeout, phase: chat.PhaseFirstChunk,
		},
		"one that stalls in mid-stream": {
			answer: func(w http.ResponseWriter, req *http.Request) {
				streamHeaders(w)
				send(w, sse(delta(`"content":"Hi"`)))
				hang(w, req)
			},
			idle: short, text: "Hi", code: chat.UpstreamTimeout, phase: chat.PhaseIdle,
		},
		"one that trickles comments and pings": {
			answer: func(w http.ResponseWriter, req *http.Request) {
				streamHeaders(w)
				send(w, sse(delta(`"content":"Hi"`)))
				for req.Context().Err() == nil {
					send(w, ": OPENROUTER PROCESSING\n\nevent: ping\ndata: {}\n\n")
					select {
					case <-time.After(short / 20):
					case <-req.Context().Done():
					}
				}
			},
			idle: short, text: "Hi", code: chat.UpstreamTimeout, phase: chat.PhaseIdle,
		},
		"one that sends garbage": {
			answer: func(w http.ResponseWriter, _ *http.Request) {
				streamHeaders(w)
				send(w, "\x00\xff\xfe\r\rdata: \x80\x81\n\n")
			},
			code: chat.UpstreamMalformed,
		},
		"one whose line never ends": {
			answer: func(w http.ResponseWriter, req *http.Request) {
				streamHeaders(w)
				send(w, `data: {"choices":[{"index":0,"delta":{"content":"`)
				more := []byte(strings.Repeat("x", 1<<20))
				for range 64 {
					if _, err := w.Write(more); err != nil {
						return
					}
				}
			},
			code: chat.UpstreamMalformed,
		},
		"one that breaks off": {
			answer: func(w http.ResponseWriter, _ *http.Request) {
				streamHeaders(w)
				send(w, sse(delta(`"content":"Hi"`)))
			},
			text: "Hi", code: chat.UpstreamTruncated,
		},
		"one that resets the connection": {
			answer: func(w http.ResponseWriter, _ *http.Request) {
				streamHeaders(w)
				send(w, sse(delta(`"content":"Hi"`)))
				reset(w)
			},
			text: "Hi", code: chat.UpstreamTruncated,
		},
		"one that resets the connection before it answers": {
			answer: func(w http.ResponseWriter, _ *http.Request) { reset(w) }, code: chat.UpstreamUnreachable,
		},
		"an error inside a 200": {
			answer: func(w http.ResponseWriter, _ *http.Request) {
				streamHeaders(w)
				send(w, sse(delta(`"content":"Hi"`), `{"error":{"message":"overloaded","type":"server_error"}}`))
			},
			text: "Hi", code: chat.UpstreamError,
		},
		"an error as a whole 200": {
			answer: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				send(w, `{"error":{"message":"slow down","type":"rate_limit_error"}}`)
			},
			code: chat.UpstreamRateLimited,
		},
		"an answer that is no stream": {
			answer: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				send(w, `{"choices":[{"message":{"content":"Hi"}}]}`)
			},
			code: chat.UpstreamMalformed,
		},
		"a login page": {
			answer: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				send(w, "<html>Sign in</html>")
			},
			code: chat.UpstreamMalformed,
		},
		"an error page that never ends": {
			answer: func(w http.ResponseWriter, req *http.Request) {
				w.WriteHeader(http.StatusBadGateway)
				send(w, "<html>")
				hang(w, req)
			},
			first: short, code: chat.UpstreamTimeout, phase: chat.PhaseFirstChunk,
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := options("openai", provide(t, tc.answer).URL)
			o.FirstChunkTimeout, o.IdleTimeout = patience, patience
			if tc.first > 0 {
				o.FirstChunkTimeout = tc.first
			}
			if tc.idle > 0 {
				o.IdleTimeout = tc.idle
			}
			began := time.Now()
			got := fold(t, newUpstream(t, o), t.Context(), question())
			require.Less(t, time.Since(began), patience)
			require.Equal(t, tc.text, got.text)
			e := chat.AsError(got.err)
			require.Equal(t, tc.code, e.Code, "%v", got.err)
			require.Equal(t, tc.phase, e.Phase)
			require.NotContains(t, e.Message, "127.0.0.1")
			require.NotContains(t, e.Message, "test-key")
		})
	}
}

// reset ends a connection as a crashed machine does, not in HTTP's way.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
}

func TestAProviderThatIsNotThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l.Close()
	e := chat.AsError(fold(t, newUpstream(t, options("openai", "http://"+l.Addr().String())), t.Context(), question()).err)
	require.Equal(t, chat.UpstreamUnreachable, e.Code)
	require.NotContains(t, e.Message, "127.0.0.1")
}

func TestAProviderThatDoesNotFinishConnecting(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing to a TLS handshake
	require.NoError(t, err)
	defer l.Close()
	o := options("openai", "https://"+l.Addr().String())
	o.ConnectTimeout = short
	e := chat.AsError(fold(t, newUpstream(t, o), t.Context(), question()).err)
	require.Equal(t, chat.UpstreamTimeout, e.Code)
	require.Equal(t, chat.PhaseConnect, e.Phase)
}

func TestStatusesAndAttempts(t *testing.T) {
	now := time.Now()
	for name, tc := range map[string]struct {
		status     int
		header     string // name and value
		body       string
		code       chat.Code
		attempts   int32
		message    string
		retryAfter time.Duration // at least; less than a second more
	}{
		"401 is the relay's own fault":        {status: 401, body: `{"error":{"message":"Incorrect API key provided: sk-ab***yz"}}`, code: chat.UpstreamAuth, attempts: 1, message: "the provider does not accept the relay's credentials"},
		"403 is, too":                         {status: 403, code: chat.UpstreamAuth, attempts: 1},
		"400 passes on a plain sentence":      {status: 400, body: `{"error":{"message":"Unknown model foo."}}`, code: chat.UpstreamRejected, attempts: 1, message: "the provider rejected the request: Unknown model foo."},
		"400 passes on one with a colon":      {status: 400, body: `{"error":{"message":"Invalid value: 'x'."}}`, code: chat.UpstreamRejected, attempts: 1, message: "the provider rejected the request: Invalid value: 'x'."},
		"400 passes on no host":               {status: 400, body: `{"error":{"message":"Ask gateway.internal:8080 instead"}}`, code: chat.UpstreamRejected, attempts: 1, message: "the provider rejected the request"},
		"400 passes on no address":            {status: 400, body: `{"error":{"message":"Call http://10.0.0.1/v1 instead"}}`, code: chat.UpstreamRejected, attempts: 1, message: "the provider rejected the request"},
		"404":                                 {status: 404, body: "<html>", code: chat.UpstreamRejected, attempts: 1, message: "the provider rejected the request"},
		"400 for its content":                 {status: 400, body: `{"error":{"code":"content_filter","message":"no"}}`, code: chat.ContentFiltered, attempts: 1},
		"408":                                 {status: 408, code: chat.UpstreamError, attempts: 3},
		"409":                                 {status: 409, code: chat.UpstreamError, attempts: 3},
		"425":                                 {status: 425, code: chat.UpstreamError, attempts: 3},
		"429":                                 {status: 429, code: chat.UpstreamRateLimited, attempts: 3},
		"429 with a short wait in ms":         {status: 429, header: "Retry-After-Ms: 20", code: chat.UpstreamRateLimited, attempts: 3, retryAfter: 20 * time.Millisecond},
		"429 with seconds beyond the budget":  {status: 429, header: "Retry-After: 60", code: chat.UpstreamRateLimited, attempts: 1, retryAfter: time.Minute},
		"429 with a date beyond the budget":   {status: 429, header: "Retry-After: " + now.Add(time.Hour).UTC().Format(http.TimeFormat), code: chat.UpstreamRateLimited, attempts: 1, retryAfter: time.Hour - time.Minute},
		"429 with a date long past":           {status: 429, header: "Retry-After: " + now.Add(-time.Hour).UTC().Format(http.TimeFormat), code: chat.UpstreamRateLimited, attempts: 3},
		"429 with nonsense":                   {status: 429, header: "Retry-After: soon", code: chat.UpstreamRateLimited, attempts: 3},
		"429 with more than a number can say": {status: 429, header: "Retry-After: 1e300", code: chat.UpstreamRateLimited, attempts: 1, retryAfter: 24 * time.Hour},
		"500":                                 {status: 500, code: chat.UpstreamError, attempts: 3, message: "the provider failed"},
		"503":                                 {status: 503, code: chat.UpstreamError, attempts: 3},
		"529":                                 {status: 529, code: chat.UpstreamError, attempts: 3},
	} {
		t.Run(name, func(t *testing.T) {
			var attempts atomic.Int32
			srv := provide(t, func(w http.ResponseWriter, _ *http.Request) {
				attempts.Add(1)
				if name, value, ok := strings.Cut(tc.header, ": "); ok {
					w.Header().Set(name, value)
				}
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			})
			var trace upstream.Trace
			ctx := upstream.WithTrace(t.Context(), &trace)
			got := fold(t, &upstream.Fallback{Candidates: []*upstream.Candidate{{Streamer: newUpstream(t, options("openai", srv.URL)), Retries: 2}}, Budget: patience}, ctx, question())
			e := chat.AsError(got.err)
			require.Equal(t, tc.code, e.Code)
			require.Equal(t, tc.attempts, attempts.Load())
			require.Len(t, trace.Attempts, int(tc.attempts))
			for _, a := range trace.Attempts {
				require.Equal(t, "openai", a.Upstream)
				require.Equal(t, tc.code, chat.AsError(a.Err).Code)
			}
			if tc.message != "" {
				require.Equal(t, tc.message, e.Message)
			}
			require.GreaterOrEqual(t, e.RetryAfter, tc.retryAfter)
			if tc.retryAfter == 0 {
				require.Zero(t, e.RetryAfter)
			}
			if tc.body != "" {
				require.ErrorContains(t, e.Err, tc.body, "the log gets it as it came")
			}
		})
	}
}

func TestDoneSaysWhetherTheConnectionStillHasToBeDrained(t *testing.T) {
	const body = `data: {"choices":[{"delta":{"content":"Hel"}}]}` + "\n\ndata: [DONE]\n\n"
	for name, tc := range map[string]struct {
		body  func() io.Reader
		ended bool
	}{
		"the end comes with the terminator": {func() io.Reader { return iotest.DataErrReader(strings.NewReader(body)) }, true},
		"the end comes later":               {func() io.Reader { return strings.NewReader(body) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newUpstream(t, options("openai", "http://provider.invalid"))
			upstream.SetTransport(s, replies(tc.body))
			var last chat.Chunk
			for c, err := range s.Stream(t.Context(), question()) {
				require.NoError(t, err)
				last = c
			}
			require.Equal(t, chat.Done, last.Type)
			require.Equal(t, tc.ended, last.More)
		})
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	elsewhere := provide(t, func(http.ResponseWriter, *http.Request) { t.Error("the key was sent elsewhere") })
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			srv := provide(t, func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, elsewhere.URL, status) })
			e := chat.AsError(fold(t, newUpstream(t, options("openai", srv.URL)), t.Context(), question()).err)
			require.Equal(t, chat.UpstreamRejected, e.Code)
			require.Equal(t, "the provider answered with a redirect, which is not followed", e.Message)
		})
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	for name, ending := range map[string]string{
		"after the terminator":                sse(finished("stop"), usage, "[DONE]"),
		"after a terminator in the same read": sse(usage, finished("stop"), "[DONE]"),
		"where there is no terminator":        sse(finished("stop"), usage),
	} {
		t.Run(name, func(t *testing.T) {
			var connections atomic.Int32
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				_, _ = io.Copy(io.Discard, req.Body)
				streamHeaders(w)
				send(w, sse(delta(`"content":"Hi"`)))
				send(w, ending)
			}))
			srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					connections.Add(1)
				}
			}
			srv.Start()
			defer srv.Close()
			s := newUpstream(t, options("openai", srv.URL))
			for range 5 {
				require.NoError(t, fold(t, s, t.Context(), question()).err)
			}
			require.Equal(t, int32(1), connections.Load())
		})
	}
}

func TestWhoeverStopsListeningIsSeenByTheProvider(t *testing.T) {
	left := make(chan struct{}, 1)
	srv := provide(t, func(w http.ResponseWriter, req *http.Request) {
		streamHeaders(w)
		send(w, sse(delta(`"content":"Hi"`)))
		<-req.Context().Done()
		left <- struct{}{}
	})
	s := &upstream.Fallback{Candidates: []*upstream.Candidate{{Streamer: newUpstream(t, options("openai", srv.URL)), Retries: 2}}, Budget: patience}
	for name, stop := range map[string]func(cancel context.CancelFunc) (goOn bool){
		"by breaking out of the sequence": func(context.CancelFunc) bool { return false },
		"by ending the context":           func(cancel context.CancelFunc) bool { cancel(); return true },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var last error
			for _, err := range s.Stream(ctx, question()) {
				if last = err; err == nil && !stop(cancel) {
					break
				}
			}
			if last != nil {
				require.ErrorIs(t, last, context.Canceled)
			}
			select {
			case <-left:
			case <-time.After(patience):
				require.Fail(t, "the provider goes on for nobody")
			}
		})
	}
}
