package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are counted here and nowhere else: every stream once, when it ends.
type Metrics struct {
	refused    *series[prometheus.Counter]
	ended      *series[prometheus.Counter]
	open       prometheus.Gauge
	firstChunk prometheus.Histogram
	chunkGap   prometheus.Histogram
	chunks     prometheus.Counter
	bytes      prometheus.Counter
	attempts   *series[prometheus.Counter]
	hedges     prometheus.Counter
	noState    prometheus.Counter
	reloads    *series[prometheus.Counter]
	byModel    byModel

	// Limits of callers.
	limited *series[prometheus.Counter]
	charged *series[prometheus.Counter]

	// Resumable streams.
	generations *series[prometheus.Counter]
	unavailable prometheus.Counter
	appends     *series[prometheus.Observer]

	reg prometheus.Registerer
}

var firstChunkBuckets = []float64{.05, .1, .2, .35, .5, .75, 1, 1.5, 2, 3, 5, 8, 15, 30, 60}

// NewMetrics registers the relay's metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		refused: counters(reg, prometheus.CounterOpts{Name: "relay_requests_refused_total",
			Help: "Requests that were refused before they became streams, by error code."}, "code"),
		ended: counters(reg, prometheus.CounterOpts{Name: "relay_streams_ended_total",
			Help: "Streams by how they ended: completed, stopped, client_gone, slow_client, or an error code."},
			"reason"),
		open: prometheus.NewGauge(prometheus.GaugeOpts{Name: "relay_streams_open",
			Help: "Streams that are open now."}),
		firstChunk: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "relay_first_chunk_seconds",
			Help: "From the request to the first chunk of the answer.", Buckets: firstChunkBuckets}),
		chunkGap: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "relay_chunk_gap_seconds",
			Help:    "Between two writes of chunks of one stream.",
			Buckets: []float64{.001, .005, .01, .02, .035, .05, .1, .2, .5, 1, 2, 5, 15, 60}}),
		chunks: prometheus.NewCounter(prometheus.CounterOpts{Name: "relay_chunks_total",
			Help: "Chunks sent to clients, added when a stream ends."}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "relay_sent_bytes_total",
			Help: "Bytes of frames sent to clients, before HTTP's own framing, added when a stream ends."}),
		attempts: counters(reg, prometheus.CounterOpts{Name: "relay_upstream_attempts_total",
			Help: "Requests to providers by outcome: ok, cancelled, or an error code."}, "upstream", "outcome"),
		hedges: prometheus.NewCounter(prometheus.CounterOpts{Name: "relay_upstream_hedges_total",
			Help: "Streams for which a second provider was asked beside a slow one."}),
		noState: prometheus.NewCounter(prometheus.CounterOpts{Name: "relay_states_too_large_total",
			Help: "Answers without the state that their provider wants back, because it would be over 256 KiB."}),
		reloads: counters(reg, prometheus.CounterOpts{Name: "relay_config_reloads_total",
			Help: "Times that the settings were read again: ok or, when they could not be used, refused."},
			"outcome"),
		reg: reg,
	}
	reg.MustRegister(m.open, m.firstChunk, m.chunkGap, m.chunks, m.bytes, m.hedges, m.noState)
	m.byModel = newByModel(reg)
	m.limits(reg)
	m.resumable(reg)
	return m
}

// Opened counts a stream's connection among those that are open, until Closed.
func (m *Metrics) Opened() { m.open.Inc() }

// Closed ends what Opened began.
func (m *Metrics) Closed() { m.open.Dec() }

// FirstChunk notes how long the client of a stream waited for its first chunk.
func (m *Metrics) FirstChunk(after time.Duration) { m.firstChunk.Observe(after.Seconds()) }

// ChunkGap notes the time between two writes of chunks.
func (m *Metrics) ChunkGap(d time.Duration) { m.chunkGap.Observe(d.Seconds()) }

// Unavailable counts a stream that was to be resumable and is not.
func (m *Metrics) Unavailable() { m.unavailable.Inc() }

// ObserveBodies exposes how much memory request bodies hold.
func (m *Metrics) ObserveBodies(used func() int64) {
	m.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "relay_body_bytes",
		Help: "Bytes of request bodies that are held until their answers begin."},
		func() float64 { return float64(used()) }))
}

// Breakers gives the state of each upstream's circuit breaker: 0 closed, 1 half-open, 2 open. Which upstreams there
// are may change.
type Breakers func(each func(upstream string, state float64))

var breakerState = prometheus.NewDesc("relay_upstream_breaker_state",
	"Whether an upstream is asked: 0 closed (yes), 1 half-open (one request, to try), 2 open (no).",
	[]string{"upstream"}, nil)

// Describe implements prometheus.Collector.
func (b Breakers) Describe(to chan<- *prometheus.Desc) { to <- breakerState }

// Collect implements prometheus.Collector.
func (b Breakers) Collect(to chan<- prometheus.Metric) {
	b(func(upstream string, state float64) {
		to <- prometheus.MustNewConstMetric(breakerState, prometheus.GaugeValue, state, upstream)
	})
}

// ObserveBreakers exposes them.
func (m *Metrics) ObserveBreakers(b Breakers) { m.reg.MustRegister(b) }

// Reloaded counts that the settings were read again, or what of them could not be used.
func (m *Metrics) Reloaded(err error) {
	outcome := "ok"
	if err != nil {
		outcome = "refused"
	}
	m.reloads.with(labels{outcome}).Inc()
}
