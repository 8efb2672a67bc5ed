package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/config"
)

// relayYAML writes a file of settings and gives the variable that points to it.
func relayYAML(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "relay.yaml")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return "RELAY_CONFIG=" + path
}

const routes = `
addr: :8081 # as RELAY_ADDR
cors_origins: [https://a.example, https://b.example]
heartbeat: 5s
default_model: smart
sticky: true
upstreams:
  - &openai
    name: openai
    kind: openai
    api_key: sk-1
    headers: {X-Team: "a,b", X-Number: 7}
    add_fields: {service_tier: flex, n: {deep: [1, true]}}
  - <<: *openai
    name: eu
    base_url: https://eu.example.com/v1
    api_key: sk-2
  - {name: local, kind: ollama, retries: 0}
models:
  smart:
    - - {upstream: openai, model: gpt-6, weight: 3}
      - {upstream: eu}
    - {upstream: local, model: llama}
  gpt-*: [{upstream: eu}]
  gpt-6: [{upstream: openai}]
`

func TestAFileHasAllThatTheEnvironmentHas(t *testing.T) {
	c := load(t, relayYAML(t, routes))
	require.Empty(t, c.Warnings)
	require.Equal(t, ":8081", c.Addr)
	require.Equal(t, []string{"https://a.example", "https://b.example"}, c.CORSOrigins)
	require.Equal(t, 5*time.Second, c.Heartbeat)
	require.True(t, c.Sticky)

	require.Len(t, c.Upstreams, 3)
	openai, eu, local := c.Upstreams[0], c.Upstreams[1], c.Upstreams[2]
	require.Equal(t, []config.Header{{Name: "X-Team", Value: "a,b"}, {Name: "X-Number", Value: "7"}}, openai.Headers)
	require.JSONEq(t, `{"service_tier":"flex","n":{"deep":[1,true]}}`, openai.AddFields)
	require.Equal(t, "https://eu.example.com/v1", eu.BaseURL)
	require.Equal(t, "sk-2", eu.APIKey.Reveal())
	require.Equal(t, openai.Headers, eu.Headers, "what << brings")
	require.Zero(t, local.Retries)
	require.Equal(t, []config.Model{
		{Name: "smart", Tiers: [][]config.Target{
			{{Upstream: "openai", Model: "gpt-6", Weight: 3}, {Upstream: "eu", Weight: 1}},
			{{Upstream: "local", Model: "llama", Weight: 1}},
		}},
		{Name: "gpt-*", Tiers: [][]config.Target{{{Upstream: "eu", Weight: 1}}}},
		{Name: "gpt-6", Tiers: [][]config.Target{{{Upstream: "openai", Weight: 1}}}},
	}, c.Models)
}

// asked is which upstreams a request for a model may go to, and what they are asked for.
func asked(c *config.Config, model string) (all []string) {
	for _, route := range c.Routes() {
		if name := model; name != "" && !route.Has(name) || name == "" && !route.Has(c.DefaultModel) {
			continue
		}
		for _, tier := range route.Tiers {
			for _, choice := range tier {
				name, _ := choice.Model(model)
				all = append(all, c.Upstreams[choice.Upstream].Name+" "+name)
			}
		}
		return all
	}
	return nil
}

func TestAModelIsAskedOfItsUpstreams(t *testing.T) {
	c := load(t, relayYAML(t, routes))
	require.Equal(t, []string{"openai gpt-6", "eu smart", "local llama"}, asked(c, "smart"))
	require.Equal(t, []string{"openai gpt-6", "eu smart", "local llama"}, asked(c, ""))
	require.Equal(t, []string{"openai gpt-6"}, asked(c, "gpt-6"), "the exact name comes before the pattern")
	require.Equal(t, []string{"eu gpt-5"}, asked(c, "gpt-5"))
	require.Empty(t, asked(c, "claude"))
	names, upstreams := c.Names()
	require.Equal(t, []string{"smart", "gpt-6"}, names, "the default first, and no patterns")
	require.Equal(t, []int{0, 0}, upstreams)
	require.Empty(t, c.NeedsModel(kinds))
}

// Who names no model is told, and counted for, the one that answers: the first of the list.
func TestADefaultThatAPatternStandsForIsTheFirstOfTheList(t *testing.T) {
	c := load(t, relayYAML(t, "upstreams: [{kind: demo}, {kind: demo, name: b}]\ndefault_model: gpt-6\n"+
		"models: {x: [{upstream: demo}], gpt-*: [{upstream: b}]}\n"))
	names, upstreams := c.Names()
	require.Equal(t, []string{"gpt-6", "x"}, names)
	require.Equal(t, []int{1, 0}, upstreams)
	require.Equal(t, []string{"b gpt-6"}, asked(c, ""))
	names, _ = load(t, relayYAML(t, "upstreams: [{kind: demo}]\nmodels: {'*': [{upstream: demo}]}\n")).Names()
	require.Empty(t, names, "there is no default")
}

func TestTheEnvironmentCountsMoreThanTheFile(t *testing.T) {
	c := load(t, relayYAML(t, "addr: :1\nheartbeat: 2s\nadmin_addr: ''\nredis_url_file: /absent\nstore: redis\n"),
		"RELAY_ADDR=:2", "RELAY_REDIS_URL=redis://h", "UPSTREAM_KIND=demo", "UPSTREAM_7_KIND=demo")
	require.Equal(t, ":2", c.Addr)
	require.Empty(t, c.AdminAddr)
	require.Equal(t, 2*time.Second, c.Heartbeat)
	require.Equal(t, "redis://h", c.RedisURL.Reveal(), "in whichever form the file has it")
	require.Equal(t, "demo-7", c.Upstreams[1].Name, "upstreams that the file does not have")
	require.Equal(t, ":9", load(t, relayYAML(t, "admin_addr: :8"), "RELAY_ADMIN_ADDR=:9").AdminAddr)
	require.Empty(t, load(t, relayYAML(t, "admin_addr: :8"), "RELAY_ADMIN_ADDR=").AdminAddr)
}

func TestAProvidersOwnKeyFillsKeysOnly(t *testing.T) {
	const two = "upstreams:\n- kind: openai\n- {kind: openai, name: other, base_url: http://localhost:1, model: m}\n"
	c := load(t, relayYAML(t, two), "OPENAI_API_KEY=sk-1")
	require.Equal(t, "sk-1", c.Upstreams[0].APIKey.Reveal())
	require.Equal(t, "openai", c.Upstreams[0].Name)
	require.Empty(t, c.Upstreams[1].APIKey)

	_, err := read([]string{relayYAML(t, "upstreams:\n- model: m"), "OPENAI_API_KEY=sk-1"})
	require.ErrorContains(t, err, "relay.yaml:2: upstreams[0].kind: not set; use one of ")
}

func TestAnEmptyFileIsNoSetting(t *testing.T) {
	for _, content := range []string{"", "# nothing yet\n", "---\n"} {
		require.Equal(t, "demo", load(t, relayYAML(t, content)).Upstreams[0].Kind, "%q", content)
	}
}

func TestEachProblemOfAFileHasItsPathAndLine(t *testing.T) {
	_, err := read([]string{relayYAML(t, `addr: nowhere
heartbeats: 5s
tls_cert: /absent
store:
  redis: true
api_keys:
  web: do-not-show
ui: true
ui: false
config: other.yaml
upstreams:
  - kind: llama
    retries: many
    queue_timout: 1s
    headers: [do-not-show]
  - {kind: demo, name: "my demo"}
  - {kind: demo, name: a}
  - kind: azure
    name: a
    api_key: "do-not show"
models:
  smart:
    - {upstream: b, weight: 0, wait: 3}
    - []
    - [{model: "x*"}, {upstream: a}]
  none: []
default_model: smrt
`)})
	problems, ok := errors.AsType[config.Problems](err)
	require.True(t, ok)
	require.ElementsMatch(t, []string{
		`relay.yaml:1: addr: "nowhere" is not an address; use host:port or :port, e.g. :8080`,
		`relay.yaml:2: heartbeats: is not a setting; did you mean heartbeat?`,
		`relay.yaml: tls_key: not set, but tls_cert is; TLS needs both`,
		`relay.yaml:4: store: is a mapping, and can only be text or a list`,
		`relay.yaml:6: api_keys: is a mapping, and can only be text or a list`,
		`relay.yaml:8: ui: is in line 9, too`,
		`relay.yaml:10: config: is not a setting`,
		`relay.yaml:12: upstreams[0].kind: "llama" is not a kind; ` + allKinds,
		`relay.yaml:13: upstreams[0].retries: "many" is not a whole number`,
		`relay.yaml:14: upstreams[0].queue_timout: is not a setting; did you mean queue_timeout?`,
		`relay.yaml:15: upstreams[0].headers: entry 1 is not of the form Name: value or Name=value`,
		`relay.yaml:16: upstreams[1].name: must be at most 64 printable ASCII characters without spaces`,
		`relay.yaml:18: upstreams[3].base_url: not set; kind azure needs it`,
		`relay.yaml:19: upstreams[3].name: "a" is the name of upstreams[2], too`,
		`relay.yaml:20: upstreams[3].api_key: has characters other than printable ASCII without spaces`,
		`relay.yaml:23: models.smart[0].upstream: "b" is not the name of an upstream; there are llama, my demo, a, a`,
		`relay.yaml:23: models.smart[0].weight: "0" is not a number from 1 to 1000`,
		`relay.yaml:23: models.smart[0].wait: is not a setting`,
		`relay.yaml:24: models.smart[1]: has no upstream`,
		`relay.yaml:25: models.smart[2][0]: has no upstream`,
		`relay.yaml:25: models.smart[2][0].model: "x*" has a *, which no upstream could be asked for`,
		`relay.yaml:26: models.none: has no upstream; use e.g. [{upstream: llama}]`,
		`relay.yaml:27: default_model: "smrt" is not among models`,
	}, []string(problems))
	require.NotContains(t, err.Error(), "do-not")
}

func TestAFileThatCantBeReadIsOneProblem(t *testing.T) {
	for content, want := range map[string]string{
		"a: [\n":                          "relay.yaml:1: is not YAML: ",
		"- a\n":                           "relay.yaml:1: is not a mapping of settings; use e.g. addr: \":8080\"",
		"ui: true\n---\nui: 1":            "relay.yaml: has more than one document; remove what follows the line ---",
		strings.Repeat("#", 1<<20) + "\n": "RELAY_CONFIG: the file is larger than 1MiB",
	} {
		_, err := read([]string{relayYAML(t, content)})
		require.ErrorContains(t, err, want)
		require.Len(t, strings.Split(err.Error(), "\n"), 1)
	}
	_, err := read([]string{"RELAY_CONFIG=/absent/relay.yaml"})
	require.EqualError(t, err, "RELAY_CONFIG: open the file: no such file or directory")
}

func TestVariablesOfUpstreamsBesideThoseOfTheFileAreRefused(t *testing.T) {
	_, err := read([]string{relayYAML(t, "upstreams: [{kind: demo}]"), "UPSTREAM_KIND=openai",
		"UPSTREAM_3_API_KEY_FILE=x",
		"UPSTREAM_MODEL=", "UPSTREAM_SERVICE_HOST=10.0.0.1"})
	require.EqualError(t, err, "UPSTREAM_3_API_KEY_FILE: set, but relay.yaml has upstreams; use only one of them\n"+
		"UPSTREAM_KIND: set, but relay.yaml has upstreams; use only one of them")
}

func TestWhatAFileHasInVainIsWarnedOf(t *testing.T) {
	c := load(t, relayYAML(t, "upstreams: [{kind: demo, model: demo-fast}, {kind: demo, name: spare}]\n"+
		"models: {m: [{upstream: demo}]}\n"))
	require.Equal(t, []string{
		"upstreams[0].model has no effect: models says what upstreams are asked for",
		"upstreams[1] is not asked for anything: no model names spare",
	}, c.Warnings)
	require.Equal(t, []string{"RELAY_STICKY has no effect: there are no models in a file, so no two upstreams share " +
		"requests"},
		load(t, "RELAY_STICKY=true").Warnings)
}

func TestADefaultModelNeedsModels(t *testing.T) {
	_, err := read([]string{"RELAY_DEFAULT_MODEL=m"})
	require.EqualError(t, err, "RELAY_DEFAULT_MODEL: set, but there are no models in a file; use UPSTREAM_MODEL")
	one := load(t, relayYAML(t, "upstreams: [{kind: demo}]\nmodels: {m: [{upstream: demo}]}"))
	require.Equal(t, "default_model in the relay's settings", one.NeedsModel(kinds))
}

func TestAFileWithoutUpstreamsInItsList(t *testing.T) {
	for content, want := range map[string]string{
		"upstreams:":    "relay.yaml:1: upstreams: is not a list",
		"upstreams: {}": "relay.yaml:1: upstreams: is not a list",
		"upstreams: []": "relay.yaml:1: upstreams: is empty; leave it out for those of the environment",
		"upstreams: []\nmodels: {m: [{upstream: demo}]}": "relay.yaml:1: upstreams: is empty; leave it out for those " +
			"of the environment",
		"upstreams: x\nsticky: true\ndefault_model: m": "relay.yaml:1: upstreams: is not a list",
	} {
		_, err := read([]string{relayYAML(t, content)})
		require.EqualError(t, err, want, content)
	}
}

func FuzzFile(f *testing.F) {
	f.Add(routes)
	f.Add("upstreams:")
	f.Add("a: &a [*a]\n<<: *a\n")
	f.Add("upstreams: [{<<: [1]}]\nmodels: {'': [[[]]]}\n")
	f.Fuzz(func(t *testing.T, content string) {
		c, err := read([]string{relayYAML(t, content)})
		if err != nil {
			require.Nil(t, c)
			return
		}
		require.NotEmpty(t, c.Upstreams)
		for _, route := range c.Routes() {
			require.NotEmpty(t, route.Tiers)
		}
	})
}
