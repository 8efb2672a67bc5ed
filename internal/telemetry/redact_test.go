package telemetry_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/telemetry"
)

func TestSecretsAreBlottedOut(t *testing.T) {
	r := telemetry.Redactor([]string{"", "e", "k-1", "sk-proj-Abc123Def456Ghi789",
		"sk-proj-Abc123Def456Ghi789-and-more", "+plus+"})
	for text, want := range map[string]string{
		"the message has an e in every word":  "the message has an *** in every word",
		"k-1, (k-1) and k-12 or ak-1":         "***, (***) and k-12 or ak-1",
		"a +plus+ b":                          "a *** b",
		"key sk-proj-Abc123Def456Ghi789.":     "key ***.",
		"key=SK-PROJ-ABC123DEF456GHI789":      "key=***",
		"sk-proj-Abc123Def456Ghi789-and-more": "***",
		"xsk-proj-Abc123Def456Ghi789x":        "x***",
		"Incorrect: sk-proj-****i789.":        "Incorrect: ***.",
		"Incorrect: sk-pro...i789":            "Incorrect: ***",
		"Incorrect: sk-proj-Abc1…":            "Incorrect: ***",
		"cut off: sk-proj-Abc123D":            "cut off: ***",
		"broken sk-proj-Abc123\nDef456Ghi789": "broken ***\n***",
		"sk-proj- is how they begin":          "sk-proj- is how they begin",
	} {
		require.Equal(t, want, r.Replace(text))
	}
	require.Equal(t, "as it is", telemetry.Redactor(nil).Replace("as it is"))
}

// JSON escapes the orders to a terminal that ASCII has. Of the others one can begin a sequence or turn the line around.
func TestTheLogGivesNoOrdersToATerminal(t *testing.T) {
	var log bytes.Buffer
	told := telemetry.New(telemetry.NewMetrics(prometheus.NewRegistry()), zerolog.New(&log), telemetry.Redaction{})
	told.Panicked("id", "wörd \x1b[31m \u009b31m \u202e \u2028 \xff \n ends", nil)
	for _, r := range log.String() {
		require.True(t, r == '\n' || r >= ' ' && r != '\u009b' && r != '\u202e' && r != '\u2028', "%U", r)
	}
	var line map[string]string
	require.NoError(t, json.Unmarshal(log.Bytes(), &line))
	require.Equal(t, "wörd \x1b[31m \ufffd31m \ufffd \ufffd \ufffd \n ends", line["panic"])
}
