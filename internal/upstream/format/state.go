package format

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// The state of an answer is what its provider wants back with it in the next turn and what clients have no place
// for: hidden thinking, signatures, and in which order these and the visible parts came. It is text: "1." and
// base64url of a JSON object
//
//	{"k": kind, "u": place, "b": binding, "i": [item, ...]}
//
// A state goes back only to the place that it came from (kind, address and model, of which there is a hash: names
// and addresses are the operator's own) and with the text and calls that it came with. It has no signature:
// whoever sends a state writes the assistant's text and calls anyway. So it is read item by item, and written anew
// in the provider's terms, but never copied into a request. What another relay calls its state follows the object
// after a dot.
const stateVersion = "1."

// maxStateItems bounds the items of a state: a small one costs more memory here than in its text.
const maxStateItems = 4096

// maxItems bounds those of all states of a request. A seal of a byte becomes a block of forty, so that a stranger's
// request would be sent on at several times its size. Items of providers have hundreds of bytes each.
const maxItems = 4 * maxStateItems

// item is one step of an answer. In JSON it is a list: the kind's letter, and then its fields.
type item struct {
	kind byte
	n    int    // itemText: bytes of content. itemCall: which call, from 0
	text string // itemThinking: what it says. itemField: the value. itemReasoning: the id
	seal string // a signature or what is encrypted. itemText of Responses: the phase
	name string // itemField only

	summaries []string          // itemReasoning only
	details   []reasoningDetail // itemDetails only
}

const (
	itemThinking  = 't' // text, seal
	itemRedacted  = 'r' // seal
	itemReasoning = 's' // id, seal, summaries: of Responses
	itemText      = 'x' // n, seal
	itemCall      = 'c' // n, seal
	itemField     = 'f' // name, text: a member of the message in chat completions or Ollama's format
	itemDetails   = 'd' // details: OpenRouter's
)

// reasoningDetail is one of OpenRouter's reasoning_details.
// https://openrouter.ai/docs/guides/best-practices/reasoning-tokens
type reasoningDetail struct {
	Type      string      `json:"type"` // reasoning.text, .summary or .encrypted
	Text      string      `json:"text,omitempty"`
	Summary   string      `json:"summary,omitempty"`
	Data      string      `json:"data,omitempty"`
	Signature string      `json:"signature,omitempty"`
	ID        string      `json:"id,omitempty"`
	Format    string      `json:"format,omitempty"`
	Index     json.Number `json:"index,omitempty"`
}

// stateFields are the members of a message that a state may bring.
var stateFields = map[string]bool{"reasoning_content": true, "reasoning": true, "reasoning_text": true,
	opaqueField: true, "thinking": true, thinkTags: true}

const opaqueField = "reasoning_opaque"

// thinkTags is the name of an itemField whose text stands in the content, in <think> tags.
const thinkTags = "<think>"

var errState = errors.New("not a state of ours")

// place tells the upstream and model that a state is of from all others.
func (h *Host) place(model string) string {
	sum := sha256.Sum256([]byte(h.Kind + "\x00" + h.BaseURL + "\x00" + model))
	return base64.RawURLEncoding.EncodeToString(sum[:8])
}

// Place is where answers of a model are made, in the words that PlaceOf has for a state.
func (h *Host) Place(model string) string { return h.place(model) }

// PlaceOf tells the place of a state without reading all of it. It is "" for what is no state.
func PlaceOf(state string) string {
	const enough = 128 // bytes of base64, which have the kind and the place
	text, ok := strings.CutPrefix(state, stateVersion)
	text, _, _ = strings.Cut(text, ".")
	text = text[:min(len(text), enough)]
	head, err := base64.RawURLEncoding.DecodeString(text)
	if !ok || err != nil {
		return ""
	}
	_, place, _ := strings.Cut(string(head), `"u":"`)
	place, _, ok = strings.Cut(place, `"`)
	if !ok {
		return ""
	}
	return place
}

// binding ties a state to the visible part of its answer.
type binding struct {
	text  uint32 // checksum of the content
	n     int    // bytes of it
	calls uint32 // checksum of the calls
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli) // computed by the processor itself

func (b *binding) add(text []byte) {
	b.text = crc32.Update(b.text, castagnoli, text)
	b.n += len(text)
}

// addCall adds a call. Clients parse arguments and write them again, so they count as what they mean, unless they are
// so long that a stranger's would take much memory: a list of numbers takes twenty times its size.
func (b *binding) addCall(c *chat.ToolCall) {
	args := []byte(c.Arguments)
	var value any
	if len(args) <= chat.MaxState && json.Unmarshal(args, &value) == nil {
		if same, err := json.Marshal(value); err == nil {
			args = same
		}
	}
	for _, part := range [][]byte{[]byte(c.ID), []byte(c.Name), args} {
		b.calls = crc32.Update(b.calls, castagnoli, part)
		b.calls = crc32.Update(b.calls, castagnoli, []byte{0xff}) // is in no text
	}
}

func (b *binding) String() string {
	var sum [8]byte
	binary.BigEndian.PutUint32(sum[:4], b.text)
	binary.BigEndian.PutUint32(sum[4:], b.calls)
	return strconv.Itoa(b.n) + "-" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// bindingOf is the binding of a message that a client sends back. Images are in no answer.
func bindingOf(m *chat.Message) string {
	var b binding
	b.add([]byte(contentOf(m)))
	for i := range m.ToolCalls {
		b.addCall(&m.ToolCalls[i])
	}
	return b.String()
}

// contentOf is the text of an assistant's message, as one.
func contentOf(m *chat.Message) string {
	if len(m.Parts) == 0 {
		return m.Content
	}
	var text strings.Builder
	text.WriteString(m.Content)
	for _, p := range m.Parts {
		text.WriteString(p.Text)
	}
	return text.String()
}

// packState makes the text of a state, "" when it is over the limit. inner is another relay's state, or "".
func packState(kind, place string, b *binding, items []item, inner string) string {
	var e jx.Encoder
	e.ObjStart()
	for _, f := range [][2]string{{"k", kind}, {"u", place}, {"b", b.String()}} {
		e.FieldStart(f[0])
		e.Str(f[1])
	}
	e.FieldStart("i")
	e.ArrStart()
	for i := range items {
		items[i].encode(&e)
	}
	e.ArrEnd()
	e.ObjEnd()
	if inner != "" {
		inner = "." + inner
	}
	if len(stateVersion)+base64.RawURLEncoding.EncodedLen(len(e.Bytes()))+len(inner) > chat.MaxState {
		return ""
	}
	return stateVersion + base64.RawURLEncoding.EncodeToString(e.Bytes()) + inner
}

func (it *item) encode(e *jx.Encoder) {
	e.ArrStart()
	e.Str(string(rune(it.kind)))
	switch it.kind {
	case itemThinking:
		e.Str(it.text)
		e.Str(it.seal)
	case itemRedacted:
		e.Str(it.seal)
	case itemReasoning:
		e.Str(it.text)
		e.Str(it.seal)
		encodeStrings(e, it.summaries)
	case itemText, itemCall:
		e.Int(it.n)
		if it.seal != "" {
			e.Str(it.seal)
		}
	case itemField:
		e.Str(it.name)
		e.Str(it.text)
	case itemDetails:
		encodeDetails(e, it.details)
	}
	e.ArrEnd()
}

func encodeDetails(e *jx.Encoder, details []reasoningDetail) {
	e.ArrStart()
	for i := range details {
		if raw, err := marshalPlain(&details[i]); err == nil {
			e.Raw(raw)
		}
	}
	e.ArrEnd()
}
