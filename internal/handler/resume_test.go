package handler_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/identity"
	"github.com/websopy/relay/internal/limit"
	"github.com/websopy/relay/internal/stream"
)

// abc answers "a", "b", "c", once its gate is open, and counts how often it was asked.
type abc struct {
	asked atomic.Int32
	gate  chan struct{} // closed: open; nil: there is none
}

func (a *abc) Stream(ctx context.Context, _ *chat.Request) iter.Seq2[chat.Chunk, error] {
	return func(yield func(chat.Chunk, error) bool) {
		a.asked.Add(1)
		if a.gate != nil {
			select {
			case <-a.gate:
			case <-ctx.Done():
				yield(chat.Chunk{}, ctx.Err())
				return
			}
		}
		for _, word := range []string{"a", "b", "c"} {
			if !yield(chat.Chunk{Type: chat.Content, Text: []byte(word)}, nil) {
				return
			}
		}
		yield(chat.Chunk{Type: chat.Done, Done: &chat.Completion{FinishReason: chat.FinishStop}}, nil)
	}
}

// resumable is a relay with the memory log in front of abc.
type resumable struct {
	*relay
	upstream *abc
}

func newResumable(t *testing.T, o stream.Options, keys ...identity.APIKey) *resumable {
	r := &resumable{upstream: &abc{}}
	o.Grace, o.Retention = time.Minute, 2*time.Minute
	hub := stream.New(o)
	r.relay = start(t, handler.Options{Router: answering{r.upstream}, Streams: hub, Keys: identity.NewKeys(keys)})
	t.Cleanup(func() { closeHub(hub) })
	return r
}

// closeHub ends all streams at once.
func closeHub(hub *stream.Hub) {
	over, end := context.WithCancel(context.Background())
	end()
	hub.Close(over)
}

const resumableQuestion = `{"messages":[{"role":"user","content":"q"}],"resumable":true}`

// ask sends a request with headers of the form "Name: value". A POST accepts an event stream.
func (r *resumable) ask(t *testing.T, method, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	pairs := []string{"Accept", "*/*"}
	if method == http.MethodPost {
		pairs[1] = "text/event-stream"
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		pairs = append(pairs, name, value)
	}
	return fetch(t, method, r.url+path, body, pairs...)
}

func frames(id string, from int, marker bool) string {
	var b strings.Builder
	if from == 0 {
		fmt.Fprintf(&b, "data: {\"type\":\"start\",\"id\":%q,\"graceMs\":60000,\"retentionMs\":120000}\n"+
			"retry: 1000\nid: %s.0\n\n", id, id)
	}
	for i, word := range []string{"a", "b", "c"} {
		if i >= from {
			fmt.Fprintf(&b, "data: {\"type\":\"content\",\"content\":%q}\nid: %s.%d\n\n", word, id, i+1)
		}
	}
	fmt.Fprintf(&b, "data: {\"type\":\"done\",\"finishReason\":\"stop\"}\nid: %s.4\n\n", id)
	if marker {
		b.WriteString("data: [DONE]\n\n")
	}
	return b.String()
}

func TestEveryFrameOfAResumableStreamCarriesItsPositionBehindItsData(t *testing.T) {
	r := newResumable(t, stream.Options{})
	for name, ask := range map[string]func() (*http.Response, string){
		"body": func() (*http.Response, string) { return r.ask(t, "POST", "/api/chat/stream", resumableQuestion) },
		"query": func() (*http.Response, string) {
			return r.ask(t, "POST", "/api/chat?resumable=true", strings.Replace(resumableQuestion, "true", "false", 1))
		},
		"GET":    func() (*http.Response, string) { return r.ask(t, "GET", "/api/chat/stream?message=q", "") },
		"GET v1": func() (*http.Response, string) { return r.ask(t, "GET", "/v1/ai/chat?message=q", "") },
	} {
		res, body := ask()
		require.Equal(t, 200, res.StatusCode, name)
		id := res.Header.Get("X-Stream-Id")
		require.True(t, stream.ValidID(id), name)
		require.Equal(t, frames(id, 0, res.Request.Method == http.MethodPost), body, name)
	}
	res, body := r.ask(t, "POST", "/api/chat/stream", `{"messages":[{"role":"user","content":"q"}]}`)
	require.Empty(t, res.Header.Get("X-Stream-Id"))
	require.NotContains(t, body, "id:")
	require.NotContains(t, body, "start")
}

func TestAStreamIsReadOnFromEveryPositionInEveryWay(t *testing.T) {
	r := newResumable(t, stream.Options{})
	res, _ := r.ask(t, "POST", "/api/chat/stream", resumableQuestion)
	id := res.Header.Get("X-Stream-Id")
	for after := range 5 {
		cursor := fmt.Sprintf("%s.%d", id, after)
		for name, ask := range map[string]func() (*http.Response, string){
			"its own URL": func() (*http.Response, string) {
				return r.ask(t, "GET", "/api/chat/stream/"+id, "", "Last-Event-ID: "+cursor)
			},
			"the query": func() (*http.Response, string) {
				return r.ask(t, "GET", "/v1/ai/chat/stream/"+id+"?last_event_id="+cursor, "")
			},
			"the header wins": func() (*http.Response, string) {
				return r.ask(t, "GET", "/api/chat/stream/"+id+"?last_event_id="+id+".0", "", "Last-Event-ID: "+cursor)
			},
			"an EventSource": func() (*http.Response, string) {
				return r.ask(t, "GET", "/api/chat/stream?message=q", "", "Last-Event-ID: "+cursor)
			},
			"the POST again": func() (*http.Response, string) {
				return r.ask(t, "POST", "/api/chat/stream", resumableQuestion, "Last-Event-ID: "+cursor)
			},
			"the POST by query": func() (*http.Response, string) {
				return r.ask(t, "POST", "/api/chat/stream?last_event_id="+cursor, resumableQuestion)
			},
		} {
			res, body := ask()
			if after == 4 && res.Request.Method == http.MethodPost {
				require.Equal(t, frames(id, 3, true), body,
					"the end once more: see TestAPOSTAtTheEndGetsTheEndOnceMore")
				continue
			}
			if after == 4 {
				require.Equal(t, 204, res.StatusCode, name)
				require.Empty(t, body)
				continue
			}
			require.Equal(t, 200, res.StatusCode, name)
			want := frames(id, after, res.Request.Method == http.MethodPost)
			if after == 0 { // it has had the start
				_, want, _ = strings.Cut(want, "\n\n")
			}
			require.Equal(t, want, body, name)
			require.Equal(t, id, res.Header.Get("X-Stream-Id"))
		}
	}
	_, body := r.ask(t, "GET", "/api/chat/stream/"+id, "")
	require.Equal(t, frames(id, 0, false), body, "without a position, from the beginning")
	require.Equal(t, int32(1), r.upstream.asked.Load())
}

func TestAStreamThatIsNotThereIsToldInTheWayThatEndsTheClientsTries(t *testing.T) {
	r := newResumable(t, stream.Options{})
	res, _ := r.ask(t, "POST", "/api/chat/stream", resumableQuestion)
	id := res.Header.Get("X-Stream-Id")
	nobodys := strings.Repeat("0", 32)
	for _, cursor := range []string{
		nobodys + ".1", "x", ".", id, id + ".", id + ".-1", id + ".1.1", id + ".99999999999999999999",
		strings.Repeat("9", 8000), "<script>", "' OR 1=1 --", "é", id + ".1, " + id + ".2",
	} {
		res, body := r.ask(t, "GET", "/api/chat/stream?message=q", "", "Last-Event-ID: "+cursor)
		require.Equal(t, 404, res.StatusCode, cursor)
		require.Contains(t, body, `"code":"stream_not_found"`)
		require.NotContains(t, body, "script")

		res, body = r.ask(t, "POST", "/api/chat/stream", resumableQuestion, "Last-Event-ID: "+cursor)
		require.Equal(t, 200, res.StatusCode, cursor)
		require.True(t, strings.HasPrefix(body, `data: {"type":"error",`), body)
		require.Equal(t, 1, strings.Count(body, "data:"), body)
		require.Contains(t, body, `"code":"stream_not_found","retryable":false`)

		res, _ = r.ask(t, "POST", "/api/chat/stream", resumableQuestion, "Last-Event-ID: "+cursor,
			"Accept: application/json")
		require.Equal(t, 404, res.StatusCode, cursor)

		res, _ = r.ask(t, "GET", "/api/chat/stream/"+id, "", "Last-Event-ID: "+cursor)
		require.Equal(t, 404, res.StatusCode, cursor)
	}
	res, body := r.ask(t, "GET", "/api/chat/stream/"+id, "", "Last-Event-ID: "+id+".1000")
	require.Equal(t, 410, res.StatusCode)
	require.Contains(t, body, `"code":"cursor_expired"`)
	_, body = r.ask(t, "POST", "/api/chat/stream", resumableQuestion, "Last-Event-ID: "+id+".1000")
	require.Contains(t, body, `"code":"cursor_expired"`)
	require.Equal(t, int32(1), r.upstream.asked.Load(), "none of it starts a generation")
	require.NotContains(t, r.log.String(), id, "ids are not to be read in the log")
}

func TestAStreamIsItsCallersOnly(t *testing.T) {
	r := newResumable(t, stream.Options{},
		identity.APIKey{Name: "web", Key: "key-of-web"}, identity.APIKey{Key: "key-one"},
		identity.APIKey{Key: "key-two"})
	mine, others := "Authorization: Bearer key-one", []string{"Authorization: Bearer key-two",
		"Authorization: Bearer key-of-web"}
	res, _ := r.ask(t, "POST", "/api/chat/stream", resumableQuestion, mine)
	id := res.Header.Get("X-Stream-Id")
	for _, other := range others {
		res, body := r.ask(t, "GET", "/api/chat/stream/"+id, "", other)
		require.Equal(t, 404, res.StatusCode)
		require.Contains(t, body, "stream_not_found")
		res, _ = r.ask(t, "DELETE", "/api/chat/stream/"+id, "", other)
		require.Equal(t, 404, res.StatusCode)
	}
	for _, path := range []string{"/api/chat/stream/" + id, "/v1/ai/chat/stream/" + id} {
		res, _ = r.ask(t, "GET", path, "")
		require.Equal(t, 401, res.StatusCode)
		res, _ = r.ask(t, "DELETE", path, "")
		require.Equal(t, 401, res.StatusCode)
		res, _ = r.ask(t, "GET", path, "", mine)
		require.Equal(t, 200, res.StatusCode)
	}
}

func TestAStopEndsTheStreamWithDone(t *testing.T) {
	r := newResumable(t, stream.Options{})
	r.upstream.gate = make(chan struct{}) // never
	for _, way := range []struct{ method, path string }{{"DELETE", ""}, {"POST", "/stop"}} {
		res := ask(t, http.DefaultClient, "GET", r.url+"/api/chat/stream?message=q", "")
		id := res.Header.Get("X-Stream-Id")
		for range 2 {
			stop, body := r.ask(t, way.method, "/api/chat/stream/"+id+way.path, "")
			require.Equal(t, 202, stop.StatusCode)
			require.Empty(t, body)
		}
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		res.Body.Close()
		require.Contains(t, string(text), `{"type":"done","finishReason":"stopped"}`+"\nid: "+id+".1\n\n")
		_, body := r.ask(t, "POST", "/api/chat/stream", resumableQuestion, "Last-Event-ID: "+id+".0")
		require.True(t, strings.HasSuffix(body, "\n\ndata: [DONE]\n\n"), body)
	}
	res, _ := r.ask(t, "DELETE", "/api/chat/stream/"+strings.Repeat("0", 32), "")
	require.Equal(t, 404, res.StatusCode)
}

// On an open relay all callers are one: whoever guesses a key, and the question, would read a stranger's answer.
func TestAnOpenRelayIgnoresKeysThatCanBeGuessed(t *testing.T) {
	r := newResumable(t, stream.Options{})
	for key, counts := range map[string]bool{
		"1": false, "order-17": false, strings.Repeat("k", 31): false, "a b": false, strings.Repeat("k", 256): false,
		"0b6e7c1e-5b0a-4a3c-9d59-1f6f6a2b7c1d": true, strings.Repeat("k", 32): true,
	} {
		for _, again := range []bool{false, true} {
			res, _ := r.ask(t, "POST", "/api/chat/stream", resumableQuestion, "Idempotency-Key: "+key)
			require.Equal(t, 200, res.StatusCode)
			require.Equal(t, counts && again, res.Header.Get("Idempotency-Replayed") == "true", key)
		}
	}
}

// A client that asks again after its stream had to give way must not go on for ever.
func TestAKeyWhoseStreamIsNoMoreIsToldInTheWayThatTheClientUnderstands(t *testing.T) {
	r := newResumable(t, stream.Options{MaxBytes: 132 << 10}, identity.APIKey{Key: "secret"})
	again := func(key string, headers ...string) (*http.Response, string) {
		return r.ask(t, "POST", "/api/chat/stream", resumableQuestion,
			append(headers, "Authorization: Bearer secret", "Idempotency-Key: "+key)...)
	}
	again("1")
	r.upstream.gate = make(chan struct{})
	for range 2 {
		res := ask(t, http.DefaultClient, "POST", r.url+"/api/chat/stream", resumableQuestion, "Authorization",
			"Bearer secret")
		defer res.Body.Close()
	}
	res, body := again("1")
	require.Equal(t, 200, res.StatusCode)
	require.Contains(t, body, `"code":"stream_not_found"`)
	res, _ = again("1", "Accept: application/json")
	require.Equal(t, 404, res.StatusCode)
}

// Any status but 200 ends an EventSource, and so does a body that ends as it should.
func TestAnEventSourceThatFindsNoPlaceComesBack(t *testing.T) {
	for _, o := range []handler.Options{
		{MaxStreams: 1},
		{Generations: limit.NewPlaces(limit.PlacesOptions{Places: 1})},
	} {
		gone := make(chan error, 1)
		o.Router = answering{hang(gone)}
		r := start(t, o)
		res := ask(t, http.DefaultClient, "POST", r.url+"/api/chat/stream", question)
		again := ask(t, http.DefaultClient, "GET", r.url+"/api/chat/stream?message=q", "", "Accept",
			"text/event-stream")
		require.Equal(t, 200, again.StatusCode)
		body, err := io.ReadAll(again.Body)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.Regexp(t, `^data: {"type":"ping"}\nretry: \d+\n\n$`, string(body))
		res.Body.Close()
		receive(t, gone)
	}
}

func TestAnIdempotencyKeyAsksOnce(t *testing.T) {
	r := newResumable(t, stream.Options{}, identity.APIKey{Key: "secret"})
	ask := func(body, key string) (*http.Response, string) {
		return r.ask(t, "POST", "/api/chat/stream", body, "Authorization: Bearer secret", "Idempotency-Key: "+key)
	}
	res, first := ask(resumableQuestion, "k")
	require.Empty(t, res.Header.Get("Idempotency-Replayed"))
	res, again := ask(resumableQuestion, "k")
	require.Equal(t, "true", res.Header.Get("Idempotency-Replayed"))
	require.Equal(t, first, again)
	require.Equal(t, int32(1), r.upstream.asked.Load())

	res, body := ask(strings.Replace(resumableQuestion, "q", "other", 1), "k")
	require.Equal(t, 422, res.StatusCode)
	require.Contains(t, body, "idempotency_mismatch")
	for _, key := range []string{strings.Repeat("k", 256), "a b", "é", "a\tb"} {
		res, body = ask(resumableQuestion, key)
		require.Equal(t, 400, res.StatusCode, key)
		require.Contains(t, body, "Idempotency-Key")
	}
	require.Equal(t, int32(1), r.upstream.asked.Load())
}

func TestWhenTheLogIsFullNewStreamsAreRefused(t *testing.T) {
	r := newResumable(t, stream.Options{MaxBytes: 1})
	res, body := r.ask(t, "POST", "/api/chat/stream", resumableQuestion)
	require.Equal(t, 503, res.StatusCode)
	require.Contains(t, body, "overloaded")
	require.NotEmpty(t, res.Header.Get("Retry-After"))
}

func TestAClientThatLeavesLosesNothing(t *testing.T) {
	r := newResumable(t, stream.Options{})
	r.upstream.gate = make(chan struct{})
	res := ask(t, http.DefaultClient, "POST", r.url+"/api/chat/stream", resumableQuestion)
	id := res.Header.Get("X-Stream-Id")
	res.Body.Close()
	require.Equal(t, "client_gone", r.log.stream(t)["reason"])
	close(r.upstream.gate)
	require.Equal(t, "completed", r.log.wait(t, "generation", 1)[0]["reason"])
	_, body := r.ask(t, "GET", "/api/chat/stream/"+id, "", "Last-Event-ID: "+id+".0")
	require.Equal(t, 3, strings.Count(body, "content\",\"content"))
	require.Contains(t, body, "done")
	require.Zero(t, r.counted(t, "relay_first_chunk_seconds")[""],
		"one who reads on does not tell how long the first chunk took")
}

func TestAGenerationIsTimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := stream.New(stream.Options{Grace: time.Minute, Retention: time.Minute})
		defer closeHub(hub)
		r, s := connect(t, handler.Options{Streams: hub,
			Router: answering{
				provider(func(ctx context.Context, req *chat.Request, yield func(chat.Chunk, error) bool) {
					wait(ctx, 2*time.Second)
					play(content("Hel"), done(chat.FinishStop))(ctx, req, yield)
				})}})
		s.postBody(t, resumableQuestion)
		s.head(t)
		s.rest(t)
		line := r.log.wait(t, "generation", 1)[0]
		require.EqualValues(t, 2000, line["first_chunk_ms"])
		require.EqualValues(t, 1, line["chunks"])
	})
}
