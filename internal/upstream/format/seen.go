package format

import (
	"hash/crc32"

	"github.com/websopy/relay/internal/chat"
)

// seenTexts knows which texts of an answer have been passed on. Providers that stream a text in pieces give it again
// as a whole, at up to four places, and some give it there only: what has not come in pieces is passed on then. A text
// is known by its place, its length and its checksum, so nothing of it is kept. Its zero value has seen nothing.
type seenTexts struct {
	parts []seenText
	last  int // the place in parts that the last piece was for
}

// textKind is what a text of a response is.
type textKind uint8

const (
	contentText textKind = iota
	refusalText
	reasoningText
	summaryText // of the reasoning
)

// textPlace is where a text stands in a response.
type textPlace struct {
	kind   textKind
	output int // of the item, or noIndex where the provider does not say, which fits all
	part   int // of the item's parts
}

type seenText struct {
	textPlace
	n   int // bytes
	sum uint32
}

var checksum = crc32.MakeTable(crc32.Castagnoli)

// piece passes on a piece of the text at a place.
func (s *seenTexts) piece(at textPlace, text []byte, out *Answer) error {
	i, err := s.open(at, text, out)
	if err != nil || len(text) == 0 {
		return err
	}
	return s.pass(i, text, out)
}

// whole passes on what has not been seen of a text that is given as a whole. One that says something else than its
// pieces did is left alone: they stay sent.
func (s *seenTexts) whole(at textPlace, text []byte, out *Answer) error {
	if len(text) == 0 {
		return nil
	}
	sum := crc32.Checksum(text, checksum)
	for i := range s.parts {
		if p := &s.parts[i]; p.kind == at.kind && p.n == len(text) && p.sum == sum {
			return nil
		}
	}
	if i := s.find(at); i >= 0 {
		p := &s.parts[i]
		if p.n >= len(text) || crc32.Checksum(text[:p.n], checksum) != p.sum {
			return nil
		}
		return s.pass(i, text[p.n:], out)
	}
	i, err := s.open(at, text, out)
	if err != nil {
		return err
	}
	return s.pass(i, text, out)
}

func (s *seenTexts) pass(i int, text []byte, out *Answer) error {
	p := &s.parts[i]
	p.n += len(text)
	p.sum = crc32.Update(p.sum, checksum, text)
	switch p.kind {
	case contentText:
		out.Text(chat.Content, text)
	case refusalText:
		return out.refusal(text)
	default:
		out.Text(chat.Reasoning, text)
	}
	return nil
}

func (s *seenTexts) find(at textPlace) int {
	for i := len(s.parts) - 1; i >= 0; i-- {
		p := &s.parts[i]
		if p.kind == at.kind && (p.output == noIndex || at.output == noIndex || p.output == at.output &&
			p.part == at.part) {
			return i
		}
	}
	return -1
}

// open finds the text at a place, or begins it. Parts of a summary are paragraphs.
func (s *seenTexts) open(at textPlace, text []byte, out *Answer) (int, error) {
	if s.last < len(s.parts) && s.parts[s.last].textPlace == at {
		return s.last, nil
	}
	for i := range s.parts {
		if s.parts[i].textPlace == at {
			s.last = i
			return i, nil
		}
	}
	if len(s.parts) == maxListed {
		return 0, errListed
	}
	if at.kind == summaryText && len(text) > 0 {
		for i := range s.parts {
			if s.parts[i].kind == summaryText && s.parts[i].n > 0 {
				out.Text(chat.Reasoning, []byte("\n\n"))
				break
			}
		}
	}
	s.last = len(s.parts)
	s.parts = append(s.parts, seenText{textPlace: at})
	return s.last, nil
}
