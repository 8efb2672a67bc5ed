package handler_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/identity"
	"github.com/websopy/relay/internal/redisconn"
	"github.com/websopy/relay/internal/redistest"
	"github.com/websopy/relay/internal/stream"
)

const (
	wholeQuestion = `{"messages":[{"role":"user","content":"q"}],"stream":false}`
	unguessable   = "0b6e7c1e-5b0a-4a3c-9d59-1f6f6a2b7c1d"
	abcAnswer     = `{"content":"abc","finishReason":"stop"}`
)

// A proxy that gives up after 30 s makes its client ask again, although the answer is on its way.
func TestAWholeAnswerWithAKeyIsGeneratedOnceAndFollowedByItsRetry(t *testing.T) {
	r := newResumable(t, stream.Options{})
	r.upstream.gate = make(chan struct{})
	for range 3 {
		ctx, giveUp := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/api/chat/stream",
			strings.NewReader(wholeQuestion))
		require.NoError(t, err)
		req.Header = http.Header{"Content-Type": {"application/json"}, "Idempotency-Key": {unguessable}}
		sent := make(chan error, 1)
		go func() {
			_, err := http.DefaultClient.Do(req)
			sent <- err
		}()
		require.Eventually(t, func() bool { return r.upstream.asked.Load() == 1 }, patience, time.Millisecond)
		giveUp()
		require.ErrorIs(t, receive(t, sent), context.Canceled)
	}
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() {
			res, body := r.ask(t, "POST", "/api/chat/stream", wholeQuestion, "Idempotency-Key: "+unguessable,
				"Accept: */*")
			require.Equal(t, http.StatusOK, res.StatusCode)
			require.Equal(t, "application/json; charset=utf-8", res.Header.Get("Content-Type"))
			require.Equal(t, "true", res.Header.Get("Idempotency-Replayed"))
			require.True(t, stream.ValidID(res.Header.Get("X-Stream-Id")))
			require.JSONEq(t, abcAnswer, body)
		})
	}
	close(r.upstream.gate)
	clients.Wait()
	require.Equal(t, int32(1), r.upstream.asked.Load())
	require.Equal(t, "completed", r.log.wait(t, "generation", 1)[0]["reason"])

	res, body := r.ask(t, "POST", "/api/chat/stream", strings.Replace(wholeQuestion, "q", "other", 1),
		"Idempotency-Key: "+unguessable)
	require.Equal(t, http.StatusUnprocessableEntity, res.StatusCode)
	require.Contains(t, body, "idempotency_mismatch")
}

func TestWhatAKeyDoesNotChange(t *testing.T) {
	plain := strings.Replace(wholeQuestion, `,"stream":false`, "", 1)
	for name, tc := range map[string]struct {
		body, key string
		asked     int32
	}{
		"a whole answer without a key":                  {wholeQuestion, "", 2},
		"a whole answer with one that could be guessed": {wholeQuestion, "order-17", 2},
		"a whole answer that wants to be resumable, only": {strings.Replace(wholeQuestion, "{", `{"resumable":true,`,
			1), "", 2},
		"a plain stream":            {plain, unguessable, 2},
		"a whole answer with a key": {wholeQuestion, unguessable, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newResumable(t, stream.Options{})
			for range 2 {
				res, body := r.ask(t, "POST", "/api/chat/stream", tc.body, "Idempotency-Key: "+tc.key)
				require.Equal(t, http.StatusOK, res.StatusCode)
				require.Equal(t, tc.asked == 1, res.Header.Get("X-Stream-Id") != "")
				require.Contains(t, body, `"finishReason":"stop"`)
			}
			require.Equal(t, tc.asked, r.upstream.asked.Load())
		})
	}
	t.Run("a key that can't be one is refused where keys count", func(t *testing.T) {
		r := newResumable(t, stream.Options{}, identity.APIKey{Key: "secret"})
		res, body := r.ask(t, "POST", "/api/chat/stream", wholeQuestion, "Authorization: Bearer secret",
			"Idempotency-Key: a b")
		require.Equal(t, http.StatusBadRequest, res.StatusCode)
		require.Contains(t, body, "Idempotency-Key")
	})
}

// The retry of what failed is told the same, unless it may succeed.
func TestAWholeAnswerThatFailed(t *testing.T) {
	busy := &chat.Error{Code: chat.UpstreamRateLimited, Message: "slow down", RetryAfter: 2 * time.Second}
	rejected := &chat.Error{Code: chat.UpstreamRejected, Message: "no such thing"}
	for name, tc := range map[string]struct {
		first  provider
		status int
		again  int
	}{
		"before its first word, in passing": {play(busy), http.StatusTooManyRequests, http.StatusOK},
		"before its first word, for good":   {play(rejected), http.StatusBadRequest, http.StatusBadRequest},
		"in the middle, also if for a while": {play(content("Hel"), busy), http.StatusTooManyRequests,
			http.StatusTooManyRequests},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			hub := stream.New(stream.Options{Grace: time.Minute, Retention: time.Minute})
			t.Cleanup(func() { closeHub(hub) })
			r := start(t, handler.Options{Streams: hub,
				Router: answering{
					provider(func(ctx context.Context, req *chat.Request, yield func(chat.Chunk, error) bool) {
						if asked++; asked == 1 {
							tc.first(ctx, req, yield)
							return
						}
						play(content("Hello"), done(chat.FinishStop))(ctx, req, yield)
					})}})
			for i, status := range []int{tc.status, tc.again} {
				res, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", wholeQuestion, "Idempotency-Key",
					unguessable)
				require.Equal(t, status, res.StatusCode, "attempt %d", i+1)
				require.NotContains(t, body, "Hel\"")
			}
		})
	}
}

// Another replica has the answer: the client has to ask again, with its key.
func TestAWholeAnswerOfAReplicaThatGoesAway(t *testing.T) {
	redis := redistest.Start(t).URL()
	replica := func(upstream *abc) (*relay, *stream.Hub) {
		hub, err := stream.Open(stream.Options{Grace: time.Minute, Retention: time.Minute},
			redisconn.Options{URL: redis})
		require.NoError(t, err)
		t.Cleanup(func() { closeHub(hub) })
		return start(t, handler.Options{Router: answering{upstream}, Streams: hub}), hub
	}
	gate := make(chan struct{})
	first, leaving := replica(&abc{gate: gate})
	second, _ := replica(&abc{})
	type response struct {
		*http.Response
		body string
	}
	answer := make(chan response, 1)
	go func() {
		res, body := fetch(t, http.MethodPost, first.url+"/api/chat/stream", wholeQuestion, "Idempotency-Key",
			unguessable)
		answer <- response{res, body}
	}()
	require.Eventually(t, func() bool { return leaving.Stats().Attached == 1 }, patience, time.Millisecond)
	leaving.Release()
	res := receive(t, answer)
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.Equal(t, "1", res.Header.Get("Retry-After"))
	require.Contains(t, res.body, `"code":"draining","retryable":true`)

	go close(gate)
	again, body := fetch(t, http.MethodPost, second.url+"/api/chat/stream", wholeQuestion, "Idempotency-Key",
		unguessable)
	require.Equal(t, "true", again.Header.Get("Idempotency-Replayed"))
	require.JSONEq(t, abcAnswer, body)
}

// fetch-event-source sends its POST again after a cut, with the last id that it has seen, and after a 204 for ever.
func TestAPOSTAtTheEndGetsTheEndOnceMore(t *testing.T) {
	r := newResumable(t, stream.Options{})
	res, _ := r.ask(t, "POST", "/api/chat/stream", resumableQuestion)
	id := res.Header.Get("X-Stream-Id")
	for range 2 {
		res, body := r.ask(t, "POST", "/api/chat/stream", resumableQuestion, "Last-Event-ID: "+id+".4")
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.Equal(t, frames(id, 3, true), body)
	}
	require.Equal(t, int32(1), r.upstream.asked.Load())
}

// Who has an answer may ask for it again and again, and read none of what comes: it costs no tokens. Each is held whole
// until its client has it.
func TestAnswersSentAgainWholeTakeNoMoreMemoryThanBodiesMay(t *testing.T) {
	const longest = 8 << 20
	long := play(content(strings.Repeat("x", longest/2)), content(strings.Repeat("y", longest/2)), done(chat.FinishStop))
	hub := stream.New(stream.Options{Grace: time.Minute, Retention: time.Minute})
	r := start(t, handler.Options{Router: answering{long}, Streams: hub, BodyBytes: 6 * longest})
	t.Cleanup(func() { closeHub(hub) })
	ask := func() (status int, size int) {
		res, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", wholeQuestion, "Idempotency-Key", unguessable)
		return res.StatusCode, len(body)
	}
	for range 2 {
		status, size := ask()
		require.Equal(t, http.StatusOK, status)
		require.Greater(t, size, longest)
	}
	full := func() bool { status, _ := ask(); return status == http.StatusServiceUnavailable }
	var unread []net.Conn
	for !full() { // one that came while this was asked may have been refused
		require.Less(t, len(unread), 100)
		conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(4<<10))
		_, err = fmt.Fprintf(conn, "POST /api/chat/stream HTTP/1.1\r\nHost: localhost\r\n"+
			"Content-Type: application/json\r\nIdempotency-Key: %s\r\n"+
			"Content-Length: %d\r\n\r\n%s", unguessable, len(wholeQuestion), wholeQuestion)
		require.NoError(t, err)
		unread = append(unread, conn)
	}
	for _, conn := range unread {
		conn.Close()
	}
	require.Eventually(t, func() bool { return !full() }, patience, 10*time.Millisecond)
}
