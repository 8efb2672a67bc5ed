// Package jsonscan finds where JSON values end that come in pieces.
package jsonscan

// Scan follows a JSON object or list that comes in pieces, to see where it ends. It looks at brackets and
// strings only: whether what is between them is JSON is for a parser to say. Its zero value waits for a value.
type Scan struct {
	depth    int
	inString bool
	escaped  bool // the byte before was a backslash, in a string
	begun    bool // an object or a list has
	Whole    bool // the value has ended; what follows is not part of it
	Broken   bool // a line ended within a string, which no JSON has
}

// Add takes the next piece, and returns how many of its bytes belong to the value: all of them, unless it ends
// in this piece.
func (s *Scan) Add(piece []byte) int {
	if s.Whole {
		return 0
	}
	for i := 0; i < len(piece); i++ {
		if s.inString {
			if s.escaped {
				s.escaped = false
				continue
			}
			for i < len(piece) && inString[piece[i]] {
				i++
			}
			if i == len(piece) {
				break
			}
			switch piece[i] {
			case '\\':
				s.escaped = true
			case '"':
				s.inString = false
			default:
				s.Broken = true
			}
			continue
		}
		switch piece[i] {
		case '"':
			s.inString = true
		case '{', '[':
			s.begun = true
			s.depth++
		case '}', ']':
			if s.depth--; s.depth <= 0 && s.begun {
				s.Whole = true
				return i + 1
			}
		}
	}
	return len(piece)
}

// inString holds the bytes that a string goes on with.
var inString = func() (t [256]bool) {
	for c := range t {
		t[c] = c != '"' && c != '\\' && c != '\n'
	}
	return t
}()

// End is where the object or list at the beginning of data ends, -1 when it does not.
func End(data []byte) int {
	var s Scan
	n := s.Add(data)
	if !s.Whole {
		return -1
	}
	return n
}
