package handler

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/websopy/relay/internal/chat"
)

// APIKey is a key that callers may show.
type APIKey struct {
	Name string // in logs; may be empty
	Key  string
}

// caller is whose key a request showed.
type caller struct {
	name  string // in logs; may be empty
	owner string // tells callers apart, as the owner of streams; empty when all may call
}

// authenticator knows keys by their hashes, which have one length: comparing them takes one time,
// whatever is shown.
type authenticator struct {
	callers []caller
	hashes  [][sha256.Size]byte
}

func newAuthenticator(keys []APIKey) authenticator {
	var a authenticator
	for _, k := range keys {
		hash := sha256.Sum256([]byte(k.Key))
		a.hashes = append(a.hashes, hash)
		// A name outlives its key: streams stay their caller's when keys are rotated.
		owner := "name " + k.Name
		if k.Name == "" {
			owner = "key " + hex.EncodeToString(hash[:16])
		}
		a.callers = append(a.callers, caller{k.Name, owner})
	}
	return a
}

// caller finds whose key it is. It looks at all keys, so that the time does not tell which is near.
func (a authenticator) caller(key string) (c caller, ok bool) {
	hash := sha256.Sum256([]byte(key))
	for i := range a.hashes {
		if subtle.ConstantTimeCompare(hash[:], a.hashes[i][:]) == 1 {
			c, ok = a.callers[i], true
		}
	}
	return c, ok
}

// authenticate lets a request pass that shows one of the keys, or any when there are none.
func (r *Relay) authenticate(next http.Handler) http.Handler {
	if len(r.auth.hashes) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := r.identify(req); err != nil {
			w.Header().Set("WWW-Authenticate", "Bearer")
			r.fail(w, req, err)
			return
		}
		next.ServeHTTP(w, req)
	})
}

var (
	errKeyMissing = &chat.Error{Code: chat.Unauthorized, Message: "an API key is required: Authorization: Bearer <key>"}
	errKeyUnknown = &chat.Error{Code: chat.Unauthorized, Message: "the API key is not known"}
)

// identify notes whose key the request shows.
func (r *Relay) identify(req *http.Request) *chat.Error {
	scheme, key, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	c, ok := r.auth.caller(strings.TrimSpace(key))
	switch {
	case scheme == "":
		return errKeyMissing
	case !ok || !strings.EqualFold(scheme, "Bearer"):
		return errKeyUnknown
	}
	visitOf(req).caller = c
	return nil
}
