package provider_test

import (
	"bytes"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/leaktest"
	"github.com/websopy/relay/internal/upstream/provider"
)

func TestMain(m *testing.M) {
	// Parallel tests here wait for clocks and back-offs, not for processors.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	leaktest.Main(m)
}

func options(kind, baseURL string) provider.Options {
	return provider.Options{Name: kind, Kind: kind, BaseURL: baseURL, APIKey: "test-key", Model: "m",
		ConnectTimeout: 5 * time.Second, FirstChunkTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second}
}

func newUpstream(t testing.TB, o provider.Options) chat.Streamer {
	t.Helper()
	s, err := provider.New(o)
	require.NoError(t, err)
	return s
}

// replies is a provider that answers every request with a stream read from body.
type replies func() io.Reader

func (f replies) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, Request: req,
		Header: http.Header{"Content-Type": {req.Header.Get("Accept")}}, Body: io.NopCloser(f())}, nil
}

// roundTripper is a transport made of a func.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// stream is a body and what is to be made of it.
type stream struct {
	body string
	want chattest.Transcript
	code chat.Code // of the error that it ends with
}

// requireStreams holds a kind's decoder to a table of streams, which are read in every way: split
// anywhere, and with each of the line ends that there are.
func requireStreams(t *testing.T, kind string, streams map[string]stream) {
	for name, tc := range streams {
		t.Run(name, func(t *testing.T) {
			variants := map[string]string{"LF": tc.body, "CRLF": strings.ReplaceAll(tc.body, "\n", "\r\n")}
			if kind != "ollama" { // whose lines are no event stream's
				variants["CR"] = strings.ReplaceAll(tc.body, "\n", "\r")
			}
			var first *string // the same state, however the answer is cut
			state := func(done *chat.Completion) string {
				if first == nil {
					state := done.State
					first = &state
				}
				return *first
			}
			for ending, body := range variants {
				reads := []func() io.Reader{func() io.Reader { return strings.NewReader(body) }}
				if ending == "LF" || len(body) < 1<<10 { // the others differ in line ends only
					reads = append(reads, splits([]byte(body))...)
				} else {
					reads = append(reads, func() io.Reader { return oneByte{bytes.NewReader([]byte(body))} })
				}
				for i, got := range answers(t, kind, http.StatusOK, nil, reads) {
					if tc.code != "" {
						require.Equal(t, tc.code, chat.AsError(got.Err).Code, "%s, read %d: %v", ending, i, got.Err)
					} else {
						require.NoError(t, got.Err, "%s, read %d", ending, i)
					}
					if got.Done != nil { // what it has to be stands in state_test.go
						require.Equal(t, state(got.Done), got.Done.State, "%s, read %d", ending, i)
						got.Done.State = ""
					}
					got.Err, got.Chunks = nil, 0
					require.Equal(t, tc.want, got, "%s, read %d", ending, i)
				}
			}
		})
	}
}

// fuzzStreams feeds a decoder with what a fuzzer makes of streams: it must say the same however the body
// is cut into reads, and never panic.
func fuzzStreams(f *testing.F, kind string, streams map[string]stream) {
	for _, tc := range streams {
		f.Add([]byte(tc.body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		whole := decodeWith(t, kind, func() io.Reader { return bytes.NewReader(body) })
		bytewise := decodeWith(t, kind, func() io.Reader { return oneByte{bytes.NewReader(body)} })
		requireSame(t, whole, bytewise)
	})
}

// requireSame holds an answer to what was made of the same body when it was read in another way.
func requireSame(t *testing.T, want, got chattest.Transcript, msgAndArgs ...any) {
	t.Helper()
	require.Equal(t, want.Err == nil, got.Err == nil, msgAndArgs...)
	if want.Err != nil {
		require.Equal(t, chat.AsError(want.Err).Code, chat.AsError(got.Err).Code, msgAndArgs...)
	}
	want.Err, got.Err = nil, nil
	require.Equal(t, want, got, msgAndArgs...)
}

// events lays out events as the kind frames them.
func events(kind string, data ...string) string {
	switch kind {
	case "ollama":
		return strings.Join(data, "\n") + "\n"
	case "bedrock": // frames already
		return strings.Join(data, "")
	}
	return sse(data...)
}

// requireNoAllocations holds a text event to the rule of the hot path.
func requireNoAllocations(t *testing.T, kind, event, last string) {
	run := func(n int) float64 {
		body := []byte(strings.Repeat(events(kind, event), n) + events(kind, last))
		s := newUpstream(t, options(kind, "http://provider.invalid"))
		provider.SetTransport(s, replies(func() io.Reader { return bytes.NewReader(body) }))
		req := question()
		return testing.AllocsPerRun(20, func() {
			for _, err := range s.Stream(t.Context(), req) {
				if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	// The buffer that the body is read into grows with the first chunks (sse.Decoder's, up to 8 KiB), and a
	// hundred are more than it takes. From there on each one that costs an allocation is seen.
	require.InDelta(t, run(100), run(1000), 2, "900 more chunks cost no more allocations")
}

// benchmarkEvent measures one event of a stream that repeats it and ends with last.
func benchmarkEvent(b *testing.B, kind, event, last string) {
	const count = 1000
	body := []byte(strings.Repeat(events(kind, event), count) + events(kind, last))
	s := newUpstream(b, options(kind, "http://provider.invalid"))
	provider.SetTransport(s, replies(func() io.Reader { return bytes.NewReader(body) }))
	req := question()
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range s.Stream(b.Context(), req) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/count, "ns/event")
}

// asked is what a provider gets to see of a request.
type asked struct {
	path   string // with the query
	header http.Header
	body   string
}

// ask sends a request to a provider that answers nothing, and returns what it saw.
func ask(t *testing.T, kind string, req *chat.Request) asked {
	t.Helper()
	got, err := tryAsking(t, kind, req)
	require.NoError(t, err)
	return got
}

// refused is the message with which a kind refuses a request that it can't put in its provider's terms.
func refused(t *testing.T, kind string, req *chat.Request) string {
	t.Helper()
	_, err := tryAsking(t, kind, req)
	require.Error(t, err)
	require.Equal(t, chat.InvalidRequest, chat.AsError(err).Code)
	return chat.AsError(err).Message
}

func tryAsking(t *testing.T, kind string, req *chat.Request) (got asked, err error) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		got = asked{r.URL.String(), r.Header, string(body)}
		w.Header().Set("Content-Type", r.Header.Get("Accept"))
	}))
	defer srv.Close()
	err = chattest.Fold(t, newUpstream(t, options(kind, srv.URL)).Stream(t.Context(), req)).Err
	if chat.AsError(err).Code == chat.UpstreamTruncated {
		err = nil
	}
	return got, err
}

// conversation is a request that uses all there is.
func conversation() *chat.Request {
	strict := true
	return &chat.Request{
		Messages: []chat.Message{
			{Role: chat.RoleSystem, Content: "s1"},
			{Role: chat.RoleSystem, Parts: []chat.Part{{Type: chat.PartText, Text: "s2"}}},
			{Role: chat.RoleUser, Name: "ann", Parts: []chat.Part{{Type: chat.PartText, Text: "what?"},
				{Type: chat.PartImage, ImageURL: "data:image/png;base64,AAEC", Detail: "high"}}},
			{Role: chat.RoleAssistant, Content: "let me see",
				ToolCalls: []chat.ToolCall{{ID: "a.1", Name: "f", Arguments: `{"x":1}`}, {ID: "b", Name: "g"}}},
			{Role: chat.RoleTool, ToolCallID: "a.1", Content: "4"},
			{Role: chat.RoleTool, ToolCallID: "b", Content: `{"y":2}`},
			{Role: chat.RoleUser, Content: "and?"},
		},
		Temperature: "0.70", TopP: "0.9", MaxTokens: "900", Seed: "7", Stop: []string{"END"}, User: "u",
		Tools: []chat.ToolSpec{
			{Name: "f", Description: "d",
				Parameters: []byte(`{"type":"object","properties":{"x":{"type":"integer"}}}`), Strict: &strict},
			{Name: "g"},
		},
		ToolChoice: chat.ToolChoice{Mode: chat.ChooseRequired},
		ResponseFormat: []byte(`{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"},` +
			`"strict":true}}`),
		Extra: []chat.Field{{Name: "top_k", Value: []byte(`5`)}},
	}
}

func question() *chat.Request {
	return &chat.Request{Messages: []chat.Message{{Role: chat.RoleUser, Content: "hi"}}}
}
