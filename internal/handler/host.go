package handler

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/websopy/relay/internal/chat"
)

// Hosts are the names by which a relay is addressed, like chat.example.com, *.example.com for all below it, or *
// for any. Names that no stranger's DNS answers for need not be among them.
type Hosts []string

// Has tells whether a request to host, which may have a port, means this relay. A page of a stranger can have a
// name of its own point to the relay's address (DNS rebinding). To the browser the relay is then of the page's own
// origin, and only the name tells.
func (h Hosts) Has(host string) bool {
	host = hostname(host)
	if isInsideName(host) {
		return true
	}
	return slices.ContainsFunc(h, func(name string) bool {
		parent, below := strings.CutPrefix(name, "*")
		return name == "*" || strings.EqualFold(name, host) ||
			below && strings.HasSuffix(host, strings.ToLower(parent))
	})
}

// hostname is a Host header's less the port, in the one form that a name has.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
}

// insideNames are the ends of names that are not looked up in the world's DNS, or only by its owner: RFC 6761, RFC
// 6762, ICANN's private-use domain, and Kubernetes.
var insideNames = []string{".localhost", ".local", ".internal", ".svc"}

// isInsideName tells whether no stranger's page can be at this host: an address is not looked up at all, and a name
// without a dot is found in a network of containers or a hosts file.
func isInsideName(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil || !strings.Contains(host, ".") {
		return true
	}
	return slices.ContainsFunc(insideNames, func(end string) bool { return strings.HasSuffix(host, end) })
}

// hostsOf are the hosts that a request was sent to: its own and, from a trusted proxy, those that the browser
// addressed.
func hostsOf(req *http.Request) []string {
	hosts := []string{req.Host}
	if !visitOf(req).byProxy {
		return hosts
	}
	for _, header := range req.Header["X-Forwarded-Host"] {
		for host := range strings.SplitSeq(header, ",") {
			hosts = append(hosts, strings.TrimSpace(host))
		}
	}
	return hosts
}

var errHost = &chat.Error{Code: chat.Forbidden,
	Message: "a relay without API keys does not answer to this host; name it in RELAY_HOSTS"}

// checkHost refuses requests to a name that is not the relay's. It is for relays without keys: a stranger's page
// has none.
func checkHost(names Hosts, accepted credentials) check {
	var last atomic.Pointer[string] // that was one: most requests are sent to the same
	return func(_ http.ResponseWriter, req *http.Request) *chat.Error {
		if !accepted.none() {
			return nil
		}
		if known := last.Load(); known != nil && *known == req.Host && !visitOf(req).byProxy {
			return nil
		}
		// all of them: a page can set X-Forwarded-Host, and a proxy may let it pass
		for _, host := range hostsOf(req) {
			if !names.Has(host) {
				return errHost
			}
		}
		host := strings.Clone(req.Host)
		last.Store(&host)
		return nil
	}
}
