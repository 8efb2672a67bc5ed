package upstream

import (
	"net"
	"regexp"
	"strings"
	"unicode"
)

// plainSentence reports whether a provider's message may be shown to a user: it is about the request,
// in words, and tells nothing of keys and addresses.
func plainSentence(s string) bool {
	if s == "" || len(s) > 300 || strings.ContainsAny(s, "{}<>\\\n\r\t") || strings.Contains(s, "://") {
		return false
	}
	for word := range strings.FieldsFuncSeq(s, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("'\"`,;()[]", r) }) {
		lower := strings.ToLower(word)
		if strings.HasPrefix(lower, "sk-") || strings.HasPrefix(lower, "org-") || lower == "bearer" || strings.Contains(lower, "***") {
			return false
		}
		for part := range strings.SplitSeq(lower, "=") {
			if isAddress(strings.TrimRight(part, ".:!?")) {
				return false
			}
		}
	}
	return true
}

// isAddress reports whether a word may be the address of a machine or of a file on it. Names of models
// (llama-3.1-8b) and of fields (messages.0.content) are none; when in doubt it is one.
func isAddress(word string) bool {
	if host, port, err := net.SplitHostPort(word); err == nil && host != "" && port != "" {
		return true
	}
	if strings.HasPrefix(word, "/") && strings.Count(word, "/") > 1 {
		return true
	}
	host, _, _ := strings.Cut(word, "/")
	return net.ParseIP(word) != nil || net.ParseIP(host) != nil || host == "localhost" || hostName.MatchString(host) && !fieldName.MatchString(host)
}

var (
	hostName  = regexp.MustCompile(`^([a-z0-9-]+\.)+[a-z]{2,}$`)
	fieldName = regexp.MustCompile(`\.[0-9]+\.`)
)
