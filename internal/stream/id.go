package stream

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
)

// idLength is that of 128 random bits in hex: nobody guesses one, and with a cursor behind it an
// event id stays within the characters and the 128 bytes that browsers send without a CORS
// preflight.
const idLength = 32

// hereMark stands before the id of a stream that began while Redis was not to be had: it is only in the memory of
// its replica until Redis is back, and whoever does not find it should wait for that. No other id begins so.
const hereMark = "m"

func newHereID() string { return hereMark + newID() }

// bornHere says whether id is of such a stream.
func bornHere(id string) bool { return strings.HasPrefix(id, hereMark) }

func newID() string {
	var b [idLength / 2]byte
	rand.Read(b[:]) // never fails, by its documentation
	return hex.EncodeToString(b[:])
}

// ValidID says whether s has the form of a stream id. Anything else came from elsewhere and is not
// worth a look-up.
func ValidID(s string) bool {
	s = strings.TrimPrefix(s, hereMark)
	if len(s) != idLength {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// ParseCursor takes an event id apart, `<stream id>.<seq>` (docs/protocol.md, 5). It is what a
// client sends back as Last-Event-ID, so it may be anything; what is none is not ok and has no id.
func ParseCursor(s string) (id string, seq uint64, ok bool) {
	id, digits, found := strings.Cut(s, ".")
	if !found || !ValidID(id) || len(digits) > 1 && digits[0] == '0' {
		return "", 0, false
	}
	for i := range len(digits) { // ParseUint takes a sign and underscores too
		if digits[i] < '0' || digits[i] > '9' {
			return "", 0, false
		}
	}
	seq, err := strconv.ParseUint(digits, 10, 53) // a number that JavaScript and Lua hold exactly
	if err != nil {
		return "", 0, false
	}
	return id, seq, true
}

// keyName scopes an idempotency key by its owner. Hashed, it has a fixed length and shows neither.
func keyName(owner, key string) string {
	sum := sha256.Sum256([]byte(strconv.Itoa(len(owner)) + ":" + owner + key))
	return hex.EncodeToString(sum[:])
}
