package identity_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/identity"
)

func TestAKeySaysWhoCalls(t *testing.T) {
	keys := identity.NewKeys([]identity.APIKey{{Name: "shop", Key: "k-shop"}, {Key: "k-1"}, {Key: "k-2"}})
	shop, ok := keys.Caller("k-shop")
	require.True(t, ok)
	require.Equal(t, identity.Caller{Name: "shop", Owner: "name shop", Share: "name shop", Tier: "key shop"}, shop)

	first, ok := keys.Caller("k-1")
	require.True(t, ok)
	second, ok := keys.Caller("k-2")
	require.True(t, ok)
	require.NotEqual(t, first.Owner, second.Owner)
	require.NotContains(t, first.Owner, "k-1")

	for _, wrong := range []string{"", "k-sho", "k-shop ", "K-SHOP", "shop"} {
		_, ok = keys.Caller(wrong)
		require.False(t, ok, wrong)
	}
	require.False(t, keys.None())
	require.True(t, identity.NewKeys(nil).None())
}

func TestANameOutlivesItsKey(t *testing.T) {
	before, _ := identity.NewKeys([]identity.APIKey{{Name: "shop", Key: "k-old"}}).Caller("k-old")
	after, _ := identity.NewKeys([]identity.APIKey{{Name: "shop", Key: "k-new"}}).Caller("k-new")
	require.Equal(t, before.Owner, after.Owner)
}
