package handler_test

import (
	"cmp"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/dialect"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/identity"
	"github.com/websopy/relay/internal/limit"
	"github.com/websopy/relay/internal/redisconn"
	"github.com/websopy/relay/internal/stream"
)

// ends is a provider that ends its answers as the question says. Question and text are of two tokens each, as far as
// can be estimated.
var ends = provider(func(ctx context.Context, req *chat.Request, yield func(chat.Chunk, error) bool) {
	how := strings.TrimSpace(req.Messages[0].Content)
	switch {
	case how == "refuse":
		yield(chat.Chunk{}, &chat.Error{Code: chat.UpstreamRejected, Message: "no"})
		return
	case how == "late":
		<-ctx.Done()
		yield(chat.Chunk{}, context.Cause(ctx))
		return
	case !yield(content("12345678"), nil):
		return
	}
	switch how {
	case "done":
		yield(done(chat.FinishStop), nil) // of 9 tokens
	case "zero":
		yield(chat.Chunk{Type: chat.Done, Done: &chat.Completion{FinishReason: chat.FinishStop, Usage: &chat.Usage{}}},
			nil)
	case "question":
		yield(chat.Chunk{Type: chat.Done, Done: &chat.Completion{FinishReason: chat.FinishStop,
			Usage: &chat.Usage{PromptTokens: 30}}}, nil)
	case "answer":
		yield(chat.Chunk{Type: chat.Done, Done: &chat.Completion{FinishReason: chat.FinishStop,
			Usage: &chat.Usage{CompletionTokens: 30}}}, nil)
	case "silent":
		yield(chat.Chunk{Type: chat.Done, Done: &chat.Completion{FinishReason: chat.FinishStop}}, nil)
	case "break":
		yield(chat.Chunk{}, &chat.Error{Code: chat.UpstreamTruncated, Message: "it broke off"})
	case "panic":
		panic("a bug")
	default:
		<-ctx.Done()
		yield(chat.Chunk{}, context.Cause(ctx))
	}
})

// limited is a relay in front of ends whose caller has limits.
type limited struct {
	*relay
	limiter *limit.Limiter
}

const callersKey = "k-0123456789"

// longestAnswer ends those that don't end by themselves. On a busy machine an answer that does may take a second.
const longestAnswer = 5 * time.Second

func newLimited(t *testing.T, limits limit.Limits, more ...func(*handler.Options)) *limited {
	l := &limited{limiter: limit.NewLimiter(limit.LimiterOptions{Policy: limit.Policy{Limits: limits}})}
	hub := stream.New(stream.Options{Grace: time.Minute, Retention: time.Minute, MaxDuration: longestAnswer})
	t.Cleanup(func() { closeHub(hub) })
	o := handler.Options{
		Router: answering{ends}, Streams: hub, Limiter: l.limiter,
		Keys:        identity.NewKeys([]identity.APIKey{{Name: "me", Key: callersKey}}),
		MaxDuration: longestAnswer,
		Dialects:    []handler.Dialect{{Path: "/v1/chat/completions", Dialect: dialect.ChatCompletions{}}},
	}
	for _, set := range more {
		set(&o)
	}
	l.relay = start(t, o)
	return l
}

// ask asks for an answer that ends in a way. The caller closes the body.
func (l *limited) ask(ctx context.Context, how string, resumable bool, headers ...string) (*http.Response, error) {
	body := `{"messages":[{"role":"user","content":"` + (how + "        ")[:8] + `"}]`
	if resumable {
		body += `,"resumable":true`
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url+"/api/chat/stream", strings.NewReader(body+"}"))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+callersKey)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return http.DefaultClient.Do(req)
}

// used waits until no answer runs, and gives the tokens of the day that the caller has used.
func (l *limited) used(t *testing.T) int64 {
	t.Helper()
	require.Eventually(t, func() bool { return l.limiter.Reserved() == 0 }, patience, 5*time.Millisecond,
		"nothing is reserved")
	r, err := l.limiter.Reserve("name me", "", 0)
	require.NoError(t, err)
	defer r.Cancel()
	stand := r.Stand()
	return stand[len(stand)-1].Count - stand[len(stand)-1].Left
}

// The ways in which an answer can end, and what each costs.
var waysToEnd = map[string]struct {
	tokens int64
	end    func(t *testing.T, l *limited)
}{
	"done":                      {9, func(t *testing.T, l *limited) { l.whole(t, "done", false) }},
	"done, resumable":           {9, func(t *testing.T, l *limited) { l.whole(t, "done", true) }},
	"done without usage":        {4, func(t *testing.T, l *limited) { l.whole(t, "silent", false) }},
	"done, none was counted":    {4, func(t *testing.T, l *limited) { l.whole(t, "zero", true) }},
	"only the question counted": {32, func(t *testing.T, l *limited) { l.whole(t, "question", true) }},
	"only the answer counted":   {32, func(t *testing.T, l *limited) { l.whole(t, "answer", false) }},
	"refused by the provider":   {0, func(t *testing.T, l *limited) { l.whole(t, "refuse", false) }},
	"refused, resumable":        {0, func(t *testing.T, l *limited) { l.whole(t, "refuse", true) }},
	"broken off":                {4, func(t *testing.T, l *limited) { l.whole(t, "break", false) }},
	"broken off, resumable":     {4, func(t *testing.T, l *limited) { l.whole(t, "break", true) }},
	"a bug":                     {4, func(t *testing.T, l *limited) { l.whole(t, "panic", false) }},
	"a bug, resumable":          {4, func(t *testing.T, l *limited) { l.whole(t, "panic", true) }},
	"cut by the clock":          {4, func(t *testing.T, l *limited) { l.whole(t, "hang", false) }},
	"cut, resumable":            {4, func(t *testing.T, l *limited) { l.whole(t, "hang", true) }},
	"left in the middle":        {4, func(t *testing.T, l *limited) { l.leave(t, "hang", false) }},
	"left, and generated on":    {4, func(t *testing.T, l *limited) { l.leave(t, "hang", true) }},
	"left before the beginning": {0, func(t *testing.T, l *limited) { l.leave(t, "late", false) }},
	"stopped":                   {4, func(t *testing.T, l *limited) { l.stop(t, false) }},
	"left, read again, stopped": {4, func(t *testing.T, l *limited) { l.stop(t, true) }},
	"asked twice with a key":    {9, func(t *testing.T, l *limited) { l.twice(t) }},
}

func (l *limited) whole(t *testing.T, how string, resumable bool) {
	res, err := l.ask(context.Background(), how, resumable)
	if assert.NoError(t, err) {
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
}

func (l *limited) leave(t *testing.T, how string, resumable bool) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	res, err := l.ask(ctx, how, resumable)
	if !assert.NoError(t, err) {
		return
	}
	if how == "hang" {
		_, _ = io.ReadAtLeast(res.Body, make([]byte, 1024), len(`data: {"type":"content"`))
	}
	cancel()
	res.Body.Close()
}

func (l *limited) stop(t *testing.T, readAgain bool) {
	res, err := l.ask(context.Background(), "hang", true)
	if !assert.NoError(t, err) {
		return
	}
	id := res.Header.Get("X-Stream-Id")
	_, _ = io.ReadAtLeast(res.Body, make([]byte, 1024), 200) // start and text
	if readAgain {
		res.Body.Close()
	}
	do := func(method string) (*http.Response, error) {
		req, _ := http.NewRequest(method, l.url+"/api/chat/stream/"+id, nil)
		req.Header.Set("Authorization", "Bearer "+callersKey)
		return http.DefaultClient.Do(req)
	}
	if readAgain {
		if res, err = do(http.MethodGet); !assert.NoError(t, err) {
			return
		}
	}
	stopped, err := do(http.MethodDelete)
	if assert.NoError(t, err) {
		stopped.Body.Close()
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
}

func (l *limited) twice(t *testing.T) {
	key := time.Now().Format(time.RFC3339Nano) + strconv.Itoa(rand.IntN(1e9))
	for range 2 {
		res, err := l.ask(context.Background(), "done", true, "Idempotency-Key", key)
		if assert.NoError(t, err) {
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}
}

func TestWhatEachEndCosts(t *testing.T) {
	t.Parallel()
	for name, way := range waysToEnd {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLimited(t, limit.Limits{Streams: 5, TokensPerDay: 1e6})
			way.end(t, l)
			require.Equal(t, way.tokens, l.used(t))
			estimated := l.counted(t, "relay_limit_tokens_total")
			require.InDelta(t, way.tokens, estimated["true"]+estimated["false"], 0)
			require.Equal(t, way.tokens == 4 || way.tokens == 32, estimated["true"] > 0)
		})
	}
}

// Answers that end in all ways at once, in any order: nothing stays reserved, and what was used is what they cost.
func TestWhateverTheOrderOfEndsAllIsSettled(t *testing.T) {
	t.Parallel()
	l := newLimited(t, limit.Limits{Requests: limit.Rate{Count: 1e6, Window: time.Hour}, Streams: 1000,
		TokensPerDay: 1e9})
	var names []string
	for name := range waysToEnd {
		names = append(names, name)
	}
	want := int64(0)
	var all sync.WaitGroup
	for range 150 {
		way := waysToEnd[names[rand.IntN(len(names))]]
		want += way.tokens
		all.Go(func() { way.end(t, l) })
	}
	all.Wait()
	require.Equal(t, want, l.used(t))
}

func TestARefusalForALimitInEachShape(t *testing.T) {
	l := newLimited(t, limit.Limits{Requests: limit.Rate{Count: 60, Window: time.Minute, Burst: 1}},
		func(o *handler.Options) {
			o.CORSOrigins = []string{"https://app.example"}
		})
	auth := []string{"Authorization", "Bearer " + callersKey}
	res, body := fetch(t, http.MethodPost, l.url+"/api/chat/stream", question,
		append(auth, "Origin", "https://app.example")...)
	require.Equal(t, http.StatusOK, res.StatusCode, body)
	require.Equal(t, `"requests";q=60;w=60`, res.Header.Get("RateLimit-Policy"))
	require.Equal(t, `"requests";r=0;t=1`, res.Header.Get("RateLimit"))
	require.Equal(t, "60", res.Header.Get("x-ratelimit-limit-requests"))
	require.Equal(t, "0", res.Header.Get("x-ratelimit-remaining-requests"))
	require.Equal(t, "1s", res.Header.Get("x-ratelimit-reset-requests"))
	require.Empty(t, res.Header.Get("x-ratelimit-limit-tokens"))
	exposed := strings.Join(res.Header.Values("Access-Control-Expose-Headers"), ", ")
	for _, name := range []string{"Retry-After", "Ratelimit", "Ratelimit-Policy", "X-Ratelimit-Remaining-Tokens"} {
		require.Contains(t, strings.ToLower(exposed), strings.ToLower(name))
	}

	drain := func() { // whatever came back meanwhile
		require.Eventually(t, func() bool {
			r, err := l.limiter.Reserve("name me", "", 0)
			if err == nil {
				r.Settle(0)
			}
			return err != nil
		}, patience, time.Millisecond)
	}
	drain()
	res, body = fetch(t, http.MethodPost, l.url+"/api/chat/stream", question, auth...)
	require.Equal(t, http.StatusTooManyRequests, res.StatusCode)
	require.Equal(t, "1", res.Header.Get("Retry-After"))
	require.Equal(t, `"requests";r=0;t=1`, res.Header.Get("RateLimit"))
	e := lastError(t, body)
	require.Equal(t, chat.RateLimited, e.Code)
	require.Equal(t, 1, e.RetryAfter)
	require.Contains(t, body, `"limit":"requests"`)
	require.True(t, e.Retryable)

	drain()
	res, body = fetch(t, http.MethodPost, l.url+"/v1/chat/completions",
		`{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}`, auth...)
	require.Equal(t, http.StatusTooManyRequests, res.StatusCode)
	require.Contains(t, body, `"type":"rate_limit_error"`)
	require.Equal(t, "0", res.Header.Get("x-ratelimit-remaining-requests"))

	drain()
	res = ask(t, http.DefaultClient, http.MethodGet, l.url+"/v1/ai/chat?message=hi", "",
		append(auth, "Accept", "text/event-stream")...)
	require.Equal(t, http.StatusOK, res.StatusCode, "any other status ends an EventSource for good")
	frame, _ := io.ReadAll(res.Body) // and the connection is cut
	require.Regexp(t, "^data: {\"type\":\"ping\"}\nretry: [123][0-9]{3}\n\n$", string(frame))
	require.Equal(t, float64(3), l.counted(t, "relay_limited_total")["requests"])
	require.Equal(t, float64(3), l.counted(t, "relay_requests_refused_total")["rate_limited"])
	http.DefaultClient.CloseIdleConnections()
}

// Who has read the end of its answer may ask again at once, although its provider is still read to the end.
func TestWhoHasItsAnswerMayAskAgainAtOnce(t *testing.T) {
	for name, resumable := range map[string]bool{"plain": false, "resumable": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			let := make(chan struct{})
			l := newLimited(t, limit.Limits{Streams: 1}, func(o *handler.Options) {
				o.MaxDuration = time.Minute
				o.Router = answering{provider(
					func(ctx context.Context, req *chat.Request, yield func(chat.Chunk, error) bool) {
						if strings.HasPrefix(req.Messages[0].Content, "refuse") {
							yield(chat.Chunk{}, &chat.Error{Code: chat.UpstreamRejected, Message: "no"})
							return
						}
						yield(done(chat.FinishStop), nil)
						select {
						case <-let:
						case <-ctx.Done():
						}
					})}
			})
			defer close(let)
			for i := range 20 {
				res, err := l.ask(t.Context(), []string{"done", "refuse"}[i%2], resumable)
				require.NoError(t, err)
				require.Equal(t, http.StatusOK, res.StatusCode)
				defer res.Body.Close() // its provider has not returned
				for frames := ""; !strings.Contains(frames, `"type":"done"`) &&
					!strings.Contains(frames, `"type":"error"`); {
					require.NoError(t, err, frames)
					var n int
					b := make([]byte, 1024)
					n, err = res.Body.Read(b)
					frames += string(b[:n])
				}
			}
		})
	}
}

// A retry finds the answer that runs already, although the caller may not ask for another.
func TestARetryIsNoFurtherRequest(t *testing.T) {
	l := newLimited(t, limit.Limits{Streams: 1, Requests: limit.Rate{Count: 1, Window: time.Hour}})
	res, err := l.ask(t.Context(), "hang", true, "Idempotency-Key", "a-key")
	require.NoError(t, err)
	id := res.Header.Get("X-Stream-Id")
	res.Body.Close()
	res, err = l.ask(t.Context(), "hang", true, "Idempotency-Key", "a-key")
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, "true", res.Header.Get("Idempotency-Replayed"))
	require.Equal(t, id, res.Header.Get("X-Stream-Id"))

	for _, other := range []string{"another-key", ""} {
		refused, err := l.ask(t.Context(), "hang", true, "Idempotency-Key", other)
		require.NoError(t, err)
		refused.Body.Close()
		require.Equal(t, http.StatusTooManyRequests, refused.StatusCode)
	}
	changed, err := l.ask(t.Context(), "done", true, "Idempotency-Key", "a-key")
	require.NoError(t, err)
	changed.Body.Close()
	require.Equal(t, http.StatusTooManyRequests, changed.StatusCode)
}

// Coming for an answer that there is costs no tokens, but is limited for each caller and answer.
func TestWhoComesForOneAnswerInALoopIsRefused(t *testing.T) {
	const times = 3
	chat32 := "chat-0123456789abcdef0123456789abcdef" + strings.Repeat("x", 64)
	key := []string{"Idempotency-Key", "a-key"}
	for name, way := range map[string]struct {
		ask    func(l *limited, id string, last string) (method, path, body string, headers []string)
		status int // while it may; 0: 200
		shape  string
	}{
		"by id": {ask: func(_ *limited, id, _ string) (string, string, string, []string) {
			return "GET", "/api/chat/stream/" + id, "", nil
		}},
		"by id, to a UI": {ask: func(_ *limited, id, last string) (string, string, string, []string) {
			return "GET", "/api/agui/" + id, "", []string{"Last-Event-ID", last}
		}},
		"by position": {ask: func(_ *limited, _, last string) (string, string, string, []string) {
			return "POST", "/api/chat/stream", question, []string{"Last-Event-ID", last}
		}},
		"the question's URL": {ask: func(_ *limited, _, last string) (string, string, string, []string) {
			return "GET", "/v1/ai/chat?message=hi&last_event_id=" + last, "", nil
		}},
		"of a provider's API": {ask: func(_ *limited, id, _ string) (string, string, string, []string) {
			return "GET", "/v1/chat/completions/" + id, "", nil
		}, shape: `"type":"rate_limit_error"`},
		"a chat": {ask: func(*limited, string, string) (string, string, string, []string) {
			return "GET", "/api/chat/" + chat32 + "/stream", "", nil
		}, status: http.StatusNoContent},
		"a retry": {ask: func(*limited, string, string) (string, string, string, []string) {
			return "POST", "/api/chat/stream", `{"messages":[{"role":"user","content":"again   "}],"resumable":true}`,
				key
		}},
		"a stop": {ask: func(_ *limited, id, _ string) (string, string, string, []string) {
			return "DELETE", "/api/chat/stream/" + id, "", nil
		}, status: http.StatusAccepted},
		"nobody's": {ask: func(*limited, string, string) (string, string, string, []string) {
			return "GET", "/api/chat/stream/" + strings.Repeat("0", 32), "", nil
		}, status: http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLimited(t, limit.Limits{Requests: limit.Rate{Count: 100, Window: time.Hour}},
				func(o *handler.Options) {
					o.Router = answering{hello}
					o.Keys = identity.NewKeys([]identity.APIKey{{Name: "me", Key: callersKey},
						{Name: "other", Key: "k-9876543210"}})
					o.Attaches = limit.NewLimiter(limit.LimiterOptions{
						Policy: limit.Policy{
							Limits: limit.Limits{Requests: limit.Rate{Count: times, Window: time.Hour}}},
					})
					o.Dialects = append(o.Dialects,
						handler.Dialect{Path: "/api/agui", Dialect: dialect.AGUI{}, FromBeginning: true})
				})
			auth := []string{"Authorization", "Bearer " + callersKey}
			first := func() (id, last string) {
				res, err := l.ask(t.Context(), "done", true)
				require.NoError(t, err)
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				return res.Header.Get("X-Stream-Id"), res.Header.Get("X-Stream-Id") + ".1"
			}
			id, last := first()
			come := func(id, last string, auth []string) (*http.Response, string) {
				method, path, body, headers := way.ask(l, id, last)
				return fetch(t, method, l.url+path, body, append(headers, auth...)...)
			}
			allowed := times
			if name == "a retry" {
				allowed++ // the first of which is the request itself
			}
			for range allowed {
				res, body := come(id, last, auth)
				require.Equal(t, max(way.status, http.StatusOK), res.StatusCode, body)
			}
			res, body := come(id, last, auth)
			require.Equal(t, http.StatusTooManyRequests, res.StatusCode, body)
			after, err := strconv.Atoi(res.Header.Get("Retry-After"))
			require.NoError(t, err)
			require.InDelta(t, 1200, after, patience.Seconds())
			require.Regexp(t, `^"attach";r=0;t=3[56][0-9]{2}$`, res.Header.Get("RateLimit"))
			require.Contains(t, body+res.Header.Get("X-Relay-Error"), cmp.Or(way.shape, "rate_limited"))
			require.Equal(t, float64(1), l.counted(t, "relay_limited_total")["attach"])

			if res, _ := come(id, last, []string{"Authorization", "Bearer k-9876543210"}); name != "a retry" {
				require.NotEqual(t, http.StatusTooManyRequests, res.StatusCode, "another caller does not pay for it")
			}
			if otherID, otherLast := first(); name != "a chat" && name != "a retry" && name != "nobody's" {
				res, body = come(otherID, otherLast, auth)
				require.Equal(t, max(way.status, http.StatusOK), res.StatusCode, "another answer: %s", body)
			}
			res, _ = fetch(t, http.MethodDelete, l.url+"/api/chat/stream/"+id, "", auth...)
			require.Equal(t, name != "a stop", res.StatusCode == http.StatusAccepted,
				"who reads too often may stop it")
		})
	}
}

// To an EventSource any status but 200 is final, and it comes again by itself.
func TestAnEventSourceThatComesTooOftenIsToldToWait(t *testing.T) {
	l := newLimited(t, limit.Limits{}, func(o *handler.Options) {
		o.Router = answering{hello}
		o.Attaches = limit.NewLimiter(limit.LimiterOptions{
			Policy: limit.Policy{Limits: limit.Limits{Requests: limit.Rate{Count: 1, Window: 50 * time.Second}}},
		})
	})
	headers := []string{"Authorization", "Bearer " + callersKey, "Accept", "text/event-stream"}
	res, _ := fetch(t, http.MethodGet, l.url+"/v1/ai/chat?message=hi", "", headers...)
	headers = append(headers, "Last-Event-ID", res.Header.Get("X-Stream-Id")+".1")
	res, body := fetch(t, http.MethodGet, l.url+"/v1/ai/chat?message=hi", "", headers...)
	require.Contains(t, body, loFrame[:len(loFrame)-2])
	require.Equal(t, http.StatusOK, res.StatusCode)
	res = ask(t, http.DefaultClient, http.MethodGet, l.url+"/v1/ai/chat?message=hi", "", headers...)
	require.Equal(t, http.StatusOK, res.StatusCode)
	frame, _ := io.ReadAll(res.Body) // and the connection is cut
	require.Regexp(t, "^data: {\"type\":\"ping\"}\nretry: [345][0-9]{4}\n\n$", string(frame))
	http.DefaultClient.CloseIdleConnections()
}

// Who finds no place has not asked.
func TestWhoFindsNoPlaceHasUsedNothing(t *testing.T) {
	places := limit.NewPlaces(limit.PlacesOptions{Places: 1})
	taken, err := places.Take(t.Context(), "other")
	require.NoError(t, err)
	defer taken.Give()
	l := newLimited(t, limit.Limits{Requests: limit.Rate{Count: 1, Window: time.Hour}, TokensPerDay: 5000},
		func(o *handler.Options) {
			o.Generations = places
		})
	for range 3 {
		res, err := l.ask(t.Context(), "done", false)
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	}
	require.Zero(t, l.used(t))
}

func TestLimitsThatCanNotBeLookedUp(t *testing.T) {
	conn, err := redisconn.Open(redisconn.Options{URL: "redis://127.0.0.1:1", Probe: time.Hour})
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	limiter := limit.NewLimiter(limit.LimiterOptions{Policy: limit.Policy{Limits: limit.Limits{Streams: 1}},
		Redis: conn, Away: limit.AwayClosed})
	t.Cleanup(limiter.Close)
	r := start(t, handler.Options{Router: answering{hello}, Limiter: limiter,
		Keys: identity.NewKeys([]identity.APIKey{{Key: "k"}})})
	res, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", question, "Authorization", "Bearer k")
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.Equal(t, "1", res.Header.Get("Retry-After"))
	require.Equal(t, chat.Overloaded, lastError(t, body).Code)
	require.Contains(t, lastError(t, body).Error, "RELAY_LIMIT_FALLBACK")
}
