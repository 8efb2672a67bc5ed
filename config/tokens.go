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
func (l *loader) checkTokens(c *Config) {
	if !c.WithTokens() {
		l.checkNoTokens()
		return
	}
	if len(c.JWTAudience) == 0 {
		l.problem("RELAY_JWT_AUDIENCE", "must be set with RELAY_JWT_ISSUER or RELAY_JWT_JWKS: "+
			"an issuer's tokens for other services would open the relay, too")
	}
	if c.JWTKeys == "" {
		l.checkKeyURL("RELAY_JWT_ISSUER", c.JWTIssuer)
	} else {
		l.checkKeySource(c)
	}
	for i, name := range c.JWTAlgorithms {
		found := slices.IndexFunc(jwtAlgorithms, func(m string) bool { return strings.EqualFold(m, name) })
		if found < 0 {
			l.problem("RELAY_JWT_ALGORITHMS", "%q is not one of %s", name, strings.Join(jwtAlgorithms, ", "))
			continue
		}
		c.JWTAlgorithms[i] = jwtAlgorithms[found]
	}
	for _, entry := range c.JWTRequire {
		if name, value, _ := strings.Cut(entry, "="); name == "" || value == "" {
			l.problem("RELAY_JWT_REQUIRE", "%q is not name=value", entry)
		}
	}
	l.checkCookie(c)
	if c.JWTCAFile != "" {
		l.checkCA("RELAY_JWT_CA_FILE", c.JWTCAFile)
	}
}

// checkNoTokens reports settings that mean nothing without an issuer. The operator may believe that they guard the
// relay.
func (l *loader) checkNoTokens() {
	for _, name := range []string{"AUDIENCE", "REQUIRE", "NAME_CLAIM", "TIER_CLAIM", "COOKIE", "CA_FILE"} {
		if name = "RELAY_JWT_" + name; l.env[name] != "" {
			l.problem(name, "set, but neither RELAY_JWT_ISSUER nor RELAY_JWT_JWKS is: no tokens are accepted")
		}
	}
}

func (l *loader) checkKeySource(c *Config) {
	if strings.Contains(c.JWTKeys, "://") {
		l.checkKeyURL("RELAY_JWT_JWKS", c.JWTKeys)
		return
	}
	if _, err := os.Stat(c.JWTKeys); err != nil {
		l.problem("RELAY_JWT_JWKS", "neither an https URL nor a file: %v", unnamed(err))
	}
}

// checkKeyURL reports what is no URL to get keys from. Whoever can change an answer of plain http on its way can make
// tokens.
func (l *loader) checkKeyURL(name, raw string) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || !hasHost(u) || u.User != nil || u.Fragment != "":
		l.problem(name, "not an https URL; use e.g. https://login.example.com/")
	case u.Scheme == "http" && !isLoopbackHost(u.Hostname()):
		l.warn("%s is not https: whoever is on the way to it can make tokens", name)
	}
}

func isLoopbackHost(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func (l *loader) checkCookie(c *Config) {
	switch {
	case c.JWTCookie == "":
	case strings.ContainsAny(c.JWTCookie, `=;,"()<>@:\/[]?{}`) || !isToken(c.JWTCookie):
		l.problem("RELAY_JWT_COOKIE", "%q is not the name of a cookie; use e.g. __Host-session", c.JWTCookie)
	case slices.Contains(c.CORSOrigins, "*"):
		l.problem("RELAY_JWT_COOKIE", "set, but RELAY_CORS_ORIGINS is *: "+
			"any page could use a visitor's cookie; list the origins that may")
	}
}
