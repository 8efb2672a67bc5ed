package handler_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
)

// A file of a provider that yields some error of its own is a bug there, and not a client that has left.
func TestAPlainErrorIsTold(t *testing.T) {
	r := start(t,
		handler.Options{Router: answering{play(content("Hel"), errors.New("a provider's file: no such field"))}})
	res, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", question)
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.True(t, strings.HasPrefix(body, helFrame), body)
	e := lastError(t, body)
	require.Equal(t, chat.Internal, e.Code)
	require.NotContains(t, e.Error, "no such field", "what went wrong is for the log")

	res, body = fetch(t, http.MethodPost, r.url+"/api/chat/stream", `{"stream":false,`+question[1:])
	require.Equal(t, http.StatusInternalServerError, res.StatusCode)
	require.Equal(t, chat.Internal, lastError(t, body).Code)

	for _, line := range r.log.wait(t, "stream", 2) {
		require.Equal(t, "internal", line["reason"])
		require.Equal(t, "warn", line["level"])
		require.Contains(t, line["error"], "no such field")
	}
}

// Some clients close their side after a request. They can't be told from those that have left, but what they read
// must not look like an answer.
func TestAClientThatClosesItsSideReadsNoCleanEnd(t *testing.T) {
	for name, tc := range map[string]struct{ body, begins string }{
		"a whole answer": {`{"stream":false,` + question[1:], ""},
		"a stream":       {question, helFrame},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, handler.Options{Router: answering{hang(make(chan error, 1), content("Hel"))}})
			s := dial(t, r)
			s.postBody(t, tc.body)
			if tc.begins != "" {
				s.head(t)
				require.Equal(t, tc.begins, s.write(t))
			}
			require.NoError(t, s.Conn.(*net.TCPConn).CloseWrite())
			rest, _ := io.ReadAll(s.r.R) // an error is one way to tell
			require.Empty(t, string(rest), "neither a status nor the end of the body")
			require.Equal(t, "client_gone", r.log.stream(t)["reason"])
		})
	}
}
