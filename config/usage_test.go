package config_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/config"
)

func usage() string {
	var out strings.Builder
	config.Usage(&out, kinds)
	return out.String()
}

func TestEveryFieldIsAVariableWithHelp(t *testing.T) {
	for _, v := range []any{config.Config{}, config.Upstream{}} {
		for f := range reflect.TypeOf(v).Fields() {
			if f.Tag.Get("env") == "-" {
				continue
			}
			require.NotEmpty(t, f.Tag.Get("env"), f.Name)
			require.NotEmpty(t, f.Tag.Get("help"), f.Name)
		}
	}
}

func TestUsageShowsEveryVariableWithItsDefault(t *testing.T) {
	rows := make(map[string]string)
	for line := range strings.Lines(usage()) {
		if name, rest, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(line, "  ") {
			rows[name] = strings.TrimSpace(rest)
		}
	}
	for prefix, v := range map[string]any{"": config.Config{}, "UPSTREAM_": config.Upstream{}} {
		for f := range reflect.TypeOf(v).Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("env"), ",")
			if name != "-" {
				require.Contains(t, rows, prefix+name)
				require.True(t, strings.HasPrefix(rows[prefix+name], f.Tag.Get("envDefault")), prefix+name)
			}
		}
	}
	require.Contains(t, rows, "OPENAI_API_KEY")
}

func TestUsageFitsATerminalOf100Columns(t *testing.T) {
	for line := range strings.Lines(usage()) {
		require.LessOrEqual(t, len(strings.TrimSuffix(line, "\n")), 100, line)
		require.Equal(t, strings.TrimRight(line, " \n"), strings.TrimSuffix(line, "\n"), "no space at the end")
	}
}

func TestUsageTellsWhichSecretsCanBeFilesAndWhichKindsThereAre(t *testing.T) {
	text := strings.Join(strings.Fields(usage()), " ")
	require.Contains(t, text, "_FILE appended: RELAY_API_KEYS, RELAY_REDIS_URL, RELAY_REDIS_SENTINEL_PASSWORD, "+
		"UPSTREAM_API_KEY, UPSTREAM_HEADERS, OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY.")
	require.Contains(t, text, "UPSTREAM_KIND is "+strings.TrimPrefix(allKinds, "use ")+".")
	require.Contains(t, text, "OPENAI_API_KEY key for kind openai and openai-responses when")
	require.Contains(t, text, "Requests that name no model then get gpt-6-luna, unless UPSTREAM_MODEL is set")
	require.Contains(t, text, "UPSTREAM_1_KIND and the rest of its settings, UPSTREAM_2_KIND and so on.")
}
