package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/config"
)

func TestFallbacksComeInOrderAndNumbersMayBeLeftOut(t *testing.T) {
	c := load(t, "UPSTREAM_KIND=openai", "OPENAI_API_KEY=sk-1",
		"UPSTREAM_9_KIND=demo", "UPSTREAM_120_KIND=demo",
		"UPSTREAM_2_KIND=azure", "UPSTREAM_2_BASE_URL=https://x.openai.azure.com",
		"UPSTREAM_2_API_KEY_FILE="+file(t, "az-key\n"), "UPSTREAM_2_RETRIES=0",
		"UPSTREAM_4_KIND=") // an empty variable counts as not set
	var names []string
	for _, u := range c.Upstreams {
		names = append(names, u.Name)
	}
	require.Equal(t, []string{"openai", "azure-2", "demo-9", "demo-120"}, names)
	require.Equal(t, "az-key", c.Upstreams[1].APIKey.Reveal())
	require.Zero(t, c.Upstreams[1].Retries)
	require.Equal(t, 2, c.Upstreams[2].Retries, "the first upstream's settings are not the fallbacks'")
	require.Equal(t, []string{"UPSTREAM_2_MODEL is not set: kind azure will be asked for models by the names they " +
		"have at kind openai"}, c.Warnings)
}

func TestAProvidersOwnKeyGoesToNoOtherFallback(t *testing.T) {
	c := load(t, "OPENAI_API_KEY=sk-1",
		"UPSTREAM_1_KIND=openai", "UPSTREAM_2_KIND=openai", "UPSTREAM_2_BASE_URL=http://localhost:8000/v1",
		"UPSTREAM_3_KIND=openai", "UPSTREAM_3_BASE_URL=https://api.openai.com/v1/")
	require.Equal(t, "sk-1", c.Upstreams[1].APIKey.Reveal())
	require.Empty(t, c.Upstreams[2].APIKey)
	require.Equal(t, "sk-1", c.Upstreams[3].APIKey.Reveal())
}

func TestEachUpstreamIsAskedForTheModelItHas(t *testing.T) {
	c := load(t, "UPSTREAM_KIND=openai", "OPENAI_API_KEY=sk-1", "UPSTREAM_MODEL=gpt-4o",
		"UPSTREAM_MODELS=gpt-4o,fast=gpt-4o-mini,o*",
		"UPSTREAM_1_KIND=demo",
		"UPSTREAM_2_KIND=demo", "UPSTREAM_2_MODEL=m2",
		"UPSTREAM_3_KIND=demo", "UPSTREAM_3_MODELS=gpt-4*=m3,o3",
		"UPSTREAM_4_KIND=demo", "UPSTREAM_4_MODELS=gpt-4o=m4", "UPSTREAM_4_MODEL=other")
	require.True(t, c.Upstreams[0].Allows("fast"))
	require.False(t, c.Upstreams[0].Allows("gpt-4o-mini"), "the name at the provider is the provider's")
	require.Empty(t, c.Warnings)

	const none = "(not asked)"
	for _, tc := range []struct {
		asked string
		want  [5]string
	}{
		{"gpt-4o", [5]string{"gpt-4o", "gpt-4o", "m2", "m3", "m4"}},
		{"", [5]string{"gpt-4o", "gpt-4o", "m2", "m3", "m4"}}, // the first upstream's default
		{"fast", [5]string{"gpt-4o-mini", "fast", "m2", none, "other"}},
		{"o3", [5]string{"o3", "o3", "m2", "o3", "other"}},
	} {
		for i, want := range tc.want {
			got, ok := c.ModelAt(i, tc.asked)
			if !ok {
				got = none
			}
			require.Equal(t, want, got, "upstream %d for %q", i, tc.asked)
		}
	}

	c = load(t, "UPSTREAM_KIND=websopy", "UPSTREAM_BASE_URL=http://localhost:1", "UPSTREAM_1_KIND=demo",
		"UPSTREAM_1_MODEL=m1", "UPSTREAM_1_MODELS=x=y")
	for i, want := range []string{"", "m1"} {
		got, ok := c.ModelAt(i, "")
		require.True(t, ok)
		require.Equal(t, want, got, "upstream %d, when there is no default", i)
	}
}

func TestHeadersWithCommasComeOneALine(t *testing.T) {
	c := load(t, "UPSTREAM_HEADERS= X-Beta: a,b\n\nHTTP-Referer = https://app.example.com:8443/?a=b \r\n")
	require.Equal(t, []config.Header{{Name: "X-Beta", Value: "a,b"},
		{Name: "HTTP-Referer", Value: "https://app.example.com:8443/?a=b"}}, c.Upstreams[0].Headers)
	c = load(t, "UPSTREAM_HEADERS_FILE="+file(t, "X-A: 1,X-B: 2\n"))
	require.Len(t, c.Upstreams[0].Headers, 2)
}

func TestAHedgeWithoutAnotherUpstreamGetsAWarning(t *testing.T) {
	require.Equal(t, []string{"RELAY_HEDGE_AFTER has no effect: there is no second upstream to ask"},
		load(t, "RELAY_HEDGE_AFTER=2s").Warnings)
	require.Empty(t, load(t, "RELAY_HEDGE_AFTER=2s", "UPSTREAM_KIND=demo", "UPSTREAM_1_KIND=demo").Warnings)
}
