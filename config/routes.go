package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Model says which upstreams answer requests for a model, or for several.
type Model struct {
	Name  string     // as requests have it; * matches any run of characters
	Tiers [][]Target // the next one is asked when nobody of those before answers
}

// Target is an upstream that can answer.
type Target struct {
	Upstream string // its name
	Model    string // what it is asked for; empty: the model of the request
	Weight   int    // its share among the targets of its tier, 1 to 1000
}

const maxWeight = 1000

// models reads what the file says of models: to each a list of tiers, each of them a target or a list of targets.
func (f *file) models(at path, node *yaml.Node, r *report) {
	f.mapping(at, node, r, func(name string, at path, value *yaml.Node) {
		m := Model{Name: name}
		f.list(at, value, r, func(i int, item *yaml.Node) {
			at := at.item(i)
			if item.Kind != yaml.SequenceNode {
				m.Tiers = append(m.Tiers, []Target{f.readTarget(at, item, r)})
				return
			}
			var tier []Target
			f.list(at, item, r, func(j int, item *yaml.Node) {
				tier = append(tier, f.readTarget(at.item(j), item, r))
			})
			m.Tiers = append(m.Tiers, tier)
		})
		f.routes = append(f.routes, m)
	})
}

func (f *file) readTarget(at path, node *yaml.Node, r *report) Target {
	t := Target{Weight: 1}
	f.mapping(at, node, r, func(key string, at path, value *yaml.Node) {
		if value.Kind != yaml.ScalarNode {
			r.problem(at, "is neither text nor a number")
			return
		}
		switch key {
		case "upstream":
			t.Upstream = scalar(value)
		case "model":
			t.Model = scalar(value)
		case "weight":
			n, err := strconv.Atoi(value.Value)
			if err != nil || n < 1 || n > maxWeight {
				r.problem(at, "%q is not a number from 1 to %d", value.Value, maxWeight)
			}
			t.Weight = n
		default:
			f.unknown(key, at, []string{"upstream", "model", "weight"}, r)
		}
	})
	return t
}

// checkModels reports what of the models can't be used.
func (c *Config) checkModels(r *report) {
	if len(c.Upstreams) == 0 {
		return // a list of a file that can't be read, as is reported
	}
	if len(c.Models) == 0 {
		c.checkFallbacks(r)
		if c.DefaultModel != "" {
			r.problem("default_model", "set, but there are no models in a file; use %s", upstreamAt(0).field("model"))
		}
		if c.Sticky {
			r.warn("%s has no effect: there are no models in a file, so no two upstreams share requests",
				path("sticky"))
		}
		return
	}
	used := make(map[string]bool)
	for _, m := range c.Models {
		m.check(c, used, r)
	}
	for i, u := range c.Upstreams {
		if !used[u.Name] {
			r.warn("%s is not asked for anything: no model names %s", upstreamAt(i), u.Name)
		}
		for _, at := range []path{upstreamAt(i).field("model"), upstreamAt(i).field("models")} {
			if r.given(at) {
				r.warn("%s has no effect: %s says what upstreams are asked for", at, path("models"))
			}
		}
	}
	switch _, ok := c.modelNamed(c.DefaultModel); {
	case c.DefaultModel == "":
	case !ok:
		r.problem("default_model", "%q is not among %s", c.DefaultModel, path("models"))
	case strings.Contains(c.DefaultModel, "*"):
		r.problem("default_model", "%q has a *, and is no model", c.DefaultModel)
	}
}

func (m *Model) check(c *Config, used map[string]bool, r *report) {
	at := path("models").field(m.Name)
	if m.Name == "" || len(m.Tiers) == 0 {
		r.problem(at, "has no upstream; use e.g. [{upstream: %s}]", c.Upstreams[0].Name)
	}
	for i, tier := range m.Tiers {
		if len(tier) == 0 {
			r.problem(at.item(i), "has no upstream")
		}
		for j, t := range tier {
			at := at.target(i, j, r)
			used[t.Upstream] = true
			switch {
			case t.Upstream == "":
				r.problem(at, "has no upstream")
			case c.upstreamNamed(t.Upstream) < 0:
				r.problem(at.field("upstream"), "%q is not the name of an upstream%s", t.Upstream, c.meant(t.Upstream))
			}
			if strings.Contains(t.Model, "*") {
				r.problem(at.field("model"), "%q has a *, which no upstream could be asked for", t.Model)
			}
		}
	}
}

// target is the path of a target, which a tier of one may be itself.
func (p path) target(tier, i int, r *report) path {
	at := p.item(tier)
	if f, ok := r.source.(*file); ok && f.lines[at.item(i)] == 0 {
		return at
	}
	return at.item(i)
}

func (c *Config) upstreamNamed(name string) int {
	return slices.IndexFunc(c.Upstreams, func(u Upstream) bool { return u.Name == name })
}

// meant is a guess at an upstream's name, for a sentence.
func (c *Config) meant(name string) string {
	var names []string
	for _, u := range c.Upstreams {
		names = append(names, u.Name)
	}
	if likely := closest(name, len(name), names); likely != "" {
		return "; did you mean " + likely + "?"
	}
	return "; there are " + strings.Join(names, ", ")
}

// modelNamed is what answers requests for a model: an exact name comes before a pattern.
func (c *Config) modelNamed(name string) (m Model, ok bool) {
	for _, m := range c.Models {
		if m.Name == name {
			return m, true
		}
	}
	for _, m := range c.Models {
		if matchGlob(m.Name, name) {
			return m, true
		}
	}
	return Model{}, false
}

// Route is who answers requests for some models.
type Route struct {
	Has   func(model string) bool
	Tiers [][]Choice
}

// Choice is an upstream in a route.
type Choice struct {
	Upstream int // its index
	Weight   int
	// Model gives what the upstream is asked for when a request names a model, or none (""). ok is false when it is
	// not to be asked.
	Model func(asked string) (name string, ok bool)
}

// Routes are who answers what, of which the first that has a model counts: those of the file's models or, without
// these, the upstreams one after the other.
func (c *Config) Routes() []Route {
	if len(c.Models) == 0 {
		chain := Route{Has: c.Upstreams[0].Allows}
		for i := range c.Upstreams {
			ask := func(asked string) (string, bool) { return c.ModelAt(i, asked) }
			chain.Tiers = append(chain.Tiers, []Choice{{Upstream: i, Weight: 1, Model: ask}})
		}
		return []Route{chain}
	}
	isPattern := func(m Model) int { return strings.Count(m.Name, "*") }
	models := slices.Clone(c.Models)
	slices.SortStableFunc(models, func(a, b Model) int {
		return cmp.Compare(min(isPattern(a), 1), min(isPattern(b), 1))
	})
	var routes []Route
	for _, m := range models {
		routes = append(routes, c.routeOf(m))
	}
	return routes
}

func (c *Config) routeOf(m Model) Route {
	route := Route{Has: func(model string) bool { return matchGlob(m.Name, model) }}
	for _, tier := range m.Tiers {
		var choices []Choice
		for _, t := range tier {
			ask := func(asked string) (string, bool) { return cmp.Or(t.Model, asked, c.DefaultModel), true }
			choices = append(choices, Choice{Upstream: c.upstreamNamed(t.Upstream), Weight: t.Weight, Model: ask})
		}
		route.Tiers = append(route.Tiers, choices)
	}
	return route
}

// Names are the models whose exact names are known, the default first, each with the index of the upstream that is
// asked first.
func (c *Config) Names() (names []string, upstreams []int) {
	if len(c.Models) == 0 {
		names = c.Upstreams[0].Listed()
		return names, make([]int, len(names))
	}
	add := func(name string, m Model) {
		if !strings.Contains(name, "*") {
			names, upstreams = append(names, name), append(upstreams, c.upstreamNamed(m.Tiers[0][0].Upstream))
		}
	}
	if first, ok := c.modelNamed(c.DefaultModel); ok && c.DefaultModel != "" {
		add(c.DefaultModel, first) // perhaps one that a pattern stands for
	}
	for _, m := range c.Models {
		if m.Name != c.DefaultModel {
			add(m.Name, m)
		}
	}
	return names, upstreams
}

// NeedsModel is empty where a request need not name a model. Otherwise there is no default, the provider has none
// either, and this is the setting that would give one.
func (c *Config) NeedsModel(kinds Kinds) string {
	first := c.Upstreams[0]
	kind, _ := kinds.Named(first.Kind)
	switch {
	case len(c.Models) > 0 && c.DefaultModel == "":
		return "default_model in the relay's settings"
	case len(c.Models) == 0 && first.Model == "" && !kind.OwnModel:
		return "UPSTREAM_MODEL"
	}
	return ""
}
