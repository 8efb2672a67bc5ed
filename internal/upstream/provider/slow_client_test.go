package provider_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/provider"
)

// A client that takes what it gets slowly is not a dead model, whatever the idle time-out; a model that is silent
// afterwards is one.
func TestTheClocksStandWhileAChunkIsPassedOn(t *testing.T) {
	const idle, slow = 10 * time.Second, 35 * time.Second
	for name, tc := range map[string]struct {
		parts []part
		hang  bool
		want  error
		least time.Duration
	}{
		"and the answer goes on": {parts: []part{{0, sse(delta(`"content":"Hel"`))},
			{9 * time.Second, sse(delta(`"content":"lo"`))},
			{0, sse(`{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`) + "data: [DONE]\n\n"}}},
		"and the model is silent then": {parts: []part{{0, sse(delta(`"content":"Hel"`))}}, hang: true,
			want: &chat.Error{Code: chat.UpstreamTimeout, Phase: chat.PhaseIdle}, least: slow + idle},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := options("openai", "http://provider.invalid")
				o.IdleTimeout = idle
				s := newUpstream(t, o)
				provider.SetTransport(s, paced{parts: tc.parts, hang: tc.hang})
				began := time.Now()
				var failure error
				for c, err := range s.Stream(t.Context(), question()) {
					if failure = err; err == nil && c.Type == chat.Content {
						time.Sleep(slow)
					}
				}
				if tc.want == nil {
					require.NoError(t, failure)
					return
				}
				var e *chat.Error
				require.True(t, errors.As(failure, &e), "%v", failure)
				require.Equal(t, chat.PhaseIdle, e.Phase)
				require.GreaterOrEqual(t, time.Since(began), tc.least)
				require.LessOrEqual(t, time.Since(began), tc.least+idle)
			})
		})
	}
}
