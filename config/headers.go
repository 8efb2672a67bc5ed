package config

import (
	"slices"
	"strings"
)

// ownHeaders are those that only the relay can set right: it frames the request, and reads the answer as
// what it asked for.
var ownHeaders = []string{
	"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "te", "trailer",
	"transfer-encoding", "upgrade",
}

// headers reads headers for a provider. Problems give an entry's place, never its text: a name may be a
// misplaced value.
func (l *loader) headers(at path) []Header {
	value := l.secret(at)
	if value == "" {
		return nil
	}
	entries := splitList(value)
	if strings.Contains(value, "\n") {
		entries = splitLines(value)
	}
	var headers []Header
	for i, entry := range entries {
		sign := strings.IndexAny(entry, ":=")
		if sign < 0 {
			l.problem(at, "entry %d is not of the form Name: value or Name=value", i+1)
			continue
		}
		h := Header{Name: strings.TrimSpace(entry[:sign]), Value: Secret(strings.TrimSpace(entry[sign+1:]))}
		switch {
		case !isHeaderName(h.Name) || h.Value == "":
			l.problem(at, "entry %d is not of the form Name: value or Name=value", i+1)
		case strings.ContainsFunc(h.Value.Reveal(), func(r rune) bool { return r < ' ' && r != '\t' || r > '~' }):
			l.problem(at, "entry %d has a value with characters other than printable ASCII", i+1)
		case slices.Contains(ownHeaders, strings.ToLower(h.Name)):
			l.problem(at, "entry %d is a header that the relay sets itself", i+1)
		default:
			headers = append(headers, h)
		}
	}
	if len(entries) == 0 {
		l.problem(at, "has only separators")
	}
	return headers
}

// splitLines returns the lines of s, less blank ones.
func splitLines(s string) []string {
	var lines []string
	for line := range strings.SplitSeq(s, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// isHeaderName tells whether s is a token of RFC 9110, 5.6.2.
func isHeaderName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		letter := r|0x20 >= 'a' && r|0x20 <= 'z'
		return !letter && (r < '0' || r > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}
