package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

const demo = "demo"

// kind is a provider's wire format and what is known of the provider itself.
type kind struct {
	name      string
	baseURL   string // the provider's own; without one BASE_URL must be set, except for demo
	keyVar    string // the provider's own key variable; without KIND it chooses the kind
	model     string // for requests that name none, at the provider's own base URL
	versioned bool   // has an API_VERSION
	alone     string // the kind that keyVar chooses without a BASE_URL; "" this one
}

// kinds are in the order in which their key variables choose one.
var kinds = []kind{
	{name: demo},
	{name: "openai", baseURL: "https://api.openai.com/v1", keyVar: "OPENAI_API_KEY", model: "gpt-6-luna", alone: "openai-responses"},
	{name: "anthropic", baseURL: "https://api.anthropic.com", keyVar: "ANTHROPIC_API_KEY", model: "claude-haiku-5-5"},
	{name: "gemini", baseURL: "https://generativelanguage.googleapis.com/v1beta", keyVar: "GEMINI_API_KEY", model: "gemini-flash-latest"},
	{name: "openai-responses", baseURL: "https://api.openai.com/v1", keyVar: "OPENAI_API_KEY", model: "gpt-6-luna"},
	{name: "azure", versioned: true},
	{name: "ollama", baseURL: "http://localhost:11434"},
	{name: "cohere", baseURL: "https://api.cohere.com"},
	{name: "websopy"},
}

func kindNames() string {
	var names []string
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return strings.Join(names, ", ")
}

// maxFallbacks is how many upstreams can follow the first one.
const maxFallbacks = 9

// prefix is what the names of the upstream's variables begin with.
func (u Upstream) prefix() string {
	if u.Number == 0 {
		return "UPSTREAM_"
	}
	return "UPSTREAM_" + strconv.Itoa(u.Number) + "_"
}

// upstreams reads the first provider and the fallbacks that have a variable. Numbers may be left out, so
// that one can be taken out of service without a change to the others.
func (l *loader) upstreams() []Upstream {
	first := l.upstream(0)
	all := []Upstream{first}
	for _, n := range l.fallbacks() {
		u := l.upstream(n)
		if !sameNames(u.Kind, first.Kind) && u.Kind != demo && u.Model == "" && len(u.Models) == 0 {
			l.warn("%sMODEL is not set: kind %s will be asked for models by the names they have at kind %s", u.prefix(), u.Kind, first.Kind)
		}
		all = append(all, u)
	}
	return all
}

// sameNames tells whether two kinds are formats of one provider.
func sameNames(a, b string) bool {
	maker := func(name string) string {
		i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
		if i < 0 {
			return name
		}
		return cmp.Or(kinds[i].keyVar, name)
	}
	return maker(a) == maker(b)
}

// fallbacks are the numbers that any setting is set of.
func (l *loader) fallbacks() []int {
	var numbers []int
	for n := 1; n <= maxFallbacks; n++ {
		if slices.ContainsFunc(settingsOf(Upstream{Number: n}.prefix(), &Upstream{}), func(s setting) bool {
			return l.env[s.name] != "" || s.secret && l.given(s.name)
		}) {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// upstream reads one provider, completes it with what is known of its kind and checks it.
func (l *loader) upstream(number int) Upstream {
	u := Upstream{Number: number}
	prefix := u.prefix()
	l.parse(prefix, &u)
	u.BaseURL = l.baseURL(prefix+"BASE_URL", u.BaseURL)
	u.Headers = l.headers(prefix + "HEADERS")
	if l.env[prefix+"QUEUE"] == "" {
		u.Queue = u.MaxStreams
	}
	u.Kind = l.kind(u)
	u.Name = u.Kind
	if number > 0 {
		u.Name += "-" + strconv.Itoa(number)
	}
	if i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == u.Kind }); i >= 0 {
		l.complete(prefix, &u, kinds[i])
	} else {
		l.problem(prefix+"KIND", "%q is not a kind; use one of %s", u.Kind, kindNames())
	}
	l.checkUpstream(prefix, u)
	return u
}

// kind returns what KIND says, or else, for the first upstream, the kind that a provider's own key
// variable chooses.
func (l *loader) kind(u Upstream) string {
	prefix := u.prefix()
	if u.Kind != "" {
		return strings.ToLower(u.Kind)
	}
	if u.Number > 0 {
		l.problem(prefix+"KIND", "not set; use one of %s", kindNames())
		return demo
	}
	for _, k := range kinds {
		if k.keyVar != "" && l.given(k.keyVar) {
			if k.alone != "" && l.env[prefix+"BASE_URL"] == "" {
				return k.alone // compatible servers may not have it
			}
			return k.name
		}
	}
	// Answering from the demo would hide that somebody meant a real provider.
	var reason string
	switch fallbacks := l.fallbacks(); {
	case l.env[prefix+"BASE_URL"] != "":
		reason = prefix + "BASE_URL"
	case l.given(prefix + "API_KEY"):
		reason = prefix + "API_KEY"
	case len(fallbacks) > 0:
		reason = Upstream{Number: fallbacks[0]}.prefix() + "KIND"
	default:
		return demo
	}
	l.problem(prefix+"KIND", "not set, but %s is; use one of %s", reason, kindNames())
	return demo
}

// complete fills in what the kind knows. The provider's own key variable is used with any base URL,
// as the providers' SDKs do: somebody who sets both wants them together. For a fallback that is not
// certain, and a key that was meant for another address must not go there.
func (l *loader) complete(prefix string, u *Upstream, k kind) {
	keyVar := prefix + "API_KEY"
	hasKey := l.given(keyVar)
	if !hasKey && k.keyVar != "" && (u.Number == 0 || u.BaseURL == "" || u.BaseURL == k.baseURL) {
		keyVar = k.keyVar
		hasKey = l.given(keyVar)
		u.APIKey = Secret(l.secret(keyVar))
	}
	if !isToken(u.APIKey.Reveal()) {
		l.problem(keyVar, "has characters other than printable ASCII without spaces")
	}

	switch {
	case l.env[prefix+"BASE_URL"] == "" && k.baseURL == "" && k.name != demo:
		l.problem(prefix+"BASE_URL", "not set; kind %s needs it", k.name)
	case l.env[prefix+"BASE_URL"] == "":
		u.BaseURL = k.baseURL
	}
	if u.Number == 0 && u.Model == "" && k.model != "" && u.BaseURL == k.baseURL && u.Allows(k.model) {
		u.Model = k.model // the provider's key alone is enough
	}
	if k.keyVar != "" && u.BaseURL == k.baseURL && !hasKey {
		l.problem(prefix+"API_KEY", "not set, and neither is %s; %s needs a key", k.keyVar, k.baseURL)
	}

	// https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle
	if k.versioned && l.env[prefix+"API_VERSION"] == "" && strings.HasSuffix(u.BaseURL, "/openai/v1") {
		u.APIVersion = ""
	}
	if !k.versioned {
		if l.env[prefix+"API_VERSION"] != "" {
			l.warn("%sAPI_VERSION has no effect: kind %s has no versions", prefix, k.name)
		}
		u.APIVersion = ""
	}
}
