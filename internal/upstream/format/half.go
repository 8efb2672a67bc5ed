package format

import (
	"bytes"
	"slices"
	"unicode/utf8"

	"github.com/websopy/relay/internal/chat"
)

// half is the beginning of a character whose rest comes with the next event: providers cut texts between tokens,
// and a token may end within a character. It is up to three bytes of its UTF-8, or the first half of a surrogate
// pair, which JSON writes as \ud83d, as three bytes that are no UTF-8 (see unescape).
type half struct {
	bytes [utf8.UTFMax]byte
	n     int
	typ   chat.Type // of the text that it ends
	text  []byte    // for that and the next piece
}

// surrogate is the first byte of three that stand for half of a surrogate pair. Others share it.
const surrogate = 0xed

const replacement = "\ufffd"

// mend puts a character together that two pieces of text share. The part that may go on is held back, and what
// goes on nowhere is replaced.
func (o *Answer) mend(typ chat.Type, text []byte) []byte {
	h := &o.half
	if h.n > 0 && h.typ != typ {
		o.flushHalf()
	}
	if h.n > 0 {
		h.text = append(append(h.text[:0], h.bytes[:h.n]...), text...)
		h.n = 0
		text = h.text
		if high, low := surrogateAt(text), surrogateAt(text[min(3, len(text)):]); isHigh(high) && isLow(low) {
			text = slices.Replace(text, 0, 6, utf8.AppendRune(nil, pair(high, low))...)
		}
	}
	if s := surrogateAt(text); s > 0 && (len(text) != 3 || !isHigh(s)) {
		h.text = append(append(h.text[:0:0], replacement...), text[3:]...)
		text = h.text
	}
	if n := unfinished(text); n > 0 {
		h.n, h.typ = copy(h.bytes[:], text[len(text)-n:]), typ
		o.Progress = true
		text = text[:len(text)-n]
	}
	return text
}

// flushHalf gives up on a character whose rest did not come.
func (o *Answer) flushHalf() {
	if o.half.n == 0 {
		return
	}
	o.half.n = 0
	o.emit(chat.Chunk{Type: o.half.typ, Text: []byte(replacement)})
}

// unfinished counts the bytes at the end of text that may be the beginning of a character.
func unfinished(text []byte) int {
	if n := len(text); n >= 3 && isHigh(surrogateAt(text[n-3:])) {
		return 3
	}
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		if tail := text[len(text)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

// surrogateAt reads half of a surrogate pair at the beginning of text, zero when there is none.
func surrogateAt(text []byte) rune {
	if len(text) < 3 || text[0] != surrogate || text[1] < 0xa0 {
		return 0
	}
	return 0xd000 | rune(text[1]&0x3f)<<6 | rune(text[2]&0x3f)
}

func pair(high, low rune) rune { return (high-0xd800)<<10 | (low - 0xdc00) + 0x10000 }

func isHigh(r rune) bool { return r >= 0xd800 && r < 0xdc00 }
func isLow(r rune) bool  { return r >= 0xdc00 && r < 0xe000 }

// appendSurrogate appends half of a surrogate pair, as three bytes.
func appendSurrogate(dst []byte, r rune) []byte {
	return append(dst, surrogate, 0x80|byte(r>>6)&0x3f, 0x80|byte(r)&0x3f)
}

// unescape appends what the inside of a JSON string stands for. jx replaces half a surrogate pair, which is right
// within a string. At the end of one the other half may begin the next: there it is kept, as three bytes.
func unescape(dst, s []byte) []byte {
	begin := len(dst)
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 || i+1 == len(s) {
			return append(dst, s...)
		}
		dst = append(dst, s[:i]...)
		c := s[i+1]
		s = s[i+2:]
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			var r rune
			if r, s = hexRune(s); isHigh(r) && len(s) > 1 && s[0] == '\\' && s[1] == 'u' {
				if low, rest := hexRune(s[2:]); isLow(low) {
					r, s = pair(r, low), rest
				}
			}
			if isHigh(r) && len(s) == 0 || isLow(r) && len(dst) == begin {
				dst = appendSurrogate(dst, r)
			} else {
				dst = utf8.AppendRune(dst, r)
			}
			continue
		}
		dst = append(dst, c)
	}
}

// hexRune reads four hexadecimal digits, which a parser has found good, and returns what follows them.
func hexRune(s []byte) (r rune, rest []byte) {
	n := min(4, len(s))
	for _, c := range s[:n] {
		r <<= 4
		if c <= '9' {
			r |= rune(c - '0')
		} else {
			r |= rune(c|0x20-'a') + 10
		}
	}
	return r, s[n:]
}

// joinSurrogates puts together the halves of surrogate pairs that met when pieces were joined.
func joinSurrogates(text []byte) []byte {
	for i := 0; i < len(text); i++ {
		high := surrogateAt(text[i:])
		if !isHigh(high) {
			continue
		}
		if low := surrogateAt(text[i+3:]); isLow(low) {
			text = slices.Replace(text, i, i+6, utf8.AppendRune(nil, pair(high, low))...)
		}
	}
	return text
}
