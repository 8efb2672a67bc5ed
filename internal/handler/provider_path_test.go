package handler_test

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/dialect"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/identity"
	"github.com/websopy/relay/internal/stream"
)

const (
	completionsPath = "/v1/chat/completions"
	responsesPath   = "/v1/responses"
	messagesPath    = "/v1/messages"
)

// ofProviders are the paths of providers' APIs.
var ofProviders = []handler.Dialect{
	{Path: completionsPath, Dialect: dialect.ChatCompletions{}, OfProvider: true, FromBeginning: true},
	{Path: responsesPath, Dialect: dialect.Responses{}, OfProvider: true, FromBeginning: true},
	{Path: messagesPath, Dialect: dialect.Messages{}, OfProvider: true, FromBeginning: true},
}

const streamed = `{"messages":[{"role":"user","content":"hi"}],"stream":true}`

// deltas are the contents of a stream of Chat Completions, in order, and then what it ends with.
func deltas(t *testing.T, body string) (text, end string) {
	t.Helper()
	for frame := range strings.SplitSeq(strings.TrimSuffix(body, "\n\n"), "\n\n") {
		frame = strings.TrimLeft(strings.TrimPrefix(frame, ": hb\n"), "\n")
		_, content, ok := strings.Cut(frame, `"content":`)
		if !ok {
			end = frame
			continue
		}
		quoted, err := strconv.QuotedPrefix(content)
		require.NoError(t, err, frame)
		word, err := strconv.Unquote(quoted)
		require.NoError(t, err)
		text += word
	}
	return text, end
}

func TestAChatCompletionOverHTTP(t *testing.T) {
	r := start(t, handler.Options{Dialects: ofProviders, Router: routed{hello, listed("gpt-6")}})
	res, body := fetch(t, http.MethodPost, r.url+completionsPath, streamed)
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, "text/event-stream; charset=utf-8", res.Header.Get("Content-Type"))
	require.Equal(t, "no-cache, no-transform", res.Header.Get("Cache-Control"))
	require.NotEmpty(t, res.Header.Get("X-Request-Id"))
	text, end := deltas(t, body)
	require.Equal(t, "Hello", text)
	require.Equal(t, "data: [DONE]", end)
	require.Contains(t, body, `"model":"gpt-6"`, "the default, where none was named")

	res, body = fetch(t, http.MethodPost, r.url+completionsPath, question)
	require.Equal(t, "application/json; charset=utf-8", res.Header.Get("Content-Type"))
	require.Contains(t, body, `"object":"chat.completion"`, "a stream has to be asked for")
	require.Contains(t, body, `"message":{"role":"assistant","content":"Hello"}`)
	require.Contains(t, body, `"model":"gpt-6"`)
}

// The SDKs retry by status, and see none in a stream that has begun.
func TestAFailureBeforeTheFirstChunkHasItsStatus(t *testing.T) {
	for code, want := range map[chat.Code]struct {
		status int
		retry  string // X-Should-Retry
	}{
		chat.UpstreamRateLimited:   {429, "false"}, // the relay has asked as often as it is set to
		chat.UpstreamError:         {502, "false"},
		chat.UpstreamTimeout:       {504, "false"},
		chat.UpstreamAuth:          {502, "false"},
		chat.ContextLengthExceeded: {400, "false"},
		chat.Overloaded:            {503, ""},
		chat.Internal:              {500, ""},
	} {
		failure := &chat.Error{Code: code, Message: "no luck", RetryAfter: 3 * time.Second}
		r := start(t, handler.Options{Router: answering{play(chat.Chunk{Type: chat.Pause}, failure)},
			Dialects: ofProviders})
		for _, ask := range []string{question, streamed} {
			res, body := fetch(t, http.MethodPost, r.url+completionsPath, ask)
			require.Equal(t, want.status, res.StatusCode, code)
			require.Equal(t, "application/json; charset=utf-8", res.Header.Get("Content-Type"))
			require.Equal(t, want.retry, res.Header.Get("X-Should-Retry"), code)
			require.Equal(t, "3", res.Header.Get("Retry-After"))
			require.Empty(t, res.Header.Get("X-Accel-Buffering"), "nothing of a stream's")
			require.Contains(t, body, `{"error":{"message":"no luck",`)
			require.Contains(t, body, `"code":"`+string(code)+`"`)
		}
		lines := r.log.wait(t, "stream", 2)
		require.Equal(t, string(code), lines[1]["reason"])

		res, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", streamed)
		require.Equal(t, http.StatusOK, res.StatusCode, "native streams begin at once")
		require.Equal(t, code, lastError(t, body).Code)
	}
}

func TestAFailureInTheMidstIsTheLastFrame(t *testing.T) {
	hel := content("Hel")
	hel.More = true // it waits for what comes next, and that is the failure
	broken := play(hel, &chat.Error{Code: chat.UpstreamTruncated, Message: "broke off"})
	r := start(t, handler.Options{Router: answering{broken}, Dialects: ofProviders})
	res, body := fetch(t, http.MethodPost, r.url+completionsPath, streamed)
	require.Equal(t, http.StatusOK, res.StatusCode)
	text, end := deltas(t, body)
	require.Equal(t, "Hel", text)
	require.Equal(t, `data: {"error":{"message":"broke off","type":"server_error",`+
		`"param":null,"code":"upstream_truncated"}}`, end)
	require.NotContains(t, body, "[DONE]")
}

func TestTheStatusWaitsForAChunkOrAHeartbeat(t *testing.T) {
	late := func(after time.Duration, then any) provider {
		return func(ctx context.Context, req *chat.Request, yield func(chat.Chunk, error) bool) {
			wait(ctx, after)
			play(then, done(chat.FinishStop))(ctx, req, yield)
		}
	}
	failure := &chat.Error{Code: chat.UpstreamError, Message: "no luck"}
	for name, tc := range map[string]struct {
		beat     time.Duration
		upstream provider
		after    time.Duration // until the header
		status   int
		first    string // of the body
	}{
		"a chunk": {10 * time.Second, late(4*time.Second, content("x")), 4 * time.Second, 200,
			"data: "},
		"a failure": {10 * time.Second, late(4*time.Second, failure), 4 * time.Second, 502, ""},
		"a heartbeat": {10 * time.Second, late(14*time.Second, content("x")), 10 * time.Second, 200,
			": hb\n"},
		"a failure after a heartbeat": {10 * time.Second, late(14*time.Second, failure), 10 * time.Second, 200,
			": hb\n"},
		"no heartbeats":           {0, late(14*time.Second, failure), 14 * time.Second, 502, ""},
		"no heartbeats, for long": {0, late(24*time.Second, content("x")), 15 * time.Second, 200, "data: "},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, s := connect(t, handler.Options{Router: answering{tc.upstream}, Heartbeat: tc.beat,
					Dialects: ofProviders})
				began := time.Now()
				s.send(t, "POST "+completionsPath+" HTTP/1.1\r\nHost: relay\r\nContent-Type: application/json\r\n"+
					"Content-Length: "+strconv.Itoa(len(streamed))+"\r\n\r\n"+streamed)
				status, _ := s.head(t)
				require.Equal(t, tc.after, time.Since(began))
				require.Contains(t, status, strconv.Itoa(tc.status))
				if tc.first != "" {
					require.True(t, strings.HasPrefix(s.write(t), tc.first))
				}
			})
		})
	}
}

func TestRefusalsHaveTheShapeOfTheirPath(t *testing.T) {
	r := start(t, handler.Options{
		Router: answering{hello}, Dialects: ofProviders, MaxBody: 1 << 10,
		Keys: identity.NewKeys([]identity.APIKey{{Key: "k"}}),
	})
	key := []string{"Authorization", "Bearer k"}
	with := func(name, value string) []string { return slices.Concat(key, []string{name, value}) }
	foreign, form := with("Origin", "https://evil.example"), with("Content-Type", "text/plain")
	nobody := completionsPath + "/" + strings.Repeat("0", 32)
	long := `{"messages":[{"role":"user","content":"` + strings.Repeat("x", 2<<10) + `"}]}`
	for name, tc := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		code               chat.Code
	}{
		"no key":             {http.MethodPost, completionsPath, question, nil, 401, chat.Unauthorized},
		"no key, Responses":  {http.MethodPost, responsesPath, question, nil, 401, chat.Unauthorized},
		"no input":           {http.MethodPost, responsesPath, question, key, 400, chat.InvalidRequest},
		"a foreign page":     {http.MethodPost, completionsPath, question, foreign, 403, chat.Forbidden},
		"another method":     {http.MethodDelete, completionsPath, "", key, 405, chat.MethodNotAllowed},
		"a long body":        {http.MethodPost, completionsPath, long, key, 413, chat.BodyTooLarge},
		"a form":             {http.MethodPost, completionsPath, question, form, 415, chat.UnsupportedMediaType},
		"no JSON":            {http.MethodPost, completionsPath, "{", key, 400, chat.InvalidRequest},
		"models, no key":     {http.MethodGet, "/v1/models", "", nil, 401, chat.Unauthorized},
		"what is not there":  {http.MethodPost, "/v1/embeddings", question, key, 404, chat.NotFound},
		"a stream of nobody": {http.MethodGet, nobody, "", key, 404, chat.StreamNotFound},
	} {
		res, body := fetch(t, tc.method, r.url+tc.path, tc.body, tc.headers...)
		require.Equal(t, tc.status, res.StatusCode, name)
		require.Regexp(t, `^{"error":{"message":"[^"]+","type":"invalid_request_error","param":null,`+
			`"code":"`+string(tc.code)+`"}}\n$`, body, name)
		require.Equal(t, "false", res.Header.Get("X-Should-Retry"))
	}
	for _, path := range []string{"/v1/ai/chat/stream", "/v1/ai/nothing", "/v10", "/nothing"} {
		res, body := fetch(t, http.MethodPost, r.url+path, question)
		require.Equal(t, "error", lastError(t, body).Type, "native")
		require.Empty(t, res.Header.Get("X-Should-Retry"))
	}
	larger := start(t, handler.Options{Router: answering{hello}, Dialects: ofProviders, MaxBody: 1 << 10,
		APIMaxBody: 4 << 10})
	for path, status := range map[string]int{completionsPath: 200, responsesPath: 400, "/v1/ai/chat/stream": 413} {
		res, _ := fetch(t, http.MethodPost, larger.url+path, long)
		require.Equal(t, status, res.StatusCode, "the cap of %s", path)
	}
	r.Drain()
	for _, ask := range []string{question, streamed} {
		res, body := fetch(t, http.MethodPost, r.url+completionsPath, ask,
			append(key, "Accept", "text/event-stream")...)
		require.Equal(t, http.StatusServiceUnavailable, res.StatusCode, "whatever it accepts")
		require.Contains(t, body, `"type":"server_error","param":null,"code":"draining"`)
		require.Empty(t, res.Header.Get("X-Should-Retry"), "another replica may take it")
		require.Equal(t, "1", res.Header.Get("Retry-After"))
	}
}

func TestProvidersPathsDoNotResumeButCanBeFollowed(t *testing.T) {
	hub := stream.New(stream.Options{Grace: time.Minute, Retention: time.Minute})
	t.Cleanup(func() { closeHub(hub) })
	r := start(t, handler.Options{Router: answering{&abc{}}, Streams: hub, Dialects: ofProviders})
	res, body := fetch(t, http.MethodPost, r.url+completionsPath+"?resumable=true",
		strings.TrimSuffix(streamed, "}")+`,"resumable":true}`, "Last-Event-ID", strings.Repeat("0", 32)+".2")
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Empty(t, res.Header.Get("X-Stream-Id"))
	text, _ := deltas(t, body)
	require.Equal(t, "abc", text)

	resumable := strings.TrimSuffix(question, "}") + `,"resumable":true,"model":"m"}`
	res, _ = fetch(t, http.MethodPost, r.url+"/api/chat/stream", resumable)
	id := res.Header.Get("X-Stream-Id")
	_, body = fetch(t, http.MethodGet, r.url+completionsPath+"/"+id, "")
	text, end := deltas(t, body)
	require.Equal(t, "abc", text)
	require.Equal(t, "data: [DONE]", end)
	require.Contains(t, body, `{"id":"chatcmpl-`+id+`",`)
	require.Contains(t, body, `"model":"m"`)

	for _, path := range []string{completionsPath, responsesPath, messagesPath} {
		_, whole := fetch(t, http.MethodGet, r.url+path+"/"+id, "")
		_, rest := fetch(t, http.MethodGet, r.url+path+"/"+id, "", "Last-Event-ID", id+".2")
		_, want, ok := strings.Cut(whole, "\nid: "+id+".2\n\n")
		require.True(t, ok)
		require.Equal(t, want, rest, "as if it had never been away")
	}
}

// Anthropic's SDKs show their key in a header of their own, and look for the request's id in another one.
func TestAnthropicsClientsAreKnownByTheirHeaders(t *testing.T) {
	const key = "key-0123456789"
	r := start(t, handler.Options{Router: answering{hello}, Dialects: ofProviders,
		Keys: identity.NewKeys([]identity.APIKey{{Key: key}})})
	for _, path := range []string{messagesPath, messagesPath + "?beta=true"} {
		res, body := fetch(t, http.MethodPost, r.url+path, question, "X-Api-Key", key)
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.Contains(t, body, `"content":[{"type":"text","text":"Hello"}],"stop_reason":"end_turn"`)
		require.Equal(t, res.Header.Get("X-Request-Id"), res.Header.Get("Request-Id"))
	}
	res, body := fetch(t, http.MethodPost, r.url+messagesPath, question, "X-Api-Key", "wrong")
	require.Equal(t, http.StatusUnauthorized, res.StatusCode)
	require.Equal(t, `{"type":"error","error":{"type":"authentication_error","message":"the API key is not known",`+
		`"code":"unauthorized"},`+
		`"request_id":"`+res.Header.Get("Request-Id")+`"}`+"\n", body)
	res, _ = fetch(t, http.MethodPost, r.url+messagesPath, question, "X-Api-Key", key, "X-Request-Id", key)
	require.NotEqual(t, key, res.Header.Get("X-Request-Id"))
	res, _ = fetch(t, http.MethodPost, r.url+"/api/chat/stream", question, "X-Api-Key", key)
	require.Equal(t, http.StatusUnauthorized, res.StatusCode, "native clients have one way")
}
