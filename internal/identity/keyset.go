package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
)

// KeySetOptions say where the public keys are that tokens are signed with. The zero value of a time means the default.
type KeySetOptions struct {
	// Source is the URL or the file of a JSON Web Key Set. Empty: the one that Issuer's discovery document names.
	Source string
	Issuer string

	Client *http.Client // for both; its Timeout bounds each request

	Refresh  time.Duration // how old the keys may be; 10 m
	Unknown  time.Duration // at most one fetch in so long for the sake of unknown keys; 30 s
	Patience time.Duration // how long a token whose key is not known waits for a fetch; 2 s

	// Told, when set, is called with why the keys can't be fetched, once until they can, and then with nil.
	Told func(err error)
}

// KeySet holds an issuer's public keys, and fetches them anew in the background. What it has stays in use while
// nothing better can be had. It is safe for concurrent use.
type KeySet struct {
	o      KeySetOptions
	wanted chan struct{} // somebody has a token whose key is not known
	stop   context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex // guards what follows
	keys     []publicKey
	failure  error         // of the last fetch, nil when it went well
	asked    time.Time     // when the last fetch was wanted for the sake of an unknown key
	fetching bool          // a fetch runs, or begins at once
	fetched  chan struct{} // closed at the end of the fetch that runs now or comes next
}

// publicKey is a key that signatures are checked with.
type publicKey struct {
	id  string // kid; may be empty
	alg string // the only method it is for; empty: all that its kind has
	key any    // *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
}

const (
	refreshKeys   = 10 * time.Minute
	unknownKeys   = 30 * time.Second
	waitForKeys   = 2 * time.Second
	firstRetry    = time.Second // after a fetch that failed, doubled each time
	slowestRetry  = 30 * time.Second
	leastRSABits  = 2048
	maxKeySetSize = 1 << 20 // bytes of a key set or a discovery document
)

// OpenKeySet begins to fetch keys. It does not wait for them. Close it.
func OpenKeySet(o KeySetOptions) *KeySet {
	for d, fallback := range map[*time.Duration]time.Duration{
		&o.Refresh: refreshKeys, &o.Unknown: unknownKeys, &o.Patience: waitForKeys,
	} {
		if *d == 0 {
			*d = fallback
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	k := &KeySet{
		o: o, stop: stop, wanted: make(chan struct{}, 1), fetched: make(chan struct{}),
		fetching: true, failure: errors.New("they were not fetched yet"),
	}
	k.done.Go(func() { k.run(ctx) })
	return k
}

// Close ends the fetching.
func (k *KeySet) Close() {
	k.stop()
	k.done.Wait()
}

// run fetches the keys when they are old, when a token has an unknown one, and again soon after a failure.
func (k *KeySet) run(ctx context.Context) {
	retry, told := firstRetry, false
	for ctx.Err() == nil {
		k.begin()
		keys, err := k.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		k.learn(keys, err)
		wait := k.o.Refresh - rand.N(k.o.Refresh/10+1)
		if err != nil {
			wait, retry = min(retry, wait), min(2*retry, slowestRetry)
		} else {
			retry = firstRetry
		}
		if told != (err != nil) && k.o.Told != nil {
			k.o.Told(err)
		}
		told = err != nil
		k.pause(ctx, wait)
	}
}

func (k *KeySet) pause(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-k.wanted:
	case <-ctx.Done():
	}
}

// begin notes that a fetch begins, which is also the one that was wanted.
func (k *KeySet) begin() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fetching = true
	select {
	case <-k.wanted:
	default:
	}
}

// learn takes the result of a fetch. Keys that the issuer does not have any more are dropped.
func (k *KeySet) learn(keys []publicKey, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failure = err; err == nil {
		k.keys = keys
	}
	close(k.fetched)
	k.fetching = false
	k.fetched = make(chan struct{})
}

// find gives the keys that may have signed a token: those of its key id, or all when it has none. When there is none
// it waits for a fetch, but not for long, and not for each token.
//
// Errors: ErrNoKeys; errKeyUnknown; the cause of ctx's end.
func (k *KeySet) find(ctx context.Context, id, alg string) ([]any, error) {
	asked := false
	found, fetched, err := k.look(id, alg, &asked)
	if fetched == nil {
		return found, err
	}
	timer := time.NewTimer(k.o.Patience)
	defer timer.Stop()
	for fetched != nil {
		select {
		case <-fetched:
		case <-timer.C:
			return nil, ErrNoKeys
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		found, fetched, err = k.look(id, alg, &asked)
	}
	return found, err
}

// look is find without the wait: when it gives a channel, there is a fetch whose end to wait for. asked is set once it
// has asked for one.
func (k *KeySet) look(id, alg string, asked *bool) (found []any, fetched <-chan struct{}, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range k.keys {
		if (id == "" || key.id == id) && key.serves(alg) {
			found = append(found, key.key)
		}
	}
	switch {
	case found != nil:
		return found, nil, nil
	case k.fetching:
		return nil, k.fetched, nil
	case !*asked && time.Since(k.asked) >= k.o.Unknown:
		*asked, k.asked, k.fetching = true, time.Now(), true
		k.wanted <- struct{}{} // there is room: fetching was false
		return nil, k.fetched, nil
	case k.failure != nil:
		return nil, nil, ErrNoKeys // perhaps it is a key that is new
	}
	return nil, nil, errKeyUnknown
}

// serves tells whether the key is of the kind that a method needs, and for it.
func (p publicKey) serves(alg string) bool {
	if p.alg != "" && p.alg != alg {
		return false
	}
	switch key := p.key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey:
		return curves[alg] == key.Params().Name
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}

var curves = map[string]string{"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}

// parseKeySet reads the keys of a set that can check signatures. One that can't be read is passed over, so that a
// new kind does no harm to those beside it.
func parseKeySet(document []byte) ([]publicKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(document, &set); err != nil {
		return nil, errors.New("it is no JSON Web Key Set")
	}
	var keys []publicKey
	for _, raw := range set.Keys {
		if key, ok := parseKey(raw); ok {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("it has no public key for signatures")
	}
	return keys, nil
}

func parseKey(raw json.RawMessage) (publicKey, bool) {
	var m jwkset.JWKMarshal
	if json.Unmarshal(raw, &m) != nil || m.USE != "" && m.USE != jwkset.UseSig || !verifies(m.KEYOPS) {
		return publicKey{}, false
	}
	m.X5C, m.X5U, m.X5T, m.X5TS256 = nil, "", "", "" // a certificate says nothing here, and nothing is fetched for it
	jwk, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return publicKey{}, false
	}
	if key, ok := jwk.Key().(*rsa.PublicKey); ok && key.N.BitLen() < leastRSABits {
		return publicKey{}, false
	}
	return publicKey{id: m.KID, alg: string(m.ALG), key: jwk.Key()}, true
}

func verifies(operations []jwkset.KEYOPS) bool {
	for _, o := range operations {
		if o == jwkset.KeyOpsVerify {
			return true
		}
	}
	return len(operations) == 0
}
