package provider_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/upstream"
	"github.com/websopy/relay/internal/upstream/provider"
	"github.com/websopy/relay/internal/upstream/trace"
)

// short is a time-out that a test waits for, patience one that it must not reach.
const (
	short    = 100 * time.Millisecond
	patience = time.Minute
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
		"one that stalls before its headers": {answer: hang, first: short, code: chat.UpstreamTimeout,
			phase: chat.PhaseFirstChunk},
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
		"an error with a number as a whole 200": {
			answer: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				send(w, `{"error":{"message":"no","code":401}}`)
			},
			code: chat.UpstreamAuth,
		},
		"an answer that is no stream": {
			answer: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				send(w, `{"status":"ok"}`)
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
			got := chattest.Fold(t, newUpstream(t, o).Stream(t.Context(), question()))
			require.Less(t, time.Since(began), patience)
			require.Equal(t, tc.text, got.Text)
			e := chat.AsError(got.Err)
			require.Equal(t, tc.code, e.Code, "%v", got.Err)
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
	e := chat.AsError(chattest.Fold(t, newUpstream(t, options("openai", "http://"+l.Addr().String())).Stream(
		t.Context(), question())).Err)
	require.Equal(t, chat.UpstreamUnreachable, e.Code)
	require.NotContains(t, e.Message, "127.0.0.1")
}

func TestAProviderThatDoesNotFinishConnecting(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing to a TLS handshake
	require.NoError(t, err)
	defer l.Close()
	o := options("openai", "https://"+l.Addr().String())
	o.ConnectTimeout = short
	e := chat.AsError(chattest.Fold(t, newUpstream(t, o).Stream(t.Context(), question())).Err)
	require.Equal(t, chat.UpstreamTimeout, e.Code)
	require.Equal(t, chat.PhaseConnect, e.Phase)
}

// swallow gives an address that takes no connection and refuses none: a listener whose queue is full.
func swallow(t *testing.T) (addr string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, syscall.Listen(fd, 0))
	sa, err := syscall.Getsockname(fd)
	require.NoError(t, err)
	addr = fmt.Sprintf("127.0.0.1:%d", sa.(*syscall.SockaddrInet4).Port)
	for {
		conn, err := net.DialTimeout("tcp", addr, 100*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { conn.Close() })
	}
}

func TestAProviderThatDoesNotTakeTheConnection(t *testing.T) {
	o := options("openai", "http://"+swallow(t))
	o.ConnectTimeout = short
	e := chat.AsError(chattest.Fold(t, newUpstream(t, o).Stream(t.Context(), question())).Err)
	require.Equal(t, chat.UpstreamTimeout, e.Code)
	require.Equal(t, chat.PhaseConnect, e.Phase)
}

// watched is a body that knows whether it was closed.
type watched struct {
	io.Reader
	closed bool
}

func (w *watched) Close() error { w.closed = true; return nil }

func TestTheBodyIsClosedHoweverTheAnswerEnds(t *testing.T) {
	hi := sse(delta(`"content":"Hi"`))
	for name, tc := range map[string]struct {
		status    int
		typ, body string
		leave     bool
	}{
		"complete":          {200, "text/event-stream", hi + sse("[DONE]"), false},
		"cut off":           {200, "text/event-stream", hi, false},
		"garbage":           {200, "text/event-stream", sse("<html>"), false},
		"an error in a 200": {200, "text/event-stream", sse(`{"error":{"message":"x"}}`), false},
		"nobody wants it":   {200, "text/event-stream", hi + hi, true},
		"a status":          {503, "text/html", "x", false},
		"not a stream":      {200, "text/html", "x", false},
	} {
		t.Run(name, func(t *testing.T) {
			body := &watched{Reader: strings.NewReader(tc.body)}
			s := newUpstream(t, options("openai", "http://provider.invalid"))
			provider.SetTransport(s, roundTripper(func(req *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: tc.status, ProtoMajor: 1, Request: req,
					Header: http.Header{"Content-Type": {tc.typ}}, Body: body}, nil
			}))
			for range s.Stream(t.Context(), question()) {
				if tc.leave {
					break
				}
			}
			require.True(t, body.closed)
		})
	}
}

func TestAnErrorBodyWithoutEndIsNotReadToIt(t *testing.T) {
	left := make(chan int, 1)
	srv := provide(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		sent := 0
		for {
			n, err := w.Write(make([]byte, 4<<10))
			if sent += n; err != nil {
				left <- sent
				return
			}
		}
	})
	e := chat.AsError(chattest.Fold(t, newUpstream(t, options("openai", srv.URL)).Stream(t.Context(), question())).Err)
	require.Equal(t, chat.UpstreamError, e.Code)
	select {
	case <-left:
	case <-time.After(patience):
		require.FailNow(t, "the relay reads on")
	}
}

// Whoever writes the log replaces the keys in it, and can only do that when they are there whole and as
// they are.
func TestKeysInAProvidersErrorCanBeFound(t *testing.T) {
	const key = "sk/live+0123456789"
	for name, body := range map[string]string{
		"as it is":                    `{"error":{"message":"bad key ` + key + `"}}`,
		"with slashes escaped":        `{"error":{"message":"bad key sk\/live+0123456789"}}`,
		"with more escaped":           `{"error":{"message":"bad key \u0073k\u002flive\u002B0123456789"}}`,
		"where the excerpt would end": `{"error":{"message":"` + strings.Repeat("p", 470) + ` ` + key + `"}}`,
		"at the end of one long word": strings.Repeat("p", 490) + key,
		"escaped, at the end": strings.Repeat(" ", 490) + `sk\u002flive\u002B0123456789` + strings.Repeat(" ",
			100),
	} {
		t.Run(name, func(t *testing.T) {
			srv := provide(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusInternalServerError)
				_, _ = io.WriteString(w, body)
			})
			e := chat.AsError(chattest.Fold(t, newUpstream(t, options("openai", srv.URL)).Stream(t.Context(), question())).Err)
			logged := strings.ReplaceAll(e.Error(), key, "***")
			for n := 4; n < len(key); n++ {
				require.NotContains(t, logged, key[:n])
			}
			require.NotContains(t, logged, "0123456789")
			require.NotContains(t, logged, `\u00`)
		})
	}
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
		"401 is the relay's own fault": {status: 401,
			body: `{"error":{"message":"Incorrect API key provided: sk-ab***yz"}}`, code: chat.UpstreamAuth,
			attempts: 1, message: "the provider does not accept the relay's credentials"},
		"403 is, too": {status: 403, code: chat.UpstreamAuth, attempts: 1},
		"402 is the operator's to pay": {status: 402,
			body: `{"error":{"message":"Insufficient Balance","code":"invalid_request_error"}}`,
			code: chat.UpstreamAuth, attempts: 1, message: "the relay's account at the provider has no credit left"},
		"400 passes on a plain sentence": {status: 400, body: `{"error":{"message":"Unknown model foo."}}`,
			code: chat.UpstreamRejected, attempts: 1,
			message: "the provider rejected the request: Unknown model foo."},
		"400 passes on one with a colon": {status: 400, body: `{"error":{"message":"Invalid value: 'x'."}}`,
			code: chat.UpstreamRejected, attempts: 1,
			message: "the provider rejected the request: Invalid value: 'x'."},
		"400 passes on no host": {status: 400,
			body: `{"error":{"message":"Ask gateway.internal:8080 instead"}}`, code: chat.UpstreamRejected,
			attempts: 1, message: "the provider rejected the request"},
		"400 passes on no address": {status: 400,
			body: `{"error":{"message":"Call http://10.0.0.1/v1 instead"}}`, code: chat.UpstreamRejected, attempts: 1,
			message: "the provider rejected the request"},
		"400 passes on no internal name": {status: 400,
			body: `{"error":{"message":"Cannot reach llm-7.prod.svc.cluster.local now"}}`, code: chat.UpstreamRejected,
			attempts: 1, message: "the provider rejected the request"},
		"400 passes on no address of a field": {status: 400,
			body: `{"error":{"message":"upstream host=10.1.2.3 refused"}}`, code: chat.UpstreamRejected, attempts: 1,
			message: "the provider rejected the request"},
		"400 passes on no name with a path": {status: 400, body: `{"error":{"message":"see llm.internal/v1/chat"}}`,
			code: chat.UpstreamRejected, attempts: 1, message: "the provider rejected the request"},
		"400 passes on no file": {status: 400, body: `{"error":{"message":"bad file /srv/models/x.py line 3"}}`,
			code: chat.UpstreamRejected, attempts: 1, message: "the provider rejected the request"},
		"400 passes on names of fields and models": {status: 400,
			body: `{"error":{"message":"messages.0.content: claude-3.5-sonnet and meta/llama-3.1-8b do not take ` +
				`max_tokens over 4.096."}}`, code: chat.UpstreamRejected, attempts: 1,
			message: "the provider rejected the request: messages.0.content: claude-3.5-sonnet and " +
				"meta/llama-3.1-8b do not take max_tokens over 4.096."},
		"404": {status: 404, body: "<html>", code: chat.UpstreamRejected, attempts: 1,
			message: "the provider rejected the request"},
		"400 for its content": {status: 400,
			body: `{"error":{"code":"content_filter","message":"no"}}`, code: chat.ContentFiltered, attempts: 1},
		"408": {status: 408, code: chat.UpstreamError, attempts: 3},
		"409": {status: 409, code: chat.UpstreamError, attempts: 3},
		"425": {status: 425, code: chat.UpstreamError, attempts: 3},
		"429": {status: 429, code: chat.UpstreamRateLimited, attempts: 3},
		"429 with a short wait in ms": {status: 429, header: "Retry-After-Ms: 20",
			code: chat.UpstreamRateLimited, attempts: 3, retryAfter: 20 * time.Millisecond},
		"429 with seconds beyond the budget": {status: 429, header: "Retry-After: 60", code: chat.UpstreamRateLimited,
			attempts: 1, retryAfter: time.Minute},
		"429 with a date beyond the budget": {status: 429,
			header: "Retry-After: " + now.Add(time.Hour).UTC().Format(http.TimeFormat), code: chat.UpstreamRateLimited,
			attempts: 1, retryAfter: time.Hour - time.Minute},
		"429 with a date long past": {status: 429,
			header: "Retry-After: " + now.Add(-time.Hour).UTC().Format(http.TimeFormat),
			code:   chat.UpstreamRateLimited, attempts: 3},
		"429 with nonsense": {status: 429, header: "Retry-After: soon",
			code: chat.UpstreamRateLimited, attempts: 3},
		"429 with more than a number can say": {status: 429, header: "Retry-After: 1e300",
			code: chat.UpstreamRateLimited, attempts: 1, retryAfter: 24 * time.Hour},
		"500": {status: 500, code: chat.UpstreamError, attempts: 3, message: "the provider failed"},
		"503": {status: 503, code: chat.UpstreamError, attempts: 3},
		"529": {status: 529, code: chat.UpstreamError, attempts: 3},
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
			var tr trace.Trace
			ctx := trace.With(t.Context(), &tr)
			chain := &upstream.Fallback{Candidates: []*upstream.Candidate{
				{Streamer: newUpstream(t, options("openai", srv.URL)), Retries: 2}}, Budget: patience}
			got := chattest.Fold(t, chain.Stream(ctx, question()))
			e := chat.AsError(got.Err)
			require.Equal(t, tc.code, e.Code)
			require.Equal(t, tc.attempts, attempts.Load())
			require.Len(t, tr.Attempts, int(tc.attempts))
			for _, a := range tr.Attempts {
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

func TestARedirectIsNotFollowed(t *testing.T) {
	elsewhere := provide(t, func(http.ResponseWriter, *http.Request) { t.Error("the key was sent elsewhere") })
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			srv := provide(t, func(w http.ResponseWriter, req *http.Request) {
				http.Redirect(w, req, elsewhere.URL, status)
			})
			e := chat.AsError(chattest.Fold(t, newUpstream(t, options("openai", srv.URL)).Stream(t.Context(), question())).Err)
			require.Equal(t, chat.UpstreamMalformed, e.Code)
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
				require.NoError(t, chattest.Fold(t, s.Stream(t.Context(), question())).Err)
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
	s := &upstream.Fallback{Candidates: []*upstream.Candidate{{Streamer: newUpstream(t, options("openai", srv.URL)),
		Retries: 2}}, Budget: patience}
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

// Each provider gets the request's id by the name that it has for it in its logs, and by no other.
func TestProvidersGetTheRequestsID(t *testing.T) {
	const usual, openAIs = "X-Request-Id", "X-Client-Request-Id"
	for _, tc := range []struct {
		kind  string
		names []string
	}{
		{"openai", []string{usual}}, {"anthropic", []string{usual}}, {"azure", []string{usual, openAIs}},
	} {
		t.Run(tc.kind, func(t *testing.T) {
			got := make(chan http.Header, 1)
			srv := provide(t, func(w http.ResponseWriter, req *http.Request) {
				got <- req.Header
				w.WriteHeader(http.StatusBadRequest)
			})
			ctx := trace.With(t.Context(), &trace.Trace{RequestID: "r-1"})
			require.Error(t, chattest.Fold(t, newUpstream(t, options(tc.kind, srv.URL)).Stream(ctx, question())).Err)
			header := <-got
			for _, name := range []string{usual, openAIs} {
				want := ""
				if slices.Contains(tc.names, name) {
					want = "r-1"
				}
				require.Equal(t, want, header.Get(name), name)
			}
		})
	}
	o := options("openai", "https://api.openai.com/v1")
	require.Equal(t, []string{usual, openAIs}, provider.IDHeaders(&o))
}
