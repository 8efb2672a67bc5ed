// Package trace notes what it took to answer a request, and tells whoever watches.
package trace

import (
	"context"
	"maps"
	"net/http"

	"github.com/websopy/relay/internal/chat"
)

// Trace goes with one request. It says who asks, and is filled in with what it took to answer: that must only
// be read when the sequence that runs with it has ended.
type Trace struct {
	// Caller tells apart for whom upstreams are asked, where callers share one: identity.Caller's Share. It is
	// empty when that is not known.
	Caller string

	// Cancel ends all that is done for the request. It is nil where that is not to be ended from below: who has to
	// end something then does it in a context of its own, which costs six allocations.
	Cancel context.CancelCauseFunc

	RequestID string   // that upstreams are told, for their logs; empty: none
	Observer  Observer // nil: nobody watches

	Attempts []Attempt // of the upstream that answered come last
	Hedged   bool      // a second upstream was asked beside a slow one
	TooMuch  bool      // to come back: the answer has no state because it would be over the limit

	now   Watch            // of the attempt that runs; nil: there is none, or nobody watches
	model string           // that it asks for
	done  *chat.Completion // that it came to

	one [1]Attempt // room for Attempts: most requests take no more
	ids [1]string  // RequestID, as a header has it
}

// Attempt is one request to one upstream.
type Attempt struct {
	Upstream string // its name
	Model    string // that it was asked for; empty: its own choice
	Err      error  // nil when it was answered, or nobody wanted the answer any more
}

// Target is what is about to be asked.
type Target struct {
	Upstream string
	System   string // the provider, by OpenTelemetry's conventions
	Address  string // base URL; empty: there is no network
	Model    string // empty: the upstream's own choice
}

// Observer is told of the attempts of a request while they run.
type Observer interface {
	// Begin is told of each. What is asked of the upstream runs with the context that it returns.
	Begin(ctx context.Context, t Target) (context.Context, Watch)
}

// Watch is told how one attempt goes, by the goroutine that makes it.
type Watch interface {
	Header(h http.Header)                 // adds to what the upstream is sent
	First()                               // the first piece of the answer is there
	End(err error, done *chat.Completion) // done is nil when it did not come so far, and only valid now
}

type traceKey struct{}

// With returns a context that has its upstream attempts noted in t.
func With(ctx context.Context, t *Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// Lane returns a trace of what is asked beside others for the same request.
func Lane(ctx context.Context) Trace {
	t := Of(ctx)
	if t == nil {
		return Trace{}
	}
	return Trace{Caller: t.Caller, RequestID: t.RequestID, Observer: t.Observer}
}

// Begin notes that an attempt begins. End must be called with the context that it returns.
func Begin(ctx context.Context, target Target) context.Context {
	t := Of(ctx)
	if t == nil {
		return ctx
	}
	t.model = target.Model
	if t.Observer != nil {
		ctx, t.now = t.Observer.Begin(ctx, target)
	}
	return ctx
}

// First tells that the first piece of an answer is there.
func First(ctx context.Context) {
	if t := Of(ctx); t != nil && t.now != nil {
		t.now.First()
	}
}

// Done tells what the end of an answer says, which is valid until End.
func Done(ctx context.Context, done *chat.Completion) {
	if t := Of(ctx); t != nil && t.now != nil {
		t.done = done
	}
}

// End notes that the attempt is over: err is nil when it was answered, or nobody wanted the answer any more.
func End(ctx context.Context, name string, err error) {
	t := Of(ctx)
	if t == nil {
		return
	}
	if t.Attempts == nil {
		t.Attempts = t.one[:0]
	}
	t.Attempts = append(t.Attempts, Attempt{name, t.model, err})
	if t.now != nil {
		t.now.End(err, t.done)
		t.now, t.done = nil, nil
	}
}

// Header returns what an upstream is sent: of, which is shared and not changed, and what the trace adds. ids are
// the headers that have the request's id, unless of has the first of them.
func Header(ctx context.Context, of http.Header, ids ...string) http.Header {
	t := Of(ctx)
	if t == nil || t.RequestID == "" && t.now == nil {
		return of
	}
	h := maps.Clone(of)
	if t.RequestID != "" && len(ids) > 0 && len(h[ids[0]]) == 0 {
		if t.ids[0] == "" { // an attempt that was given up may still be writing its header
			t.ids[0] = t.RequestID
		}
		for _, name := range ids {
			h[name] = t.ids[:]
		}
	}
	if t.now != nil {
		t.now.Header(h)
	}
	return h
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

// Cancelable returns a context in which all that is done for the request can be ended: ctx, where its trace has a
// Cancel, and otherwise one below it. done must be called when nothing is done any more.
func Cancelable(ctx context.Context) (cancelable context.Context, cancel context.CancelCauseFunc, done func()) {
	if t := Of(ctx); t != nil && t.Cancel != nil {
		return ctx, t.Cancel, func() {}
	}
	ctx, cancel = context.WithCancelCause(ctx)
	return ctx, cancel, func() { cancel(nil) }
}

// Of returns the trace of ctx, nil when there is none.
func Of(ctx context.Context) *Trace {
	t, _ := ctx.Value(traceKey{}).(*Trace)
	return t
}
