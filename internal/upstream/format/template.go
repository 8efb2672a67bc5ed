package format

import (
	"bytes"

	"github.com/websopy/relay/internal/chat"
)

// template speeds up the events that are most of a stream: those that differ from the one before in one
// JSON string only. It keeps what stands before and after that string; an event with the same bytes
// around a string has the same meaning but for the string, so nothing else of it needs to be read.
// Events that differ in more (a sequence number, random padding) are decoded as always.
type template struct {
	typ    chat.Type // of the text
	around []byte    // around[:split] ends with the string's opening quote, around[split:] begins with the closing one
	split  int
	missed uint8 // how often it has been learnt since the last match
	text   []byte
	room   [320]byte // for around: most events take no more
}

// learn takes an event in which the string that follows key, as in `"content":`, is all that matters.
// The caller has decoded it and knows. Where key stands twice, it is not clear which, so that is no
// template.
func (t *template) learn(data []byte, key string) {
	if t.missed == giveUp {
		return
	}
	t.missed++
	if t.around == nil {
		t.around = t.room[:]
	}
	t.around, t.split = t.around[:0], 0
	i := bytes.Index(data, []byte(key))
	if i < 0 || bytes.Contains(data[i+len(key):], []byte(key)) {
		return
	}
	i += len(key)
	for i < len(data) && data[i] == ' ' {
		i++
	}
	if i == len(data) || data[i] != '"' {
		return
	}
	i++
	for j := i; j < len(data); j++ {
		switch data[j] {
		case '\\':
			j++
		case '"':
			if after, ok := trimPadding(data[j:]); ok {
				t.around = append(append(t.around, data[:i]...), after...)
				t.split = i
			}
			return
		}
	}
}

// giveUp is how many events are learnt without a match between them.
const giveUp = 16

// trimPadding takes off the brace that ends an event, and the padding before it, of which there is some more or less
// each time: Anthropic's spaces, Bedrock's member p, OpenAI's obfuscation.
func trimPadding(data []byte) (rest []byte, ok bool) {
	n := len(data) - 1
	if n < 1 || data[n] != '}' {
		return nil, false
	}
	for n > 0 && data[n-1] == ' ' {
		n--
	}
	return trimFiller(data[:n]), true
}

// trimFiller takes off a last member that is there to hide how long the others are. Its bytes can't be those of
// another string, in which the quotes would be escaped.
func trimFiller(data []byte) []byte {
	if n := len(data); n == 0 || data[n-1] != '"' {
		return data
	}
	i := len(data) - 1
	for i > 0 && isAlphanumeric(data[i-1]) {
		i--
	}
	for _, member := range fillers {
		if rest, ok := bytes.CutSuffix(data[:i], member); ok {
			return rest
		}
	}
	return data
}

var fillers = [][]byte{[]byte(`,"p":"`), []byte(`,"obfuscation":"`)}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

// literal holds the bytes that stand for themselves in a JSON string.
var literal = func() (t [256]bool) {
	for c := ' '; c < 256; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// match returns the text of the string, if that is all in which data differs from the event learnt. The
// text is valid until the next call, and as long as data is.
func (t *template) match(data []byte) (text []byte, ok bool) {
	before, after := t.around[:t.split], t.around[t.split:]
	if len(before) == 0 || !bytes.HasPrefix(data, before) {
		return nil, false
	}
	data, ok = trimPadding(data)
	if !ok || len(data) < len(t.around) || !bytes.HasSuffix(data, after) {
		return nil, false
	}
	raw := data[len(before) : len(data)-len(after)]
	i := 0
	for i < len(raw) && literal[raw[i]] {
		i++
	}
	if i == len(raw) {
		t.missed = 0
		return raw, true
	}
	if !isEscaped(raw[i:]) {
		return nil, false
	}
	t.missed = 0
	t.text = unescape(t.text[:0], raw)
	return t.text, true
}

// isEscaped reports whether raw can stand within a JSON string.
func isEscaped(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		if literal[raw[i]] {
			continue
		}
		if i++; raw[i-1] != '\\' || i == len(raw) { // which would escape the closing quote
			return false
		}
		switch raw[i] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		case 'u':
			for range 4 {
				if i++; i == len(raw) || !isHex(raw[i]) {
					return false
				}
			}
		default:
			return false
		}
	}
	return true
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f' }
