package identity_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/identity"
)

func TestTheClientIsWhomTheProxiesHeardFrom(t *testing.T) {
	proxies := identity.Proxies{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32"),
		netip.MustParsePrefix("2001:db8:1::/48"),
	}
	const me, client, proxy = "198.51.100.1", "203.0.113.7:1234", "10.0.0.1:80"
	for name, tc := range map[string]struct {
		peer      string
		forwarded []string
		addr      string
		share     string
		byProxy   bool
	}{
		"a client without a proxy": {client, nil, "203.0.113.7", "addr 203.0.113.7", false},
		"its inventions don't count": {client, []string{"198.51.100.1"}, "203.0.113.7", "addr 203.0.113.7",
			false},
		"IPv6 counts as its /64": {"[2001:db8:3::5]:80", nil, "2001:db8:3::5", "addr 2001:db8:3::",
			false},
		"IPv4 on a socket for both": {"[::ffff:203.0.113.7]:80", nil, "203.0.113.7", "addr 203.0.113.7",
			false},
		"a zone is not part of it":            {"[fe80::1%eth0]:80", nil, "fe80::1", "", false},
		"loopback is unknown":                 {"127.0.0.1:80", nil, "127.0.0.1", "", false},
		"a private peer is unknown":           {"172.17.0.1:80", nil, "172.17.0.1", "", false},
		"a private IPv6 peer is unknown":      {"[fd00::1]:80", nil, "fd00::1", "", false},
		"a carrier's NAT is unknown":          {"100.64.3.4:80", nil, "100.64.3.4", "", false},
		"a private peer's word doesn't count": {"172.17.0.1:80", []string{"198.51.100.1"}, "172.17.0.1", "", false},
		"no address at all":                   {"@", []string{"198.51.100.1"}, "", "", false},
		"through a proxy":                     {proxy, []string{"198.51.100.1"}, me, "addr " + me, true},
		"through three": {proxy, []string{me + ", 192.0.2.1,10.0.0.9"}, me, "addr " + me,
			true},
		"each with a header of its own": {proxy, []string{"198.51.100.1", "192.0.2.1"}, me, "addr " + me,
			true},
		"with an invention before it": {proxy, []string{"1.1.1.1, 198.51.100.1"}, me, "addr " + me, true},
		"with an invented proxy before it": {proxy, []string{"1.1.1.1, 10.0.0.2, 198.51.100.1"}, me, "addr " + me,
			true},
		"with empty entries": {proxy, []string{"198.51.100.1,, ", ""}, me, "addr " + me, true},
		"with ports":         {proxy, []string{"198.51.100.1:4711"}, me, "addr " + me, true},
		"with IPv6 in brackets": {proxy, []string{"[2001:db8::5]"}, "2001:db8::5", "addr 2001:db8::",
			true},
		"with IPv6 and a port": {proxy, []string{"[2001:db8::5]:4711"}, "2001:db8::5",
			"addr 2001:db8::", true},
		"an alias is no way around": {proxy, []string{"198.51.100.1, ::ffff:10.0.0.5"}, me, "addr " + me,
			true},
		"a private client that the proxy names": {proxy, []string{"192.168.1.5"}, "192.168.1.5", "addr 192.168.1.5",
			true},
		"a client on the proxy's own machine": {proxy, []string{"127.0.0.1"}, "127.0.0.1", "", true},
		"a proxy that says nothing":           {proxy, nil, "10.0.0.1", "", true},
		"nothing but proxies":                 {proxy, []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3", "", true},
		"garbage":                             {proxy, []string{"198.51.100.1, unknown"}, "10.0.0.1", "", true},
		"garbage behind a proxy": {proxy, []string{"198.51.100.1, _hidden, 10.0.0.2"}, "10.0.0.2", "",
			true},
	} {
		t.Run(name, func(t *testing.T) {
			addr, share, byProxy := proxies.Client(tc.peer, tc.forwarded)
			if tc.addr == "" {
				require.False(t, addr.IsValid())
			} else {
				require.Equal(t, tc.addr, addr.String())
			}
			require.Equal(t, tc.share, share)
			require.Equal(t, tc.byProxy, byProxy)
		})
	}
}

func TestWithoutProxiesNobodyElseIsBelieved(t *testing.T) {
	addr, share, byProxy := identity.Proxies(nil).Client("127.0.0.1:80", []string{"198.51.100.1"})
	require.Equal(t, "127.0.0.1", addr.String())
	require.Empty(t, share)
	require.False(t, byProxy)
}

func FuzzClient(f *testing.F) {
	f.Add("10.0.0.1:80", "198.51.100.1, 10.0.0.2")
	f.Add("10.0.0.1:80", ",[::1]:,%")
	proxies := identity.Proxies{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, peer, forwarded string) {
		addr, share, byProxy := proxies.Client(peer, []string{forwarded})
		require.False(t, share != "" && (!addr.IsValid() || proxies.Has(addr)), "a proxy is no client")
		plain, _, again := proxies.Client(peer, nil)
		require.Equal(t, byProxy, again, "who the peer is does not depend on what it says")
		require.True(t, byProxy || plain == addr, "only a proxy's word counts")
	})
}
