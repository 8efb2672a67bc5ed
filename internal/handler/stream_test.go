package handler_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/identity"
)

func TestHeadersComeBeforeTheProviderAnswersAndEachChunkInAWriteOfItsOwn(t *testing.T) {
	steps := make(chan chat.Chunk)
	r := start(t, handler.Options{
		Router: answering{provider(func(ctx context.Context, _ *chat.Request, yield func(chat.Chunk, error) bool) {
			for c := range steps {
				if !yield(c, nil) {
					return
				}
			}
		})}})
	s := dial(t, r)
	s.post(t)

	status, header := s.head(t)
	require.Equal(t, "HTTP/1.1 200 OK", status)
	require.NotEmpty(t, header.Get("X-Request-Id"))
	require.NotEmpty(t, header.Get("Date"))
	header.Del("X-Request-Id")
	header.Del("Date")
	require.Equal(t, textproto.MIMEHeader{
		"Content-Type":           {"text/event-stream; charset=utf-8"},
		"Cache-Control":          {"no-cache, no-transform"},
		"Connection":             {"keep-alive"},
		"X-Accel-Buffering":      {"no"},
		"X-Content-Type-Options": {"nosniff"},
		"Transfer-Encoding":      {"chunked"},
	}, header)

	for _, step := range []struct {
		chunk chat.Chunk
		frame string
	}{
		{content("Hel"), helFrame},
		{content("\n\"\\\u2028</script>\x00é你😀"),
			`data: {"type":"content","content":"\n\"\\\u2028</script>\u0000é你😀"}` + "\n\n"},
		{chat.Chunk{Type: chat.Reasoning, Text: []byte("hm")}, `data: {"type":"reasoning","content":"hm"}` + "\n\n"},
		{chat.Chunk{Type: chat.Tool, Tool: &chat.ToolCall{ID: "a", Name: "f", Arguments: `{"x":1}`}},
			`data: {"type":"tool_call","tool":{"id":"a","name":"f","arguments":"{\"x\":1}"}}` + "\n\n"},
	} {
		steps <- step.chunk // and no other before this one has arrived
		require.Equal(t, step.frame, s.write(t))
	}
	steps <- done(chat.FinishStop)
	require.Equal(t, doneFrame+endFrame, s.write(t))
	close(steps)
	require.Empty(t, s.write(t))
}

// nginx speaks HTTP/1.0 to what it stands before, unless it is told otherwise.
func TestHTTP10GetsTheSameFrames(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello}})
	s := dial(t, r)
	s.send(t, "GET /api/chat/stream?message=hi HTTP/1.0\r\n\r\n")
	status, header := s.head(t)
	require.Equal(t, "HTTP/1.0 200 OK", status)
	require.Empty(t, header.Get("Transfer-Encoding"))
	require.NotEqual(t, "keep-alive", header.Get("Connection"), "the end of the connection is the end of the body")
	body, err := io.ReadAll(s.r.R)
	require.NoError(t, err)
	require.Equal(t, noReturnFrame+helFrame+loFrame+doneFrame, string(body))
}

func TestChunksInHandMayShareAWrite(t *testing.T) {
	first := content("Hel")
	first.More = true
	release := make(chan struct{})
	r := start(t, handler.Options{Router: answering{provider(func(_ context.Context, _ *chat.Request, yield func(chat.Chunk, error) bool) {
		_ = yield(first, nil) && yield(content("lo"), nil) && yield(first, nil) && yield(chat.Chunk{Type: chat.Pause},
			nil)
		<-release
		yield(done(chat.FinishStop), nil)
	})}})
	s := dial(t, r)
	s.post(t)
	s.head(t)
	require.Equal(t, helFrame+loFrame, s.write(t))
	require.Equal(t, helFrame, s.write(t), "nothing waits when the producer pauses")
	close(release)
	require.Equal(t, doneFrame+endFrame, s.write(t))
}

// A client that never takes the end of an answer does not have the answer.
func TestALostEndIsNotCountedAsDelivered(t *testing.T) {
	for name, end := range map[string]any{"a chunk": content("Hel"), "done": done(chat.FinishStop),
		"an error": &chat.Error{Code: chat.UpstreamError, Message: "the provider failed"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, s := connect(t, handler.Options{WriteTimeout: 10 * time.Second,
					Router: answering{provider(
						func(ctx context.Context, req *chat.Request, yield func(chat.Chunk, error) bool) {
							wait(ctx, time.Second)
							play(end)(ctx, req, yield)
						})}})
				s.post(t)
				s.head(t)
				wait(t.Context(), time.Minute)
				line := r.log.stream(t)
				require.NotEqual(t, "completed", line["reason"])
				require.Zero(t, line["chunks"])
				require.InDelta(t, 11_000, line["duration_ms"], 1_500)
				require.Zero(t, r.counted(t, "relay_streams_open")[""])
			})
		})
	}
}

func TestWhatMayWaitForMoreIsBounded(t *testing.T) {
	release := make(chan struct{})
	text := content(strings.Repeat("x", 1000))
	text.More = true
	r := start(t, handler.Options{Router: answering{provider(func(_ context.Context, _ *chat.Request, yield func(chat.Chunk, error) bool) {
		for range 32 {
			yield(text, nil)
		}
		<-release
		yield(done(chat.FinishStop), nil)
	})}})
	defer close(release)
	s := dial(t, r)
	s.post(t)
	s.head(t)
	require.Less(t, len(s.write(t)), 18<<10)
}

func TestAStreamEndsInExactlyOneWay(t *testing.T) {
	failure := &chat.Error{Code: chat.UpstreamError, Message: "the provider failed",
		Err: errors.New("status 500 from 10.0.0.1")}
	for name, tc := range map[string]struct {
		upstream provider
		frames   string // before the error
		code     chat.Code
		message  string
	}{
		"an error before the first chunk": {play(failure), "", chat.UpstreamError, "the provider failed"},
		"an error after text": {play(content("Hel"), failure), helFrame, chat.UpstreamError,
			"the provider failed"},
		"an end without done": {play(content("Hel")), helFrame, chat.UpstreamTruncated,
			"the provider's answer broke off"},
		"an end without anything": {play(), "", chat.UpstreamTruncated, "the provider's answer broke off"},
		"a panic": {func(_ context.Context, _ *chat.Request, yield func(chat.Chunk, error) bool) {
			yield(content("Hel"), nil)
			panic("a bug")
		}, helFrame, chat.Internal, "internal error"},
		"a panic before the first chunk": {func(context.Context, *chat.Request, func(chat.Chunk, error) bool) {
			panic("a bug")
		}, "", chat.Internal, "internal error"},
		"what was held back goes before the error": {
			play(chat.Chunk{Type: chat.Content, Text: []byte("Hel"), More: true}, failure), helFrame,
			chat.UpstreamError, "the provider failed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, handler.Options{Router: answering{faulty{tc.upstream}}})
			res, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", question, "X-Request-Id", "r-1")
			require.Equal(t, http.StatusOK, res.StatusCode)
			require.Equal(t, tc.frames+`data: {"type":"error","error":"`+tc.message+`","code":"`+string(tc.code)+
				`","retryable":true,"requestId":"r-1"}`+"\n\n", body)
			line := r.log.stream(t)
			require.Equal(t, string(tc.code), line["reason"])
			require.Equal(t, "warn", line["level"])
			require.Equal(t, map[string]float64{string(tc.code): 1}, r.counted(t, "relay_streams_ended_total"))
			if tc.code == chat.Internal {
				require.Contains(t, r.log.wait(t, "panic", 1)[0]["stack"], "handler_test")
			}
		})
	}
}

func TestNothingFollowsDone(t *testing.T) {
	for name, upstream := range map[string]provider{
		"not a chunk, nor an error": play(content("Hel"), done(chat.FinishStop), content("lo"),
			&chat.Error{Code: chat.UpstreamError}),
		"not a panic": func(ctx context.Context, req *chat.Request, yield func(chat.Chunk, error) bool) {
			play(content("Hel"), done(chat.FinishStop))(ctx, req, yield)
			panic("a bug")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, handler.Options{Router: answering{faulty{upstream}}})
			_, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", question)
			require.Equal(t, helFrame+doneFrame+endFrame, body)
			require.Equal(t, "completed", r.log.stream(t)["reason"])
		})
	}
}

func TestEveryPathOfTheContract(t *testing.T) {
	asked := make(chan *chat.Request, 1)
	r := start(t, handler.Options{
		Router: answering{provider(func(ctx context.Context, req *chat.Request, yield func(chat.Chunk, error) bool) {
			asked <- req
			hello(ctx, req, yield)
		})}})
	for _, path := range []string{"/api/chat/stream", "/v1/ai/chat/stream", "/api/chat"} {
		t.Run("POST "+path, func(t *testing.T) {
			res, body := fetch(t, http.MethodPost, r.url+path, question, "Content-Type",
				"application/json; charset=utf-8")
			require.Equal(t, http.StatusOK, res.StatusCode)
			require.Equal(t, helFrame+loFrame+doneFrame+endFrame, body)
			require.Equal(t, []chat.Message{{Role: chat.RoleUser, Content: "hi"}}, (<-asked).Messages)
		})
	}
	for _, path := range []string{"/api/chat/stream", "/v1/ai/chat"} {
		t.Run("GET "+path+" has no [DONE]", func(t *testing.T) {
			res, body := fetch(t, http.MethodGet, r.url+path+"?message=%E4%BD%A0%E5%A5%BD&model=m-2", "")
			require.Equal(t, http.StatusOK, res.StatusCode)
			require.Equal(t, "text/event-stream; charset=utf-8", res.Header.Get("Content-Type"))
			require.Equal(t, noReturnFrame+helFrame+loFrame+doneFrame, body)
			req := <-asked
			require.Equal(t, []chat.Message{{Role: chat.RoleUser, Content: "你好"}}, req.Messages)
			require.Equal(t, "m-2", req.Model)
		})
	}
}

func TestAWholeAnswer(t *testing.T) {
	const ask = `{"messages":[{"role":"user","content":"hi"}],"stream":false}`
	t.Run("is one object", func(t *testing.T) {
		r := start(t, handler.Options{Router: answering{play(chat.Chunk{Type: chat.Reasoning, Text: []byte("hm")},
			content("Hel"), content("lo"),
			chat.Chunk{Type: chat.Tool, Tool: &chat.ToolCall{ID: "a", Name: "f", Arguments: `{}`}},
			done(chat.FinishToolCalls))}})
		res, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", ask)
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.Equal(t, "application/json; charset=utf-8", res.Header.Get("Content-Type"))
		require.JSONEq(t, `{"content":"Hello","reasoning":"hm","toolCalls":[{"id":"a","name":"f","arguments":"{}"}],`+
			`"finishReason":"tool_calls","model":"m-1","usage":{"promptTokens":7,"completionTokens":2}}`, body)
		line := r.log.stream(t)
		require.Equal(t, "completed", line["reason"])
		require.EqualValues(t, len(body), line["bytes"])
	})
	t.Run("is counted and timed by its chunks", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			held := content("Hel")
			held.More = true
			r := newRelay(handler.Options{
				Router: answering{
					provider(func(ctx context.Context, req *chat.Request, yield func(chat.Chunk, error) bool) {
						for _, step := range []chat.Chunk{held, {Type: chat.Pause}, content("lo"),
							done(chat.FinishStop)} {
							wait(ctx, 2*time.Second)
							yield(step, nil)
						}
					})}})
			r.ServeHTTP(httptest.NewRecorder(), newPost(ask))
			line := r.log.stream(t)
			require.EqualValues(t, 2, line["chunks"])
			require.EqualValues(t, 2000, line["first_chunk_ms"])
			require.EqualValues(t, 4, r.total(t, "relay_chunk_gap_seconds"))
		})
	})
	for name, tc := range map[string]struct {
		err        *chat.Error
		status     int
		retryAfter string
	}{
		"fails with the status of the error": {&chat.Error{Code: chat.UpstreamTimeout,
			Phase: chat.PhaseIdle, Message: "too late"}, 504, ""},
		"passes on when to come back": {&chat.Error{Code: chat.UpstreamRateLimited,
			Message: "slow down", RetryAfter: 1500 * time.Millisecond}, 429, "2"},
		"never fails with 401: the caller's key is right": {&chat.Error{Code: chat.UpstreamAuth, Message: "no"}, 502,
			""},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, handler.Options{Router: answering{play(content("Hel"), tc.err)}})
			res, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", ask)
			require.Equal(t, tc.status, res.StatusCode)
			require.Equal(t, tc.retryAfter, res.Header.Get("Retry-After"))
			e := lastError(t, body)
			require.Equal(t, tc.err.Code, e.Code)
			require.Equal(t, tc.err.Phase, e.Phase)
			require.Equal(t, tc.err.Message, e.Error)
			require.Equal(t, res.Header.Get("X-Request-Id"), e.RequestID)
			require.NotContains(t, body, "Hel")
		})
	}
}

func TestOneLogLineTellsWhatHappened(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello},
		Keys: identity.NewKeys([]identity.APIKey{{Name: "shop", Key: "k-shop"}})})
	fetch(t, http.MethodPost, r.url+"/api/chat/stream", `{"model":"m-2","messages":[{"role":"user","content":"hi"}]}`,
		"Authorization", "Bearer k-shop", "X-Request-Id", "r-1")
	line := r.log.stream(t)
	for _, measured := range []string{"first_chunk_ms", "duration_ms"} {
		require.IsType(t, float64(0), line[measured])
		delete(line, measured)
	}
	require.Equal(t, map[string]any{
		"level": "info", "message": "stream", "reason": "completed", "request_id": "r-1", "client": "127.0.0.1",
		"caller": "shop", "model": "m-2",
		"chunks": 2.0, "bytes": float64(len(helFrame + loFrame + doneFrame + endFrame)), "finish_reason": "stop",
		"prompt_tokens": 7.0, "completion_tokens": 2.0,
	}, line)
	require.Equal(t, map[string]float64{"completed": 1}, r.counted(t, "relay_streams_ended_total"))
	require.Equal(t, map[string]float64{"": 2}, r.counted(t, "relay_chunks_total"))
	require.Equal(t, map[string]float64{"": float64(len(helFrame + loFrame + doneFrame + endFrame))},
		r.counted(t, "relay_sent_bytes_total"))
	require.Equal(t, map[string]float64{"": 1}, r.counted(t, "relay_first_chunk_seconds"))
	require.Equal(t, map[string]float64{"": 1}, r.counted(t, "relay_chunk_gap_seconds"))
	r.idle(t)
}

func TestTheModelThatAnsweredIsLoggedWhereNoneWasAskedFor(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello}})
	fetch(t, http.MethodPost, r.url+"/api/chat/stream", question)
	require.Equal(t, "m-1", r.log.stream(t)["model"])
}

func TestMetricsTellTheTime(t *testing.T) {
	held := content("Hel")
	held.More = true
	long := content(strings.Repeat("x", 1000))
	for name, tc := range map[string]struct {
		steps       []any // 2 s before each
		beat        time.Duration
		first, gaps float64
		writes      float64 // of chunks
		chunks      float64
	}{
		"of chunks in writes of their own": {[]any{content("Hel"), content("lo"), content("Hel"),
			done(chat.FinishStop)}, 0, 2, 4, 3, 3},
		"of chunks that share a write":    {[]any{held, content("lo"), done(chat.FinishStop)}, 0, 4, 0, 1, 2},
		"of a chunk that done took along": {[]any{held, done(chat.FinishStop)}, 0, 4, 0, 1, 1},
		"of one that an error took along": {[]any{held, &chat.Error{Code: chat.UpstreamError}}, 0, 4, 0, 1, 1},
		"of a later chunk with done":      {[]any{content("Hel"), held, done(chat.FinishStop)}, 0, 2, 4, 2, 2},
		"of chunks that a ping took along": {[]any{held, content("lo"), held, done(chat.FinishStop)},
			3 * time.Second, 3, 4, 3, 3},
		"of two chunks, none of one too big": {[]any{content("Hel"), held, long}, 0, 2, 4, 2, 2},
		"of nothing":                         {[]any{done(chat.FinishStop)}, 0, 0, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, s := connect(t, handler.Options{Heartbeat: tc.beat, MaxStreamBytes: 1000,
					Router: answering{provider(
						func(ctx context.Context, req *chat.Request, yield func(chat.Chunk, error) bool) {
							for _, step := range tc.steps {
								wait(ctx, 2*time.Second)
								play(step)(ctx, req, yield)
							}
						})}})
				s.post(t)
				s.head(t)
				s.rest(t)
				line := r.log.stream(t)
				require.Equal(t, tc.writes > 0, line["first_chunk_ms"] != nil)
				require.Equal(t, tc.chunks, line["chunks"])
				require.Equal(t, tc.chunks, r.counted(t, "relay_chunks_total")[""])
				require.Equal(t, min(tc.writes, 1), r.counted(t, "relay_first_chunk_seconds")[""])
				require.Equal(t, max(tc.writes-1, 0), r.counted(t, "relay_chunk_gap_seconds")[""])
				require.InDelta(t, tc.first, r.total(t, "relay_first_chunk_seconds"), .1)
				require.InDelta(t, tc.gaps, r.total(t, "relay_chunk_gap_seconds"), .1)
			})
		})
	}
}
