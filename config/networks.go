package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// privateNetworks are those that no packet from the internet comes from: RFC 1918, RFC 6598, RFC 4193, loopback
// and what is local to a link.
var privateNetworks = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("fc00::/7"),
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10"),
}

// parseNetworks reads a list of addresses and networks.
func parseNetworks(s string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, entry := range splitList(s) {
		if strings.EqualFold(entry, "private") {
			networks = append(networks, privateNetworks...)
			continue
		}
		network, err := netip.ParsePrefix(entry)
		if addr, isAddr := netip.ParseAddr(entry); isAddr == nil {
			network, err = netip.PrefixFrom(addr.WithZone(""), addr.BitLen()), nil
		}
		if err != nil || network.Addr().Is4In6() {
			return nil, fmt.Errorf("%q is neither an address nor a network, e.g. 192.0.2.7, 10.0.0.0/8 or private",
				entry)
		}
		networks = append(networks, network.Masked())
	}
	if len(networks) == 0 {
		return nil, errors.New("has only separators")
	}
	return networks, nil
}
