package identity

import (
	"net/netip"
	"slices"
	"strings"
)

// Proxies are the networks of the proxies in front of the relay, whose word on the client is taken.
type Proxies []netip.Prefix

// Has tells whether an address is a proxy's.
func (p Proxies) Has(addr netip.Addr) bool {
	return slices.ContainsFunc(p, func(network netip.Prefix) bool { return network.Contains(addr) })
}

// Client finds who sent a request that came from peer, which has the form of http.Request.RemoteAddr.
// forwardedFor are the values of its X-Forwarded-For headers, in their order: each proxy adds at the end whom
// it heard from, so they are read from the end, as far as proxies wrote them. What stands before the client's
// address is the client's own invention.
//
// addr is the address nearest to the client that is known. share is what it counts as for limits, see
// Caller. byProxy tells whether peer is a proxy.
func (p Proxies) Client(peer string, forwardedFor []string) (addr netip.Addr, share string, byProxy bool) {
	addr, ok := parseAddr(peer)
	switch {
	case !ok:
		return addr, "", false
	case !p.Has(addr):
		if isInside(addr) {
			// Perhaps a proxy that nobody configured: all the world would be one caller.
			return addr, "", false
		}
		return addr, shareOf(addr), false
	}
	for _, header := range slices.Backward(forwardedFor) {
		for header != "" {
			comma := strings.LastIndexByte(header, ',')
			entry := strings.TrimSpace(header[comma+1:])
			header = header[:max(comma, 0)]
			if entry == "" {
				continue
			}
			next, ok := parseAddr(entry)
			if !ok {
				return addr, "", true // not to be known, like all that stands before it
			}
			if addr = next; !p.Has(addr) {
				return addr, shareOf(addr), true
			}
		}
	}
	return addr, "", true
}

// shareOf is what an address counts as. A household or a server has a whole /64 of IPv6 addresses.
func shareOf(addr netip.Addr) string {
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	network, err := addr.Prefix(bits)
	if err != nil || addr.IsLoopback() || addr.IsUnspecified() {
		return ""
	}
	return "addr " + network.Masked().Addr().String()
}

// carrierNAT is RFC 6598's network, which clouds and overlay networks use as a private one.
var carrierNAT = netip.MustParsePrefix("100.64.0.0/10")

// isInside tells whether an address says nothing about who is there in the world.
func isInside(addr netip.Addr) bool {
	return !addr.IsGlobalUnicast() || addr.IsPrivate() || carrierNAT.Contains(addr)
}

// parseAddr reads an address with or without a port. One address has one form: IPv4 is never written as IPv6,
// and there is no zone.
func parseAddr(s string) (netip.Addr, bool) {
	if withPort, err := netip.ParseAddrPort(s); err == nil {
		return withPort.Addr().Unmap().WithZone(""), true
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return addr.Unmap().WithZone(""), err == nil
}
