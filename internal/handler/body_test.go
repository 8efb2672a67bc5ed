package handler_test

import (
	"context"
	"fmt"
	"io"
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
	"github.com/websopy/relay/internal/stream"
)

// longQuestion is a question of about so many bytes.
func longQuestion(bytes int) string {
	return `{"messages":[{"role":"user","content":"` + strings.Repeat("x", bytes) + `"}]}`
}

// trickle sends a request whose body comes at a rate, in bytes a second. It stops when nobody takes it.
func (s *socket) trickle(body string, rate int) {
	_, err := fmt.Fprintf(s, "POST /api/chat/stream HTTP/1.1\r\nHost: relay\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\n\r\n", len(body))
	for err == nil && body != "" {
		time.Sleep(time.Second)
		n := min(rate, len(body))
		_, err = io.WriteString(s, body[:n])
		body = body[n:]
	}
}

func TestABodyMayBeSlowButNotIdle(t *testing.T) {
	for name, tc := range map[string]struct {
		bytes, rate int
		status      string
		after       time.Duration
	}{
		"a picture from a phone":        {900_000, 220_000 / 8, "HTTP/1.1 200 OK", 33 * time.Second},
		"the slowest that is let pass":  {900_000, 4096, "HTTP/1.1 200 OK", 220 * time.Second},
		"a byte a second":               {900_000, 1, "HTTP/1.1 400 Bad Request", 30 * time.Second},
		"somewhat faster than a byte":   {900_000, 400, "HTTP/1.1 400 Bad Request", 33 * time.Second},
		"slow, but so short that it is": {2000, 100, "HTTP/1.1 200 OK", 21 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, s := connect(t, handler.Options{Router: answering{hello}, MaxBody: 8 << 20})
				began := time.Now()
				var sending sync.WaitGroup
				sending.Go(func() { s.trickle(longQuestion(tc.bytes), tc.rate) })
				status, _ := s.head(t)
				require.Equal(t, tc.status, status)
				require.InDelta(t, tc.after.Seconds(), time.Since(began).Seconds(), 1)
				s.Close()
				sending.Wait()
			})
		})
	}
}

func TestABodyThatIsTooLargeIsRefusedBeforeItIsSent(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello}, MaxBody: 8 << 20})
	s := dial(t, r)
	s.send(t, "POST /api/chat/stream HTTP/1.1\r\nHost: relay\r\nContent-Type: application/json\r\n"+
		"Content-Length: 9000000\r\n\r\n")
	status, header := s.head(t)
	require.Equal(t, "HTTP/1.1 413 Request Entity Too Large", status)
	require.Equal(t, "close", header.Get("Connection"))

	for protocol, client := range protocols(t) {
		t.Run(protocol, func(t *testing.T) {
			// Without a length nobody knows until it is there.
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/api/chat/stream",
				io.MultiReader(strings.NewReader(longQuestion(8<<20)), strings.NewReader(" ")))
			require.NoError(t, err)
			req.Header.Set("Content-Type", "application/json")
			res, err := client.Do(req)
			require.NoError(t, err)
			defer res.Body.Close()
			require.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode)
		})
	}
}

func TestTheLargestBodyIsTaken(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello}, MaxBody: 8 << 20, BodyBytes: 33 << 20})
	body := longQuestion(8<<20 - len(longQuestion(0)))
	require.Len(t, body, 8<<20)
	for protocol, client := range protocols(t) {
		t.Run(protocol, func(t *testing.T) {
			for _, from := range []io.Reader{strings.NewReader(body), io.MultiReader(strings.NewReader(body))} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/api/chat/stream", from)
				require.NoError(t, err)
				req.Header.Set("Content-Type", "application/json")
				res, err := client.Do(req)
				require.NoError(t, err)
				defer res.Body.Close()
				require.Equal(t, http.StatusOK, res.StatusCode)
			}
		})
	}
}

func TestAQuestionHoldsItsBytesUntilItIsAnswered(t *testing.T) {
	begin, end := make(chan struct{}), make(chan struct{})
	stepped := provider(func(ctx context.Context, req *chat.Request, yield func(chat.Chunk, error) bool) {
		<-begin
		if yield(content("Hel"), nil) {
			<-end
			hello(ctx, req, yield)
		}
	})
	keys := identity.NewKeys([]identity.APIKey{{Name: "a", Key: "key-a"}, {Name: "b", Key: "key-b"}})
	hub := stream.New(stream.Options{Grace: time.Minute, Retention: time.Minute})
	defer closeHub(hub)
	r := start(t, handler.Options{Router: answering{stepped}, Streams: hub, Keys: keys, MaxBody: 1 << 20,
		BodyBytes: 4 << 20})
	body := longQuestion(600_000)
	for name, question := range map[string]string{
		"a stream":           body,
		"a resumable stream": `{"resumable":true,` + body[1:],
		"a whole answer":     `{"stream":false,` + body[1:],
	} {
		t.Run(name, func(t *testing.T) {
			answered := make(chan string)
			go func() {
				_, text := fetch(t, http.MethodPost, r.url+"/api/chat/stream", question, "Authorization",
					"Bearer key-a")
				answered <- text
			}()
			held := func() float64 { return r.counted(t, "relay_body_bytes")[""] }
			require.Eventually(t, func() bool {
				return held() > 1_200_000 && r.counted(t, "relay_streams_open")[""] == 1
			},
				patience, time.Millisecond)

			res, text := fetch(t, http.MethodPost, r.url+"/api/chat/stream", body, "Authorization", "Bearer key-a")
			require.Equal(t, http.StatusServiceUnavailable, res.StatusCode, "a caller has half")
			require.Equal(t, chat.Overloaded, lastError(t, text).Code)
			require.Contains(t, lastError(t, text).Error, "RELAY_BODY_BYTES")
			require.Equal(t, "1", res.Header.Get("Retry-After"))

			begin <- struct{}{}
			require.Eventually(t, func() bool { return held() == 0 }, patience, time.Millisecond,
				"the answer has begun")
			end <- struct{}{}
			require.Contains(t, receive(t, answered), "lo")
		})
	}
	t.Run("another caller has its own half", func(t *testing.T) {
		var asking sync.WaitGroup
		for _, key := range []string{"key-a", "key-b"} {
			asking.Go(func() {
				fetch(t, http.MethodPost, r.url+"/api/chat/stream", longQuestion(500_000), "Authorization",
					"Bearer "+key)
			})
		}
		for range 2 {
			begin <- struct{}{}
			end <- struct{}{}
		}
		asking.Wait()
	})
}

// 300 KB of small messages are some 3 MB in memory.
func TestAQuestionCountsAsWhatItTakes(t *testing.T) {
	gone := make(chan error, 1)
	r := start(t, handler.Options{Router: answering{hang(gone)}, MaxBody: 1 << 20, BodyBytes: 8 << 20})
	many := func(n int) string {
		return `{"messages":[` + strings.Repeat(`{"role":"user","content":"q"},`, n-1) +
			`{"role":"user","content":"q"}]}`
	}
	s := dial(t, r)
	s.postBody(t, many(10_000))
	s.head(t)
	require.InDelta(t, 3.3e6, r.counted(t, "relay_body_bytes")[""], 1e6)
	s.Close()
	receive(t, gone)
	r.idle(t)
	require.Zero(t, r.counted(t, "relay_body_bytes")[""])

	res, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", many(20_000))
	require.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode, "it would never have room")
	require.Contains(t, lastError(t, body).Error, "RELAY_BODY_BYTES")
}

func TestABodyThatNobodyReadsDoesNotDelayTheAnswer(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello}})
	for _, request := range []string{"GET /healthz", "PUT /nowhere", "POST /healthz"} {
		s := dial(t, r)
		s.send(t, request+" HTTP/1.1\r\nHost: relay\r\nContent-Length: 9000000\r\n\r\n")
		_, header := s.head(t)
		require.Equal(t, "close", header.Get("Connection"), request)
	}
}

func TestALargeHeaderCountsWhileABodyIsAwaited(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello}, MaxBody: 1 << 20, BodyBytes: 64 << 10})
	s := dial(t, r)
	s.send(t, "POST /api/chat/stream HTTP/1.1\r\nHost: relay\r\nContent-Type: application/json\r\n"+
		"Content-Length: 100\r\n"+
		"X-Large: "+strings.Repeat("x", 50<<10)+"\r\n\r\n{")
	held := func() float64 { return r.counted(t, "relay_body_bytes")[""] }
	require.Eventually(t, func() bool { return held() > 40<<10 }, patience, time.Millisecond)
	res, _ := fetch(t, http.MethodPost, r.url+"/api/chat/stream", question, "X-Large", strings.Repeat("x", 30<<10))
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	res, _ = fetch(t, http.MethodPost, r.url+"/api/chat/stream", question)
	require.Equal(t, http.StatusOK, res.StatusCode)
	s.Close()
	require.Eventually(t, func() bool { return held() == 0 }, patience, time.Millisecond)
}
