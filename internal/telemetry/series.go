package telemetry

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// series are those of one metric. Its vector finds one by its labels as well, but checks and hashes their values byte
// by byte each time: for the six series of an answer that takes as long as all else that is counted. A series is kept
// for good, here as in the vector, so the values must be few.
type series[One any] struct {
	names int // of labels
	find  func(values ...string) One

	mu    sync.RWMutex
	known map[labels]One
}

func newSeries[One any](names int, find func(values ...string) One) *series[One] {
	return &series[One]{names: names, find: find, known: make(map[labels]One)}
}

// labels are the values of a metric's labels. Those beyond its last one are empty.
type labels [3]string

// with returns the series that has these labels.
func (s *series[One]) with(values labels) One {
	s.mu.RLock()
	one, known := s.known[values]
	s.mu.RUnlock()
	if !known {
		one = s.open(values)
	}
	return one
}

func (s *series[One]) open(values labels) One {
	one := s.find(values[:s.names]...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[values] = one
	return one
}

// counters registers a metric that counts, by the labels of these names.
func counters(reg prometheus.Registerer, o prometheus.CounterOpts, names ...string) *series[prometheus.Counter] {
	vec := prometheus.NewCounterVec(o, names)
	reg.MustRegister(vec)
	return newSeries(len(names), vec.WithLabelValues)
}

// histograms registers a metric of durations, by the labels of these names.
func histograms(reg prometheus.Registerer, o prometheus.HistogramOpts, names ...string) *series[prometheus.Observer] {
	vec := prometheus.NewHistogramVec(o, names)
	reg.MustRegister(vec)
	return newSeries(len(names), vec.WithLabelValues)
}
