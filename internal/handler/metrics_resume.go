package handler

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/websopy/relay/internal/stream"
)

func (m *Metrics) resumable(reg prometheus.Registerer) {
	m.generations = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "relay_generations_ended_total",
		Help: "Answers of resumable streams by how they ended, whoever read them: completed, stopped, or an error code."}, []string{"reason"})
	m.unavailable = prometheus.NewCounter(prometheus.CounterOpts{Name: "relay_resume_unavailable_total",
		Help: "Streams that were to be resumable and are not, because Redis was away."})
	m.appends = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "relay_resume_append_seconds",
		Help: "One round of writing new chunks of all streams to Redis.", Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}}, []string{"outcome"})
	m.storeUp = prometheus.NewGauge(prometheus.GaugeOpts{Name: "relay_resume_store_up",
		Help: "1 while resumable streams can be started, 0 while Redis is away."})
	m.storeUp.Set(1)
	reg.MustRegister(m.generations, m.unavailable, m.appends, m.storeUp)
}

// Appended counts a round of writing to Redis. It is for stream.Options.
func (m *Metrics) Appended(took time.Duration, err error) {
	outcome := "ok"
	if err != nil {
		outcome = "error"
	}
	m.appends.WithLabelValues(outcome).Observe(took.Seconds())
}

// StoreUp notes whether Redis is there.
func (m *Metrics) StoreUp(up bool) {
	if up {
		m.storeUp.Set(1)
	} else {
		m.storeUp.Set(0)
	}
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
	gauge("relay_resume_log_bytes", "Memory that resumable streams take, live ones with their reservation and their question.",
		func(s stream.Stats) float64 { return float64(s.Bytes) })
	counter("relay_resume_resumed_total", "Readers that came back to where they had been.",
		func(s stream.Stats) uint64 { return s.Resumed })
	counter("relay_resume_expired_total", "Answers given up because nobody read them.",
		func(s stream.Stats) uint64 { return s.Expired })
	counter("relay_resume_evicted_total", "Ended streams that gave way to others before their retention was over.",
		func(s stream.Stats) uint64 { return s.Evicted })
	counter("relay_resume_lost_total", "Streams of dead replicas that were ended here.",
		func(s stream.Stats) uint64 { return s.Lost })
}
