package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/websopy/relay/internal/redisconn"
	"github.com/websopy/relay/internal/stream"
)

func (m *Metrics) resumable(reg prometheus.Registerer) {
	m.generations = counters(reg, prometheus.CounterOpts{Name: "relay_generations_ended_total",
		Help: "Answers of resumable streams by how they ended, whoever read them: completed, stopped, fenced, or an " +
			"error code."}, "reason")
	m.unavailable = prometheus.NewCounter(prometheus.CounterOpts{Name: "relay_resume_unavailable_total",
		Help: "Streams that were to be resumable and are not: Redis was not to be had, and there was no room " +
			"in memory."})
	m.appends = histograms(reg, prometheus.HistogramOpts{Name: "relay_resume_append_seconds",
		Help:    "One round of writing new chunks of all streams to Redis.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}}, "outcome")
	reg.MustRegister(m.unavailable)
}

// Appended counts a round of writing to Redis. It is for stream.Options.
func (m *Metrics) Appended(took time.Duration, err error) {
	outcome := "ok"
	if err != nil {
		outcome = "error"
	}
	m.appends.with(labels{outcome}).Observe(took.Seconds())
}

// WatchStreams registers what stats gives.
func WatchStreams(reg prometheus.Registerer, stats func() stream.Stats) {
	gauge := func(name, help string, of func(stream.Stats) float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help},
			func() float64 { return of(stats()) }))
	}
	counter := func(name, help string, of func(stream.Stats) uint64) {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help},
			func() float64 { return float64(of(stats())) }))
	}
	gauge("relay_resume_live", "Resumable streams whose answers are being generated here.",
		func(s stream.Stats) float64 { return float64(s.Live) })
	gauge("relay_resume_attached", "Readers of resumable streams here.",
		func(s stream.Stats) float64 { return float64(s.Attached) })
	gauge("relay_resume_log_bytes",
		"Memory that resumable streams take, live ones with their reservation and their question.",
		func(s stream.Stats) float64 { return float64(s.Bytes) })
	counter("relay_resume_resumed_total", "Readers that came back to where they had been.",
		func(s stream.Stats) uint64 { return s.Resumed })
	counter("relay_resume_expired_total", "Answers given up because nobody read them.",
		func(s stream.Stats) uint64 { return s.Expired })
	counter("relay_resume_evicted_total", "Ended streams that gave way to others before their retention was over.",
		func(s stream.Stats) uint64 { return s.Evicted })
	counter("relay_resume_lost_total", "Streams of dead replicas that were ended here.",
		func(s stream.Stats) uint64 { return s.Lost })
	counter("relay_resume_fenced_total",
		"Streams from here that other replicas have ended, because they took this one for dead.",
		func(s stream.Stats) uint64 { return s.Fenced })
	counter("relay_resume_published_total",
		"Streams that began while Redis was not to be had, and came into it later.",
		func(s stream.Stats) uint64 { return s.Published })
	counter("relay_resume_keys_lost_total",
		"Streams whose idempotency key another stream had when they came into Redis.",
		func(s stream.Stats) uint64 { return s.KeysLost })
	gauge("relay_resume_held", "Readers that wait for a stream which may be found yet.",
		func(s stream.Stats) float64 { return float64(s.Held) })
	gauge("relay_resume_store_up", "1 while all of Redis takes writes, and with RELAY_STORE=memory; otherwise 0.",
		func(s stream.Stats) float64 {
			if s.StoreNodes[redisconn.Refusing]+s.StoreNodes[redisconn.Away] > 0 {
				return 0
			}
			return 1
		})
	for state, label := range map[redisconn.State]string{
		redisconn.Up: "up", redisconn.Refusing: "refuses_writes", redisconn.Away: "away",
	} {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "relay_resume_store_nodes", Help: "Nodes of Redis that hold streams, by their state.",
			ConstLabels: prometheus.Labels{"state": label},
		}, func() float64 { return float64(stats().StoreNodes[state]) }))
	}
}
