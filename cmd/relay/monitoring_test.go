package main_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// registered are the names that the source gives its metrics.
func registered(t *testing.T) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	named := regexp.MustCompile(`"(relay_[a-z_]+)"`)
	for _, dir := range []string{"../../internal", "../../cmd"} {
		require.NoError(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			for _, found := range named.FindAllSubmatch(source, -1) {
				names[string(found[1])] = true
			}
			return err
		}))
	}
	require.Contains(t, names, "relay_streams_open")
	return names
}

var metricName = regexp.MustCompile(`\brelay_[a-z_]+\b`)

// A dashboard or an alert that asks for a metric nobody has shows nothing, and looks as if all were well.
func TestDashboardAndAlertsAskForMetricsThatAreThere(t *testing.T) {
	names := registered(t)
	for _, file := range []string{"grafana.json", "alerts.yaml", "alerts_test.yaml"} {
		content, err := os.ReadFile("../../deploy/" + file)
		require.NoError(t, err)
		found := metricName.FindAllString(string(content), -1)
		require.NotEmpty(t, found, file)
		for _, name := range found {
			base := name
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if cut, ok := strings.CutSuffix(name, suffix); ok && names[cut] {
					base = cut
				}
			}
			require.True(t, names[base], "%s asks for %s, which nothing registers", file, name)
		}
	}
}

func TestEveryMetricIsDocumentedAndOnTheDashboard(t *testing.T) {
	operations, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	dashboard, err := os.ReadFile("../../deploy/grafana.json")
	require.NoError(t, err)
	documented := make(map[string]bool)
	for _, name := range metricName.FindAllString(string(operations), -1) {
		documented[name] = true
	}
	for name := range registered(t) {
		require.True(t, documented[name], "docs/operations.md lacks %s", name)
		require.True(t, strings.Contains(string(dashboard), name), "deploy/grafana.json lacks %s", name)
	}
}

func TestDashboardIsOne(t *testing.T) {
	content, err := os.ReadFile("../../deploy/grafana.json")
	require.NoError(t, err)
	var dashboard struct {
		Title  string
		Panels []struct {
			ID      int
			Title   string
			Type    string
			GridPos struct{ H, W, X, Y int }
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	require.NoError(t, json.Unmarshal(content, &dashboard))
	ids := make(map[int]bool)
	for _, p := range dashboard.Panels {
		require.False(t, ids[p.ID], "panel %d is there twice", p.ID)
		ids[p.ID] = true
		require.NotEmpty(t, p.Title)
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		require.Equal(t, p.Type != "row", len(p.Targets) > 0, p.Title)
	}
}

// promtool is Prometheus' own reader of rules and queries.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed")
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	require.NoError(t, err, string(out))
}

func TestAlertsFireWhenTheyShould(t *testing.T) {
	promtool(t, "check", "rules", "../../deploy/alerts.yaml")
	promtool(t, "test", "rules", "../../deploy/alerts_test.yaml")
}

func TestQueriesOfTheDashboardAreValid(t *testing.T) {
	content, err := os.ReadFile("../../deploy/grafana.json")
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	require.NoError(t, json.Unmarshal(content, &dashboard))
	interval := strings.NewReplacer("$__rate_interval", "5m")
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			expr, err := json.Marshal(interval.Replace(target.Expr))
			require.NoError(t, err)
			rules.WriteString("      - record: x\n        expr: " + string(expr) + "\n")
		}
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(file, []byte(rules.String()), 0o600))
	promtool(t, "check", "rules", "--lint=none", file)
}
