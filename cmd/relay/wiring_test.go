package main_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
	"github.com/websopy/relay/internal/upstream/upstreamtest"
)

// endless is a provider that keeps no connections. Only its answers to demo-fast end; those to stalls fall silent.
func endless(t *testing.T) (settings []string) {
	t.Helper()
	frame := `data: {"choices":[{"index":0,"delta":{"content":"` + strings.Repeat("x", 32<<10) + `"}}]}` + "\n\n"
	provider := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked, _ := io.ReadAll(req.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, err := io.WriteString(w, frame)
		switch {
		case strings.Contains(string(asked), "demo-fast"):
			_, _ = io.WriteString(w, "data: [DONE]\n\n")
		case strings.Contains(string(asked), "stalls"):
			_ = http.NewResponseController(w).Flush()
			<-req.Context().Done()
		default:
			for err == nil {
				_, err = io.WriteString(w, frame)
			}
		}
	}))
	provider.Config.SetKeepAlivesEnabled(false)
	provider.Config.ReadHeaderTimeout = time.Second // ends those that were made for a request that went elsewhere
	provider.Start()
	t.Cleanup(provider.Close)
	return []string{"UPSTREAM_KIND=openai", "UPSTREAM_BASE_URL=" + provider.URL}
}

// dial connects to an address of the relay and says something, or nothing.
func dial(t *testing.T, addr, says string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(addr, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	_, err = io.WriteString(conn, says)
	require.NoError(t, err)
	return conn
}

// askDeaf asks for an answer without end and never reads it.
func askDeaf(t *testing.T, p *relaytest.Relay, question string) {
	t.Helper()
	request := fmt.Sprintf("POST /api/chat/stream HTTP/1.1\r\nHost: relay\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\n\r\n%s", len(question), question)
	require.NoError(t, dial(t, p.URL, request).(*net.TCPConn).SetReadBuffer(4<<10))
}

// with returns the question with another model.
func with(model string) string { return strings.Replace(question, "demo-fast", model, 1) }

// resumable returns the question with the wish to come back to its answer.
func resumable(question string) string {
	return strings.Replace(question, "{", `{"resumable":true,`, 1)
}

// Readers of JSON differ in what they take for one name, and an allowlist of models must hold at all of them.
func TestNothingReachesTheProviderButWhatTheOperatorLets(t *testing.T) {
	asked := make(chan string, 1)
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		got, _ := io.ReadAll(req.Body)
		asked <- string(got)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, `data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}`+
			"\n\ndata: [DONE]\n\n")
	}))
	t.Cleanup(provider.Close)
	settings := []string{"UPSTREAM_KIND=openai", "UPSTREAM_BASE_URL=" + provider.URL, "UPSTREAM_MODELS=ok",
		"UPSTREAM_MODEL=ok"}
	const start = `{"messages":[{"role":"user","content":"hi"}],"model":"ok",`

	p := relaytest.Serve(t, settings...)
	for _, field := range []string{`"Model":"expensive"`, `"MODEL":"expensive"`, `"\u004dodel":"expensive"`, `"n":128`,
		`"store":true`, `"background":true`,
		`"previous_response_id":"resp_1"`, `"input":"x"`, `"top_k":` + strings.Repeat("9", 1<<19), `"model":".."`} {
		res := p.Ask(t, "/api/chat", start+field+"}")
		require.Equal(t, http.StatusBadRequest, res.StatusCode, "%.40s", field)
		require.Contains(t, relaytest.Body(t, res), `"code":"invalid_request"`)
	}
	res := p.Ask(t, "/api/chat", start+`"top_k":5,"models":["expensive"],"route":"fallback",`+
		`"service_tier":"priority","web_search_options":{},"guided_regex":"(a*)*"}`)
	require.Contains(t, relaytest.Body(t, res), "[DONE]")
	require.Equal(t, "models, route, service_tier, web_search_options, guided_regex",
		res.Header.Get("X-Relay-Ignored"))
	require.JSONEq(t, start+`"stream":true,"stream_options":{"include_usage":true},"top_k":5}`, <-asked)

	p = relaytest.Serve(t, append(settings, "UPSTREAM_PASS=service_tier, n")...)
	require.Contains(t, relaytest.Body(t,
		p.Ask(t, "/api/chat", start+`"n":2,"service_tier":"flex","route":"fallback"}`)), "[DONE]")
	require.JSONEq(t, start+`"stream":true,"stream_options":{"include_usage":true},"n":2,"service_tier":"flex"}`,
		<-asked)
}

func TestConnectionsThatSayNothing(t *testing.T) {
	p := relaytest.Serve(t)
	// frames: an empty one, a head
	const settings, ping = "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x00\x00\x08\x06\x00\x00\x00\x00\x00"
	silent, admin, http2 := dial(t, p.URL, ""), dial(t, p.Admin, ""), dial(t, p.URL,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+settings)
	t.Parallel() // the silence goes on while other tests run
	for _, conn := range []net.Conn{silent, admin, http2} {
		require.NoError(t, conn.SetDeadline(time.Now().Add(relaytest.Patience)))
	}
	_, err := io.ReadAll(io.MultiReader(silent, admin))
	require.NoError(t, err, "both are closed")
	said := ""
	for buf := make([]byte, 1024); !strings.Contains(said, ping); {
		n, err := http2.Read(buf)
		require.NoError(t, err, "it is asked whether it is still there")
		said += string(buf[:n])
	}
	require.Contains(t, said, "\x00\x03\x00\x00\x00\x64", "100 streams at once")
}

func TestWhatIsRefused(t *testing.T) {
	const key, redis, providers = "k-shop-0123456789", "redis://:k-redis@127.0.0.1:1", "k-provider-0123456789"
	p := relaytest.Serve(t, "RELAY_API_KEYS=shop:"+key, "RELAY_REDIS_URL="+redis,
		"RELAY_CORS_ORIGINS=https://shop.example", "RELAY_MAX_BODY=100", "RELAY_UI=false",
		"UPSTREAM_KIND=openai", "UPSTREAM_BASE_URL=http://127.0.0.1:1", "UPSTREAM_API_KEY="+providers)
	for name, tc := range map[string]struct {
		path, question, fill string
		status               int
		says                 string
	}{
		"the page, when it is off": {"/", "", "", http.StatusNotFound, `"code":"not_found"`},
		"no model where there is no default": {"/api/chat", `{"messages":[{"role":"user","content":"Hi"}]}`, "",
			http.StatusBadRequest, "model: is required"},
		"a body over the limit": {"/api/chat", question + strings.Repeat(" ", 100-len(question)) + " ",
			"", http.StatusRequestEntityTooLarge, "larger than 100 bytes"},
		"headers of 128 KiB": {"/healthz", "", strings.Repeat("x", 128<<10),
			http.StatusRequestHeaderFieldsTooLarge, ""},
		"but not headers of 32 KiB": {"/healthz", "", strings.Repeat("x", 32<<10), http.StatusOK, "ok"},
		"a path that has everybody's secrets": {"/a/" + key + "/" + redis + "/" + providers, "", "",
			http.StatusNotFound, ""},
	} {
		t.Run(name, func(t *testing.T) {
			res := p.Ask(t, tc.path, tc.question, "Authorization", "Bearer "+key, "X-Fill", tc.fill)
			require.Equal(t, tc.status, res.StatusCode)
			require.Contains(t, relaytest.Body(t, res), tc.says)
		})
	}
	require.Equal(t, "https://shop.example",
		p.Ask(t, "/healthz", "", "Origin", "https://shop.example").Header.Get("Access-Control-Allow-Origin"))
	p.Signal(t, syscall.SIGTERM)
	require.Equal(t, 0, p.Exit(t))
	require.Contains(t, p.Log(), "/a/***/***/***")
	require.NotContains(t, p.Log(), "k-")
}

func TestThereAreOnlySoManyPlaces(t *testing.T) {
	for setting, refusal := range map[string]string{
		"RELAY_MAX_STREAMS=1":       `"too many streams are open .*"code":"overloaded"`,
		"RELAY_LIMIT_STREAMS=1":     `"too many answers of this caller .*"code":"rate_limited".*"limit":"streams"`,
		"RELAY_RESUME_BYTES=100KiB": `"there is no room for another resumable stream.*"code":"overloaded"`,
	} {
		t.Run(setting, func(t *testing.T) {
			p := relaytest.Serve(t, setting, "RELAY_API_KEYS=shop:k-shop-0123456789")
			key := []string{"Authorization", "Bearer k-shop-0123456789"}
			require.Equal(t, http.StatusOK, p.Ask(t, "/api/chat/stream", resumable(with("demo-long")),
				key...).StatusCode)
			second := p.Ask(t, "/api/chat/stream", resumable(question), key...)
			require.NotEqual(t, http.StatusOK, second.StatusCode)
			require.NotEmpty(t, second.Header.Get("Retry-After"))
			require.Regexp(t, refusal, relaytest.Body(t, second))
		})
	}
}

// One caller has all places and asks for more all the time. The other one comes back when it was told to.
func TestACallerThatAsksMoreOftenDoesNotKeepOthersOut(t *testing.T) {
	p := relaytest.Serve(t, "RELAY_MAX_STREAMS=2",
		"RELAY_API_KEYS=greedy:k-greedy-0123456789,polite:k-polite-0123456789")
	start := func(key string) (status int, id string, wait time.Duration) {
		res := p.Ask(t, "/api/chat/stream", resumable(with("demo-long")), "Authorization", "Bearer "+key)
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		return res.StatusCode, res.Header.Get("X-Stream-Id"), time.Duration(seconds) * time.Second
	}
	_, first, _ := start("k-greedy-0123456789")
	start("k-greedy-0123456789")
	status, _, wait := start("k-polite-0123456789")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Positive(t, wait)
	stop := p.Ask(t, "/api/chat/stream/"+first+"/stop", " ", "Authorization", "Bearer k-greedy-0123456789")
	require.Equal(t, http.StatusAccepted, stop.StatusCode)
	for deadline := time.Now().Add(wait); time.Now().Before(deadline); {
		status, _, _ = start("k-greedy-0123456789")
		require.Equal(t, http.StatusServiceUnavailable, status, "the free place is for who holds none")
	}
	status, _, _ = start("k-polite-0123456789")
	require.Equal(t, http.StatusOK, status)
}

// Each request leaves at once, and its answer goes on: what costs money is the answer.
func TestAnswersThatNobodyReadsAreCounted(t *testing.T) {
	p := relaytest.Serve(t, "RELAY_MAX_STREAMS=3")
	statuses := map[int]int{}
	for range 20 {
		res := p.Ask(t, "/api/chat/stream?message=q&model=demo-long", "")
		statuses[res.StatusCode]++
		res.Body.Close()
		require.Eventually(t, func() bool { return samples(t, p, "relay_streams_open") == "relay_streams_open 0" },
			relaytest.Patience, time.Millisecond)
	}
	require.Equal(t, map[int]int{http.StatusOK: 3, http.StatusServiceUnavailable: 17}, statuses)
	require.Equal(t, "relay_resume_live 3", samples(t, p, "relay_resume_live"))
}

func TestHowLongAnswersAreKept(t *testing.T) {
	ask := func(p *relaytest.Relay) (id string) {
		res := p.Ask(t, "/api/chat/stream", resumable(question))
		relaytest.Body(t, res)
		return res.Header.Get("X-Stream-Id")
	}
	require.Empty(t, ask(relaytest.Serve(t, "RELAY_STORE=off")))
	long, short := relaytest.Serve(t), relaytest.Serve(t, "RELAY_RESUME_RETENTION=1s")
	require.Equal(t, http.StatusOK, long.Status(t, "/api/chat/stream/"+ask(long)))
	id := ask(short)
	require.NotEmpty(t, id)
	require.Eventually(t, func() bool { return short.Status(t, "/api/chat/stream/"+id) == http.StatusNotFound },
		relaytest.Patience, 50*time.Millisecond)
	lost := relaytest.Serve(t, "RELAY_RESUME_GRACE=0s")
	lost.Ask(t, "/api/chat/stream", resumable(with("demo-long"))).Body.Close()
	require.Equal(t, "producer_lost", lost.Wait(t, "generation")["reason"])
}

func TestThePageAndAModelAreThereWithoutSettings(t *testing.T) {
	p := relaytest.Serve(t)
	require.Equal(t, http.StatusOK, p.Status(t, "/"))
	require.Equal(t, http.StatusOK, p.Ask(t, "/api/chat/stream",
		`{"messages":[{"role":"user","content":"Hi"}]}`).StatusCode)
}

func TestAnAnswerThatIsTooLongEnds(t *testing.T) {
	p := relaytest.Serve(t, "RELAY_MAX_DURATION=300ms", "RELAY_MAX_STREAM_BYTES=4KiB",
		"RELAY_RESUME_BYTES_PER_STREAM=200")
	for question, message := range map[string]string{
		with("demo-long"):            "the answer took longer than allowed",
		question:                     "the answer is longer than allowed",
		resumable(with("demo-long")): "the answer took longer than 300ms",
		resumable(question):          "the answer is longer than 200 bytes",
	} {
		require.Contains(t, relaytest.Body(t, p.Ask(t, "/api/chat/stream", question)),
			`"error":"`+message+`","code":"stream_too_long"`)
	}
	sent := relaytest.Serve(t, "RELAY_MAX_STREAM_BYTES=1KiB")
	require.Contains(t, relaytest.Body(t, sent.Ask(t, "/api/chat/stream", resumable(with("demo-long")))),
		`"code":"stream_too_long"`)
	require.Equal(t, "stream_too_long", sent.Wait(t, "generation")["reason"],
		"what nobody can be sent is not generated")
}

func TestEachClockIsTheOneThatItsSettingNames(t *testing.T) {
	provider := faulty(t, "openai", upstreamtest.Fault{})
	silent, err := net.Listen("tcp", "127.0.0.1:0") // its connections are made, but nobody accepts them
	require.NoError(t, err)
	defer silent.Close()
	for phase, tc := range map[string]struct {
		setting, url string
		stalls       upstreamtest.Position
	}{
		"connect":     {"UPSTREAM_CONNECT_TIMEOUT=100ms", "https://" + silent.Addr().String(), ""},
		"first_chunk": {"UPSTREAM_FIRST_CHUNK_TIMEOUT=100ms", provider.URL, upstreamtest.BeforeFirst},
		"idle":        {"UPSTREAM_IDLE_TIMEOUT=100ms", provider.URL, upstreamtest.AfterFirst},
		"total":       {"RELAY_START_BUDGET=100ms", provider.URL, upstreamtest.BeforeFirst},
	} {
		t.Run(phase, func(t *testing.T) {
			provider.Play(upstreamtest.Fault{What: upstreamtest.Stalled, At: tc.stalls})
			p := relaytest.Serve(t, "UPSTREAM_KIND=openai", "UPSTREAM_BASE_URL="+tc.url, "UPSTREAM_RETRIES=0",
				"RELAY_START_BUDGET=1m",
				// the last one counts
				"UPSTREAM_CONNECT_TIMEOUT=1m", "UPSTREAM_FIRST_CHUNK_TIMEOUT=1m", "UPSTREAM_IDLE_TIMEOUT=1m",
				tc.setting)
			require.Contains(t, relaytest.Body(t, p.Ask(t, "/api/chat/stream", question)),
				`"code":"upstream_timeout","phase":"`+phase+`"`)
		})
	}
}

func TestAClientThatDoesNotReadIsDroppedAfterTheWriteTimeout(t *testing.T) {
	p := relaytest.Serve(t, append(endless(t), "RELAY_WRITE_TIMEOUT=200ms")...)
	askDeaf(t, p, with("endless"))
	line := p.Wait(t, "stream")
	require.Equal(t, "slow_client", line["reason"])
	require.Less(t, line["duration_ms"], 5000.0, "not the default")
}

func TestClientsThatNeverReadDoNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	blocked := regexp.MustCompile(`\[IO wait.*(\n.+)*\(\*eventWriter\)\.flush`)
	p := relaytest.Serve(t, append(endless(t), "RELAY_WRITE_TIMEOUT=10m", "RELAY_SHUTDOWN_GRACE=100ms")...)
	askDeaf(t, p, with("endless"))
	askDeaf(t, p, resumable(with("endless")))
	require.Eventually(t, func() bool {
		res, err := p.Client.Get("http://" + p.Admin + "/debug/pprof/goroutine?debug=2")
		require.NoError(t, err)
		return len(blocked.FindAllString(relaytest.Body(t, res), -1)) == 2
	}, relaytest.Patience, 50*time.Millisecond, "their buffers are full")
	began := time.Now()
	p.Signal(t, syscall.SIGTERM)
	require.Equal(t, 0, p.Exit(t))
	require.Less(t, time.Since(began), 10*time.Second)
	p.Wait(t, "drained, but some clients did not take their error frame")
}

func TestNothingIsLeftOfStreamsThatAreOver(t *testing.T) {
	provider := endless(t)
	p := relaytest.Serve(t, append(provider, "UPSTREAM_1_KIND=openai", strings.Replace(provider[1], "_", "_1_", 1),
		"RELAY_HEDGE_AFTER=1ms", "RELAY_RESUME_GRACE=0s")...)
	goroutines := func() (n int) {
		p.Client.CloseIdleConnections()
		_, err := fmt.Sscanf(samples(t, p, "go_goroutines"), "go_goroutines %d", &n)
		require.NoError(t, err)
		return n
	}
	before := goroutines()
	for i := range 50 {
		asked := []string{question, with("endless"), with("stalls"), resumable(question), resumable(with("endless")),
			resumable(with("stalls"))}[i%6]
		res := p.Ask(t, "/api/chat/stream", asked)
		_, err := io.ReadFull(res.Body, make([]byte, 40))
		require.NoError(t, err)
		if i%3 == 0 {
			relaytest.Body(t, res)
		}
		res.Body.Close()
	}
	require.Eventually(t, func() bool { return goroutines() <= before }, relaytest.Patience, 50*time.Millisecond,
		"as many as before")
}

func TestHealthcheckOfWhatIsNotHealthy(t *testing.T) {
	ill := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer ill.Close()
	code, _, stderr := relaytest.Run(t, []string{"RELAY_ADDR=" + strings.TrimPrefix(ill.URL, "http://")},
		"healthcheck")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "503")
}
