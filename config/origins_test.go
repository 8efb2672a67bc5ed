package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnOriginWithAWildcard(t *testing.T) {
	for given, want := range map[string]string{
		"https://*.example.app":         "https://*.example.app",
		"HTTPS://*.Preview.Example.app": "https://*.preview.example.app",
		"https://*.example.app:443":     "https://*.example.app",
		"https://*.example.co.uk:8443":  "https://*.example.co.uk:8443",
		"https://*.team.vercel.app":     "https://*.team.vercel.app",
		// see handler: not what is below a public suffix there
		"https://*.amazonaws.com": "https://*.amazonaws.com",
		"http://*.localhost:3000": "http://*.localhost:3000",
	} {
		t.Run(given, func(t *testing.T) {
			require.Equal(t, []string{want}, load(t, "RELAY_CORS_ORIGINS="+given).CORSOrigins)
		})
	}
}

func TestAWildcardWouldAllowStrangers(t *testing.T) {
	for _, origin := range []string{
		"https://*.app", "https://*.com", "https://*.co.uk", "https://*.COM:8443", "https://*.xn--55qx5d.cn",
		"https://*.vercel.app", "https://*.netlify.app", "https://*.pages.dev", "https://*.github.io",
		"https://*.s3.amazonaws.com", "https://*.compute.amazonaws.com", "https://*.kawasaki.jp",
		"https://*.not-a-domain-yet",
	} {
		t.Run(origin, func(t *testing.T) {
			_, err := read([]string{"RELAY_CORS_ORIGINS=" + origin})
			require.ErrorContains(t, err, `RELAY_CORS_ORIGINS: "`+origin+`" would allow pages of strangers`)
			require.ErrorContains(t, err, "public suffix")
		})
	}
}

func TestAWildcardIsTheFirstLabel(t *testing.T) {
	for _, origin := range []string{
		"https://*", "https://*.", "https://*.com.", "https://*..com", "https://*.*.example.app",
		"https://a.*.example.app",
		"https://*example.app", "https://pr-*.example.app", "https://**.example.app", "https://*.example.app/",
		"*.example.app",
		"https://*.192.0.2.1", "https://example.*", "https://*.example.app:*", "*://*.example.app",
	} {
		t.Run(origin, func(t *testing.T) {
			_, err := read([]string{"RELAY_CORS_ORIGINS=" + origin})
			require.ErrorContains(t, err, `RELAY_CORS_ORIGINS: "`+origin+`" is not an origin`)
			require.ErrorContains(t, err, "https://*.example.com")
		})
	}
}

func TestAnOriginThatNoBrowserSends(t *testing.T) {
	_, err := read([]string{"RELAY_CORS_ORIGINS=https://bücher.example"})
	require.ErrorContains(t, err, "xn--")
}
