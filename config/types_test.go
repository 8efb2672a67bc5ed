package config_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/config"
)

func TestSecretShowsItsTextOnlyToReveal(t *testing.T) {
	key := config.APIKey{Name: "web", Key: "sk-do-not-show"}
	asJSON, err := json.Marshal(key)
	require.NoError(t, err)

	for _, shown := range []string{
		fmt.Sprint(key), fmt.Sprintf("%+v", key), fmt.Sprintf("%#v", key), fmt.Sprintf("%s %q %x", key, key, key),
		string(asJSON),
	} {
		require.NotContains(t, shown, "do-not-show")
	}
	require.Equal(t, "***", key.Key.String())
	require.Equal(t, "sk-do-not-show", key.Key.Reveal())
	require.JSONEq(t, `{"Name":"web","Key":"***"}`, string(asJSON))
}

func TestAnEmptySecretIsSeenToBeEmpty(t *testing.T) {
	require.Empty(t, config.Secret("").String())
	require.Equal(t, `""`, fmt.Sprintf("%#v", config.Secret("")))
}

func TestByteSizeReadsUnits(t *testing.T) {
	for text, want := range map[string]config.ByteSize{
		"0":                   0,
		"1048576":             1 << 20,
		"17B":                 17,
		"2KB":                 2_000,
		"2MB":                 2_000_000,
		"3gb":                 3_000_000_000,
		"512KiB":              512 << 10,
		"1MiB":                1 << 20,
		"2GiB":                2 << 30,
		"9223372036854775807": 1<<63 - 1,
	} {
		var size config.ByteSize
		require.NoError(t, size.UnmarshalText([]byte(text)), text)
		require.Equal(t, want, size, text)

		var again config.ByteSize
		require.NoError(t, again.UnmarshalText([]byte(size.String())), size.String())
		require.Equal(t, size, again, "String of %s can be read again", text)
	}
}

func TestByteSizeRefusesWhatIsNoSize(t *testing.T) {
	for _, text := range []string{
		"", "MiB", "-1", "+1", "1.5MiB", "1 MiB", "1M", "1TB", "1MiBB", "1e6", "0x10", "one",
		"9223372036854775808", "9223372036854775807KiB", "8589934592GiB",
	} {
		var size config.ByteSize
		require.ErrorContains(t, size.UnmarshalText([]byte(text)), "is not a size", text)
		require.Zero(t, size, text)
	}
}

func TestByteSizePrintsItsLargestWholeUnit(t *testing.T) {
	for want, size := range map[string]config.ByteSize{
		"0": 0, "1B": 1, "1MiB": 1 << 20, "1025B": 1025, "64MiB": 64 << 20, "1536KiB": 1536 << 10, "2MB": 2_000_000,
	} {
		require.Equal(t, want, size.String())
	}
}
