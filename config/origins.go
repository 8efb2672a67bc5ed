package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"
)

const notAnOrigin = "%q is not an origin; use * or scheme://host[:port] without a path, e.g. " +
	"https://app.example.com " +
	"or, for all hosts below a domain of yours, https://*.example.com"

// canonicalOrigin returns an allowed origin as a browser sends it: lower case, no default port (RFC 6454, 6.2). A host
// may begin with "*." for all hosts below a domain, which has to be one that has an owner.
func canonicalOrigin(origin string) (string, error) {
	if origin == "*" {
		return origin, nil
	}
	canonical := strings.ToLower(origin)
	u, err := url.Parse(canonical)
	if err != nil || !hasHost(u) || canonical != u.Scheme+"://"+u.Host {
		return "", fmt.Errorf(notAnOrigin, origin)
	}
	domain, below := strings.CutPrefix(u.Hostname(), "*.")
	if strings.Contains(domain, "*") || below && !isDomain(domain) {
		return "", fmt.Errorf(notAnOrigin, origin)
	}
	if strings.ContainsFunc(domain, func(r rune) bool { return r > '~' }) {
		return "", fmt.Errorf("%q is not what browsers send: they spell such a name in ASCII (xn--…)", origin)
	}
	if below && isPublicSuffix(domain) {
		return "", fmt.Errorf("%q would allow pages of strangers: anybody can have a name below %s (it is a public "+
			"suffix); list the hosts, or use a domain of your own", origin, domain)
	}
	switch u.Scheme {
	case "https":
		return strings.TrimSuffix(canonical, ":443"), nil
	case "http":
		return strings.TrimSuffix(canonical, ":80"), nil
	}
	return canonical, nil
}

// isDomain tells whether other names can be below a host: an address has none, and neither has a name with an
// empty label (the list of public suffixes knows "com", not "com.").
func isDomain(host string) bool {
	_, err := netip.ParseAddr(host)
	return err != nil && !strings.Contains("."+host+".", "..")
}

// isPublicSuffix tells whether names directly below a domain belong to different people: com, co.uk, vercel.app. What
// the list does not have might be a new top-level domain. All names below localhost are this computer.
func isPublicSuffix(domain string) bool {
	// some entries have only what is below: *.compute.amazonaws.com
	suffix, _ := publicsuffix.PublicSuffix("a." + domain)
	return len(suffix) >= len(domain) && domain != "localhost"
}
