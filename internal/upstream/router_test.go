package upstream_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/upstream"
)

// routed is a router whose only route has the candidates of f, for every model.
func routed(f *upstream.Fallback) *upstream.Router {
	return &upstream.Router{Routes: []*upstream.Route{{Tiers: tiers(f.Candidates...)}}, Budget: f.Budget}
}

// tiers has one tier for each candidate.
func tiers(candidates ...*upstream.Candidate) (all []upstream.Tier) {
	for _, c := range candidates {
		all = append(all, upstream.Tier{{Candidate: c, Weight: 1}})
	}
	return all
}

// named is a request for a model.
func named(model string) *chat.Request {
	req := question()
	req.Model = model
	return req
}

func is(model string) func(string) bool { return func(asked string) bool { return asked == model } }

func TestARequestTakesTheFirstRouteThatHasItsModel(t *testing.T) {
	a, b := &scripted{acts: []act{says("A")}}, &scripted{acts: []act{says("B")}}
	r := &upstream.Router{Default: "b", Budget: time.Minute, Routes: []*upstream.Route{
		{Has: is("a"), Tiers: tiers(chain(a).Candidates...)},
		{Has: is("b"), Tiers: tiers(chain(b).Candidates...)},
		{Has: is("a"), Tiers: tiers(chain(b).Candidates...)},
	}}
	for model, want := range map[string]string{"a": "A", "b": "B", "": "B"} {
		_, err := r.Resolve(named(model))
		require.NoError(t, err)
		require.Equal(t, want, chattest.Fold(t, r.Stream(t.Context(), named(model))).Text, model)
	}
	_, err := r.Resolve(named("c"))
	require.EqualError(t, err, `forbidden: model: "c" is not allowed`)
	require.EqualError(t, chattest.Fold(t, r.Stream(t.Context(), named("c"))).Err,
		`forbidden: model: "c" is not allowed`, "as when it is gone since it was resolved")
}

func TestWithoutADefaultAModelMustBeNamed(t *testing.T) {
	r := &upstream.Router{Required: "UPSTREAM_MODEL", Routes: []*upstream.Route{{}}}
	_, err := r.Resolve(named(""))
	require.EqualError(t, err, "invalid_request: model: is required, there is no default (see UPSTREAM_MODEL)")
	require.EqualError(t, chattest.Fold(t, r.Stream(t.Context(), named(""))).Err, err.Error())
	_, err = r.Resolve(named("any"))
	require.NoError(t, err)
}
