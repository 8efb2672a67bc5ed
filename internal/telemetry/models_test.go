package telemetry_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/telemetry"
	"github.com/websopy/relay/internal/upstream/trace"
)

func TestAnswersAreCountedByWhoGaveThem(t *testing.T) {
	registry := prometheus.NewRegistry()
	told := telemetry.New(telemetry.NewMetrics(registry), zerolog.New(io.Discard), telemetry.Redaction{})
	failure := &chat.Error{Code: chat.UpstreamError}
	answer := &telemetry.Stream{
		Label: "smart", Reason: "completed", Chunks: 2, First: 300 * time.Millisecond, Start: time.Now(),
		Trace: &trace.Trace{Attempts: []trace.Attempt{{Upstream: "a", Err: failure}, {Upstream: "b"}}},
		Done:  &chat.Completion{Usage: &chat.Usage{PromptTokens: 100, CachedTokens: 60, CompletionTokens: 7}},
	}
	told.StreamEnded(answer)
	told.GenerationEnded(answer)
	// who reads it
	told.StreamEnded(&telemetry.Stream{Label: "smart", Reason: "completed", Trace: new(trace.Trace),
		Done: answer.Done})

	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP relay_upstream_answers_total Answers by who was asked last, for which model (a configured name, default or other), and how they ended.
# TYPE relay_upstream_answers_total counter
relay_upstream_answers_total{model="smart",reason="completed",upstream="b"} 2
# HELP relay_upstream_tokens_total Tokens as providers count them: input, of which cached, and output, of which reasoning.
# TYPE relay_upstream_tokens_total counter
relay_upstream_tokens_total{model="smart",type="cached",upstream="b"} 120
relay_upstream_tokens_total{model="smart",type="input",upstream="b"} 200
relay_upstream_tokens_total{model="smart",type="output",upstream="b"} 14
`), "relay_upstream_answers_total", "relay_upstream_tokens_total"))
	require.Equal(t, 1, testutil.CollectAndCount(registry, "relay_upstream_first_chunk_seconds"))
}
