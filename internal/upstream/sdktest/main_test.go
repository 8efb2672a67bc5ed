// Package sdktest holds the provider formats against the providers' own Go SDKs: their request types must
// accept what we send, and their accumulators must fold a stream to what we make of it. It is a module of
// its own, so that the relay does not depend on them.
package sdktest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/relaytest"
	"github.com/websopy/relay/internal/upstream/provider"
)

func TestMain(m *testing.M) { os.Exit(relaytest.Main(m.Run)) }

func upstream(t *testing.T, kind, baseURL string) chat.Streamer {
	t.Helper()
	s, err := provider.New(provider.Options{Name: kind, Kind: kind, BaseURL: baseURL, APIKey: "test-key", Model: "m",
		ConnectTimeout: 5 * time.Second, FirstChunkTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second})
	require.NoError(t, err)
	return s
}

// sent is the body of the request that a kind makes of req.
func sent(t *testing.T, kind string, req *chat.Request) []byte {
	t.Helper()
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusBadRequest)
	}))
	defer srv.Close()
	for _, err := range upstream(t, kind, srv.URL).Stream(t.Context(), req) {
		require.Equal(t, chat.UpstreamRejected, chat.AsError(err).Code, "%v", err)
	}
	require.NotEmpty(t, body)
	return body
}

// without drops members of an object, which the SDKs set by other means than their request types.
func without(t *testing.T, object []byte, names ...string) []byte {
	t.Helper()
	var m map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(object, &m))
	for _, n := range names {
		delete(m, n)
	}
	out, err := json.Marshal(m)
	require.NoError(t, err)
	return out
}

// answer is a folded stream.
type answer struct {
	Text, Reasoning    string
	Tools              []tool
	Prompt, Completion int64 // tokens
	Failed             bool
}

type tool struct {
	Name      string
	Arguments any // decoded, or the text where a token limit cut it off
}

func newTool(name, arguments string) tool {
	if arguments == "" {
		arguments = "{}"
	}
	var v any
	if json.Unmarshal([]byte(arguments), &v) != nil {
		v = arguments
	}
	return tool{name, v}
}

// replay is a provider that answers every request with the same body.
func replay(t *testing.T, contentType string, body []byte) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(body)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// ours is what we make of a body.
func ours(t *testing.T, kind, contentType string, body []byte) (a answer) {
	t.Helper()
	req := &chat.Request{Messages: []chat.Message{{Role: chat.RoleUser, Content: "hi"}}}
	for c, err := range upstream(t, kind, replay(t, contentType, body)).Stream(t.Context(), req) {
		switch {
		case err != nil:
			a.Failed = true
		case c.Type == chat.Content:
			a.Text += string(c.Text)
		case c.Type == chat.Reasoning:
			a.Reasoning += string(c.Text)
		case c.Type == chat.Tool:
			a.Tools = append(a.Tools, newTool(c.Tool.Name, c.Tool.Arguments))
		case c.Type == chat.Done && c.Done.Usage != nil:
			a.Prompt, a.Completion = c.Done.Usage.PromptTokens, c.Done.Usage.CompletionTokens
		}
	}
	return a
}

// transcripts are the recorded streams of a dialect, by id. They lie beside the checkout.
func transcripts(t *testing.T, dialects ...string) map[string][]byte {
	t.Helper()
	shared := os.Getenv("RELAY_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "..", "..", "shared")
	}
	dir := filepath.Join(shared, "corpus")
	index, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Skip("no recorded streams: set RELAY_SHARED to the folder that holds corpus/")
	}
	var list []struct{ ID, File, Dialect string }
	require.NoError(t, json.Unmarshal(index, &list))
	bodies := map[string][]byte{}
	for _, e := range list {
		for _, d := range dialects {
			if e.Dialect == d {
				bodies[e.ID], err = os.ReadFile(filepath.Join(dir, e.File))
				require.NoError(t, err)
			}
		}
	}
	return bodies
}
