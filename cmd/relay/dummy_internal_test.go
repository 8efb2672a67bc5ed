package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestADummyKeyOfALocalProviderIsNoSecret(t *testing.T) {
	for _, key := range []string{"none", "ollama", "dummy", "EMPTY", "not-needed", "sk-no-key-required", "lm-studio",
		"x", "sk-xxx", "no-key"} {
		for _, host := range []string{"http://localhost:1234/v1", "http://127.0.0.1:8080", "http://10.1.2.3",
			"http://llama:8080", "http://gpu.local"} {
			require.True(t, isDummy(key, host), "%s at %s", key, host)
		}
		require.False(t, isDummy(key, "https://api.example.com/v1"), "somebody chose it")
	}
	for _, key := range []string{"k-provider-0123456789", "sk-proj-abc", "nonesuch", "local-0123"} {
		require.False(t, isDummy(key, "http://localhost:1234"), key)
	}
}
