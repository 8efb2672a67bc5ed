package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Secret is a value that no log, error or dump may show. Reveal is the only way to its text.
type Secret string

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns "***", or "" when there is no secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// GoString keeps %#v from showing the secret.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// MarshalText keeps encoding/json and its kind from showing the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// APIKey is a bearer key that clients may use.
type APIKey struct {
	Name string // who has the key, for logs; empty when the setting names nobody
	Key  Secret
}

// Header is a header that requests to a provider carry.
type Header struct {
	Name  string // as given; names have no case
	Value Secret // it may be a credential, which only its sender knows
}

// ByteSize is a number of bytes.
type ByteSize int64

// byteUnits has the units of 1024 first, so that String prefers them.
var byteUnits = []struct {
	name  string
	bytes int64
}{
	{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3},
	{"B", 1},
}

// UnmarshalText reads a whole number with an optional unit: B, KB, MB, GB (powers of 1000), KiB,
// MiB, GiB (powers of 1024), in any case. Anything else is an error, and so is more than an int64.
func (b *ByteSize) UnmarshalText(text []byte) error {
	s := string(text)
	digits := strings.TrimRight(s, "KMGIBkmgib")
	unit := s[len(digits):]
	if unit == "" {
		unit = "B"
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return notASize(s)
	}
	for _, u := range byteUnits {
		if strings.EqualFold(unit, u.name) && int64(n) <= math.MaxInt64/u.bytes {
			*b = ByteSize(int64(n) * u.bytes)
			return nil
		}
	}
	return notASize(s)
}

func notASize(s string) error {
	return fmt.Errorf("%q is not a size; use e.g. 1MiB, 512KiB or 1048576", s)
}

// String returns the size as UnmarshalText reads it, in the largest unit that needs no fraction.
func (b ByteSize) String() string {
	for _, u := range byteUnits {
		if b != 0 && int64(b)%u.bytes == 0 {
			return strconv.FormatInt(int64(b)/u.bytes, 10) + u.name
		}
	}
	return "0"
}
