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
	{name: "bedrock"},
	{name: "websopy"},
}

func kindNames() string {
	var names []string
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return strings.Join(names, ", ")
}

// upstreams reads the first provider and the fallbacks.
func (l *loader) upstreams() []Upstream {
	var all []Upstream
	for i, number := range l.source.upstreams() {
		all = append(all, l.upstream(i, number))
	}
	return all
}

// checkFallbacks warns of fallbacks that may not know what they are asked for.
func (c *Config) checkFallbacks(r *report) {
	first := c.Upstreams[0]
	for i, u := range c.Upstreams {
		if !sameNames(u.Kind, first.Kind) && u.Kind != demo && u.Model == "" && len(u.Models) == 0 {
			r.warn("%s is not set: kind %s will be asked for models by the names they have at kind %s",
				upstreamAt(i).field("model"), u.Kind, first.Kind)
		}
	}
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

// upstream reads one provider, completes it with what is known of its kind and checks it.
func (l *loader) upstream(i, number int) Upstream {
	u := Upstream{Number: number}
	at := upstreamAt(i)
	l.parse(at.field, &u)
	u.BaseURL = l.baseURL(at.field("base_url"), u.BaseURL)
	u.Headers = l.headers(at.field("headers"))
	if !l.given(at.field("queue")) {
		u.Queue = u.MaxStreams
	}
	u.Kind = l.kind(i, u)
	if u.Name == "" {
		if u.Name = u.Kind; number > 0 {
			u.Name += "-" + strconv.Itoa(number)
		}
	}
	if k := slices.IndexFunc(kinds, func(k kind) bool { return k.name == u.Kind }); k >= 0 {
		l.complete(i, &u, kinds[k])
	} else {
		l.problem(at.field("kind"), "%q is not a kind; use one of %s", u.Kind, kindNames())
	}
	u.validate(at, i == 0, l.report)
	return u
}

// kind returns what KIND says, or else, for the first upstream, the kind that a provider's own key
// chooses.
func (l *loader) kind(i int, u Upstream) string {
	at := upstreamAt(i)
	if u.Kind != "" {
		return strings.ToLower(u.Kind)
	}
	if i > 0 || !l.source.chosenByKey() {
		l.problem(at.field("kind"), "not set; use one of %s", kindNames())
		return demo
	}
	for _, k := range kinds {
		if k.keyVar != "" && l.given(keyOf(k.keyVar)) {
			if k.alone != "" && !l.given(at.field("base_url")) {
				return k.alone // compatible servers may not have it
			}
			return k.name
		}
	}
	// Answering from the demo would hide that somebody meant a real provider.
	var reason path
	switch {
	case l.given(at.field("base_url")):
		reason = at.field("base_url")
	case l.given(at.field("api_key")):
		reason = at.field("api_key")
	case len(l.source.upstreams()) > 1:
		reason = upstreamAt(1).field("kind")
	default:
		return demo
	}
	l.problem(at.field("kind"), "not set, but %s is; use one of %s", reason, kindNames())
	return demo
}

// complete fills in what the kind knows. The provider's own key is used with any base URL, as the
// providers' SDKs do: somebody who sets both wants them together. For a fallback that is not
// certain, and a key that was meant for another address must not go there.
func (l *loader) complete(i int, u *Upstream, k kind) {
	at, first := upstreamAt(i), i == 0
	key := at.field("api_key")
	hasKey := l.given(key)
	if !hasKey && k.keyVar != "" && !u.InCloud() && (first && l.source.chosenByKey() || u.BaseURL == "" || u.BaseURL == k.baseURL) {
		key = keyOf(k.keyVar)
		hasKey = l.given(key)
		u.APIKey = Secret(l.secret(key))
	}
	if !isToken(u.APIKey.Reveal()) {
		l.problem(key, "has characters other than printable ASCII without spaces")
	}

	hasURL := l.given(at.field("base_url"))
	switch {
	case !hasURL && k.baseURL == "" && k.name != demo:
		l.problem(at.field("base_url"), "not set; kind %s needs it", k.name)
	case !hasURL:
		u.BaseURL = k.baseURL
	}
	if first && u.Model == "" && k.model != "" && u.BaseURL == k.baseURL && u.Allows(k.model) {
		u.Model = k.model // the provider's key alone is enough
	}
	if k.keyVar != "" && u.BaseURL == k.baseURL && !hasKey && !u.InCloud() {
		l.problem(at.field("api_key"), "not set, and neither is %s; %s needs a key", k.keyVar, k.baseURL)
	}

	hasVersion := l.given(at.field("api_version"))
	// https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle
	if k.versioned && !hasVersion && strings.HasSuffix(u.BaseURL, "/openai/v1") {
		u.APIVersion = ""
	}
	if !k.versioned {
		if hasVersion {
			l.warn("%s has no effect: kind %s has no versions", at.field("api_version"), k.name)
		}
		u.APIVersion = ""
	}
}

// InCloud reports whether requests show an identity of a cloud and no key.
func (u *Upstream) InCloud() bool { return u.Auth != authKey }

// Values of Upstream.Auth.
const (
	authKey    = "key"
	AuthAWS    = "aws"
	AuthGoogle = "google"
	AuthAzure  = "azure"
)

// validateAuth checks whose requests are.
func (u *Upstream) validateAuth(at path, r *report) {
	if auths := []string{authKey, AuthAWS, AuthGoogle, AuthAzure}; !slices.Contains(auths, u.Auth) {
		r.problem(at.field("auth"), "must be one of %s, not %q", strings.Join(auths, ", "), u.Auth)
		return
	}
	if !u.InCloud() {
		if u.AuthScope != "" {
			r.warn("%s has no effect: %s is %s", at.field("auth_scope"), at.field("auth"), authKey)
		}
		return
	}
	if u.APIKey != "" {
		r.problem(at.field("api_key"), "is set, and %s is %s: requests have one of them", at.field("auth"), u.Auth)
	}
	if region, service, ok := strings.Cut(u.AuthScope, "/"); u.Auth == AuthAWS && u.AuthScope != "" && (!ok || region == "" || service == "") {
		r.problem(at.field("auth_scope"), "%q is not region/service, as in eu-west-1/bedrock", u.AuthScope)
	}
}
