package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/identity"
)

// forge makes a token of any header and payload, with a signature that is one of nothing.
func forge(header, payload, signature string) string {
	e := base64.RawURLEncoding
	return e.EncodeToString([]byte(header)) + "." + e.EncodeToString([]byte(payload)) + "." +
		e.EncodeToString([]byte(signature))
}

func TestTokensThatAreRefused(t *testing.T) {
	weak := must(rsa.GenerateKey(rand.Reader, 1024)) //nolint:gosec // that is the point
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	is := startIssuer(t,
		jwk("r", rsaKey, nil), jwk("e", ecKey, nil), jwk("p384", p384, nil),
		jwk("enc", otherRSAKey, map[string]any{"use": "enc"}),
		jwk("wrap", otherRSAKey, map[string]any{"key_ops": []string{"wrapKey"}}),
		jwk("weak", weak, nil), jwk("ps", rsaKey, map[string]any{"alg": "PS256"}),
		map[string]any{"kty": "oct", "kid": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"},
		map[string]any{"kty": "NEW", "kid": "new"}, map[string]any{"kty": 5},
	)
	tokens := is.tokens(t, identity.KeySetOptions{})
	der := must(x509.MarshalPKIXPublicKey(rsaKey.Public()))
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	good, ago := is.claims(nil), time.Now().Add(-time.Minute).Unix()
	soon := time.Now().Add(time.Minute).Unix()
	rs := func(more map[string]any) string {
		return sign(jwt.SigningMethodRS256, rsaKey, "r", is.claims(more), nil)
	}
	head := func(more map[string]any) string { return sign(jwt.SigningMethodRS256, rsaKey, "r", good, more) }
	payload := string(must(json.Marshal(good)))
	genuine := rs(nil)
	parts := strings.Split(genuine, ".")
	const signature, algorithm, unknown, unreadable = "signature is not valid", "algorithm that is not accepted",
		"its issuer does not have", "can't be read"

	for name, tc := range map[string]struct{ token, says string }{
		"HMAC with the public key": {sign(jwt.SigningMethodHS256, asPEM, "r", good, nil), algorithm},
		"HMAC with the DER of it":  {sign(jwt.SigningMethodHS256, der, "r", good, nil), algorithm},
		"HMAC with a key of the set": {sign(jwt.SigningMethodHS256, []byte("secret-secret-secret-secret-secret"),
			"oct", good, nil), algorithm},
		"no signature": {sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "r", good,
			nil), algorithm},
		"None in other letters":           {forge(`{"alg":"nOnE","kid":"r"}`, payload, ""), algorithm},
		"no algorithm":                    {forge(`{"kid":"r"}`, payload, "x"), algorithm},
		"an algorithm that nobody knows":  {forge(`{"alg":"XS1","kid":"r"}`, payload, "x"), algorithm},
		"an algorithm that is not listed": {sign(jwt.SigningMethodPS256, rsaKey, "r", good, nil), algorithm},
		"RSA by the id of an EC key":      {sign(jwt.SigningMethodRS256, rsaKey, "e", good, nil), unknown},
		"EC by the id of an RSA key":      {sign(jwt.SigningMethodES256, ecKey, "r", good, nil), unknown},
		"a key of another curve": {forge(`{"alg":"ES256","kid":"p384"}`, payload, strings.Repeat("x", 64)),
			unknown},
		"a key for another algorithm": {sign(jwt.SigningMethodRS256, rsaKey, "ps", good, nil), unknown},
		"a key for encryption":        {sign(jwt.SigningMethodRS256, otherRSAKey, "enc", good, nil), unknown},
		"a key for wrapping":          {sign(jwt.SigningMethodRS256, otherRSAKey, "wrap", good, nil), unknown},
		"a key that is too short":     {sign(jwt.SigningMethodRS256, weak, "weak", good, nil), unknown},
		"a key of nobody":             {sign(jwt.SigningMethodRS256, otherRSAKey, "mine", good, nil), unknown},
		"another key by a good id":    {sign(jwt.SigningMethodRS256, otherRSAKey, "r", good, nil), signature},
		"another key without an id":   {sign(jwt.SigningMethodRS256, otherRSAKey, "", good, nil), signature},
		"a key that comes with it": {sign(jwt.SigningMethodRS256, otherRSAKey, "r", good,
			map[string]any{"jwk": jwk("r", otherRSAKey, nil), "jku": is.URL + "/keys"}), signature},
		"another payload": {parts[0] + "." + strings.Split(rs(map[string]any{"sub": "bob"}),
			".")[1] + "." + parts[2], signature},
		"bits behind the signature":         {genuine[:len(genuine)-1] + string(genuine[len(genuine)-1]+1), ""},
		"critical headers":                  {head(map[string]any{"crit": []string{"b64"}, "b64": false}), "critical"},
		"an empty list of critical headers": {head(map[string]any{"crit": []string{}}), "critical"},
		"a logout token":                    {head(map[string]any{"typ": "logout+jwt"}), "typ must be"},
		"a type that is no text":            {head(map[string]any{"typ": 5}), "typ must be"},
		"for another audience":              {rs(map[string]any{"aud": "billing"}), "another audience"},
		"for no audience":                   {rs(map[string]any{"aud": nil}), "lacks a claim"},
		"for an audience of no text":        {rs(map[string]any{"aud": 5}), ""},
		"of another issuer":                 {rs(map[string]any{"iss": "https://evil.example"}), "another issuer"},
		"of an issuer but for a slash":      {rs(map[string]any{"iss": is.URL + "/"}), "another issuer"},
		"of no issuer":                      {rs(map[string]any{"iss": nil}), "lacks a claim"},
		"that never expires":                {rs(map[string]any{"exp": nil}), "lacks a claim"},
		"that expires in words":             {rs(map[string]any{"exp": "tomorrow"}), ""},
		"that has expired":                  {rs(map[string]any{"exp": ago}), "has expired"},
		"of tomorrow":                       {rs(map[string]any{"iat": soon}), "from the future"},
		"not valid yet":                     {rs(map[string]any{"nbf": soon}), "not valid yet"},
		"not valid until a time that wraps": {rs(map[string]any{"nbf": 1e300}), "no date: nbf"},
		"of a time that wraps":              {rs(map[string]any{"iat": 1e19}), "no date: iat"},
		"that expires at no time":           {rs(map[string]any{"exp": 1e300}), "no date: exp"},
		"about nobody":                      {rs(map[string]any{"sub": ""}), "whose it is"},
		"about no subject":                  {rs(map[string]any{"sub": nil}), "whose it is"},
		"about a number":                    {rs(map[string]any{"sub": 5}), "whose it is"},
		"that is too large": {rs(map[string]any{"x": strings.Repeat("x", 8<<10)}),
			"larger than 8 KiB"},
		"that is encrypted":       {genuine + ".a.b", unreadable},
		"of two parts":            {parts[0] + "." + parts[1], unreadable},
		"that is no Base64":       {"a b." + parts[1] + "." + parts[2], unreadable},
		"of padded Base64":        {parts[0] + "=." + parts[1] + "." + parts[2], unreadable},
		"whose header is a list":  {forge(`[]`, payload, "x"), unreadable},
		"whose claims are a list": {forge(`{"alg":"RS256","kid":"r"}`, `[]`, "x"), unreadable},
		"that is nothing":         {"..", unreadable},
	} {
		c, err := tokens.Caller(t.Context(), tc.token)
		require.Error(t, err, name)
		require.IsType(t, &identity.BadToken{}, err, name)
		require.Contains(t, err.Error(), tc.says, name)
		require.Zero(t, c, name)
	}
	_, err := tokens.Caller(t.Context(), genuine)
	require.NoError(t, err, "beside all these")
	require.LessOrEqual(t, is.fetches(), 2, "unknown keys were fetched for once")
}

// Whatever is done to a token, it is not accepted any more.
func FuzzATokenIsAcceptedAsItIsOrNotAtAll(f *testing.F) {
	is := startIssuer(f, jwk("r", rsaKey, nil), jwk("e", ecKey, nil))
	tokens := is.tokens(f, identity.KeySetOptions{Patience: time.Second})
	genuine := []string{
		sign(jwt.SigningMethodRS256, rsaKey, "r", is.claims(nil), nil),
		sign(jwt.SigningMethodES256, ecKey, "e", is.claims(nil), nil),
	}
	for _, g := range genuine {
		f.Add(g)
		f.Add(g[:len(g)-1])
		f.Add(g + "=")
	}
	f.Add(forge(`{"alg":"none"}`, string(must(json.Marshal(is.claims(nil)))), ""))
	known := map[string]bool{genuine[0]: true, genuine[1]: true}
	f.Fuzz(func(t *testing.T, token string) {
		_, err := tokens.Caller(t.Context(), token)
		require.Equal(t, known[token], err == nil, token)
	})
}
