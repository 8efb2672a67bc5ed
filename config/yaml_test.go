package config_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/config"
)

// An upstream can have its settings from one that has them from a third, or from several; so can its headers and its
// fields.
func TestMappingsReferToOthersAsYAMLHasIt(t *testing.T) {
	c := load(t, relayYAML(t, `
upstreams:
- &a {name: a, kind: demo, retries: 1, idle_timeout: 7s, headers: &h {X-A: '1', X-B: '1'}, add_fields: &f {n: 1}}
- &b {<<: *a, name: b, retries: 3}
- {<<: *b, name: c}
- name: d
  <<: [{queue: 4}, *b, *a]
  headers: {<<: *h, X-B: '2'}
  add_fields: {<<: *f, logit_bias: {50256: -100}, day: 2024-01-02, more: [~, yes, true, 0x10, 1.5, {<<: *f}]}
`))
	require.Len(t, c.Upstreams, 4)
	for i, retries := range []int{1, 3, 3, 3} {
		require.Equal(t, retries, c.Upstreams[i].Retries, i)
		require.Equal(t, "7s", c.Upstreams[i].IdleTimeout.String(), i)
	}
	d := c.Upstreams[3]
	require.Equal(t, "d", d.Name)
	require.Equal(t, 4, d.Queue)
	require.ElementsMatch(t, []config.Header{{Name: "X-A", Value: "1"}, {Name: "X-B", Value: "2"}}, d.Headers)
	require.JSONEq(t, `{"n":1,"logit_bias":{"50256":-100},"day":"2024-01-02","more":[null,"yes",true,16,1.5,{"n":1}]}`,
		d.AddFields)
}

// A caller whose tier was left out would be without limits; a model that is none would be asked for as "null".
func TestNothingIsNoText(t *testing.T) {
	c := load(t, relayYAML(t, "cors_origins: [~, https://a.example, null]\nupstreams: [{kind: demo}]\n"+
		"models: {a: [{upstream: demo, model: null}], b: [{upstream: demo, model: ~}]}\n"))
	require.Equal(t, []string{"https://a.example"}, c.CORSOrigins)
	require.Equal(t, []string{"demo a"}, asked(c, "a"))
	require.Equal(t, []string{"demo b"}, asked(c, "b"))

	const keys = "api_keys: [shop:0123456789abcdef]\nlimit_requests: 1/m\ntiers: {gold: {limit_streams: 1}}\n"
	for _, nothing := range []string{"", "~", "null", "''"} {
		_, err := read([]string{relayYAML(t, keys+"callers:\n  shop: "+nothing+"\n")})
		require.EqualError(t, err,
			"relay.yaml:5: callers.shop: is empty; use the name of a tier, limits, or {} for none")
	}
	require.Equal(t, config.Caller{}, load(t, relayYAML(t, keys+"callers: {shop: {}}")).Callers["shop"])
}

func TestWhatIsThereTwiceOrHasNoNameIsAnErrorEverywhere(t *testing.T) {
	const upstream = "upstreams:\n- kind: demo\n  "
	for content, want := range map[string]string{
		upstream + "headers:\n    X-A: do-not-show\n    X-A: do-not-show\n": "relay.yaml:3: upstreams[0].headers: has " +
			"an entry that is in line 5, too",
		upstream + "add_fields:\n    a: {b: 1,\n    b: 2}\n": "relay.yaml:3: upstreams[0].add_fields: has an entry that " +
			"is in line 5, too",
		upstream + "add_fields: {a: .nan}\n": "relay.yaml:3: upstreams[0].add_fields: is not a mapping that JSON " +
			"could have",
		upstream + "add_fields: &f {a: *f}\n": "relay.yaml:3: upstreams[0].add_fields: has more than 10000 values",
		upstream + "headers: {[a]: b}\n": "relay.yaml:3: upstreams[0].headers: has a key in line 3 that is not " +
			"text",
		upstream + "? [a]\n  : b\n":               "relay.yaml:2: upstreams[0]: has a key in line 3 that is not text",
		"ui: true\n? [a]\n: b\n":                  "relay.yaml: has a key in line 2 that is not text",
		"ui: true\n<<: 5\n":                       "relay.yaml: << in line 2 does not refer to a mapping",
		"upstreams:\n- &a {kind: demo, <<: *a}\n": "relay.yaml:2: upstreams[0]: << in line 2 refers to what it is in",
		"upstreams: [{kind: demo}]\nmodels: {a*: [{upstream: demo}]}\ndefault_model: a*\n": "relay.yaml:3: " +
			`default_model: "a*" has a *, and is no model`,
	} {
		_, err := read([]string{relayYAML(t, content)})
		problems, _ := errors.AsType[config.Problems](err)
		require.Equal(t, []string{want}, []string(problems), content)
	}
}

func TestWhatIsNotYAMLHasALine(t *testing.T) {
	for content, line := range map[string]string{
		"ui: true\naddr: *x\n":                        "2: is not YAML: unknown anchor 'x' referenced",
		"ui: true\n\naddr: 'a\x01'\n":                 "3: is not YAML: control characters are not allowed",
		"ui: true\naddr: '\xff'\n":                    "2: is not YAML: invalid leading UTF-8 octet",
		"ui: true\nupstreams:\n- {name: a, ki":        "3: is not YAML: did not find expected ',' or '}'",
		"ui: true\nupstreams:\n- name: a\n kind: b\n": "4: is not YAML: did not find expected key",
		"ui: true\naddr: [\n\n":                       "2: is not YAML: did not find expected node content",
		"ui: true\naddr: 'a\n":                        "2: is not YAML: found unexpected end of stream",
		"ui: true\n\tsticky: true\n":                  "2: is not YAML: found a tab character that violates indentation",
		"addr: a: b\n":                                "1: is not YAML: mapping values are not allowed in this context",
	} {
		_, err := read([]string{relayYAML(t, content)})
		require.EqualError(t, err, "relay.yaml:"+line)
	}
}

// Anchors multiply: a small file must not keep the relay from starting.
func TestAnchorsOfAnchorsAreReadInNoTime(t *testing.T) {
	var text strings.Builder
	text.WriteString("upstreams:\n- &a0 {kind: demo}\n")
	for i := range 40 {
		n, before := string(rune('a'+i/26))+string(rune('a'+i%26)), "a0"
		if i > 0 {
			before = string(rune('a'+(i-1)/26)) + string(rune('a'+(i-1)%26))
		}
		text.WriteString("- &" + n + " {<<: [*" + before + ", *" + before + "], name: u" + n + "}\n")
	}
	require.Len(t, load(t, relayYAML(t, text.String())).Upstreams, 41)
}
