package config_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEveryProviderInTheDocsCanBeConfigured(t *testing.T) {
	page, err := os.ReadFile("../docs/providers.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllSubmatch(page, -1)
	require.NotEmpty(t, blocks)
	seen := map[string]bool{"demo": true}
	for _, block := range blocks {
		environ := strings.Split(strings.TrimSpace(string(block[1])), "\n")
		c, err := read(environ)
		require.NoError(t, err, "%s", block[1])
		require.Empty(t, c.Warnings, "%s", block[1])
		u := c.Upstreams[0]
		require.NotEqual(t, "demo", u.Kind, "%s", block[1])
		require.True(t, u.Model != "" || u.Kind == "websopy", "%s: nothing says which model to use", block[1])
		seen[u.Kind] = true
	}
	for row := range strings.Lines(string(page)) {
		if name, ok := strings.CutPrefix(row, "| `"); ok && strings.Count(row, "|") == 4 {
			name, _, _ = strings.Cut(name, "`")
			require.True(t, seen[name], "kind %s has no settings", name)
		}
	}
}

func TestTheExampleFilesCanBeUsed(t *testing.T) {
	keys := []string{"OPENAI_API_KEY=sk-1", "ANTHROPIC_API_KEY=sk-2"}
	c := load(t, append(keys, "RELAY_CONFIG=../deploy/relay.yaml")...)
	require.Empty(t, c.Warnings)
	require.Len(t, c.Models, 2)

	page, err := os.ReadFile("../docs/routes.md")
	require.NoError(t, err)
	example := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(page)
	require.NotNil(t, example)
	text := regexp.MustCompile(`/run/secrets/\w+`).ReplaceAllLiteralString(string(example[1]), file(t, "redis://h"))
	c = load(t, relayYAML(t, text), "RELAY_STORE=redis")
	require.Empty(t, c.Warnings)
	require.Equal(t, "smart", c.DefaultModel)
}
