package config

import (
	"slices"
	"strconv"
	"strings"
)

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
		kind, _ := r.kinds.Named(u.Kind)
		if !r.kinds.sameNames(u.Kind, first.Kind) && !kind.Local && u.Model == "" && len(u.Models) == 0 {
			r.warn("%s is not set: kind %s will be asked for models by the names they have at kind %s",
				upstreamAt(i).field("model"), u.Kind, first.Kind)
		}
	}
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
	if kind, ok := l.kinds.Named(u.Kind); ok {
		l.complete(i, &u, kind)
	} else {
		l.problem(at.field("kind"), "%q is not a kind; use one of %s", u.Kind, l.kinds.names())
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
		l.problem(at.field("kind"), "not set; use one of %s", l.kinds.names())
		return l.kinds[0].Name
	}
	for _, k := range l.kinds {
		if k.KeyVariable != "" && l.given(keyOf(k.KeyVariable)) {
			if k.Alone != "" && !l.given(at.field("base_url")) {
				return k.Alone
			}
			return k.Name
		}
	}
	// An answer by the first kind, which is a demonstration, would hide that somebody meant a real provider.
	var reason path
	switch {
	case l.given(at.field("base_url")):
		reason = at.field("base_url")
	case l.given(at.field("api_key")):
		reason = at.field("api_key")
	case len(l.source.upstreams()) > 1:
		reason = upstreamAt(1).field("kind")
	default:
		return l.kinds[0].Name
	}
	l.problem(at.field("kind"), "not set, but %s is; use one of %s", reason, l.kinds.names())
	return l.kinds[0].Name
}

// complete fills in what the kind knows. The provider's own key is used with any base URL, as the
// providers' SDKs do: somebody who sets both wants them together. For a fallback that is not
// certain, and a key that was meant for another address must not go there.
func (l *loader) complete(i int, u *Upstream, k Kind) {
	at, first := upstreamAt(i), i == 0
	key := at.field("api_key")
	hasKey := l.given(key)
	if !hasKey && k.KeyVariable != "" && !u.InCloud() && (first && l.source.chosenByKey() || u.BaseURL == "" ||
		u.BaseURL == k.BaseURL) {
		key = keyOf(k.KeyVariable)
		hasKey = l.given(key)
		u.APIKey = Secret(l.secret(key))
	}
	if !isToken(u.APIKey.Reveal()) {
		l.problem(key, "has characters other than printable ASCII without spaces")
	}

	hasURL := l.given(at.field("base_url"))
	switch {
	case !hasURL && k.BaseURL == "" && !k.Local:
		l.problem(at.field("base_url"), "not set; kind %s needs it", k.Name)
	case !hasURL:
		u.BaseURL = k.BaseURL
	}
	if first && u.Model == "" && k.Model != "" && u.BaseURL == k.BaseURL && u.Allows(k.Model) {
		u.Model = k.Model // the provider's key alone is enough
	}
	if k.KeyVariable != "" && u.BaseURL == k.BaseURL && !hasKey && !u.InCloud() {
		l.problem(at.field("api_key"), "not set, and neither is %s; %s needs a key", k.KeyVariable, k.BaseURL)
	}

	hasVersion := l.given(at.field("api_version"))
	// https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle
	if k.Versioned && !hasVersion && strings.HasSuffix(u.BaseURL, "/openai/v1") {
		u.APIVersion = ""
	}
	if !k.Versioned {
		if hasVersion {
			l.warn("%s has no effect: kind %s has no versions", at.field("api_version"), k.Name)
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
	if region, service, ok := strings.Cut(u.AuthScope, "/"); u.Auth == AuthAWS && u.AuthScope != "" &&
		(!ok || region == "" || service == "") {
		r.problem(at.field("auth_scope"), "%q is not region/service, as in eu-west-1/bedrock", u.AuthScope)
	}
}
