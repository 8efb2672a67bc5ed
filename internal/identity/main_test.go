package identity_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/identity"
	"github.com/websopy/relay/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// patience is for what must come, on a machine that is busy with other things.
const patience = time.Minute

// The keys of the tests. Making RSA keys takes time, so that they are made once.
var (
	rsaKey      = must(rsa.GenerateKey(rand.Reader, 2048))
	otherRSAKey = must(rsa.GenerateKey(rand.Reader, 2048))
	ecKey       = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	_, edKey, _ = ed25519.GenerateKey(rand.Reader)
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// jwk is a key's entry of a key set, with the members of more in place of its own.
func jwk(id string, key crypto.Signer, more map[string]any) map[string]any {
	made := must(jwkset.NewJWKFromKey(key.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: id}}))
	entry := map[string]any{}
	_ = json.Unmarshal(must(json.Marshal(made.Marshal())), &entry)
	for name, value := range more {
		if entry[name] = value; value == nil {
			delete(entry, name)
		}
	}
	return entry
}

// issuer is a server that has a key set and its discovery document.
type issuer struct {
	*httptest.Server
	mu      sync.Mutex // guards what follows
	keys    []map[string]any
	fail    int           // a status to answer the key set with instead
	hang    chan struct{} // until it is closed the key set is not answered
	name    string        // in the discovery document; empty: the server's URL
	fetched int
}

func startIssuer(t testing.TB, keys ...map[string]any) *issuer {
	is := &issuer{keys: keys}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		is.mu.Lock()
		defer is.mu.Unlock()
		name := is.name
		if name == "" {
			name = is.URL
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": name, "jwks_uri": is.URL + "/keys"})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, req *http.Request) {
		is.mu.Lock()
		is.fetched++
		keys, fail, hang := is.keys, is.fail, is.hang
		is.mu.Unlock()
		if hang != nil {
			select {
			case <-hang:
			case <-req.Context().Done():
			}
		}
		if fail != 0 {
			w.WriteHeader(fail)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": keys})
	})
	is.Server = httptest.NewServer(mux)
	t.Cleanup(is.Close)
	return is
}

func (is *issuer) set(change func(is *issuer)) {
	is.mu.Lock()
	defer is.mu.Unlock()
	change(is)
}

func (is *issuer) fetches() int {
	is.mu.Lock()
	defer is.mu.Unlock()
	return is.fetched
}

// openKeys opens the issuer's key set by discovery, unless o says where it is.
func (is *issuer) openKeys(t testing.TB, o identity.KeySetOptions) *identity.KeySet {
	if o.Source == "" {
		o.Issuer = is.URL
	}
	transport := &http.Transport{}
	o.Client = &http.Client{Transport: transport, Timeout: 5 * time.Second}
	keys := identity.OpenKeySet(o)
	t.Cleanup(func() {
		keys.Close()
		transport.CloseIdleConnections()
	})
	return keys
}

// tokens checks tokens of the issuer for the audience relay.
func (is *issuer) tokens(t testing.TB, o identity.KeySetOptions) *identity.Tokens {
	return identity.NewTokens(identity.TokensOptions{
		Issuer: is.URL, Audience: []string{"relay"}, Methods: []string{"RS256", "ES256", "EdDSA"},
	}, is.openKeys(t, o))
}

// claims are those of a good token of the issuer, with more in place of its own.
func (is *issuer) claims(more map[string]any) jwt.MapClaims {
	c := jwt.MapClaims{
		"iss": is.URL, "sub": "alice", "aud": "relay",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	for name, value := range more {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

// sign makes a token. The header gets the members of more.
func sign(method jwt.SigningMethod, key any, id string, claims jwt.MapClaims, more map[string]any) string {
	token := jwt.NewWithClaims(method, claims)
	if id != "" {
		token.Header["kid"] = id
	}
	for name, value := range more {
		if token.Header[name] = value; value == nil {
			delete(token.Header, name)
		}
	}
	return must(token.SignedString(key))
}

func TestATokenOfEachKindIsAccepted(t *testing.T) {
	is := startIssuer(t, jwk("r", rsaKey, nil), jwk("e", ecKey, nil), jwk("d", edKey, nil))
	tokens := is.tokens(t, identity.KeySetOptions{})
	good := is.claims(nil)
	late := is.claims(map[string]any{"iat": time.Now().Add(20 * time.Second).Unix()})
	for name, token := range map[string]string{
		"RSA":                   sign(jwt.SigningMethodRS256, rsaKey, "r", good, nil),
		"ECDSA":                 sign(jwt.SigningMethodES256, ecKey, "e", good, nil),
		"Ed25519":               sign(jwt.SigningMethodEdDSA, edKey, "d", good, nil),
		"without a key id":      sign(jwt.SigningMethodES256, ecKey, "", good, nil),
		"without a type":        sign(jwt.SigningMethodRS256, rsaKey, "r", good, map[string]any{"typ": nil}),
		"an access token":       sign(jwt.SigningMethodRS256, rsaKey, "r", good, map[string]any{"typ": "at+jwt"}),
		"a clock that is ahead": sign(jwt.SigningMethodRS256, rsaKey, "r", late, nil),
		"several audiences": sign(jwt.SigningMethodRS256, rsaKey, "r",
			is.claims(map[string]any{"aud": []string{"a", "relay"}}), nil),
		"an address that is wrong": sign(jwt.SigningMethodRS256, rsaKey, "r", good,
			map[string]any{"jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/"}),
	} {
		c, err := tokens.Caller(t.Context(), token)
		require.NoError(t, err, name)
		require.Regexp(t, "^jwt [0-9a-f]{32}$", c.Owner, name)
		require.Equal(t, c.Owner, c.Share)
		require.Empty(t, c.Name)
	}
	require.Equal(t, 1, is.fetches())
}

func TestWhoseATokenIs(t *testing.T) {
	is := startIssuer(t, jwk("r", rsaKey, nil), jwk("e", ecKey, nil))
	tokens := identity.NewTokens(identity.TokensOptions{
		Audience: []string{"relay"}, Methods: []string{"RS256", "ES256"}, NameClaim: "email", TierClaim: "realm.plans",
	}, is.openKeys(t, identity.KeySetOptions{Source: is.URL + "/keys"}))
	whose := func(more map[string]any) identity.Caller {
		c, err := tokens.Caller(t.Context(), sign(jwt.SigningMethodRS256, rsaKey, "r", is.claims(more), nil))
		require.NoError(t, err)
		return c
	}
	alice := whose(nil)
	rotated, err := tokens.Caller(t.Context(), sign(jwt.SigningMethodES256, ecKey, "e", is.claims(nil), nil))
	require.NoError(t, err)
	require.Equal(t, alice.Owner, rotated.Owner, "by another key")
	require.Equal(t, alice.Owner,
		whose(map[string]any{"exp": time.Now().Add(2 * time.Hour).Unix(), "email": "x"}).Owner, "refreshed")
	require.NotEqual(t, alice.Owner, whose(map[string]any{"sub": "bob"}).Owner)
	require.NotEqual(t, alice.Owner, whose(map[string]any{"iss": "https://other.example"}).Owner)
	require.NotEqual(t, whose(map[string]any{"iss": "https://a", "sub": "bc"}).Owner,
		whose(map[string]any{"iss": "https://ab", "sub": "c"}).Owner)

	c := whose(map[string]any{"email": "alice@example.com",
		"realm": map[string]any{"plans": []string{"gold", "free"}}})
	require.Equal(t, "alice@example.com", c.Name)
	require.Equal(t, "tier gold", c.Tier)
	require.Empty(t, whose(map[string]any{"realm": "gold", "email": 7.5}).Tier)

	// Of many groups the first counts that is a tier.
	tokens = identity.NewTokens(identity.TokensOptions{
		Audience: []string{"relay"}, Methods: []string{"RS256"}, TierClaim: "groups",
		IsTier: func(tier string) bool { return tier == "tier gold" || tier == "tier free" },
	}, is.openKeys(t, identity.KeySetOptions{Source: is.URL + "/keys"}))
	require.Equal(t, "tier gold", whose(map[string]any{"groups": []string{"staff", "gold", "free"}}).Tier)
	require.Empty(t, whose(map[string]any{"groups": []string{"staff"}}).Tier)
	require.Empty(t, whose(map[string]any{"groups": []any{[]string{"gold"}, map[string]any{"gold": 1}}}).Tier)
}

func TestClaimsThatAreRequired(t *testing.T) {
	is := startIssuer(t, jwk("r", rsaKey, nil))
	keys := is.openKeys(t, identity.KeySetOptions{})
	for name, tc := range map[string]struct {
		want identity.Claim
		has  map[string]any
		ok   bool
	}{
		"a text": {identity.Claim{Name: "role", Value: "chat"}, map[string]any{"role": "chat"}, true},
		"another text": {identity.Claim{Name: "role", Value: "chat"}, map[string]any{"role": "chats"},
			false},
		"none": {identity.Claim{Name: "role", Value: "chat"}, nil, false},
		"an entry": {identity.Claim{Name: "groups", Value: "chat"},
			map[string]any{"groups": []string{"x", "chat"}}, true},
		"another entry": {identity.Claim{Name: "groups", Value: "chat"},
			map[string]any{"groups": []any{"x", 1, nil}}, false},
		"an entry that is a number": {identity.Claim{Name: "groups", Value: "7"},
			map[string]any{"groups": []any{"x", 7}}, true},
		"an entry of several words": {identity.Claim{Name: "groups", Value: "chat team"},
			map[string]any{"groups": []string{"chat team"}}, true},
		"a word of an entry": {identity.Claim{Name: "groups", Value: "chat"},
			map[string]any{"groups": []string{"not in chat"}}, false},
		"a word": {identity.Claim{Name: "scope", Value: "chat:write"},
			map[string]any{"scope": "openid chat:write"}, true},
		"a part of a word": {identity.Claim{Name: "scope", Value: "chat"},
			map[string]any{"scope": "openid chat:write"}, false},
		"a truth": {identity.Claim{Name: "email_verified", Value: "true"},
			map[string]any{"email_verified": true}, true},
		"a number": {identity.Claim{Name: "level", Value: "3"}, map[string]any{"level": 3}, true},
		"a path": {identity.Claim{Name: "realm.roles", Value: "chat"},
			map[string]any{"realm": map[string]any{"roles": []string{"chat"}}}, true},
		"a path to nothing": {identity.Claim{Name: "realm.roles.x", Value: "chat"},
			map[string]any{"realm": map[string]any{"roles": []string{"chat"}}}, false},
		"a name that has dots": {identity.Claim{Name: "https://x.example/role", Value: "chat"},
			map[string]any{"https://x.example/role": "chat"}, true},
		"an object is no text": {identity.Claim{Name: "role", Value: "chat"},
			map[string]any{"role": map[string]any{"chat": true}}, false},
		"the value in one text": {identity.Claim{Name: "team", Value: "the chat team"},
			map[string]any{"team": "the chat team"}, true},
		"an empty one is not it": {identity.Claim{Name: "role", Value: "chat"}, map[string]any{"role": ""}, false},
	} {
		tokens := identity.NewTokens(identity.TokensOptions{
			Audience: []string{"relay"}, Methods: []string{"RS256"}, Require: []identity.Claim{tc.want},
		}, keys)
		_, err := tokens.Caller(t.Context(), sign(jwt.SigningMethodRS256, rsaKey, "r", is.claims(tc.has), nil))
		if tc.ok {
			require.NoError(t, err, name)
		} else {
			require.ErrorIs(t, err, identity.ErrForbidden, name)
		}
	}
}
