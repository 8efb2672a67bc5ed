package upstream

// jsonScan follows a JSON object or list that comes in pieces, to see where it ends. It looks at brackets and
// strings only: whether what is between them is JSON is for a parser to say. Its zero value waits for a value.
type jsonScan struct {
	depth    int
	inString bool
	escaped  bool // the byte before was a backslash, in a string
	begun    bool // something other than space has come
	whole    bool // the value has ended; what follows is not part of it
	broken   bool // a line ended within a string, which no JSON has
}

// add takes the next piece, and returns how many of its bytes belong to the value: all of them, unless it ends
// in this piece.
func (s *jsonScan) add(piece []byte) int {
	if s.whole {
		return 0
	}
	for i, c := range piece {
		switch {
		case s.inString:
			switch {
			case s.escaped:
				s.escaped = false
			case c == '\\':
				s.escaped = true
			case c == '"':
				s.inString = false
			case c == '\n':
				s.broken = true
			}
		case c == '"':
			s.inString, s.begun = true, true
		case c == '{' || c == '[':
			s.begun = true
			s.depth++
		case c == '}' || c == ']':
			if s.depth--; s.depth <= 0 && s.begun {
				s.whole = true
				return i + 1
			}
		case !isSpace(c):
			s.begun = true
		}
	}
	return len(piece)
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// valueEnd is where the object or list at the beginning of data ends, -1 when it does not.
func valueEnd(data []byte) int {
	var s jsonScan
	n := s.add(data)
	if !s.whole {
		return -1
	}
	return n
}
