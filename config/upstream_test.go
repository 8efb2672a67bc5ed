package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/config"
)

func TestProviderIsChosenByWhatIsSet(t *testing.T) {
	for name, tc := range map[string]struct {
		environ []string
		want    config.Upstream
	}{
		"an OpenAI key alone is enough": {
			[]string{"OPENAI_API_KEY=sk-1"},
			config.Upstream{Kind: "openai-responses", BaseURL: "https://api.openai.com/v1", Model: "gpt-6-luna", APIKey: "sk-1"},
		},
		"an Anthropic key alone is enough": {
			[]string{"ANTHROPIC_API_KEY=sk-1"},
			config.Upstream{Kind: "anthropic", BaseURL: "https://api.anthropic.com", Model: "claude-haiku-5-5",
				APIKey: "sk-1"},
		},
		"a Gemini key alone is enough": {
			[]string{"GEMINI_API_KEY=k"},
			config.Upstream{Kind: "gemini", BaseURL: "https://generativelanguage.googleapis.com/v1beta",
				Model: "gemini-flash-latest", APIKey: "k"},
		},
		"an OpenAI key is the key of both OpenAI formats": {
			[]string{"OPENAI_API_KEY=sk-1", "UPSTREAM_KIND=openai-responses"},
			config.Upstream{Kind: "openai-responses", BaseURL: "https://api.openai.com/v1", Model: "gpt-6-luna", APIKey: "sk-1"},
		},
		"Ollama is taken to be on this machine": {
			[]string{"UPSTREAM_KIND=ollama", "UPSTREAM_MODEL=llama3.2"},
			config.Upstream{Kind: "ollama", BaseURL: "http://localhost:11434", Model: "llama3.2"},
		},
		"Cohere is where Cohere is": {
			[]string{"UPSTREAM_KIND=cohere", "UPSTREAM_API_KEY=k"},
			config.Upstream{Kind: "cohere", BaseURL: "https://api.cohere.com", APIKey: "k"},
		},
		"the demo can be asked for in spite of a key": {
			[]string{"OPENAI_API_KEY=sk-1", "UPSTREAM_KIND=demo"},
			config.Upstream{Kind: "demo"},
		},
		"the kind's name may be in capitals": {
			[]string{"OPENAI_API_KEY=sk-1", "UPSTREAM_KIND=OpenAI"},
			config.Upstream{Kind: "openai", BaseURL: "https://api.openai.com/v1", Model: "gpt-6-luna", APIKey: "sk-1"},
		},
		"the upstream's own key comes before OpenAI's": {
			[]string{"OPENAI_API_KEY=sk-1", "UPSTREAM_API_KEY=sk-2"},
			config.Upstream{Kind: "openai-responses", BaseURL: "https://api.openai.com/v1", Model: "gpt-6-luna",
				APIKey: "sk-2"},
		},
		"an OpenAI key goes to the base URL that is set with it": {
			[]string{"OPENAI_API_KEY=sk-1", "UPSTREAM_BASE_URL=https://api.deepseek.com/"},
			config.Upstream{Kind: "openai", BaseURL: "https://api.deepseek.com", APIKey: "sk-1"},
		},
		"a local server needs no key": {
			[]string{"UPSTREAM_KIND=openai", "UPSTREAM_BASE_URL=http://localhost:8000/v1//"},
			config.Upstream{Kind: "openai", BaseURL: "http://localhost:8000/v1"},
		},
		"azure has a default version": {
			[]string{"UPSTREAM_KIND=azure", "UPSTREAM_BASE_URL=https://x.openai.azure.com", "UPSTREAM_API_KEY=k"},
			config.Upstream{Kind: "azure", BaseURL: "https://x.openai.azure.com", APIKey: "k",
				APIVersion: "2024-10-21"},
		},
		"Azure's newer address has no version": {
			[]string{"UPSTREAM_KIND=azure", "UPSTREAM_BASE_URL=https://x.openai.azure.com/openai/v1/",
				"UPSTREAM_API_KEY=k"},
			config.Upstream{Kind: "azure", BaseURL: "https://x.openai.azure.com/openai/v1", APIKey: "k"},
		},
		"unless one is set": {
			[]string{"UPSTREAM_KIND=azure", "UPSTREAM_BASE_URL=https://x.openai.azure.com/openai/v1",
				"UPSTREAM_API_KEY=k", "UPSTREAM_API_VERSION=preview"},
			config.Upstream{Kind: "azure", BaseURL: "https://x.openai.azure.com/openai/v1", APIKey: "k",
				APIVersion: "preview"},
		},
		"an identity in a cloud goes without the key that lies about": {
			[]string{"UPSTREAM_KIND=gemini", "UPSTREAM_AUTH=google", "GEMINI_API_KEY=k",
				"UPSTREAM_BASE_URL=https://aiplatform.googleapis.com/v1/projects/p/locations/global/" +
					"publishers/google"},
			config.Upstream{Kind: "gemini", Auth: "google",
				BaseURL: "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/google"},
		},
		"another relay does not get the OpenAI key": {
			[]string{"UPSTREAM_KIND=websopy", "UPSTREAM_BASE_URL=https://relay.example.com", "OPENAI_API_KEY=sk-1"},
			config.Upstream{Kind: "websopy", BaseURL: "https://relay.example.com"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := load(t, tc.environ...)
			require.Len(t, c.Upstreams, 1)
			got, defaults := c.Upstreams[0], load(t).Upstreams[0]
			tc.want.Name = tc.want.Kind
			tc.want.ConnectTimeout, tc.want.FirstChunkTimeout = defaults.ConnectTimeout, defaults.FirstChunkTimeout
			tc.want.IdleTimeout, tc.want.Retries, tc.want.QueueTimeout = defaults.IdleTimeout, defaults.Retries,
				defaults.QueueTimeout
			tc.want.ThinkingTimeout, tc.want.StreamUsage = defaults.ThinkingTimeout, true
			if tc.want.Auth == "" {
				tc.want.Auth = "key"
			}
			require.Equal(t, tc.want, got)
			require.Empty(t, c.Warnings)
		})
	}
}

func TestAVersionWithoutEffectGetsAWarning(t *testing.T) {
	c := load(t, "OPENAI_API_KEY=sk-1", "UPSTREAM_API_VERSION=2024-10-21")
	require.Equal(t, []string{"UPSTREAM_API_VERSION has no effect: kind openai-responses has no versions"}, c.Warnings)
	require.Empty(t, c.Upstreams[0].APIVersion)
}

func TestAllowlistGlobs(t *testing.T) {
	for _, tc := range []struct {
		glob, model string
		want        bool
	}{
		{"gpt-4", "gpt-4", true},
		{"gpt-4", "gpt-4o", false},
		{"gpt-4*", "gpt-4", true},
		{"gpt-4*", "gpt-4o-mini", true},
		{"gpt-4*", "my-gpt-4", false},
		{"*", "", true},
		{"*", "meta-llama/Llama-3", true},
		{"*/Llama-*", "meta-llama/Llama-3", true},
		{"*/Llama-*", "Llama-3", false},
		{"*-mini", "gpt-4o-mini", true},
		{"*-mini", "gpt-4o-mini-2024", false},
		{"a*a", "a", false},
		{"a*a", "aa", true},
		{"a*b*c", "a-b-b-c", true},
		{"a*b*c", "a-c-b", false},
		{"a**c", "abc", true},
		{"gpt[4]", "gpt4", false},
		{"gpt?", "gpt4", false},
	} {
		got := (&config.Upstream{Models: []string{"other", tc.glob}}).Allows(tc.model)
		require.Equal(t, tc.want, got, "%s allows %s", tc.glob, tc.model)
	}
	require.True(t, new(config.Upstream).Allows("anything"))
}
