package identity

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
)

// APIKey is a key that callers may show.
type APIKey struct {
	Name string // in logs; may be empty
	Key  string
}

// Keys are the API keys that are accepted. It knows them by their hashes, which have one length: comparing
// them takes one time, whatever is shown. The zero value has no key.
type Keys struct {
	callers []Caller
	hashes  [][sha256.Size]byte
}

// NewKeys returns the keys of a list.
func NewKeys(list []APIKey) Keys {
	var k Keys
	for _, key := range list {
		hash := sha256.Sum256([]byte(key.Key))
		k.hashes = append(k.hashes, hash)
		// A name outlives its key: streams stay their caller's when keys are rotated.
		owner := "name " + key.Name
		if key.Name == "" {
			owner = "key " + hex.EncodeToString(hash[:16])
		}
		c := Caller{Name: key.Name, Owner: owner, Share: owner}
		if key.Name != "" {
			c.Tier = "key " + key.Name
		}
		k.callers = append(k.callers, c)
	}
	return k
}

// None tells whether there is no key, so that everybody may call.
func (k Keys) None() bool { return len(k.hashes) == 0 }

// Caller finds whose key it is. It looks at all keys, so that the time does not tell which is near. The
// caller has no address.
func (k Keys) Caller(key string) (c Caller, ok bool) {
	hash := sha256.Sum256([]byte(key))
	for i := range k.hashes {
		if subtle.ConstantTimeCompare(hash[:], k.hashes[i][:]) == 1 {
			c, ok = k.callers[i], true
		}
	}
	return c, ok
}
