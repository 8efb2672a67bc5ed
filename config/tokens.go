package config

import (
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
)

// jwtAlgorithms are the asymmetric ones: who checks a signature of one of these can't make one.
var jwtAlgorithms = []string{
	"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
}

// WithTokens tells whether JSON Web Tokens are accepted.
func (c *Config) WithTokens() bool { return c.JWTIssuer != "" || c.JWTKeys != "" }

// Open tells whether everybody may call.
func (c *Config) Open() bool { return len(c.APIKeys) == 0 && !c.WithTokens() }

// checkTokens reports what of the settings for tokens can't be used.
func (c *Config) checkTokens(r *report) {
	if !c.WithTokens() {
		checkNoTokens(r)
		return
	}
	if len(c.JWTAudience) == 0 {
		r.problem("jwt_audience",
			"must be set with %s or %s: an issuer's tokens for other services would open the relay, too",
			path("jwt_issuer"), path("jwt_jwks"))
	}
	if c.JWTKeys == "" {
		r.checkKeyURL("jwt_issuer", c.JWTIssuer)
		if u, err := url.Parse(c.JWTIssuer); err == nil && u.RawQuery != "" { // OpenID Connect Discovery 1.0, 3
			r.problem("jwt_issuer", "has a query, and so no address of a discovery document; set %s", path("jwt_jwks"))
		}
	} else {
		c.checkKeySource(r)
	}
	for i, name := range c.JWTAlgorithms {
		found := slices.IndexFunc(jwtAlgorithms, func(m string) bool { return strings.EqualFold(m, name) })
		if found < 0 {
			r.problem("jwt_algorithms", "%q is not one of %s", name, strings.Join(jwtAlgorithms, ", "))
			continue
		}
		c.JWTAlgorithms[i] = jwtAlgorithms[found]
	}
	for _, entry := range c.JWTRequire {
		if name, value, _ := strings.Cut(entry, "="); name == "" || value == "" {
			r.problem("jwt_require", "%q is not name=value", entry)
		}
	}
	c.checkCookie(r)
	if c.JWTCAFile != "" {
		r.checkCA("jwt_ca_file", c.JWTCAFile)
	}
}

// checkNoTokens reports settings that mean nothing without an issuer. The operator may believe that they guard the
// relay.
func checkNoTokens(r *report) {
	for _, at := range []path{"jwt_audience", "jwt_algorithms", "jwt_require", "jwt_name_claim", "jwt_tier_claim",
		"jwt_cookie", "jwt_ca_file"} {
		if r.given(at) {
			r.problem(at, "set, but neither %s nor %s is: no tokens are accepted", path("jwt_issuer"),
				path("jwt_jwks"))
		}
	}
}

func (c *Config) checkKeySource(r *report) {
	if strings.Contains(c.JWTKeys, "://") {
		r.checkKeyURL("jwt_jwks", c.JWTKeys)
		return
	}
	if _, err := os.Stat(c.JWTKeys); err != nil {
		r.problem("jwt_jwks", "neither an https URL nor a file: %v", unnamed(err))
	}
}

// checkKeyURL reports what is no URL to get keys from. Whoever can change an answer of plain http on its way can make
// tokens.
func (r *report) checkKeyURL(at path, raw string) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || !hasHost(u) || u.User != nil || u.Fragment != "":
		r.problem(at, "not an https URL; use e.g. https://login.example.com/")
	case u.Scheme == "http" && !isLoopbackHost(u.Hostname()):
		r.warn("%s is not https: whoever is on the way to it can make tokens", at)
	}
}

func isLoopbackHost(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func (c *Config) checkCookie(r *report) {
	switch {
	case c.JWTCookie == "":
	case strings.ContainsAny(c.JWTCookie, `=;,"()<>@:\/[]?{}`) || !isToken(c.JWTCookie):
		r.problem("jwt_cookie", "%q is not the name of a cookie; use e.g. __Host-session", c.JWTCookie)
	case slices.Contains(c.CORSOrigins, "*"):
		r.problem("jwt_cookie", "set, but %s is *: any page could use a visitor's cookie; list the origins that may",
			path("cors_origins"))
	}
}
