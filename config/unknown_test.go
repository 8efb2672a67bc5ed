package config_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUnknownVariablesGetAWarning(t *testing.T) {
	for environ, want := range map[string]string{
		"RELAY_API_KEY=k":        "RELAY_API_KEY is not a setting; did you mean RELAY_API_KEYS?",
		"RELAY_HEARTBEATS=1s":    "RELAY_HEARTBEATS is not a setting; did you mean RELAY_HEARTBEAT?",
		"RELAY_TLS_CRT=x":        "RELAY_TLS_CRT is not a setting; did you mean RELAY_TLS_CERT?",
		"UPSTREAM_APIKEY_FILE=x": "UPSTREAM_APIKEY_FILE is not a setting; did you mean UPSTREAM_API_KEY_FILE?",
		"UPSTREAM_3_KNID=demo":   "UPSTREAM_3_KNID is not a setting; did you mean UPSTREAM_3_KIND?",
		"UPSTREAM_0_KIND=demo":   "UPSTREAM_0_KIND is not a setting; did you mean UPSTREAM_1_KIND?",
		"UPSTREAM_120_KNID=demo": "UPSTREAM_120_KNID is not a setting; did you mean UPSTREAM_120_KIND?",
		"RELAY_PORT=8080":        "RELAY_PORT is not a setting",
		"RELAY_WHATEVER=1":       "RELAY_WHATEVER is not a setting",
	} {
		require.Equal(t, []string{want}, load(t, environ).Warnings)
	}
}

func TestVariablesOfOthersGetNoWarning(t *testing.T) {
	c := load(t, strings.Fields(`
		RELAY_SERVICE_HOST=10.0.0.1 RELAY_SERVICE_PORT=80 RELAY_SERVICE_PORT_HTTP=80
		RELAY_PORT=tcp://10.0.0.1:80 RELAY_PORT_8080_TCP=tcp://10.0.0.1:80 RELAY_PORT_8080_TCP_PROTO=tcp
		RELAY_PORT_8080_TCP_PORT=8080 RELAY_PORT_8080_TCP_ADDR=10.0.0.1 RELAY_ADMIN_SERVICE_HOST=10.0.0.2
		RELAY_ADMIN_PORT=tcp://10.0.0.2:9090 UPSTREAM_SERVICE_HOST=10.0.0.3 UPSTREAM_PORT_53_UDP=udp://10.0.0.3:53
		RELAY_SHARED=/shared RELAYS=1 MY_RELAY_ADDR=1`)...)
	require.Empty(t, c.Warnings)
}
