package handler_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/upstream"
)

// screen decides on the fields of requests.
type screen func(*chat.Request) (leftOut []string, err error)

func (s screen) Resolve(req *chat.Request) ([]string, error) { return s(req) }
func (s screen) Models() []upstream.Model                    { return nil }

func TestFieldsThatDoNotReachTheProviderAreNamed(t *testing.T) {
	r := start(t, handler.Options{CORSOrigins: []string{"https://shop.example"},
		Router: routed{hello, screen(func(req *chat.Request) (names []string, err error) {
			for _, x := range req.Extra {
				if x.Name == "n" {
					return nil, &chat.Error{Code: chat.InvalidRequest, Message: "n: one is enough"}
				}
				names = append(names, x.Name)
			}
			return names, nil
		})}})
	post := func(fields string) (*http.Response, string) {
		return fetch(t, http.MethodPost, r.url+"/api/chat", `{"messages":[{"role":"user","content":"hi"}],`+fields+`}`,
			"Origin", "https://shop.example")
	}
	for _, also := range []string{`"stream":true`, `"stream":false`, `"resumable":true`} {
		res, _ := post(also + `,"models":[],"a\r\nb, c\u20ac":1`)
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.Equal(t, "models, a??b??c?", res.Header.Get("X-Relay-Ignored"))
		require.Contains(t, res.Header.Get("Access-Control-Expose-Headers"), "X-Relay-Ignored")
	}
	require.Equal(t, "models, a??b??c?", r.log.wait(t, "stream", 3)[2]["ignored"])

	var many []string
	for i := range 30 {
		many = append(many, fmt.Sprintf(`"%s%02d":1`, strings.Repeat("x", 100), i))
	}
	res, _ := post(strings.Join(many, ","))
	require.Less(t, len(res.Header.Get("X-Relay-Ignored")), 1400)
	require.Contains(t, res.Header.Get("X-Relay-Ignored"), ", 10 more")

	res, _ = post(`"user":"u"`)
	require.NotContains(t, res.Header, "X-Relay-Ignored")

	res, body := post(`"models":[],"n":2`)
	require.Equal(t, http.StatusBadRequest, res.StatusCode)
	require.Equal(t, "n: one is enough", lastError(t, body).Error)
	require.NotContains(t, res.Header, "X-Relay-Ignored")
}

func TestRefusals(t *testing.T) {
	r := start(t, handler.Options{Router: routed{hello, &upstream.Router{
		Required: "UPSTREAM_MODEL",
		Routes:   []*upstream.Route{{Has: func(model string) bool { return model == "m-2" }}},
	}}, MaxBody: 512 << 10})
	const user = `"messages":[{"role":"user","content":"hi"}]`
	for name, tc := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		code               chat.Code
		message            string // or its beginning
	}{
		"no JSON": {body: `{"messages":`, status: 400, code: chat.InvalidRequest,
			message: "the body is not valid JSON: unexpected end of JSON input at byte 12"},
		"JSON of another type": {body: `[]`, status: 400, code: chat.InvalidRequest},
		"nothing": {status: 400, code: chat.InvalidRequest,
			message: "the body is empty; want a JSON object"},
		"white space alone": {body: strings.Repeat(" \n", 100), status: 400, code: chat.InvalidRequest,
			message: "the body is empty; want a JSON object"},
		"no UTF-8": {body: "{\"messages\":\"\xff\"}", status: 400, code: chat.InvalidRequest,
			message: "the body is not valid UTF-8"},
		"deep nesting": {body: strings.Repeat(`{"a":[`, 50_000), status: 400, code: chat.InvalidRequest},
		"no messages": {body: `{"model":"m-2"}`, status: 400, code: chat.InvalidRequest,
			message: "messages: at least one"},
		"an empty list": {body: `{"messages":[]}`, status: 400, code: chat.InvalidRequest,
			message: "messages: at least one"},
		"messages as a string": {body: `{"messages":"hi"}`, status: 400, code: chat.InvalidRequest,
			message: "messages: "},
		"an unknown role": {body: `{"messages":[{"role":"user","content":"a"},{"role":"robot","content":"b"}]}`,
			status: 400, code: chat.InvalidRequest, message: "messages[1].role: unknown role"},
		"no content": {body: `{"messages":[{"role":"user"}]}`, status: 400, code: chat.InvalidRequest,
			message: "messages[0].content: is required"},
		"content of wrong type": {body: `{"messages":[{"role":"user","content":5}]}`, status: 400,
			code: chat.InvalidRequest, message: "messages[0].content: "},
		"a number as a string": {body: `{"temperature":"hot",` + user + `}`, status: 400, code: chat.InvalidRequest,
			message: "temperature: "},
		"a stream that is none": {body: `{"stream":"yes",` + user + `}`, status: 400, code: chat.InvalidRequest,
			message: "stream: "},
		"no model and no default": {
			body: `{` + user + `}`, status: 400, code: chat.InvalidRequest, message: "model: is required",
		},
		"a model off the allowlist": {
			body: `{"model":"gpt-9",` + user + `}`, status: 403, code: chat.Forbidden,
			message: `model: "gpt-9" is not allowed`,
		},
		"a model off the allowlist, on GET": {
			method: http.MethodGet, path: "/v1/ai/chat?message=hi&model=gpt-9", status: 403, code: chat.Forbidden,
			message: `model: "gpt-9" is not allowed`,
		},
		"2 MiB": {
			body: `{"messages":[{"role":"user","content":"` + strings.Repeat("x", 2<<20) + `"}]}`, status: 413,
			code: chat.BodyTooLarge, message: "the body is larger than 524288 bytes",
		},
		"no content type": {
			body: question, headers: []string{"Content-Type", ""}, status: 415, code: chat.UnsupportedMediaType,
			message: "Content-Type: want application/json",
		},
		"another content type, as forms have": {
			body: question, headers: []string{"Content-Type", "text/plain"}, status: 415,
			code: chat.UnsupportedMediaType,
		},
		"a broken content type": {
			body: question, headers: []string{"Content-Type", "application/;json"}, status: 415,
			code: chat.UnsupportedMediaType,
		},
		"a compressed body": {
			body: question, headers: []string{"Content-Encoding", "gzip"}, status: 415,
			code: chat.UnsupportedMediaType, message: "Content-Encoding: want none",
		},
		"GET without a message": {
			method: http.MethodGet, path: "/api/chat/stream", status: 400, code: chat.InvalidRequest,
			message: "message: is required",
		},
		"GET with a query that is none": {
			method: http.MethodGet, path: "/api/chat/stream?message=100%", status: 400, code: chat.InvalidRequest,
			message: `the query of the URL can't be read: invalid URL escape "%"`,
		},
		"GET with a message that is no UTF-8": {
			method: http.MethodGet, path: "/api/chat/stream?message=%FF&model=m-2", status: 400,
			code: chat.InvalidRequest, message: "message: is not valid UTF-8",
		},
		"GET with a model's name that is none": {
			method: http.MethodGet, path: "/api/chat/stream?message=hi&model=a%0Ab", status: 400,
			code: chat.InvalidRequest, message: "model: want at most 256 printable characters",
		},
		"GET with a model's name without end": {
			method: http.MethodGet, path: "/api/chat/stream?message=hi&model=" + strings.Repeat("m", 3000),
			status: 400, code: chat.InvalidRequest, message: "model: want at most 256 printable characters",
		},
		"an unknown path":           {method: http.MethodGet, path: "/api/nothing", status: 404, code: chat.NotFound},
		"a method that no path has": {method: "BREW", path: "/api/nothing", status: 404, code: chat.NotFound},
		"an unknown method": {method: http.MethodPut, body: question, status: 405,
			code: chat.MethodNotAllowed},
		"GET where there is only POST": {
			method: http.MethodGet, path: "/api/chat", status: 405, code: chat.MethodNotAllowed,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.method == "" {
				tc.method = http.MethodPost
			}
			if tc.path == "" {
				tc.path = "/api/chat/stream"
			}
			res, body := fetch(t, tc.method, r.url+tc.path, tc.body, tc.headers...)
			require.Equal(t, tc.status, res.StatusCode, body)
			require.Equal(t, "application/json; charset=utf-8", res.Header.Get("Content-Type"))
			e := lastError(t, body)
			require.Equal(t, tc.code, e.Code)
			require.True(t, strings.HasPrefix(e.Error, tc.message), e.Error)
			require.False(t, e.Retryable)
			require.Equal(t, res.Header.Get("X-Request-Id"), e.RequestID)
			require.Less(t, len(body), 500, "a refusal is short, whatever was sent")
		})
	}
	require.Empty(t, r.counted(t, "relay_streams_ended_total"), "what is refused is no stream")
}

func TestAMethodThatIsNotAllowedIsToldWhichAre(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello}})
	for path, allow := range map[string]string{"/api/chat/stream": "GET, POST", "/api/chat": "POST",
		"/healthz": "GET, HEAD"} {
		res, _ := fetch(t, http.MethodPut, r.url+path, "")
		require.Equal(t, http.StatusMethodNotAllowed, res.StatusCode)
		require.Equal(t, allow, res.Header.Get("Allow"), path)
	}
}

func TestTenThousandMessagesAreFine(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello}})
	messages := strings.TrimSuffix(strings.Repeat(`{"role":"user","content":"hi"},`, 10_000), ",")
	res, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", `{"messages":[`+messages+`]}`)
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, helFrame+loFrame+doneFrame+endFrame, body)
}

func TestHeaderGarbage(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello}})
	for name, tc := range map[string]struct{ request, status string }{
		"a NUL in a header": {"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: a\x00b\r\n\r\n",
			"HTTP/1.1 400 Bad Request"},
		"a line that is no header": {"GET /healthz HTTP/1.1\r\nHost: x\r\nwhat\r\n\r\n", "HTTP/1.1 400 Bad Request"},
		"two lengths": {"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n" +
			"Content-Length: 6\r\n\r\n", "HTTP/1.1 400 Bad Request"},
		"huge headers": {"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("a", 128<<10) + "\r\n\r\n",
			"HTTP/1.1 431 Request Header Fields Too Large"},
		"TLS without TLS": {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS handshake\r\n\r\n",
			"HTTP/1.1 400 Bad Request"},
	} {
		t.Run(name, func(t *testing.T) {
			s := dial(t, r)
			go func() { _, _ = s.Write([]byte(tc.request)) }() // the relay need not read it all
			status, err := s.r.ReadLine()
			require.NoError(t, err)
			require.Equal(t, tc.status, status)
		})
	}
}

func TestRequestIDs(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello}})
	for name, tc := range map[string]struct {
		id   string
		kept bool
	}{
		"a sane one is kept":            {"a.B-9_" + strings.Repeat("x", 122), true},
		"a long one is replaced":        {strings.Repeat("x", 129), false},
		"markup is replaced":            {`<b>"`, false},
		"other characters are replaced": {"naïve", false},
		"none gets one":                 {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			res, _ := fetch(t, http.MethodGet, r.url+"/healthz", "", "X-Request-Id", tc.id)
			id := res.Header.Get("X-Request-Id")
			require.Equal(t, tc.kept, id == tc.id)
			require.NotEmpty(t, id)
		})
	}
}

func TestLimitsOnStreams(t *testing.T) {
	t.Run("open at once", func(t *testing.T) {
		gone := make(chan error, 1)
		r := start(t, handler.Options{Router: answering{hang(gone)}, MaxStreams: 1})
		first := dial(t, r)
		first.post(t)
		first.head(t)
		res, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", question)
		require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
		require.Equal(t, "1", res.Header.Get("Retry-After"))
		e := lastError(t, body)
		require.Equal(t, chat.Overloaded, e.Code)
		require.True(t, e.Retryable)
		require.Equal(t, 1, e.RetryAfter)
		first.Close()
		receive(t, gone)
		r.idle(t)
		again := dial(t, r)
		again.post(t)
		status, _ := again.head(t)
		require.Equal(t, "HTTP/1.1 200 OK", status)
		again.Close()
		receive(t, gone)
	})
	t.Run("bytes", func(t *testing.T) {
		gone := make(chan error, 1)
		r := start(t, handler.Options{Router: answering{flood(gone)}, MaxStreamBytes: 100 << 10})
		_, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", question)
		require.Equal(t, chat.StreamTooLong, lastError(t, body).Code)
		require.False(t, lastError(t, body).Retryable)
		require.LessOrEqual(t, len(body), 101<<10)
		receive(t, gone)
		require.Equal(t, "stream_too_long", r.log.stream(t)["reason"])
	})
	t.Run("bytes of a whole answer", func(t *testing.T) {
		gone := make(chan error, 1)
		r := start(t, handler.Options{Router: answering{flood(gone)}, MaxStreamBytes: 100 << 10})
		res, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", `{"stream":false,`+question[1:])
		require.Equal(t, http.StatusBadGateway, res.StatusCode)
		require.Equal(t, chat.StreamTooLong, lastError(t, body).Code)
		receive(t, gone)
	})
	t.Run("time", func(t *testing.T) {
		gone := make(chan error, 1)
		r := start(t, handler.Options{Router: answering{hang(gone, content("Hel"))},
			MaxDuration: 50 * time.Millisecond})
		_, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", question)
		require.True(t, strings.HasPrefix(body, helFrame))
		require.Equal(t, chat.StreamTooLong, lastError(t, body).Code)
		receive(t, gone)
	})
}

func TestShuttingDown(t *testing.T) {
	gone := make(chan error, 1)
	r := start(t, handler.Options{Router: answering{hang(gone, content("Hel"))}})
	s := dial(t, r)
	s.post(t)
	s.head(t)
	require.Equal(t, helFrame, s.write(t))

	ready := func() int {
		res, _ := fetch(t, http.MethodGet, r.url+"/readyz", "")
		return res.StatusCode
	}
	require.Equal(t, http.StatusOK, ready())
	r.SetNotReady()
	require.Equal(t, http.StatusServiceUnavailable, ready())
	late := dial(t, r)
	late.post(t)
	status, _ := late.head(t)
	require.Equal(t, "HTTP/1.1 200 OK", status, "the balancer does not know yet")
	late.Close()
	receive(t, gone)
	require.Equal(t, "client_gone", r.log.wait(t, "stream", 1)[0]["reason"]) // and not by what comes now

	r.Drain()
	res, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", question)
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.Equal(t, "1", res.Header.Get("Retry-After"))
	require.Equal(t, chat.Draining, lastError(t, body).Code)
	res, _ = fetch(t, http.MethodGet, r.url+"/healthz", "")
	require.Equal(t, http.StatusOK, res.StatusCode, "it is alive all the same")

	r.EndStreams()
	e := lastError(t, s.rest(t))
	require.Equal(t, chat.ServerShutdown, e.Code)
	require.True(t, e.Retryable)
	receive(t, gone)
	require.Equal(t, "server_shutdown", r.log.wait(t, "stream", 2)[1]["reason"])
}
