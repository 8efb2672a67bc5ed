package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/websopy/relay/internal/chat"
)

// byModel is what is counted by who answered and for which model. Its names are configured ones: callers make up any
// number of others.
type byModel struct {
	ended      *series[prometheus.Counter]
	firstChunk *series[prometheus.Observer]
	tokens     *series[prometheus.Counter]
}

func newByModel(reg prometheus.Registerer) byModel {
	return byModel{
		ended: counters(reg, prometheus.CounterOpts{Name: "relay_upstream_answers_total",
			Help: "Answers by who was asked last, for which model (a configured name, default or other), and how " +
				"they ended."},
			"upstream", "model", "reason"),
		firstChunk: histograms(reg, prometheus.HistogramOpts{Name: "relay_upstream_first_chunk_seconds",
			Help: "From the request to the first chunk, by who answered.", Buckets: firstChunkBuckets},
			"upstream", "model"),
		tokens: counters(reg, prometheus.CounterOpts{Name: "relay_upstream_tokens_total",
			Help: "Tokens as providers count them: input, of which cached, and output, of which reasoning."},
			"upstream", "model", "type"),
	}
}

// count counts an answer, unless another process, or another request, has asked for it.
func (b *byModel) count(s *Stream) {
	n := len(s.Trace.Attempts)
	if n == 0 {
		return
	}
	upstream := s.Trace.Attempts[n-1].Upstream
	b.ended.with(labels{upstream, s.Label, s.Reason}).Inc()
	if s.Chunks > 0 {
		b.firstChunk.with(labels{upstream, s.Label}).Observe(s.First.Seconds())
	}
	if s.Done != nil && s.Done.Usage != nil {
		b.used(upstream, s.Label, s.Done.Usage)
	}
}

func (b *byModel) used(upstream, model string, u *chat.Usage) {
	for _, c := range [...]struct {
		typ string
		n   int64
	}{
		{"input", u.PromptTokens}, {"cached", u.CachedTokens}, {"output", u.CompletionTokens},
		{"reasoning", u.ReasoningTokens},
	} {
		if c.n > 0 {
			b.tokens.with(labels{upstream, model, c.typ}).Add(float64(c.n))
		}
	}
}
