package telemetry

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/websopy/relay/internal/limit"
)

func (m *Metrics) limits(reg prometheus.Registerer) {
	m.limited = counters(reg, prometheus.CounterOpts{Name: "relay_limited_total",
		Help: "Requests refused because their caller has used what it may: requests, tokens, tokens_per_day, " +
			"streams or attach."},
		"limit")
	m.charged = counters(reg, prometheus.CounterOpts{Name: "relay_limit_tokens_total",
		Help: "Tokens that callers with limits have used, and whether that is estimated because the provider did " +
			"not say."},
		"estimated")
}

// Limited counts a request that was refused for its caller's limit.
func (m *Metrics) Limited(by string) { m.limited.with(labels{by}).Inc() }

// Charged counts tokens that a caller with limits has used.
func (m *Metrics) Charged(tokens int64, estimated bool) {
	m.charged.with(labels{strconv.FormatBool(estimated)}).Add(float64(tokens))
}

// ObserveLimits exposes what is kept of callers' limits.
func (m *Metrics) ObserveLimits(limiter *limit.Limiter) {
	m.reg.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "relay_limit_reserved_tokens",
			Help: "Tokens that are reserved for answers that run here."},
			func() float64 { return float64(limiter.Reserved()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "relay_limit_settlements_lost_total",
			Help: "Answers whose real cost Redis was never told, because it was away for too long."},
			func() float64 { return float64(limiter.Lost()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "relay_limit_store_up",
			Help: "0 while Redis, where limits are kept for all replicas, is away, otherwise 1."}, func() float64 {
			if limiter.Up() {
				return 1
			}
			return 0
		}),
	)
}
