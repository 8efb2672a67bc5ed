package dialect

import "unicode/utf8"

// member appends the name of an object's next member, with a comma if it is not the first.
func member(dst []byte, name string) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	return append(append(append(dst, '"'), name...), `":`...)
}

const hexDigits = "0123456789abcdef"

// plain holds the ASCII characters that stand for themselves in a JSON string.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// appendString appends s as a JSON string. It is here, and not from a library, because it is on the
// path of every chunk and does three things that none does together: it allocates nothing, replaces
// bytes that are no UTF-8 (providers split characters between events), and escapes U+0085, U+2028 and
// U+2029, which JSON allows but some line readers (Python's splitlines, and HTTP clients built on it)
// take for the end of a line.
func appendString[S string | []byte](dst []byte, s S) []byte {
	dst = append(dst, '"')
	from := 0 // s[from:i] needs no escape
	for i := 0; ; {
		for i < len(s) && plain[s[i]] {
			i++
		}
		if i == len(s) {
			break
		}
		c := s[i]
		if c < utf8.RuneSelf {
			dst = append(dst, s[from:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			case '\t':
				dst = append(dst, '\\', 't')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
			}
			i++
			from = i
			continue
		}
		r, size := utf8.DecodeRune([]byte(s[i:min(i+utf8.UTFMax, len(s))]))
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(dst, s[from:i]...)
			dst = append(dst, `\ufffd`...)
		case r == 0x85:
			dst = append(dst, s[from:i]...)
			dst = append(dst, `\u0085`...)
		case r == 0x2028 || r == 0x2029:
			dst = append(dst, s[from:i]...)
			dst = append(dst, `\u202`...)
			dst = append(dst, hexDigits[r&0xf])
		default:
			i += size
			continue
		}
		i += size
		from = i
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}
