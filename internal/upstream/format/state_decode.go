package format

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// parsedState is a state that fits the place and the message that it came back with.
type parsedState struct {
	items []item
	inner string // another relay's
}

// openState reads the state of an assistant's message for a place. It gives nil for a state of another place or
// another answer, and for whatever is none.
func openState(m *chat.Message, kind, place string) *parsedState {
	text, ok := strings.CutPrefix(m.State, stateVersion)
	hasImage := slices.ContainsFunc(m.Parts, func(p chat.Part) bool { return p.Type != chat.PartText })
	if !ok || len(m.State) > chat.MaxState || hasImage {
		return nil
	}
	text, inner, _ := strings.Cut(text, ".")
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || !utf8.Valid(raw) {
		return nil
	}
	s := stateReader{content: contentOf(m), calls: len(m.ToolCalls)}
	if err := s.read(raw); err != nil || s.kind != kind || s.place != place || s.binding != bindingOf(m) {
		return nil
	}
	s.items = s.completed()
	return &parsedState{s.items, inner}
}

// stateReader reads one state.
type stateReader struct {
	content string
	calls   int

	kind, place, binding string
	listed               bool // items have begun
	items                []item
	at                   int          // bytes of content that items have
	called               map[int]bool // calls that items have
	named                map[string]bool
}

func (s *stateReader) read(raw []byte) error {
	if !jx.Valid(raw) {
		return errState
	}
	s.called, s.named = map[int]bool{}, map[string]bool{}
	return jx.DecodeBytes(raw).ObjBytes(func(d *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "k":
			s.kind, err = d.Str()
		case "u":
			s.place, err = d.Str()
		case "b":
			s.binding, err = d.Str()
		case "i":
			if s.listed { // the first list would have text and calls that no item of the second one has
				return errState
			}
			s.listed = true
			return d.Arr(s.item)
		default:
			return d.Skip()
		}
		return err
	})
}

func (s *stateReader) item(d *jx.Decoder) error {
	if len(s.items) == maxStateItems {
		return errState
	}
	var it item
	i := -1
	err := d.Arr(func(d *jx.Decoder) error {
		i++
		if i == 0 {
			letter, err := d.Str()
			if err != nil || len(letter) != 1 {
				return errState
			}
			it.kind = letter[0]
			return nil
		}
		return it.field(d, i)
	})
	if err != nil || !s.admits(&it) {
		return errState
	}
	if !it.empty() {
		s.items = append(s.items, it)
	}
	return nil
}

// empty reports whether an item says nothing, of which a provider would make nothing but a refusal.
func (it *item) empty() bool {
	hasText := it.text != "" && it.kind != itemReasoning // whose text is its id
	return it.kind != itemCall && it.n == 0 && !hasText && it.seal == "" && len(it.summaries)+len(it.details) == 0
}

// field reads the field of an item at a place after its letter.
func (it *item) field(d *jx.Decoder, i int) (err error) {
	var into *string
	switch {
	case it.kind == itemThinking && i == 1, it.kind == itemReasoning && i == 1, it.kind == itemField && i == 2:
		into = &it.text
	case it.kind == itemRedacted && i == 1, strings.IndexByte("tsxc", it.kind) >= 0 && i == 2:
		into = &it.seal
	case it.kind == itemField && i == 1:
		into = &it.name
	case (it.kind == itemText || it.kind == itemCall) && i == 1:
		it.n, err = d.Int()
		return err
	case it.kind == itemReasoning && i == 3:
		return d.Arr(func(d *jx.Decoder) error {
			if len(it.summaries) == maxStateItems {
				return errState
			}
			s, err := d.Str()
			it.summaries = append(it.summaries, s)
			return err
		})
	case it.kind == itemDetails && i == 1:
		return it.readDetails(d)
	default:
		return errState
	}
	*into, err = d.Str()
	return err
}

func (it *item) readDetails(d *jx.Decoder) error {
	return d.Arr(func(d *jx.Decoder) error {
		raw, err := d.Raw()
		if err != nil || len(it.details) == maxStateItems {
			return errState
		}
		var detail reasoningDetail
		if err := json.Unmarshal(raw, &detail); err != nil {
			return errState
		}
		switch detail.Type {
		case "reasoning.text", "reasoning.summary", "reasoning.encrypted":
			it.details = append(it.details, detail)
			return nil
		}
		return errState
	})
}

// admits reports whether an item is one that this package writes, and fits what came before.
func (s *stateReader) admits(it *item) bool {
	switch it.kind {
	case itemThinking, itemRedacted, itemReasoning, itemDetails:
		return true
	case itemText:
		if it.n < 0 || it.n > len(s.content)-s.at {
			return false
		}
		s.at += it.n
		return s.at == len(s.content) || utf8.RuneStart(s.content[s.at])
	case itemCall:
		if it.n < 0 || it.n >= s.calls || s.called[it.n] {
			return false
		}
		s.called[it.n] = true
		return true
	case itemField:
		if !stateFields[it.name] || s.named[it.name] {
			return false
		}
		s.named[it.name] = true
		return true
	}
	return false
}

// completed adds the content and the calls that no item has: they came at the end, or their order says nothing.
func (s *stateReader) completed() []item {
	items := s.items
	if rest := len(s.content) - s.at; rest > 0 {
		items = append(items, item{kind: itemText, n: rest})
	}
	for i := range s.calls {
		if !s.called[i] {
			items = append(items, item{kind: itemCall, n: i})
		}
	}
	return items
}

// sealed reports whether the state has something that a provider may refuse to know again.
func (s *parsedState) sealed() bool {
	if s.inner != "" {
		return true
	}
	return slices.ContainsFunc(s.items, func(it item) bool {
		return it.name == opaqueField || it.kind != itemField && it.kind != itemText && it.kind != itemCall ||
			it.seal != ""
	})
}

// field gives the value of a field that the state brings, whatever its name is, and the name.
func (s *parsedState) field() (name, value string) {
	if s != nil {
		for _, it := range s.items {
			if it.kind == itemField && it.name != opaqueField {
				return it.name, it.text
			}
		}
	}
	return "", ""
}

// opaque gives Copilot's sealed thinking.
func (s *parsedState) opaque() string {
	if s != nil {
		for _, it := range s.items {
			if it.name == opaqueField {
				return it.text
			}
		}
	}
	return ""
}

// textSeal gives the signature of the text, the last one if its pieces have some.
func (s *parsedState) textSeal() string {
	if s != nil {
		for _, it := range slices.Backward(s.items) {
			if it.kind == itemText && it.seal != "" {
				return it.seal
			}
		}
	}
	return ""
}

// callSeals gives the signatures of all calls that have one: a stranger's message may have any number of them.
func (s *parsedState) callSeals() map[int]string {
	seals := make(map[int]string)
	if s != nil {
		for _, it := range s.items {
			if it.kind == itemCall && it.seal != "" {
				seals[it.n] = it.seal
			}
		}
	}
	return seals
}

// detailsOf gives OpenRouter's details.
func (s *parsedState) detailsOf() []reasoningDetail {
	if s != nil {
		for _, it := range s.items {
			if it.kind == itemDetails {
				return it.details
			}
		}
	}
	return nil
}
