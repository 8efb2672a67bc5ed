package provider_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
)

var websopyStreams = map[string]struct {
	body string
	want chattest.Transcript
	err  *chat.Error
}{
	"a whole answer": {
		body: sse(`{"type":"start","id":"x"}`, `{"type":"ping"}`, `{"type":"reasoning","content":"hm"}`,
			`{"type":"content","content":"Hi \ud83d\ude00"}`,
			`{"type":"tool_call","tool":{"id":"a","name":"f","arguments":"{\"x\":1}"}}`,
			`{"type":"tool_call","tool":{"id":"b","name":"f","arguments":""}}`, `{"type":"from the future"}`,
			`{"type":"done","finishReason":"tool_calls","model":"m-1","usage":{"promptTokens":7,`+
				`"completionTokens":2}}`, "[DONE]"),
		want: chattest.Transcript{Reasoning: "hm", Text: "Hi 😀",
			Tools: []chat.ToolCall{{ID: "a", Name: "f", Arguments: `{"x":1}`}, {ID: "b", Name: "f", Arguments: "{}"}},
			Done:  done("tool_calls")},
	},
	"stopped stays stopped": {
		body: sse(`{"type":"done","finishReason":"stopped"}`, "[DONE]"),
		want: chattest.Transcript{Done: &chat.Completion{FinishReason: chat.FinishStopped}},
	},
	"a failure of its provider is passed on": {
		body: sse(`{"type":"content","content":"Hi"}`,
			`{"type":"error","error":"slow down","code":"upstream_rate_limited","retryable":true,"retryAfter":3,`+
				`"requestId":"r"}`),
		want: chattest.Transcript{Text: "Hi"},
		err:  &chat.Error{Code: chat.UpstreamRateLimited, Message: "slow down", RetryAfter: 3 * time.Second},
	},
	"a failure of its own is our provider's failure": {
		body: sse(`{"type":"error","error":"going away","code":"server_shutdown"}`),
		err:  &chat.Error{Code: chat.UpstreamError, Message: "going away"},
	},
	"without done there is no end": {
		body: sse(`{"type":"content","content":"Hi"}`),
		want: chattest.Transcript{Text: "Hi"},
		err:  &chat.Error{Code: chat.UpstreamTruncated, Message: "the provider's answer broke off"},
	},
}

func TestARelayUnderstandsARelay(t *testing.T) {
	for name, tc := range websopyStreams {
		t.Run(name, func(t *testing.T) {
			for _, got := range answers(t, "websopy", http.StatusOK, nil, splits([]byte(tc.body))) {
				if tc.err != nil {
					require.Equal(t, tc.err, got.Err)
				} else {
					require.NoError(t, got.Err)
				}
				got.Err, got.Chunks = nil, 0
				require.Equal(t, tc.want, got)
			}
		})
	}
	got := decodeWith(t, "websopy", func() io.Reader {
		return strings.NewReader(sse(`{"type":"content","content":"x"}`, "[DONE]"))
	})
	require.Equal(t, chat.UpstreamMalformed, chat.AsError(got.Err).Code)
}

func TestDecodingWebsopyTextDoesNotAllocate(t *testing.T) {
	requireNoAllocations(t, "websopy", `{"type":"content","content":" token \u00e9"}`,
		`{"type":"done","finishReason":"stop"}`)
}

func FuzzWebsopy(f *testing.F) {
	streams := map[string]stream{}
	for name, tc := range websopyStreams {
		streams[name] = stream{body: tc.body}
	}
	fuzzStreams(f, "websopy", streams)
}

func BenchmarkWebsopyChunk(b *testing.B) {
	benchmarkEvent(b, "websopy", `{"type":"content","content":" token"}`, `{"type":"done","finishReason":"stop"}`)
}
