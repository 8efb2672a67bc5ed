package main

import (
	"context"
	"crypto/x509"
	"iter"
	"reflect"
	"slices"
	"sync/atomic"

	"github.com/rs/zerolog"

	"github.com/websopy/relay/config"
	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/cloud"
	"github.com/websopy/relay/internal/telemetry"
	"github.com/websopy/relay/internal/upstream"
	"github.com/websopy/relay/internal/upstream/provider"
)

// routes are who answers what at the moment. What has begun goes on with those that it began with.
type routes struct{ now atomic.Pointer[routing] }

// routing is one state of the settings, with what was made of it.
type routing struct {
	*upstream.Router
	upstreams []*built
}

// built is an upstream, and what is known of it while it is in the settings: its connections, what its breaker has
// seen, how many answers it gives.
type built struct {
	settings   config.Upstream
	credential cloud.Credential // nil: it has a key, or none
	roots      *x509.CertPool   // of its file of authorities; nil: it has none
	streamer   chat.Streamer
	place      func(model string) string
	breaker    *upstream.Breaker
	load       *upstream.Load
}

func (r *routes) Stream(ctx context.Context, req *chat.Request) iter.Seq2[chat.Chunk, error] {
	return r.now.Load().Stream(ctx, req)
}

func (r *routes) Resolve(req *chat.Request) ([]string, error) { return r.now.Load().Resolve(req) }

func (r *routes) Models() []upstream.Model { return r.now.Load().Models() }

func newRoutes(
	cfg *config.Config, log zerolog.Logger, metrics *telemetry.Metrics, redact telemetry.Redaction,
) (*routes, error) {
	routing, err := newRouting(cfg, log, redact, nil)
	if err != nil {
		return nil, err
	}
	r := new(routes)
	r.now.Store(routing)
	metrics.ObserveBreakers(r.breakers)
	return r, nil
}

// breakers calls each for every upstream of the moment.
func (r *routes) breakers(each func(upstream string, state float64)) {
	for _, b := range r.now.Load().upstreams {
		each(b.settings.Name, float64(b.breaker.State()))
	}
}

// newRouting makes the routes of cfg. What of before is unchanged in it stays as it is.
func newRouting(
	cfg *config.Config, log zerolog.Logger, redact telemetry.Redaction, before *routing,
) (*routing, error) {
	r := &routing{Router: &upstream.Router{
		Default: cfg.DefaultModel, Required: cfg.NeedsModel(kinds), Sticky: cfg.Sticky, Listed: models(cfg),
		Budget: cfg.StartBudget, HedgeAfter: cfg.HedgeAfter,
	}}
	for _, u := range cfg.Upstreams {
		b := before.find(u)
		if b == nil {
			var err error
			if b, err = build(u, log, redact); err != nil {
				r.close(before)
				return nil, err
			}
		}
		r.upstreams = append(r.upstreams, b)
	}
	for _, route := range cfg.Routes() {
		r.Routes = append(r.Routes, r.route(route))
	}
	return r, nil
}

// find is the upstream that is as u says, nil when there is none.
func (r *routing) find(u config.Upstream) *built {
	if r == nil {
		return nil
	}
	for _, b := range r.upstreams {
		was := b.settings
		was.Number = u.Number // its place alone is no change
		if reflect.DeepEqual(was, u) && b.trusts(u.CAFile) {
			return b
		}
	}
	return nil
}

// trusts tells whether a file of authorities, under the same name, has what it had: they are replaced before they
// expire, as keys are.
func (b *built) trusts(file string) bool {
	if file == "" {
		return true
	}
	roots, err := trust(file)
	return err == nil && roots.Equal(b.roots)
}

// close ends the refreshing of credentials that after does not use. What has begun needs them no more.
func (r *routing) close(after *routing) {
	for _, b := range r.upstreams {
		if b.credential != nil && (after == nil || !slices.Contains(after.upstreams, b)) {
			b.credential.Close()
		}
	}
}

// close ends what runs for the upstreams of the moment.
func (r *routes) close() { r.now.Load().close(nil) }

func build(u config.Upstream, log zerolog.Logger, redact telemetry.Redaction) (*built, error) {
	o, err := providerOptions(u)
	if err != nil {
		return nil, err
	}
	credential, err := newCredential(u, log, redact)
	if err != nil {
		return nil, err
	}
	if credential != nil {
		o.Authorizer = credential
	}
	streamer, err := newProvider(u, o)
	if err != nil {
		if credential != nil {
			credential.Close()
		}
		return nil, err
	}
	breaker := upstream.NewBreaker(func(model string, state upstream.BreakerState, failure error) {
		log.Warn().Str("upstream", u.Name).Str("model", redact.Replace(model)).Stringer("state", state).
			Str("last_failure", redact.Replace(failure.Error())).Msg("circuit breaker")
	})
	return &built{settings: u, credential: credential, roots: o.RootCAs, streamer: streamer, place: o.Place,
		breaker: breaker, load: new(upstream.Load)}, nil
}

func (r *routing) route(of config.Route) *upstream.Route {
	route := &upstream.Route{Has: of.Has}
	for _, choices := range of.Tiers {
		var tier upstream.Tier
		for _, c := range choices {
			b := r.upstreams[c.Upstream]
			tier = append(tier, upstream.Target{Weight: c.Weight, Candidate: &upstream.Candidate{
				Name: b.settings.Name, Streamer: b.streamer, Retries: b.settings.Retries, Breaker: b.breaker,
				Load:   b.load,
				Fields: provider.Fields(b.settings.Kind, b.settings.Pass), Model: c.Model, Place: b.place,
			}})
		}
		route.Tiers = append(route.Tiers, tier)
	}
	return route
}

// models are those that clients may choose from a list. Some kinds have their own when none are set.
func models(cfg *config.Config) []upstream.Model {
	names, upstreams := cfg.Names()
	first := cfg.Upstreams[0]
	if kind, _ := kinds.Named(first.Kind); len(kind.Models) > 0 && len(cfg.Models) == 0 && len(first.Models) == 0 {
		names, upstreams = kind.Models, make([]int, len(kind.Models))
	}
	var list []upstream.Model
	for i, name := range names {
		list = append(list, upstream.Model{ID: name, OwnedBy: cfg.Upstreams[upstreams[i]].Kind})
	}
	return list
}
