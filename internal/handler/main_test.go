package handler_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/leaktest"
	"github.com/websopy/relay/internal/telemetry"
	"github.com/websopy/relay/internal/upstream"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// patience is for what must come, on a machine that is busy with other things.
const patience = time.Minute

type provider = chattest.Player

var play, content = chattest.Play, chattest.Content

// hang yields the chunks and then waits for the end of the request, which it reports on gone.
func hang(gone chan<- error, chunks ...chat.Chunk) provider {
	return func(ctx context.Context, _ *chat.Request, yield func(chat.Chunk, error) bool) {
		for _, c := range chunks {
			if !yield(c, nil) {
				break
			}
		}
		<-ctx.Done()
		select {
		case gone <- context.Cause(ctx):
		default: // nobody asks: a failing test must not hang
		}
		yield(chat.Chunk{}, context.Cause(ctx))
	}
}

// flood yields text for as long as somebody takes it.
func flood(gone chan<- error) provider {
	text := content(strings.Repeat("x", 32<<10))
	return func(ctx context.Context, _ *chat.Request, yield func(chat.Chunk, error) bool) {
		for yield(text, nil) {
		}
		gone <- context.Cause(ctx)
	}
}

func done(reason chat.FinishReason) chat.Chunk {
	return chat.Chunk{Type: chat.Done, Done: &chat.Completion{FinishReason: reason, Model: "m-1",
		Usage: &chat.Usage{PromptTokens: 7, CompletionTokens: 2}}}
}

var hello = play(content("Hel"), content("lo"), done(chat.FinishStop))

// The frames of hello.
const (
	helFrame  = `data: {"type":"content","content":"Hel"}` + "\n\n"
	loFrame   = `data: {"type":"content","content":"lo"}` + "\n\n"
	doneFrame = `data: {"type":"done","finishReason":"stop","model":"m-1","usage":{"promptTokens":7,` +
		`"completionTokens":2}}` + "\n\n"
	endFrame  = "data: [DONE]\n\n"
	pingFrame = `data: {"type":"ping"}` + "\n\n"

	// The first of a GET whose stream is not resumable.
	noReturnFrame = `data: {"type":"ping"}` + "\nid: none\n\n"
)

const question = `{"messages":[{"role":"user","content":"hi"}]}`

// relay is a relay under test, with what it says of itself.
type relay struct {
	*handler.Relay
	url      string
	log      *journal
	registry *prometheus.Registry
}

// faulty is an upstream that breaks the contract of a sequence on purpose. All others are held to it, and so is what
// the relay does with their chunks.
type faulty struct{ chat.Streamer }

func isFaulty(s chat.Streamer) bool {
	_, is := s.(faulty)
	return is
}

// answering is a router with one upstream, which takes every request.
type answering struct{ chat.Streamer }

func (answering) Resolve(*chat.Request) ([]string, error) { return nil, nil }
func (answering) Models() []upstream.Model                { return nil }

// routed is an upstream behind the word of another router.
type routed struct {
	chat.Streamer
	routes
}

// routes are what a router says of requests.
type routes interface {
	Resolve(*chat.Request) ([]string, error)
	Models() []upstream.Model
}

// newRelay makes a relay that no server serves yet.
func newRelay(o handler.Options) *relay {
	r := &relay{log: newJournal(), registry: prometheus.NewRegistry()}
	o.Log = zerolog.New(r.log)
	o.Metrics = telemetry.NewMetrics(r.registry)
	if o.MaxBody == 0 {
		o.MaxBody = 1 << 20
	}
	if o.BodyTimeout == 0 {
		o.BodyTimeout = 30 * time.Second
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = patience
	}
	r.Relay = handler.New(o)
	return r
}

// start serves a relay on a socket, over HTTP/1.1 and unencrypted HTTP/2.
func start(t *testing.T, o handler.Options) *relay {
	t.Helper()
	if o.Router == nil {
		o.Router = answering{hello}
	}
	if a, is := o.Router.(answering); !is || !isFaulty(a.Streamer) {
		o.Router = routed{chattest.Check(t, o.Router), o.Router}
	}
	r := newRelay(o)
	srv := httptest.NewUnstartedServer(r)
	srv.Config.MaxHeaderBytes = 64 << 10
	srv.Config.ConnContext = handler.WithConnection
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	t.Cleanup(srv.Close)
	r.url = srv.URL
	return r
}

// protocols are the ways to reach a relay without TLS, each with a client of its own.
func protocols(t *testing.T) map[string]*http.Client {
	h1, h2 := new(http.Protocols), new(http.Protocols)
	h1.SetHTTP1(true)
	h2.SetUnencryptedHTTP2(true)
	clients := make(map[string]*http.Client)
	for name, p := range map[string]*http.Protocols{"HTTP/1.1": h1, "HTTP/2": h2} {
		transport := &http.Transport{Protocols: p, DisableCompression: true}
		t.Cleanup(transport.CloseIdleConnections)
		clients[name] = &http.Client{Transport: transport}
	}
	return clients
}

// ask sends a request with pairs of header names and values. The caller closes the body.
func ask(t *testing.T, client *http.Client, method, url, body string, headers ...string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	require.NoError(t, err)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if req.Header.Set(headers[i], headers[i+1]); headers[i+1] == "" {
			req.Header.Del(headers[i])
		}
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	res, err := client.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// fetch is ask, with the whole body.
func fetch(t *testing.T, method, url, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	res := ask(t, &http.Client{Transport: transport}, method, url, body, headers...)
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, string(all)
}

// errorObject is an error as a client reads it.
type errorObject struct {
	Type       string
	Error      string
	Code       chat.Code
	Phase      chat.Phase
	Retryable  bool
	RetryAfter int
	RequestID  string
}

// lastError reads the error object that text, a body or a stream of frames, ends with.
func lastError(t *testing.T, text string) errorObject {
	t.Helper()
	if i := strings.LastIndex(text, "data: "); i >= 0 {
		text = text[i+len("data: "):]
	}
	var e errorObject
	require.NoError(t, json.Unmarshal([]byte(text), &e), text)
	require.Equal(t, "error", e.Type)
	return e
}

// socket is a client that sees every byte, and every write as a chunk of HTTP's.
type socket struct {
	net.Conn
	r *textproto.Reader
}

func dial(t *testing.T, r *relay) *socket {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return newSocket(conn)
}

func newSocket(conn net.Conn) *socket {
	return &socket{conn, textproto.NewReader(bufio.NewReader(conn))}
}

func (s *socket) send(t *testing.T, request string) {
	t.Helper()
	_, err := io.WriteString(s, request)
	require.NoError(t, err)
}

// post sends a question as a client would that knows nothing but HTTP/1.1.
func (s *socket) post(t *testing.T) {
	t.Helper()
	s.postBody(t, question)
}

func (s *socket) postBody(t *testing.T, body string) {
	t.Helper()
	s.send(t, "POST /api/chat/stream HTTP/1.1\r\nHost: relay\r\nContent-Type: application/json\r\nContent-Length: "+
		strconv.Itoa(len(body))+"\r\n\r\n"+body)
}

// newPost is a question for a handler that is called without a server.
func newPost(body string) *http.Request {
	req := httptest.NewRequest(http.MethodPost, "http://relay/api/chat/stream", strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	return req
}

func (s *socket) head(t *testing.T) (status string, header textproto.MIMEHeader) {
	t.Helper()
	status, err := s.r.ReadLine()
	require.NoError(t, err)
	header, err = s.r.ReadMIMEHeader()
	require.NoError(t, err)
	return status, header
}

// write returns what the relay wrote at once, "" for the end of the body.
func (s *socket) write(t *testing.T) string {
	t.Helper()
	line, err := s.r.ReadLine()
	require.NoError(t, err)
	size, err := strconv.ParseUint(line, 16, 32)
	require.NoError(t, err)
	data := make([]byte, size)
	_, err = io.ReadFull(s.r.R, data)
	require.NoError(t, err)
	line, err = s.r.ReadLine()
	require.NoError(t, err)
	require.Empty(t, line)
	return string(data)
}

// rest returns what comes until the body ends, which must be in HTTP's own way.
func (s *socket) rest(t *testing.T) string {
	t.Helper()
	all, err := io.ReadAll(httputil.NewChunkedReader(s.r.R))
	require.NoError(t, err)
	line, err := s.r.ReadLine() // the end of the trailers, which there are none of
	require.NoError(t, err)
	require.Empty(t, line)
	return string(all)
}

// journal is a log that can be waited for.
type journal struct {
	mu    sync.Mutex // guards the rest
	text  bytes.Buffer
	lines []map[string]any
	more  chan struct{} // closed when a line comes
}

func newJournal() *journal { return &journal{more: make(chan struct{})} }

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var line map[string]any
	if err := json.Unmarshal(p, &line); err != nil {
		return 0, err
	}
	j.text.Write(p)
	j.lines = append(j.lines, line)
	close(j.more)
	j.more = make(chan struct{})
	return len(p), nil
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// wait returns the first n lines with this message, when there are so many.
func (j *journal) wait(t *testing.T, message string, n int) []map[string]any {
	t.Helper()
	timeout := time.After(patience)
	for {
		j.mu.Lock()
		var found []map[string]any
		for _, line := range j.lines {
			if line["message"] == message {
				found = append(found, line)
			}
		}
		more := j.more
		j.mu.Unlock()
		if len(found) >= n {
			return found
		}
		select {
		case <-more:
		case <-timeout:
			require.FailNow(t, "no such line in the log", "%s\n%s", message, j)
		}
	}
}

// stream returns the log line of the one stream that there was.
func (j *journal) stream(t *testing.T) map[string]any {
	t.Helper()
	lines := j.wait(t, "stream", 1)
	require.Len(t, lines, 1, "one line per stream")
	return lines[0]
}

// counted gathers a metric: its values by their one or two labels, joined with a comma. A histogram counts its
// observations.
func (r *relay) counted(t *testing.T, name string) map[string]float64 {
	t.Helper()
	families, err := r.registry.Gather()
	require.NoError(t, err)
	values := make(map[string]float64)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			values[strings.Join(labels, ",")] = m.GetCounter().GetValue() + m.GetGauge().GetValue() +
				float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}

// total is the sum of what a histogram observed.
func (r *relay) total(t *testing.T, name string) (sum float64) {
	t.Helper()
	families, err := r.registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetHistogram().GetSampleSum()
			}
		}
	}
	return sum
}

// idle waits until no stream is open.
func (r *relay) idle(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return r.counted(t, "relay_streams_open")[""] == 0 }, patience,
		5*time.Millisecond, "the slot is free again")
}

// receive waits for what must come on c.
func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		require.FailNow(t, "nothing came")
		panic("not reached")
	}
}
