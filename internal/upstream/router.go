package upstream

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/trace"
)

// Router decides which candidates may answer a request, and in which order they are asked.
type Router struct {
	Routes   []*Route // of which the first that has the model is taken
	Default  string   // the model of requests that name none; empty: the first route's candidates have their own
	Sticky   bool     // a caller's requests go to the same target of a tier, while that answers
	Required string   // what gives a default, where there is none and requests must name a model; empty: they need not

	Listed []Model // that clients may choose from

	Budget     time.Duration // see Fallback
	HedgeAfter time.Duration
}

// Model is one that requests may name.
type Model struct {
	ID      string
	OwnedBy string // the kind of its provider
}

// Route says who answers requests for some models.
type Route struct {
	Has   func(model string) bool // nil: all
	Tiers []Tier                  // the next one is asked when nobody of those before answers
}

// Models are those that clients may choose from, the default first.
func (r *Router) Models() []Model { return r.Listed }

// Resolve decides whether a request can be answered, and gives the names of the fields of it that do not reach who
// answers first. The error, a *chat.Error, says what the request has to name.
func (r *Router) Resolve(req *chat.Request) (leftOut []string, err error) {
	_, leftOut, err = r.resolve(req)
	return leftOut, err
}

// resolve is Resolve, and gives the route as well.
func (r *Router) resolve(req *chat.Request) (of *Route, leftOut []string, err error) {
	if req.Model == "" && r.Required != "" {
		return nil, nil, &chat.Error{Code: chat.InvalidRequest,
			Message: "model: is required, there is no default (see " + r.Required + ")"}
	}
	if of = r.route(req.Model); of == nil {
		return nil, nil, &chat.Error{Code: chat.Forbidden,
			Message: fmt.Sprintf("model: %.64q is not allowed", req.Model)}
	}
	leftOut, err = of.screen(req)
	return of, leftOut, err
}

// route is that of a model, nil when nobody has it.
func (r *Router) route(model string) *Route {
	if model == "" {
		model = r.Default
	}
	for _, route := range r.Routes {
		if model == "" || route.Has == nil || route.Has(model) {
			return route
		}
	}
	return nil
}

// Stream implements chat.Streamer. What Resolve refuses is refused here as well: between the two the settings may have
// been read again, and the model that the request names, or the default, may be gone.
func (r *Router) Stream(ctx context.Context, req *chat.Request) iter.Seq2[chat.Chunk, error] {
	route, _, err := r.resolve(req)
	if err != nil {
		return func(yield func(chat.Chunk, error) bool) { yield(chat.Chunk{}, err) }
	}
	f := &Fallback{Budget: r.Budget, HedgeAfter: r.HedgeAfter,
		Candidates: route.order(req, trace.Caller(ctx), r.Sticky)}
	return f.Stream(ctx, req)
}

// screen gives the names of the fields of a request that do not reach the first candidate. The error, a *chat.Error,
// names a field without which the answer would not be what was asked for.
func (r *Route) screen(req *chat.Request) (leftOut []string, err error) {
	for _, tier := range r.Tiers {
		for _, t := range tier {
			if _, ok := t.model(req.Model); ok {
				return t.Fields.Screen(req.Extra)
			}
		}
	}
	return nil, nil
}
