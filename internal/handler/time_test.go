package handler_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/identity"
)

// pipes is a listener whose connections live in memory, so that a server on it keeps the time of a
// synctest bubble.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// connect serves a relay inside of the synctest bubble that it is called in, and connects one client to it.
func connect(t *testing.T, o handler.Options) (*relay, *socket) {
	t.Helper()
	r := newRelay(o)
	srv := &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = srv.Serve(l) })
	client, server := net.Pipe()
	l.conns <- server
	t.Cleanup(func() {
		client.Close()
		require.NoError(t, srv.Shutdown(context.Background()))
		serving.Wait()
	})
	return r, newSocket(client)
}

// wait ends early with ctx.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func TestPings(t *testing.T) {
	type event struct {
		after time.Duration
		data  string
	}
	// paced yields each step its time after the last.
	paced := func(every time.Duration, steps ...chat.Chunk) provider {
		return func(ctx context.Context, _ *chat.Request, yield func(chat.Chunk, error) bool) {
			for _, c := range steps {
				wait(ctx, every)
				if !yield(c, nil) {
					return
				}
			}
		}
	}
	held := content("Hel")
	held.More = true
	for name, tc := range map[string]struct {
		beat     time.Duration
		upstream provider
		want     []event
	}{
		"come in silence, before the first byte and between chunks": {15 * time.Second,
			paced(40*time.Second, content("Hel"), done(chat.FinishStop)), []event{
				{15 * time.Second, pingFrame}, {30 * time.Second, pingFrame}, {40 * time.Second, helFrame},
				{55 * time.Second, pingFrame}, {70 * time.Second, pingFrame}, {80 * time.Second, doneFrame + endFrame},
			}},
		"do not come while there are chunks": {15 * time.Second,
			paced(10*time.Second, content("Hel"), content("lo"), content("Hel"), done(chat.FinishStop)), []event{
				{10 * time.Second, helFrame}, {20 * time.Second, loFrame}, {30 * time.Second, helFrame},
				{40 * time.Second, doneFrame + endFrame},
			}},
		"do not come when there is no heartbeat": {0, paced(time.Hour, content("Hel"), done(chat.FinishStop)), []event{
			{time.Hour, helFrame}, {2 * time.Hour, doneFrame + endFrame},
		}},
		"take along what a producer held back": {15 * time.Second,
			paced(10*time.Second, held, chat.Chunk{Type: chat.Reasoning, Text: []byte("hm")}, done(chat.FinishStop)),
			[]event{
				{15 * time.Second, helFrame + pingFrame},
				{20 * time.Second, `data: {"type":"reasoning","content":"hm"}` + "\n\n"},
				{30 * time.Second, doneFrame + endFrame},
			}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, s := connect(t, handler.Options{Router: answering{tc.upstream}, Heartbeat: tc.beat})
				began := time.Now()
				s.post(t)
				s.head(t)
				require.LessOrEqual(t, time.Since(began), 10*time.Millisecond, "headers do not wait for the provider")
				var got []event
				for {
					data := s.write(t)
					if data == "" {
						break
					}
					got = append(got, event{time.Since(began).Round(time.Second), data})
				}
				require.Equal(t, tc.want, got)
			})
		})
	}
}

// A write that the end of the answer shares with that of the response is a system call and a packet less for each
// stream. But nobody waits for its end because the relay has still something to do.
func TestTheEndSharesAWriteOnlyWhereNothingComesBetween(t *testing.T) {
	soon := done(chat.FinishStop)
	soon.More = true
	later := done(chat.FinishStop)
	const last = "0\r\n\r\n"
	first, held := content("Hel"), content("Hel")
	held.More = true
	for name, tc := range map[string]struct {
		first, done chat.Chunk
		want        []string // how writes end
	}{
		"the provider has ended":         {first, soon, []string{helFrame + "\r\n", endFrame + "\r\n" + last}},
		"the provider has not ended":     {first, later, []string{helFrame + "\r\n", endFrame + "\r\n", last}},
		"the whole answer comes at once": {held, soon, []string{endFrame + "\r\n" + last}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, s := connect(t, handler.Options{Router: answering{provider(
					func(_ context.Context, _ *chat.Request, yield func(chat.Chunk, error) bool) {
						if yield(tc.first, nil) {
							yield(tc.done, nil)
						}
					})}})
				s.post(t)
				data := make([]byte, 4096)
				for i, want := range tc.want {
					n, err := s.Read(data)
					require.NoError(t, err)
					require.Truef(t, strings.HasSuffix(string(data[:n]), want), "%q", data[:n])
					if i == 0 {
						require.Contains(t, string(data[:n]), "\r\nTransfer-Encoding: chunked\r\n")
					}
				}
			})
		})
	}
}

func TestPingsAndChunksNeverInterleave(t *testing.T) {
	const enough = 100 // pings
	seen := make(chan struct{})
	text := content(string(make([]byte, 3000)))
	r := start(t, handler.Options{Heartbeat: time.Microsecond,
		Router: answering{provider(func(ctx context.Context, _ *chat.Request, yield func(chat.Chunk, error) bool) {
			for {
				select {
				case <-seen:
					yield(done(chat.FinishStop), nil)
					return
				case <-ctx.Done():
					return
				default:
					yield(text, nil)
				}
			}
		})}})
	s := dial(t, r)
	s.post(t)
	s.head(t)
	var chunk string
	chunks, pings := 0, 0
	for data := s.write(t); data != ""; data = s.write(t) {
		switch {
		case data == pingFrame:
			if pings++; pings == enough {
				close(seen)
			}
		case data == doneFrame+endFrame:
		case chunk == "" || data == chunk:
			chunk = data
			chunks++
		default:
			require.FailNow(t, "a torn frame", "%q", data)
		}
	}
	require.GreaterOrEqual(t, pings, enough)
	require.Positive(t, chunks)
}

func TestAPingTellsThatTheClientDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := make(chan error, 1)
		r, s := connect(t, handler.Options{Router: answering{hang(gone)}, Heartbeat: 15 * time.Second,
			WriteTimeout: 10 * time.Second})
		began := time.Now()
		s.post(t)
		s.head(t)
		<-gone
		require.InDelta(t, 25, time.Since(began).Seconds(), 1.5, "15 s of silence, 10 s for the write")
		require.Equal(t, "slow_client", r.log.stream(t)["reason"])
	})
}

func TestAWriteHasItsTimeAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := make(chan error, 1)
		// The headers go first: their timer would wait for a write that blocks, on a mutex, and that stops the
		// bubble's clock.
		late := provider(func(ctx context.Context, req *chat.Request, yield func(chat.Chunk, error) bool) {
			wait(ctx, time.Second)
			flood(gone)(ctx, req, yield)
		})
		r, s := connect(t, handler.Options{Router: answering{late}, WriteTimeout: 10 * time.Second})
		s.post(t)
		s.head(t)
		began := time.Now()
		for range 5 {
			wait(t.Context(), 9*time.Second) // slow, but in time
			s.write(t)
		}
		require.Empty(t, gone)
		stopped := time.Now()
		<-gone
		require.InDelta(t, 10, time.Since(stopped).Seconds(), 1.5)
		require.Equal(t, "slow_client", r.log.stream(t)["reason"])
		require.InDelta(t, 55, time.Since(began).Seconds(), 1.5)
	})
}

func TestABodyThatDoesNotArriveIsGivenUp(t *testing.T) {
	const announced = " HTTP/1.1\r\nHost: relay\r\nContent-Type: application/json\r\nContent-Length: 45\r\n\r\n"
	for name, tc := range map[string]struct {
		request, status, message string
		keys                     []identity.APIKey
	}{
		"of a question": {"POST /api/chat/stream" + announced, "HTTP/1.1 400 Bad Request",
			"the body did not arrive whole: it came too slowly (see RELAY_BODY_TIMEOUT)", nil},
		"where none belongs": {"GET /api/chat/stream?message=hi" + announced, "HTTP/1.1 400 Bad Request",
			"the body did not arrive whole: it came too slowly (see RELAY_BODY_TIMEOUT)", nil},
		"of a request refused": {"POST /api/chat/stream" + announced, "HTTP/1.1 401 Unauthorized",
			"an API key is required: Authorization: Bearer <key>", []identity.APIKey{{Key: "k"}}},
		"of one to no known path": {"POST /nowhere" + announced, "HTTP/1.1 404 Not Found",
			"there is nothing at this path", nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, s := connect(t, handler.Options{Router: answering{hello}, Keys: identity.NewKeys(tc.keys)})
				began := time.Now()
				s.send(t, tc.request+question[:20])
				status, header := s.head(t)
				require.Equal(t, tc.status, status)
				require.Equal(t, "close", header.Get("Connection"))
				require.Equal(t, 30*time.Second, time.Since(began))
				body, err := io.ReadAll(s.r.R)
				require.NoError(t, err)
				require.Equal(t, tc.message, lastError(t, string(body)).Error)
			})
		})
	}
}

func TestABodyWithoutMeaningEndsNoStream(t *testing.T) {
	late := provider(func(ctx context.Context, req *chat.Request, yield func(chat.Chunk, error) bool) {
		wait(ctx, time.Hour)
		hello(ctx, req, yield)
	})
	synctest.Test(t, func(t *testing.T) {
		_, s := connect(t, handler.Options{Router: answering{late}})
		s.send(t, "GET /api/chat/stream?message=hi HTTP/1.1\r\nHost: relay\r\nContent-Length: 2\r\n\r\n{}")
		s.head(t)
		require.Equal(t, noReturnFrame+helFrame+loFrame+doneFrame, s.rest(t))
	})
}

func TestAnAnswerMayTakeLongerThanItsQuestion(t *testing.T) {
	slow := provider(func(ctx context.Context, _ *chat.Request, yield func(chat.Chunk, error) bool) {
		wait(ctx, 10*time.Minute)
		if ctx.Err() != nil {
			yield(chat.Chunk{}, errors.New("cancelled"))
			return
		}
		yield(done(chat.FinishStop), nil)
	})
	synctest.Test(t, func(t *testing.T) {
		_, s := connect(t, handler.Options{Router: answering{slow}, WriteTimeout: 10 * time.Second})
		s.post(t)
		s.head(t)
		require.Equal(t, doneFrame+endFrame, s.rest(t), "no time-out of the request outlives it")
	})
}

// brokenPipe is a response that can be written for a minute.
type brokenPipe struct {
	sink
	began time.Time
}

func (b *brokenPipe) Write(p []byte) (int, error) {
	if time.Since(b.began) > time.Minute {
		return 0, errors.New("broken pipe")
	}
	return b.sink.Write(p)
}

func TestAWriteThatFailsAtOnceIsNoSlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(handler.Options{WriteTimeout: 10 * time.Second,
			Router: answering{provider(func(ctx context.Context, _ *chat.Request, yield func(chat.Chunk, error) bool) {
				for yield(content("Hel"), nil) {
					wait(ctx, time.Second)
				}
			})}})
		require.PanicsWithValue(t, http.ErrAbortHandler, func() {
			r.ServeHTTP(&brokenPipe{sink{header: make(http.Header)}, time.Now()}, newPost(question))
		})
		line := r.log.stream(t)
		require.Equal(t, "client_gone", line["reason"])
		require.EqualValues(t, 61, line["chunks"])
	})
}

func TestNoPingFollowsTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := connect(t, handler.Options{Heartbeat: time.Second,
			Router: answering{provider(func(ctx context.Context, _ *chat.Request, yield func(chat.Chunk, error) bool) {
				yield(done(chat.FinishStop), nil)
				wait(ctx, 3*time.Second) // for the end of the provider's body, say
			})}})
		s.post(t)
		s.head(t)
		require.Equal(t, doneFrame+endFrame, s.rest(t))
		require.EqualValues(t, len(doneFrame+endFrame), r.log.stream(t)["bytes"])
	})
}

// An answer ends to the moment when it has taken too long, whatever else its timer is for.
func TestTheLongestStream(t *testing.T) {
	const longest = 15 * time.Minute
	for name, beat := range map[string]time.Duration{
		"no pings": 0, "pings": 7 * time.Second, "a ping in the same moment": 5 * time.Minute,
		"no ping in time": time.Hour,
	} {
		for how, chunks := range map[string][]chat.Chunk{"that broke off": {content("Hel")}, "that never began": nil} {
			t.Run(name+", an answer "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					gone := make(chan error, 1)
					r, s := connect(t, handler.Options{Router: answering{hang(gone, chunks...)},
						MaxDuration: longest, Heartbeat: beat})
					began := time.Now()
					s.post(t)
					s.head(t)
					require.Equal(t, chat.StreamTooLong, lastError(t, s.rest(t)).Code)
					require.Equal(t, longest, time.Since(began))
					require.Error(t, <-gone)
					require.Equal(t, "stream_too_long", r.log.stream(t)["reason"])
				})
			})
		}
	}
}

// What the provider gives before its end may be longer in coming than it says: another candidate that takes its time to
// hear that it has lost, or an upload of somebody else on the same HTTP/2 connection that does not get on.
func TestTheEndWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := done(chat.FinishStop)
		ended.More = true
		_, s := connect(t, handler.Options{Router: answering{provider(
			func(_ context.Context, _ *chat.Request, yield func(chat.Chunk, error) bool) {
				if yield(content("Hel"), nil) && yield(ended, nil) {
					time.Sleep(20 * time.Second)
				}
			})}})
		s.post(t)
		s.head(t)
		began := time.Now()
		all := ""
		for !strings.Contains(all, "[DONE]") {
			all += s.write(t)
		}
		require.LessOrEqual(t, time.Since(began), 20*time.Millisecond)
		require.Empty(t, s.rest(t), "and is told once")
		require.Equal(t, 20*time.Second, time.Since(began).Truncate(time.Second))
	})
}

// Who has stopped to read does not take the end either, also where the end could wait for a write of the server.
func TestWhoDoesNotTakeTheEndIsASlowClient(t *testing.T) {
	for name, more := range map[string]bool{"that is at once": true, "that may come later": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ended := done(chat.FinishStop)
				ended.More = more
				r, s := connect(t, handler.Options{WriteTimeout: 10 * time.Second, Router: answering{provider(
					func(ctx context.Context, _ *chat.Request, yield func(chat.Chunk, error) bool) {
						if yield(content(strings.Repeat("x", 32<<10)), nil) {
							wait(ctx, time.Second)
							yield(ended, nil)
						}
					})}})
				s.post(t)
				s.head(t)
				require.Contains(t, s.write(t), "xxx")
				time.Sleep(20 * time.Second)
				_, err := s.Read(make([]byte, 100))
				require.Error(t, err)
				require.Equal(t, "slow_client", r.log.stream(t)["reason"])
			})
		})
	}
}

// A client that does not read has no more of the provider than any other.
func TestTheLongestStreamOfWhoDoesNotRead(t *testing.T) {
	const longest, timeout = time.Second, patience
	gone := make(chan struct{})
	text := content(strings.Repeat("x", 32<<10))
	r := start(t, handler.Options{WriteTimeout: timeout, MaxDuration: longest,
		Router: answering{provider(func(ctx context.Context, _ *chat.Request, yield func(chat.Chunk, error) bool) {
			defer context.AfterFunc(ctx, func() { close(gone) })()
			for yield(text, nil) {
			}
		})}})
	began := time.Now()
	s := dial(t, r)
	s.post(t)
	receive(t, gone)
	require.Less(t, time.Since(began), timeout/2)
	require.Equal(t, "slow_client", r.log.stream(t)["reason"])
}
