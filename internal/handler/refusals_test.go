package handler_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/identity"
	"github.com/websopy/relay/internal/telemetry"
)

func TestAKeyIsNoRequestID(t *testing.T) {
	const key, theirs = "key-0123456789abcdef", "sk-proj-9876543210fedcba"
	r := start(t, handler.Options{Router: answering{hello}, Redact: telemetry.Redactor([]string{key, "short"}),
		Keys: identity.NewKeys([]identity.APIKey{{Key: key}, {Key: "short"}})})
	for _, headers := range [][]string{
		{"X-Request-Id", key, "Authorization", "Bearer " + key},
		{"X-Request-Id", key},
		{"X-Request-Id", "id-" + key},
		{"X-Request-Id", strings.ToUpper(key)},
		{"X-Request-Id", "short"},
		{"X-Request-Id", theirs, "Authorization", "Bearer " + theirs}, // of a provider, say, shown to the wrong server
		{"X-Request-Id", theirs[3:20], "Authorization", "Bearer " + theirs},
	} {
		res, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", question, headers...)
		require.NotEqual(t, headers[1], res.Header.Get("X-Request-Id"))
		require.NotContains(t, body, headers[1])
		require.NotContains(t, r.log.String(), headers[1])
	}
	res, _ := fetch(t, http.MethodPost, r.url+"/api/chat/stream", question,
		"X-Request-Id", "r-1", "Authorization", "Bearer "+key)
	require.Equal(t, "r-1", res.Header.Get("X-Request-Id"))
}

func TestALogLineIsBounded(t *testing.T) {
	const most = 8 << 10 // bytes
	huge := strings.Repeat("x", 50<<10)
	long := &chat.Error{Code: chat.UpstreamRejected, Message: strings.Repeat("no. ", 20<<10)}
	r := start(t, handler.Options{Router: answering{play(long)}, MaxBody: 1 << 20})
	fetch(t, http.MethodGet, r.url+"/"+huge, "")
	fetch(t, http.MethodGet, r.url+"/"+strings.Repeat("/0123456789abcdef0123456789abcdef", 1500), "")
	fetch(t, strings.ToUpper(huge), r.url+"/", "")
	fetch(t, http.MethodGet, r.url+"/v1/ai/chat?message=hi&last_event_id="+huge, "", "X-Request-Id", huge)
	robot := `{"messages":[{"role":"` + huge + `"}]}`
	fetch(t, http.MethodPost, r.url+"/api/chat/stream", robot, "Idempotency-Key", huge[:1000])
	fetch(t, http.MethodPost, r.url+"/api/chat/stream", `{"model":"`+huge+`",`+question[1:], "User-Agent",
		huge[:20<<10])
	fetch(t, http.MethodPost, r.url+"/api/chat/stream", question)
	r.log.wait(t, "stream", 1)
	r.log.wait(t, "refused", 5)
	for line := range strings.Lines(r.log.String()) {
		require.Less(t, len(line), most, line[:200])
	}
}

func TestRefusedRequestsHaveSoManyLinesAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(handler.Options{Router: answering{hello}})
		refuse := func(n int) {
			for range n {
				req := newPost(question)
				req.URL.Path = "/nowhere"
				r.ServeHTTP(&sink{header: make(http.Header)}, req)
			}
		}
		refuse(1000)
		require.Len(t, r.log.wait(t, "refused", 100), 100)
		time.Sleep(11 * time.Second)
		refuse(1)
		lines := r.log.wait(t, "refused", 101)
		require.Len(t, lines, 101)
		require.EqualValues(t, 900, lines[100]["unlogged"])
		require.Equal(t, map[string]float64{"not_found": 1001}, r.counted(t, "relay_requests_refused_total"))
	})
}
