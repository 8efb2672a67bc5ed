package upstream

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
	text   []byte
	room   [320]byte // for around: most events take no more
}

// learn takes an event in which the string that follows key, as in `"content":`, is all that matters.
// The caller has decoded it and knows. Where key stands twice, it is not clear which, so that is no
// template.
func (t *template) learn(data []byte, key string) {
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
			t.around = append(append(t.around, data[:i]...), data[j:]...)
			t.split = i
			return
		}
	}
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
	if len(before) == 0 || len(data) < len(t.around) || !bytes.HasPrefix(data, before) || !bytes.HasSuffix(data, after) {
		return nil, false
	}
	raw := data[len(before) : len(data)-len(after)]
	i := 0
	for i < len(raw) && literal[raw[i]] {
		i++
	}
	if i == len(raw) {
		return raw, true
	}
	t.text = append(t.text[:0], raw[:i]...)
	for ; i < len(raw); i++ {
		c := raw[i]
		if c == '\\' {
			if i++; i == len(raw) {
				return nil, false // it escapes the closing quote
			}
			switch c = raw[i]; c {
			case '"', '\\', '/':
			case 'n':
				c = '\n'
			case 'r':
				c = '\r'
			case 't':
				c = '\t'
			default:
				return nil, false // \u and the rest are rare, and the decoder's business
			}
		} else if !literal[c] {
			return nil, false
		}
		t.text = append(t.text, c)
	}
	return t.text, true
}
