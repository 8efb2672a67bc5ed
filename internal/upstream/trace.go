package upstream

import "context"

// Trace goes with one request. It says who asks, and is filled in with what it took to answer: that must only
// be read when the sequence that runs with it has ended.
type Trace struct {
	// Caller tells apart for whom upstreams are asked, where callers share one: identity.Caller's Share. It is
	// empty when that is not known.
	Caller string

	Attempts []Attempt // of the upstream that answered come last
	Hedged   bool      // a second upstream was asked beside a slow one
	TooMuch  bool      // to come back: the answer has no state because it would be over the limit
}

// Attempt is one request to one upstream.
type Attempt struct {
	Upstream string // its name
	Err      error  // nil when it was answered, or nobody wanted the answer any more
}

type traceKey struct{}

// WithTrace returns a context that has its upstream attempts noted in t.
func WithTrace(ctx context.Context, t *Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

func traceAttempt(ctx context.Context, name string, err error) {
	if t := traceOf(ctx); t != nil {
		t.Attempts = append(t.Attempts, Attempt{name, err})
	}
}

// traceTooMuch notes that an answer has more to come back than a state may have.
func traceTooMuch(ctx context.Context) {
	if t := traceOf(ctx); t != nil {
		t.TooMuch = true
	}
}

// callerOf returns for whom upstreams are asked in ctx, empty when that is not known.
func callerOf(ctx context.Context) string {
	if t := traceOf(ctx); t != nil {
		return t.Caller
	}
	return ""
}

// traceOf returns the trace of ctx, nil when there is none.
func traceOf(ctx context.Context) *Trace {
	t, _ := ctx.Value(traceKey{}).(*Trace)
	return t
}
