package main_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/websopy/relay/"

// layers are the packages from the top down. Those on one line don't know each other.
var layers = [][]string{
	{"cmd/relay"},
	{"config", "internal/handler"},
	{"internal/telemetry"},
	{"internal/dialect", "internal/doctor", "internal/stream", "internal/ui", "internal/upstream"},
	{"internal/upstream/provider"},
	{"internal/upstream/format"},
	{"internal/upstream/framing", "internal/upstream/report", "internal/upstream/trace"},
	{
		"internal/sse", "internal/chat", "internal/identity", "internal/cloud", "internal/limit",
		"internal/upstream/jsonscan",
	},
	{"internal/redisconn"},
}

// bound are the packages that may import nothing but these and the standard library.
var bound = map[string][]string{
	"config":             {"github.com/caarlos0/env/v11", "go.yaml.in/yaml/v3", "golang.org/x/net/publicsuffix"},
	"internal/dialect":   {module + "internal/chat", module + "internal/sse", "github.com/go-faster/jx"},
	"internal/identity":  {"github.com/golang-jwt/jwt/v5", "github.com/MicahParks/jwkset"},
	"internal/redisconn": {"github.com/redis/rueidis"},
	"internal/sse":       {},
	"internal/doctor":    {module + "internal/sse"},
	"internal/ui":        {},
	"internal/chat":      {},
}

// offline are the packages that know no network.
var offline = []string{"internal/sse", "internal/dialect", "internal/chat",
	"internal/upstream/format", "internal/upstream/framing", "internal/upstream/jsonscan", "internal/upstream/report"}

func TestImportsPointDown(t *testing.T) {
	level := func(pkg string) int {
		return slices.IndexFunc(layers, func(layer []string) bool { return slices.Contains(layer, pkg) })
	}
	out, err := exec.Command("go", "list", "-deps", "-f",
		`{{if .Module}}{{if .Module.Main}}{{.ImportPath}} {{join .Imports " "}}{{end}}{{end}}`, ".").Output()
	require.NoError(t, err)
	for line := range strings.Lines(strings.TrimSpace(string(out))) {
		fields := strings.Fields(line)
		pkg := strings.TrimPrefix(fields[0], module)
		require.NotEqual(t, -1, level(pkg), "%s has no place in the layers yet", pkg)
		for _, imported := range fields[1:] {
			host, _, _ := strings.Cut(imported, "/")
			if allowed, ok := bound[pkg]; ok && strings.Contains(host, ".") {
				require.Contains(t, allowed, imported, "what %s imports", pkg)
			}
			if ours, ok := strings.CutPrefix(imported, module); ok {
				require.Greater(t, level(ours), level(pkg), "%s imports %s", pkg, ours)
			}
			if slices.Contains(offline, pkg) {
				require.NotContains(t, []string{"net", "net/http", "net/http/httptest"}, imported,
					"%s knows no network", pkg)
			}
		}
	}
}

// A template may call any method of anything, so the linker keeps the methods of all types where one is in a binary:
// that is 14 MB. The Makefile says where it came from.
func TestNoTemplateIsInTheBinary(t *testing.T) {
	const tag = "-tags grpcnotrace"
	out, err := exec.Command("go", "list", "-tags", "grpcnotrace", "-deps", ".").Output()
	require.NoError(t, err)
	require.NotContains(t, strings.Fields(string(out)), "text/template")
	for file, want := range map[string]string{
		"Makefile": tag, "Dockerfile": tag, "deploy/image/main.go": `"-tags", "grpcnotrace"`,
	} {
		content, err := os.ReadFile("../../" + file)
		require.NoError(t, err)
		require.Contains(t, string(content), want, file)
	}
}
