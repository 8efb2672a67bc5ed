package handler_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/identity"
)

// probed are the frames of a probe.
func probed(t *testing.T, body string) (frames []map[string]any) {
	t.Helper()
	rest, whole := strings.CutSuffix(body, endFrame)
	require.True(t, whole, body)
	for frame := range strings.SplitSeq(strings.TrimSpace(rest), "\n\n") {
		var f map[string]any
		require.NoError(t, json.Unmarshal([]byte(strings.TrimPrefix(frame, "data: ")), &f), frame)
		frames = append(frames, f)
	}
	return frames
}

func TestProbe(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello}, Probe: true, MaxBody: 1 << 20, MaxStreams: 1})
	_, body := fetch(t, http.MethodGet, r.url+"/api/chat/probe?every=20ms&for=70ms&size=200", "", "Via", "1.1 a",
		"X-Forwarded-For", "x",
		"Last-Event-ID", "e")
	frames := probed(t, body)
	require.GreaterOrEqual(t, len(frames), 3)
	first := frames[0]
	require.Equal(t, "probe", first["type"])
	require.Equal(t, "HTTP/1.1", first["protocol"])
	require.Equal(t, "1.1 a", first["via"])
	require.Equal(t, []any{"X-Forwarded-For"}, first["forwarded"])
	require.Equal(t, "e", first["lastEventId"])
	require.EqualValues(t, 1<<20, first["maxBody"])
	require.Equal(t, "tick", frames[1]["type"])
	require.InDelta(t, 20, frames[1]["atMs"], 2000)
	require.NotEmpty(t, frames[1]["pad"])

	for query, want := range map[string]string{
		"for=21m": "for:", "every=1ms": "every:", "size=70000": "size:", "silent=-1s": "silent:",
		"silent=x": "silent:",
	} {
		res, body := fetch(t, http.MethodGet, r.url+"/api/chat/probe?"+query, "")
		require.Equal(t, http.StatusBadRequest, res.StatusCode, query)
		require.Contains(t, lastError(t, body).Error, want)
	}
	res, _ := fetch(t, http.MethodGet, r.url+"/api/chat/probe?refuse=true", "")
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.Equal(t, "7", res.Header.Get("Retry-After"))
}

// A probe holds a place like a stream, so that strangers can't take more by it, and a watch tells whether it is open.
func TestAProbeCountsAsAStream(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello}, Probe: true, MaxStreams: 1})
	open := ask(t, http.DefaultClient, http.MethodGet, r.url+"/api/chat/probe?for=20m", "")
	defer open.Body.Close()
	read := make([]byte, 1<<10)
	n, err := open.Body.Read(read)
	require.NoError(t, err)
	require.Contains(t, string(read[:n]), `"type":"probe"`)
	res, body := fetch(t, http.MethodGet, r.url+"/api/chat/probe", "")
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.Equal(t, chat.Overloaded, lastError(t, body).Code)
	r.EndStreams()
	_, err = open.Body.Read(read)
	for err == nil {
		_, err = open.Body.Read(read)
	}
	r.Drain()
	res, _ = fetch(t, http.MethodGet, r.url+"/api/chat/probe", "")
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
}

func TestAProbeIsForThoseWithAKey(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello}, Probe: true,
		Keys: identity.NewKeys([]identity.APIKey{{Key: "k"}})})
	res, _ := fetch(t, http.MethodGet, r.url+"/api/chat/probe", "")
	require.Equal(t, http.StatusUnauthorized, res.StatusCode)
	r = start(t, handler.Options{Router: answering{hello}})
	res, _ = fetch(t, http.MethodGet, r.url+"/api/chat/probe", "")
	require.Equal(t, http.StatusNotFound, res.StatusCode, "unless asked for there is none")
}
