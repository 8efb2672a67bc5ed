package main_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/relaytest"
)

// wantsItBack is a DeepSeek that calls a tool, and refuses what follows without its thinking.
func wantsItBack(t *testing.T) *httptest.Server {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		answer := `data: {"choices":[{"index":0,"delta":{"content":"It worked."},"finish_reason":"stop"}]}` +
			"\n\ndata: [DONE]\n\n"
		switch {
		case !strings.Contains(string(body), `"role":"tool"`):
			answer = `data: {"choices":[{"index":0,"delta":{"reasoning_content":"I think."}}]}` + "\n\n" +
				`data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","function":{"name":"f",` +
				`"arguments":"{}"}}]},` +
				`"finish_reason":"tool_calls"}]}` + "\n\ndata: [DONE]\n\n"
		case !strings.Contains(string(body), `"reasoning_content":"I think."`):
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":{"message":"the thinking is gone"}}`)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(srv.Close)
	return srv
}

// stateIn finds the state in an answer, streamed or whole.
func stateIn(t *testing.T, res *http.Response) string {
	t.Helper()
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		var chunk struct{ State string }
		if json.Unmarshal([]byte(strings.TrimPrefix(lines.Text(), "data: ")), &chunk) == nil && chunk.State != "" {
			return chunk.State
		}
	}
	t.Fatal("no state")
	return ""
}

func TestASecondTurnThroughTwoRelays(t *testing.T) {
	inner := relaytest.Serve(t, "UPSTREAM_KIND=openai", "UPSTREAM_BASE_URL="+wantsItBack(t).URL, "UPSTREAM_MODEL=m",
		"UPSTREAM_FAMILY=deepseek")
	outer := relaytest.Serve(t, "UPSTREAM_KIND=websopy", "UPSTREAM_BASE_URL="+inner.URL)
	const turn = `{"role":"user","content":"How is the weather?"}`
	for name, extra := range map[string]string{"streamed": ``, "whole": `"stream":false,`,
		"resumable": `"resumable":true,`} {
		t.Run(name, func(t *testing.T) {
			state := stateIn(t, outer.Ask(t, "/api/chat/stream", `{`+extra+`"messages":[`+turn+`]}`))
			next := func(state string) string {
				return `{"messages":[` + turn +
					`,{"role":"assistant","content":"","tool_calls":[{"id":"c1","type":"function",` +
					`"function":{"name":"f","arguments":"{ }"}}],"state":"` + state +
					`"},{"role":"tool","tool_call_id":"c1","content":"4 degrees"}]}`
			}
			text, last := read(t, outer.Ask(t, "/api/chat/stream", next(state)), true)
			require.Equal(t, "It worked.", text)
			require.Equal(t, "done", last.Type)
			_, last = read(t, outer.Ask(t, "/api/chat/stream", next(state[:len(state)-1])), false)
			require.Equal(t, "upstream_rejected", last.Code, "a broken state is none")
		})
	}
}
