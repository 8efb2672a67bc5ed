package config

import (
	"slices"
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
}

// kinds are in the order in which their key variables choose one.
var kinds = []kind{
	{name: demo},
	{name: "openai", baseURL: "https://api.openai.com/v1", keyVar: "OPENAI_API_KEY", model: "gpt-4o-mini"},
	{name: "anthropic", baseURL: "https://api.anthropic.com", keyVar: "ANTHROPIC_API_KEY", model: "claude-haiku-5-5"},
	{name: "gemini", baseURL: "https://generativelanguage.googleapis.com/v1beta", keyVar: "GEMINI_API_KEY", model: "gemini-flash-latest"},
	{name: "openai-responses", baseURL: "https://api.openai.com/v1", keyVar: "OPENAI_API_KEY", model: "gpt-4o-mini"},
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

// Allows tells whether a request may name the model: any when there is no list.
func (u Upstream) Allows(model string) bool {
	return len(u.Models) == 0 ||
		slices.ContainsFunc(u.Models, func(glob string) bool { return matchGlob(glob, model) })
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

// upstream reads the provider whose variables begin with prefix, completes it with what is known of
// its kind and checks it.
func (l *loader) upstream(prefix string) Upstream {
	var u Upstream
	l.parse(prefix, &u)
	u.BaseURL = l.baseURL(prefix+"BASE_URL", u.BaseURL)
	u.Kind = l.kind(prefix, u.Kind)
	if i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == u.Kind }); i >= 0 {
		l.complete(prefix, &u, kinds[i])
	} else {
		l.problem(prefix+"KIND", "%q is not a kind; use one of %s", u.Kind, kindNames())
	}
	l.checkUpstream(prefix, u)
	return u
}

// kind returns what KIND says, or else the kind that a provider's own key variable chooses.
func (l *loader) kind(prefix, set string) string {
	if set != "" {
		return strings.ToLower(set)
	}
	for _, k := range kinds {
		if k.keyVar != "" && l.given(k.keyVar) {
			return k.name
		}
	}
	// Answering from the demo would hide that somebody meant a real provider.
	switch {
	case l.env[prefix+"BASE_URL"] != "":
		l.problem(prefix+"KIND", "not set, but %sBASE_URL is; use one of %s", prefix, kindNames())
	case l.given(prefix + "API_KEY"):
		l.problem(prefix+"KIND", "not set, but %sAPI_KEY is; use one of %s", prefix, kindNames())
	}
	return demo
}

// complete fills in what the kind knows. The provider's own key variable is used with any base URL,
// as the providers' SDKs do: somebody who sets both wants them together.
func (l *loader) complete(prefix string, u *Upstream, k kind) {
	keyVar := prefix + "API_KEY"
	hasKey := l.given(keyVar)
	if !hasKey && k.keyVar != "" {
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
	if u.Model == "" && k.model != "" && u.BaseURL == k.baseURL && u.Allows(k.model) {
		u.Model = k.model // the provider's key alone is enough
	}
	if k.keyVar != "" && u.BaseURL == k.baseURL && !hasKey {
		l.problem(prefix+"API_KEY", "not set, and neither is %s; %s needs a key", k.keyVar, k.baseURL)
	}

	if !k.versioned {
		if l.env[prefix+"API_VERSION"] != "" {
			l.warn("%sAPI_VERSION has no effect: kind %s has no versions", prefix, k.name)
		}
		u.APIVersion = ""
	}
}
