// Package trace notes what it took to answer a request.
package trace

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

// With returns a context that has its upstream attempts noted in t.
func With(ctx context.Context, t *Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// Note notes an attempt that is over: err is nil when it was answered, or nobody wanted the answer any more.
func Note(ctx context.Context, name string, err error) {
	if t := Of(ctx); t != nil {
		t.Attempts = append(t.Attempts, Attempt{name, err})
	}
}

// NoteTooMuch notes that an answer has more to come back than a state may have.
func NoteTooMuch(ctx context.Context) {
	if t := Of(ctx); t != nil {
		t.TooMuch = true
	}
}

// Caller returns for whom upstreams are asked in ctx, empty when that is not known.
func Caller(ctx context.Context) string {
	if t := Of(ctx); t != nil {
		return t.Caller
	}
	return ""
}

// Of returns the trace of ctx, nil when there is none.
func Of(ctx context.Context) *Trace {
	t, _ := ctx.Value(traceKey{}).(*Trace)
	return t
}
