// Package chart_test reads the Helm chart as a cluster would, without one. It has a module of its own because the
// types of Kubernetes are many.
package chart_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/stretchr/testify/require"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

const chart = "../../deploy/chart"

// tool is a program that the tests need; the make target installs it.
func tool(t *testing.T, name, variable string) string {
	t.Helper()
	if path := os.Getenv(variable); path != "" {
		return path
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed (or named in %s)", name, variable)
	}
	return path
}

func run(t *testing.T, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s %s\n%s%s", name, strings.Join(args, " "), out, stderr.String())
	return out
}

// examples are the value files that users begin with, and no file at all.
func examples(t *testing.T) map[string][]string {
	t.Helper()
	files, err := filepath.Glob(chart + "/examples/*.yaml")
	require.NoError(t, err)
	require.Len(t, files, 3)
	all := map[string][]string{"defaults": nil}
	for _, f := range files {
		all[filepath.Base(f)] = []string{"-f", f}
	}
	return all
}

// objects are the documents of a rendered chart by kind, each decoded strictly into the type that the cluster has for
// it.
func objects(t *testing.T, rendered []byte) map[string]any {
	t.Helper()
	found := make(map[string]any)
	for doc := range strings.SplitSeq(string(rendered), "\n---\n") {
		var head struct{ APIVersion, Kind string }
		require.NoError(t, yaml.Unmarshal([]byte(doc), &head), doc)
		if head.Kind == "" {
			continue
		}
		of := map[string]func() any{
			"apps/v1 Deployment":                      func() any { return new(apps.Deployment) },
			"v1 Service":                              func() any { return new(core.Service) },
			"v1 ServiceAccount":                       func() any { return new(core.ServiceAccount) },
			"v1 ConfigMap":                            func() any { return new(core.ConfigMap) },
			"policy/v1 PodDisruptionBudget":           func() any { return new(policy.PodDisruptionBudget) },
			"autoscaling/v2 HorizontalPodAutoscaler":  func() any { return new(autoscaling.HorizontalPodAutoscaler) },
			"networking.k8s.io/v1 NetworkPolicy":      func() any { return new(networking.NetworkPolicy) },
			"networking.k8s.io/v1 Ingress":            func() any { return new(networking.Ingress) },
			"gateway.networking.k8s.io/v1 HTTPRoute":  func() any { return new(gateway.HTTPRoute) },
			"monitoring.coreos.com/v1 ServiceMonitor": func() any { return new(monitoring.ServiceMonitor) },
			"monitoring.coreos.com/v1 PrometheusRule": func() any { return new(monitoring.PrometheusRule) },
		}[head.APIVersion+" "+head.Kind]
		require.NotNil(t, of, "%s %s", head.APIVersion, head.Kind)
		object := of()
		require.NoError(t, yaml.UnmarshalStrict([]byte(doc), object), doc)
		require.NotContains(t, found, head.Kind)
		found[head.Kind] = object
	}
	return found
}

func TestEveryExampleIsValid(t *testing.T) {
	helm := tool(t, "helm", "RELAY_TEST_HELM")
	validate := tool(t, "kubernetes-validate", "RELAY_TEST_KUBERNETES_VALIDATE")
	kinds := make(map[string]bool)
	for name, values := range examples(t) {
		t.Run(name, func(t *testing.T) {
			run(t, nil, helm, append([]string{"lint", "--strict", chart}, values...)...)
			rendered := run(t, nil, helm, append([]string{"template", "relay", chart}, values...)...)
			file := filepath.Join(t.TempDir(), "rendered.yaml")
			require.NoError(t, os.WriteFile(file, rendered, 0o600))
			run(t, nil, validate, "--strict", file)
			for kind := range objects(t, rendered) {
				kinds[kind] = true
			}
		})
	}
	require.Len(t, kinds, 11, "each template is rendered by one of the examples")
}

func TestTheDeployment(t *testing.T) {
	helm := tool(t, "helm", "RELAY_TEST_HELM")
	d := objects(t, run(t, nil, helm, "template", "relay", chart, "-f", chart+"/examples/redis.yaml",
		"--set", "settings.RELAY_MAX_STREAM_BYTES=100000000", "--set", "resources.limits.memory=2Gi"))["Deployment"].(*apps.Deployment)
	pod := d.Spec.Template.Spec
	require.EqualValues(t, 3, *d.Spec.Replicas)
	require.EqualValues(t, 60, *pod.TerminationGracePeriodSeconds, "delay, grace and five seconds")
	require.Zero(t, d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue())
	require.False(t, *pod.AutomountServiceAccountToken)
	require.False(t, *pod.EnableServiceLinks, "RELAY_PORT of a service would be taken for a setting")
	require.True(t, *pod.SecurityContext.RunAsNonRoot)
	relay := pod.Containers[0]
	require.True(t, *relay.SecurityContext.ReadOnlyRootFilesystem)
	require.False(t, *relay.SecurityContext.AllowPrivilegeEscalation)
	require.Equal(t, []core.Capability{"ALL"}, relay.SecurityContext.Capabilities.Drop)
	env := make(map[string]string)
	for _, e := range relay.Env {
		env[e.Name] = e.Value
	}
	require.Equal(t, map[string]string{
		"RELAY_ADDR": ":8080", "RELAY_ADMIN_ADDR": ":9090", "RELAY_SHUTDOWN_DELAY": "5s",
		"RELAY_SHUTDOWN_GRACE": "50s",
		"GOMEMLIMIT":           "1932735283", "RELAY_STORE": "redis", "RELAY_TRUSTED_PROXIES": "private",
		"RELAY_MAX_STREAM_BYTES": "100000000",
		"OPENAI_API_KEY_FILE":    "/etc/relay/secrets/OPENAI_API_KEY",
		"RELAY_API_KEYS_FILE":    "/etc/relay/secrets/RELAY_API_KEYS",
		"RELAY_REDIS_URL_FILE":   "/etc/relay/secrets/RELAY_REDIS_URL",
	}, env)
}

func TestValuesThatCantBeMeant(t *testing.T) {
	helm := tool(t, "helm", "RELAY_TEST_HELM")
	for set, want := range map[string]string{
		"replicas=2":                           "settings.RELAY_STORE",
		"secrets.keys={UPSTREAM_API_KEY}":      "secrets.existingSecret: is required",
		"settings.RELAY_ADDR=:1":               "settings.RELAY_ADDR: is set by the chart",
		"resources.limits.memory=1.5Gi":        `resources.limits.memory: "1.5Gi"`,
		"setings.RELAY_STORE=redis":            "setings",
		"ingress.enabled=true":                 "ingress.hosts: is required",
		"httpRoute.enabled=true":               "httpRoute.parentRefs: is required",
		"autoscaling.enabled=true":             "autoscaling: more than one replica needs",
		"image.digest=sha256:12":               "digest",
		"secrets.keys={UPSTREAM_API_KEY_FILE}": "keys",
	} {
		t.Run(set, func(t *testing.T) {
			out, err := exec.Command(helm, "template", "relay", chart, "--set", set).CombinedOutput()
			require.Error(t, err)
			require.Contains(t, string(out), want)
		})
	}
}

// The rules of the chart are those that promtool reads in deploy/alerts.yaml.
func TestTheRulesAreThose(t *testing.T) {
	helm := tool(t, "helm", "RELAY_TEST_HELM")
	found := objects(t, run(t, nil, helm, "template", "relay", chart, "-f", chart+"/examples/redis.yaml"))
	var want monitoring.PrometheusRuleSpec
	alerts, err := os.ReadFile("../../deploy/alerts.yaml")
	require.NoError(t, err)
	require.NoError(t, yaml.UnmarshalStrict(alerts, &want))
	require.NotEmpty(t, want.Groups)
	require.Equal(t, want, found["PrometheusRule"].(*monitoring.PrometheusRule).Spec)
	dashboard, err := os.ReadFile("../../deploy/grafana.json")
	require.NoError(t, err)
	require.JSONEq(t, string(dashboard), found["ConfigMap"].(*core.ConfigMap).Data["relay.json"])
}
