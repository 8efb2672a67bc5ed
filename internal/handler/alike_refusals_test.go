package handler_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/identity"
	"github.com/websopy/relay/internal/limit"
)

// refused is what a client learns of a refusal.
type refused struct {
	status           int
	code             chat.Code
	message          string
	retryAfter, page string
}

// refuse asks and is refused. It holds to what else is the same for all: whose errors name the request, and say in a
// header that another try is in vain.
func (s *spoken) refuse(t *testing.T, r *relay, body string, headers ...string) refused {
	t.Helper()
	res, text := fetch(t, http.MethodPost, r.url+s.path, body, headers...)
	require.Equal(t, strconv.Itoa(len(text)), res.Header.Get("Content-Length"))
	require.Equal(t, "no-store", res.Header.Get("Cache-Control"))
	id := res.Header.Get("X-Request-Id")
	require.NotEmpty(t, id)
	got := refused{
		status: res.StatusCode, retryAfter: res.Header.Get("Retry-After"),
		page: res.Header.Get("Access-Control-Allow-Origin"),
	}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain") {
		require.True(t, s.inWords)
		got.code, got.message = chat.Code(res.Header.Get("X-Relay-Error")), text
		return got
	}
	var o outcome
	failing := *s
	if !s.ofAPI { // and what is refused before its body is read may be native at useChat's path
		failing.event = nativeEvent
	}
	failing.take(t, &o, text)
	require.Equal(t, "failed", o.end)
	got.code, got.message = o.code, o.message
	final := ""
	if s.ofAPI && !got.code.Retryable() {
		final = "false"
	}
	require.Equal(t, final, res.Header.Get("X-Should-Retry"))
	if s.ofAPI {
		require.Equal(t, id, res.Header.Get("Request-Id"))
	}
	return got
}

func TestTheSameRequestIsRefusedAlikeInEveryDialect(t *testing.T) {
	const page = "https://app.example"
	key := []string{"Authorization", "Bearer k"}
	options := func() handler.Options {
		return handler.Options{
			Router: answering{hello}, MaxBody: 4 << 10, Keys: identity.NewKeys([]identity.APIKey{{Key: "k"}}),
			CORSOrigins: []string{page},
			Dialects:    append(ofProviders, aguiAt),
		}
	}
	same := func(body string) string { return body }
	for name, tc := range map[string]struct {
		change  func(body string) string
		headers []string
		code    chat.Code
		set     func(o *handler.Options)
		before  func(t *testing.T, r *relay)
	}{
		"no key":               {same, []string{"Authorization", ""}, chat.Unauthorized, nil, nil},
		"no key, a known page": {same, []string{"Authorization", "", "Origin", page}, chat.Unauthorized, nil, nil},
		"another key":          {same, []string{"Authorization", "Bearer x"}, chat.Unauthorized, nil, nil},
		"another page":         {same, []string{"Origin", "https://evil.example"}, chat.Forbidden, nil, nil},
		"another type":         {same, []string{"Content-Type", "text/plain"}, chat.UnsupportedMediaType, nil, nil},
		"no type":              {same, []string{"Content-Type", ""}, chat.UnsupportedMediaType, nil, nil},
		"an encoding":          {same, []string{"Content-Encoding", "gzip"}, chat.UnsupportedMediaType, nil, nil},
		"half an object":       {func(string) string { return `{"messages":[` }, nil, chat.InvalidRequest, nil, nil},
		"nothing":              {func(string) string { return " " }, nil, chat.InvalidRequest, nil, nil},
		"a list":               {func(string) string { return `[]` }, nil, chat.InvalidRequest, nil, nil},
		"too much": {func(body string) string { return body + strings.Repeat(" ", 4<<10) }, nil,
			chat.BodyTooLarge, nil, nil},
		"no room":  {same, nil, chat.Overloaded, func(o *handler.Options) { o.BodyBytes = 8 }, nil},
		"draining": {same, nil, chat.Draining, nil, func(_ *testing.T, r *relay) { r.Drain() }},
		"the caller's limit": {same, nil, chat.RateLimited, func(o *handler.Options) {
			o.Limiter = limit.NewLimiter(limit.LimiterOptions{
				Policy: limit.Policy{Limits: limit.Limits{Requests: limit.Rate{Count: 1, Window: time.Hour,
					Burst: 1}}}})
		}, func(t *testing.T, r *relay) {
			fetch(t, http.MethodPost, r.url+"/api/chat/stream", question, key...)
		}},
	} {
		o := options()
		if tc.set != nil {
			tc.set(&o)
		}
		r := start(t, o)
		if tc.before != nil {
			tc.before(t, r)
		}
		headers := append(append([]string(nil), key...), tc.headers...)
		native, others := spokenBy()
		want := native.refuse(t, r, tc.change(native.ask), headers...)
		require.Equal(t, tc.code, want.code, name)
		require.Equal(t, tc.code.Status(), want.status, name)
		require.Equal(t, want.status == 429 || want.status == 503, want.retryAfter != "", name)
		require.Equal(t, want, native.refuse(t, r, tc.change(native.whole), headers...), name)
		for in, s := range others {
			require.Equal(t, want, s.refuse(t, r, tc.change(s.ask), headers...), "%s in %s", name, in)
			if s.whole != "" {
				require.Equal(t, want, s.refuse(t, r, tc.change(s.whole), headers...), "%s in %s, whole", name, in)
			}
		}
	}
}
