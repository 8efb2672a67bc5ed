package config_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/config"
)

const limitsYAML = `
limit_requests: 5/m
api_keys: shop:k-0123456789abcdef,mobile:k-abcdef0123456789
tiers:
  gold: {limit_requests: "600/m:60", limit_tokens: 1000000/m, limit_streams: 16, budget_tokens: 20000000/d}
  unlimited: {}
callers:
  shop: gold
  mobile: {limit_streams: 2}
upstreams: [{kind: demo}]
`

func TestTiersAndCallersHaveLimits(t *testing.T) {
	c := load(t, relayYAML(t, limitsYAML))
	require.Empty(t, c.Warnings)
	require.Equal(t, config.Limits{Requests: config.Rate{Count: 5, Window: time.Minute}}, c.Limits())
	require.Equal(t, map[string]config.Limits{"unlimited": {}, "gold": {
		Requests: config.Rate{Count: 600, Window: time.Minute, Burst: 60},
		Tokens:   config.Rate{Count: 1e6, Window: time.Minute},
		Budget:   config.Rate{Count: 2e7, Window: 24 * time.Hour}, Streams: 16,
	}}, c.Tiers)
	require.Equal(t, map[string]config.Caller{"shop": {Tier: "gold"}, "mobile": {Limits: config.Limits{Streams: 2}}},
		c.Callers)
}

func TestLimitsInAFileThatCanNotBeUsed(t *testing.T) {
	for name, tc := range map[string]struct{ from, to, problem string }{
		"a rate":              {"1000000/m", "1000000", `tiers.gold.limit_tokens: "1000000" is not a rate;`},
		"a budget of an hour": {"20000000/d", "2/h", "tiers.gold.budget_tokens: 2/h is not tokens of a day;"},
		"streams": {"streams: 16", "streams: many",
			`tiers.gold.limit_streams: "many" is not a whole number`},
		"a limit that is none":     {"limit_streams: 2", "limit_strems: 2", "callers.mobile.limit_strems: "},
		"a list of limits":         {"unlimited: {}", "unlimited: []", "tiers.unlimited: is not a mapping"},
		"a tier that is not there": {"shop: gold", "shop: golden", `callers.shop: "golden" is not among tiers`},
	} {
		_, err := read([]string{relayYAML(t, strings.Replace(limitsYAML, tc.from, tc.to, 1))})
		require.ErrorContains(t, err, tc.problem, name)
	}
	c := load(t, relayYAML(t, strings.Replace(limitsYAML, "mobile: {", "tablet: {", 1)))
	require.Len(t, c.Warnings, 1)
	require.Contains(t, c.Warnings[0], "no API key has this name")
}

func TestLimitsMayChangeWhileTheRelayRuns(t *testing.T) {
	setting := relayYAML(t, limitsYAML)
	before := load(t, setting)
	changed := strings.NewReplacer("5/m\n", "6/m\nlimit_attach: 7/m\n", "600/m:60", "700/m").Replace(limitsYAML)
	require.NoError(t, os.WriteFile(strings.TrimPrefix(setting, "RELAY_CONFIG="), []byte(changed), 0o600))
	after, err := config.Reload([]string{setting}, kinds, before)
	require.NoError(t, err)
	require.Equal(t, int64(6), after.Limits().Requests.Count)
	require.Equal(t, int64(7), after.LimitAttach.Count)
	require.Equal(t, int64(700), after.Tiers["gold"].Requests.Count)
}
