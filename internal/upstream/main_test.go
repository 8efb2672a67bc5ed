package upstream_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answer is a stream, folded.
type answer struct {
	text, reasoning string
	tools           []chat.ToolCall
	done            *chat.Completion
	err             error
	chunks          int
}

// fold runs a stream to its end and holds it to the contract of Streamer on the way.
func fold(t testing.TB, s upstream.Streamer, ctx context.Context, req *chat.Request) answer {
	t.Helper()
	var a answer
	more := false
	for c, err := range s.Stream(ctx, req) {
		require.Nil(t, a.err, "nothing follows an error")
		require.Nil(t, a.done, "nothing follows done")
		if err != nil {
			a.err = err
			continue
		}
		switch c.Type {
		case chat.Pause:
			require.True(t, more, "a pause only follows a promise")
		case chat.Content:
			require.NotEmpty(t, c.Text)
			a.text += string(c.Text)
		case chat.Reasoning:
			require.NotEmpty(t, c.Text)
			a.reasoning += string(c.Text)
		case chat.Tool:
			a.tools = append(a.tools, *c.Tool)
		case chat.Done:
			require.False(t, c.More)
			done := *c.Done
			a.done = &done
		}
		more = c.More
		a.chunks++
	}
	require.True(t, (a.err == nil) != (a.done == nil), "a stream ends with done or with an error")
	return a
}

func options(kind, baseURL string) upstream.Options {
	return upstream.Options{Name: kind, Kind: kind, BaseURL: baseURL, APIKey: "test-key", Model: "m",
		ConnectTimeout: 5 * time.Second, FirstChunkTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second}
}

func newUpstream(t testing.TB, o upstream.Options) upstream.Streamer {
	t.Helper()
	s, err := upstream.New(o)
	require.NoError(t, err)
	return s
}

func question() *chat.Request {
	return &chat.Request{Messages: []chat.Message{{Role: chat.RoleUser, Content: "hi"}}}
}

// replies is a provider that answers every request with a stream read from body.
type replies func() io.Reader

func (f replies) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, Request: req,
		Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: io.NopCloser(f())}, nil
}

// decodeWith answers a question with a recorded body, however it is cut into reads.
func decodeWith(t testing.TB, kind string, body func() io.Reader) answer {
	t.Helper()
	s := newUpstream(t, options(kind, "http://provider.invalid"))
	upstream.SetTransport(s, replies(body))
	return fold(t, s, t.Context(), question())
}

// splits are the ways to read body that a decoder must not notice: cut in two at every byte (at some,
// when there are many), and byte by byte.
func splits(body []byte) []func() io.Reader {
	all := []func() io.Reader{func() io.Reader { return oneByte{bytes.NewReader(body)} }}
	step := max(1, len(body)*len(body)/(4<<20))
	for i := 0; i < len(body); i += step {
		all = append(all, func() io.Reader {
			return io.MultiReader(bytes.NewReader(body[:i]), bytes.NewReader(body[i:]))
		})
	}
	return all
}

type oneByte struct{ r *bytes.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }

// benchmarkEvent measures one event of a stream that repeats it and ends with last.
func benchmarkEvent(b *testing.B, kind, event, last string) {
	const events = 1000
	body := []byte(strings.Repeat(sse(event), events) + sse(last))
	s := newUpstream(b, options(kind, "http://provider.invalid"))
	upstream.SetTransport(s, replies(func() io.Reader { return bytes.NewReader(body) }))
	req := question()
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range s.Stream(b.Context(), req) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/events, "ns/event")
}
