package identity_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/identity"
)

func TestRotatedKeysAreFoundAtOnceAndOldOnesAreDropped(t *testing.T) {
	is := startIssuer(t, jwk("1", rsaKey, nil))
	tokens := is.tokens(t, identity.KeySetOptions{Unknown: time.Nanosecond})
	first := sign(jwt.SigningMethodRS256, rsaKey, "1", is.claims(nil), nil)
	second := sign(jwt.SigningMethodRS256, otherRSAKey, "2", is.claims(nil), nil)
	alice, err := tokens.Caller(t.Context(), first)
	require.NoError(t, err)

	is.set(func(is *issuer) { is.keys = append(is.keys, jwk("2", otherRSAKey, nil)) })
	again, err := tokens.Caller(t.Context(), second)
	require.NoError(t, err)
	require.Equal(t, alice, again)
	_, err = tokens.Caller(t.Context(), first)
	require.NoError(t, err, "while both are there, both count")
	require.Equal(t, 2, is.fetches())

	is.set(func(is *issuer) { is.keys = is.keys[1:] })
	_, err = tokens.Caller(t.Context(), sign(jwt.SigningMethodRS256, rsaKey, "3", is.claims(nil), nil))
	require.IsType(t, &identity.BadToken{}, err)
	_, err = tokens.Caller(t.Context(), first)
	require.IsType(t, &identity.BadToken{}, err, "the old key is gone")
	_, err = tokens.Caller(t.Context(), second)
	require.NoError(t, err)
}

func TestOldKeysAreFetchedAnewWithoutBeingAskedFor(t *testing.T) {
	is := startIssuer(t, jwk("1", rsaKey, nil))
	tokens := is.tokens(t, identity.KeySetOptions{Refresh: 10 * time.Millisecond})
	token := sign(jwt.SigningMethodRS256, rsaKey, "1", is.claims(nil), nil)
	_, err := tokens.Caller(t.Context(), token)
	require.NoError(t, err)
	is.set(func(is *issuer) { is.keys = []map[string]any{jwk("2", otherRSAKey, nil)} })
	require.Eventually(t, func() bool {
		_, err := tokens.Caller(t.Context(), token)
		return err != nil
	}, patience, 5*time.Millisecond, "the key that leaked does not count any more")
}

func TestStrangersCauseOneFetch(t *testing.T) {
	is := startIssuer(t, jwk("1", rsaKey, nil))
	tokens := is.tokens(t, identity.KeySetOptions{})
	_, err := tokens.Caller(t.Context(), sign(jwt.SigningMethodRS256, rsaKey, "1", is.claims(nil), nil))
	require.NoError(t, err)
	var strangers sync.WaitGroup
	for range 100 {
		strangers.Go(func() {
			_, err := tokens.Caller(t.Context(), sign(jwt.SigningMethodES256, ecKey, "x", is.claims(nil), nil))
			assert.IsType(t, &identity.BadToken{}, err)
		})
	}
	strangers.Wait()
	require.Equal(t, 2, is.fetches())
}

// While the issuer can't be asked, who has a known key goes on. Who has another may have a new one: that is no
// refusal for good.
func TestTheIssuerIsAway(t *testing.T) {
	for name, breaks := range map[string]func(is *issuer){
		"it answers 500": func(is *issuer) { is.fail = http.StatusInternalServerError },
		"it hangs":       func(is *issuer) { is.hang = make(chan struct{}) },
		"it has no keys": func(is *issuer) { is.keys = nil },
		"it is another":  func(is *issuer) { is.name = "https://evil.example" },
		"it has keys for others": func(is *issuer) {
			is.keys = []map[string]any{jwk("1", rsaKey, map[string]any{"use": "enc"})}
		},
	} {
		t.Run(name, func(t *testing.T) {
			is := startIssuer(t, jwk("1", rsaKey, nil))
			told := make(chan error, 10)
			o := identity.KeySetOptions{Unknown: time.Nanosecond, Patience: 2 * time.Second,
				Told: func(err error) { told <- err }}
			tokens := is.tokens(t, o)
			known := sign(jwt.SigningMethodRS256, rsaKey, "1", is.claims(nil), nil)
			fresh := sign(jwt.SigningMethodRS256, otherRSAKey, "2", is.claims(nil), nil)
			_, err := tokens.Caller(t.Context(), known)
			require.NoError(t, err)

			is.set(breaks)
			_, err = tokens.Caller(t.Context(), fresh)
			require.ErrorIs(t, err, identity.ErrNoKeys)
			began := time.Now()
			_, err = tokens.Caller(t.Context(), known)
			require.NoError(t, err)
			require.Less(t, time.Since(began), o.Patience/2, "and does not wait")
			if name != "it hangs" {
				require.Error(t, <-told)
			}

			is.set(func(is *issuer) {
				if is.hang != nil {
					close(is.hang)
				}
				is.fail, is.hang, is.name, is.keys = 0, nil, "", []map[string]any{jwk("2", otherRSAKey, nil)}
			})
			require.Eventually(t, func() bool {
				_, err := tokens.Caller(t.Context(), fresh)
				return err == nil
			}, patience, 10*time.Millisecond, "it is back")
			if name != "it hangs" {
				require.NoError(t, <-told)
			}
			require.Empty(t, told, "told once each")
		})
	}
}

func TestWithoutAnyKeysNobodyWaitsLong(t *testing.T) {
	is := startIssuer(t)
	hang := make(chan struct{})
	is.set(func(is *issuer) { is.hang = hang })
	defer close(hang)
	tokens := is.tokens(t, identity.KeySetOptions{Patience: 50 * time.Millisecond})
	token := sign(jwt.SigningMethodRS256, rsaKey, "1", is.claims(nil), nil)
	_, err := tokens.Caller(t.Context(), token)
	require.ErrorIs(t, err, identity.ErrNoKeys)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = tokens.Caller(gone, token)
	require.ErrorIs(t, err, context.Canceled)
}

func TestKeysInAFile(t *testing.T) {
	is := startIssuer(t)
	file := filepath.Join(t.TempDir(), "keys.json")
	write := func(keys ...map[string]any) {
		require.NoError(t, os.WriteFile(file+".new", must(json.Marshal(map[string]any{"keys": keys})), 0o600))
		require.NoError(t, os.Rename(file+".new", file))
	}
	write(jwk("1", rsaKey, nil))
	tokens := is.tokens(t, identity.KeySetOptions{Source: file, Unknown: time.Nanosecond})
	_, err := tokens.Caller(t.Context(), sign(jwt.SigningMethodRS256, rsaKey, "1", is.claims(nil), nil))
	require.NoError(t, err)
	write(jwk("2", otherRSAKey, nil))
	_, err = tokens.Caller(t.Context(), sign(jwt.SigningMethodRS256, otherRSAKey, "2", is.claims(nil), nil))
	require.NoError(t, err)
	require.NoError(t, os.Remove(file))
	_, err = tokens.Caller(t.Context(), sign(jwt.SigningMethodRS256, rsaKey, "3", is.claims(nil), nil))
	require.ErrorIs(t, err, identity.ErrNoKeys)
	require.Zero(t, is.fetches())
}

func TestRedirectsStayOnTLS(t *testing.T) {
	request := func(url string) *http.Request { return must(http.NewRequest(http.MethodGet, url, nil)) }
	secure, plain := request("https://a.example/"), request("http://a.example/")
	require.NoError(t, identity.StayOnTLS(secure, []*http.Request{secure}))
	require.NoError(t, identity.StayOnTLS(plain, []*http.Request{plain}))
	require.Error(t, identity.StayOnTLS(plain, []*http.Request{secure}))
	require.Error(t, identity.StayOnTLS(secure, []*http.Request{secure, secure, secure, secure, secure}))
}
