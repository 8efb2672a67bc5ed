package config

import (
	"cmp"
	"slices"
	"strings"
)

// Kind is what is known of a kind of upstream before any setting is read.
type Kind struct {
	Name string // in UPSTREAM_KIND

	BaseURL     string   // the provider's own; empty: BASE_URL must be set
	KeyVariable string   // the provider's own; without KIND it chooses the kind
	Alone       string   // the kind that KeyVariable chooses without a BASE_URL; empty: this one
	Model       string   // for requests that name none, at BaseURL
	Versioned   bool     // has an API_VERSION
	Local       bool     // asks nobody: there is no base URL and no key
	Models      []string // that clients may choose from without MODELS
	OwnModel    bool     // answers requests that name no model, also without Model
}

// Kinds are all kinds that an upstream can be, in the order in which their key variables choose one. The first answers
// where nothing is set.
type Kinds []Kind

// Named gives the kind of a name.
func (k Kinds) Named(name string) (Kind, bool) {
	i := slices.IndexFunc(k, func(k Kind) bool { return k.Name == name })
	if i < 0 {
		return Kind{Name: name}, false
	}
	return k[i], true
}

func (k Kinds) names() string {
	var names []string
	for _, kind := range k {
		names = append(names, kind.Name)
	}
	return strings.Join(names, ", ")
}

// sameNames tells whether two kinds are formats of one provider, which has one name for a model.
func (k Kinds) sameNames(a, b string) bool {
	maker := func(name string) string {
		kind, _ := k.Named(name)
		return cmp.Or(kind.KeyVariable, name)
	}
	return maker(a) == maker(b)
}
