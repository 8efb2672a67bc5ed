package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// TokensOptions say which JSON Web Tokens are accepted.
type TokensOptions struct {
	Issuer   string   // the only one; empty: any that the keys sign for
	Audience []string // for one of which a token has to be
	Methods  []string // of signing, like RS256; asymmetric ones only
	Require  []Claim  // all of them

	NameClaim string // whose text is the caller's Name; empty: callers have none
	// whose text, or the first of whose texts that IsTier, is the caller's tier; empty: callers have none
	TierClaim string
	// IsTier tells whether there is such a tier, as Caller.Tier names it. A list of groups has others as well. Nil:
	// all are.
	IsTier func(tier string) bool
}

// Claim is what a token has to say: Name is that of a claim, or a path of names with dots between them. Its value has
// to be Value, or to have it among its entries or its words.
type Claim struct{ Name, Value string }

// Tokens checks JSON Web Tokens. It is safe for concurrent use.
type Tokens struct {
	o      TokensOptions
	keys   *KeySet
	parser *jwt.Parser
}

const (
	maxToken  = 8 << 10 // bytes
	clockSkew = 30 * time.Second
	maxName   = 128 // bytes of a Name or a Tier that are kept
	// latest is what a date may be, in seconds, and a number in JSON without losing some. Far behind it times wrap
	// around, and what is not valid yet becomes valid since long ago.
	latest = 1 << 53
)

// NewTokens returns a check of tokens that are signed with one of keys.
func NewTokens(o TokensOptions, keys *KeySet) *Tokens {
	options := []jwt.ParserOption{
		jwt.WithValidMethods(o.Methods), jwt.WithAudience(o.Audience...), jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(), jwt.WithLeeway(clockSkew), jwt.WithStrictDecoding(),
	}
	if o.Issuer != "" {
		options = append(options, jwt.WithIssuer(o.Issuer))
	}
	return &Tokens{o: o, keys: keys, parser: jwt.NewParser(options...)}
}

// BadToken is the error of a token that is not accepted. Its text is for whoever has sent the token.
type BadToken struct{ why string }

func (e *BadToken) Error() string { return e.why }

// Errors of tokens that may be accepted all the same, and of those that are good but not good enough.
var (
	ErrNoKeys    = errors.New("the keys that tokens are signed with can't be had now")
	ErrForbidden = errors.New("the token does not have a claim that is required")
)

// errKeyUnknown is the error of a key id that the issuer does not have.
var errKeyUnknown = errors.New("no key of the issuer has this id and is for this algorithm")

// Caller tells whose token it is. The caller has no address. ctx bounds the wait for a key that is not known yet.
//
// Errors: *BadToken; ErrNoKeys; ErrForbidden; the cause of ctx's end.
func (t *Tokens) Caller(ctx context.Context, token string) (Caller, error) {
	if len(token) > maxToken {
		return Caller{}, &BadToken{"the token is larger than 8 KiB"}
	}
	claims := jwt.MapClaims{}
	_, err := t.parser.ParseWithClaims(token, claims, func(parsed *jwt.Token) (any, error) {
		return t.keysFor(ctx, parsed)
	})
	switch {
	case errors.Is(err, ErrNoKeys):
		return Caller{}, ErrNoKeys
	case err != nil && ctx.Err() != nil:
		return Caller{}, context.Cause(ctx)
	case err != nil:
		return Caller{}, badToken(err)
	}
	return t.caller(claims)
}

// keysFor gives the keys that may have signed a token whose signature is not checked yet.
func (t *Tokens) keysFor(ctx context.Context, token *jwt.Token) (any, error) {
	if _, critical := token.Header["crit"]; critical {
		return nil, &BadToken{"the token has critical headers (crit), and none is understood"}
	}
	if typ, present := token.Header["typ"]; present && !isTokenType(typ) {
		return nil, &BadToken{"the token is not of a type that is accepted: its typ must be JWT or at+jwt"}
	}
	claims, _ := token.Claims.(jwt.MapClaims)
	for _, name := range []string{"exp", "nbf", "iat"} {
		if date, isNumber := claims[name].(float64); isNumber && math.Abs(date) > latest {
			return nil, &BadToken{"a time in the token is no date: " + name}
		}
	}
	id, _ := token.Header["kid"].(string)
	found, err := t.keys.find(ctx, id, token.Method.Alg())
	if err != nil {
		return nil, err
	}
	set := jwt.VerificationKeySet{}
	for _, key := range found {
		set.Keys = append(set.Keys, key)
	}
	return set, nil
}

func isTokenType(typ any) bool {
	text, _ := typ.(string)
	text = strings.TrimPrefix(strings.ToLower(text), "application/")
	return text == "jwt" || text == "at+jwt"
}

// badToken says in plain words what is wrong. It quotes nothing of the token.
func badToken(err error) *BadToken {
	if bad, ok := errors.AsType[*BadToken](err); ok {
		return bad
	}
	for _, known := range []struct {
		is  error
		why string
	}{
		{errKeyUnknown, "the token is signed with a key that its issuer does not have, or not for its algorithm"},
		{jwt.ErrTokenMalformed, "the token can't be read"},
		{jwt.ErrTokenUnverifiable, "the token's signature is of an algorithm that is not accepted"},
		{jwt.ErrTokenSignatureInvalid, "the token's signature is not valid, or of an algorithm that is not accepted"},
		{jwt.ErrTokenExpired, "the token has expired"},
		{jwt.ErrTokenNotValidYet, "the token is not valid yet"},
		{jwt.ErrTokenUsedBeforeIssued, "the token is from the future"},
		{jwt.ErrTokenInvalidAudience, "the token is for another audience"},
		{jwt.ErrTokenInvalidIssuer, "the token is of another issuer"},
		{jwt.ErrTokenRequiredClaimMissing, "the token lacks a claim that it must have: exp, aud or iss"},
	} {
		if errors.Is(err, known.is) {
			return &BadToken{known.why}
		}
	}
	return &BadToken{"the token is not valid"}
}

// caller makes a caller of claims that are proven.
func (t *Tokens) caller(claims jwt.MapClaims) (Caller, error) {
	issuer, _ := claims["iss"].(string)
	subject, _ := claims["sub"].(string)
	if issuer == "" || subject == "" {
		return Caller{}, &BadToken{"the token does not say whose it is: it needs iss and sub"}
	}
	for _, required := range t.o.Require {
		if !has(claims, required) {
			return Caller{}, fmt.Errorf("%w: %s", ErrForbidden, required.Name)
		}
	}
	// The same person keeps what it owns when the token is refreshed and when keys are rotated.
	hash := sha256.Sum256([]byte(strconv.Itoa(len(issuer)) + " " + issuer + subject))
	owner := "jwt " + hex.EncodeToString(hash[:16])
	c := Caller{Name: firstText(claims, t.o.NameClaim), Owner: owner, Share: owner}
	c.Tier = t.tier(claims)
	return c, nil
}

func (t *Tokens) tier(claims jwt.MapClaims) string {
	if t.o.TierClaim == "" {
		return ""
	}
	for _, text := range texts(claimAt(claims, t.o.TierClaim)) {
		tier := "tier " + text
		if text != "" && len(text) <= maxName && (t.o.IsTier == nil || t.o.IsTier(tier)) {
			return tier
		}
	}
	return ""
}

func has(claims jwt.MapClaims, want Claim) bool {
	value := claimAt(claims, want.Name)
	all := texts(value)
	if scope, ok := value.(string); ok { // an entry of a list is one name, also where that has spaces
		all = append(all, strings.Fields(scope)...)
	}
	return slices.Contains(all, want.Value)
}

// claimAt is the claim of a name or, when there is none, the one at the end of a path. Names may have dots, as those
// do that are URLs.
func claimAt(claims map[string]any, name string) any {
	if value, ok := claims[name]; ok {
		return value
	}
	first, rest, ok := strings.Cut(name, ".")
	if inner, isObject := claims[first].(map[string]any); ok && isObject {
		return claimAt(inner, rest)
	}
	return nil
}

// texts are what a claim says: one text, or those of a list.
func texts(value any) []string {
	list, isList := value.([]any)
	if !isList {
		list = []any{value}
	}
	var all []string
	for _, entry := range list {
		switch v := entry.(type) {
		case string:
			all = append(all, v)
		case bool:
			all = append(all, strconv.FormatBool(v))
		case float64:
			all = append(all, strconv.FormatFloat(v, 'f', -1, 64))
		}
	}
	return all
}

func firstText(claims jwt.MapClaims, name string) string {
	if name == "" {
		return ""
	}
	all := texts(claimAt(claims, name))
	if len(all) == 0 {
		return ""
	}
	return strings.ToValidUTF8(all[0][:min(len(all[0]), maxName)], "")
}
