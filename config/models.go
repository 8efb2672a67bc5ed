package config

import (
	"cmp"
	"slices"
	"strings"
)

// Allows tells whether a request may name the model: any when there is no list.
func (u *Upstream) Allows(model string) bool {
	_, ok := u.named(model)
	return ok
}

// named is what the upstream's provider calls a model, by the first entry of MODELS that has it.
func (u *Upstream) named(model string) (name string, ok bool) {
	if len(u.Models) == 0 {
		return model, true
	}
	for _, entry := range u.Models {
		glob, name, renamed := strings.Cut(entry, "=")
		switch {
		case !matchGlob(glob, model):
		case renamed:
			return name, true
		default:
			return model, true
		}
	}
	return "", false
}

// Listed are the models whose exact names are known, the default first: patterns are no names.
func (u Upstream) Listed() []string {
	var names []string
	if u.Model != "" {
		names = append(names, u.Model)
	}
	for _, entry := range u.Models {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.Contains(name, "*") && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// ModelAt returns what upstream i is asked for when a request names model, or none (""). A fallback that
// does not have the model is asked for its MODEL; ok is false when it has none, and is not to be asked.
func (c *Config) ModelAt(i int, model string) (name string, ok bool) {
	u := &c.Upstreams[i]
	model = cmp.Or(model, c.Upstreams[0].Model)
	if model == "" || i > 0 && len(u.Models) == 0 && u.Model != "" {
		return u.Model, true
	}
	if name, ok = u.named(model); ok {
		return name, true
	}
	return u.Model, u.Model != ""
}

// Families are the entries of FAMILY: what a name matches, and whose rules hold for it.
func (u Upstream) Families() (all []struct {
	Match  func(model string) bool
	Family string
}) {
	for _, entry := range u.Family {
		glob, family, some := strings.Cut(entry, "=")
		if !some {
			glob, family = "*", entry
		}
		all = append(all, struct {
			Match  func(model string) bool
			Family string
		}{func(model string) bool { return matchGlob(glob, model) }, family})
	}
	return all
}

// matchGlob is not path.Match, whose * stops at the slash that many model names have.
func matchGlob(glob, s string) bool {
	head, rest, starred := strings.Cut(glob, "*")
	if !starred {
		return glob == s
	}
	s, ok := strings.CutPrefix(s, head)
	parts := strings.Split(rest, "*")
	tail := parts[len(parts)-1]
	for _, part := range parts[:len(parts)-1] {
		if ok {
			_, s, ok = strings.Cut(s, part)
		}
	}
	return ok && strings.HasSuffix(s, tail)
}
