package config

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// usageColumns is the width of a terminal that the table fits into.
const usageColumns = 100

// Usage writes the table of all variables, their defaults and meanings.
func Usage(w io.Writer, kinds Kinds) {
	all := append((&Config{Upstreams: make([]Upstream, 1)}).settings(), kinds.keySettings()...)
	writeTable(w, all)
	writeNotes(w, all, kinds)
}

// keySettings are the variables of the providers' own keys, which several kinds may share.
func (k Kinds) keySettings() (all []setting) {
	for i, kind := range k {
		sameKey := func(other Kind) bool { return other.KeyVariable == kind.KeyVariable }
		if kind.KeyVariable == "" || slices.IndexFunc(k, sameKey) < i {
			continue
		}
		names := kind.Name
		for _, other := range k[i+1:] {
			if sameKey(other) {
				names += " and " + other.Name
			}
		}
		all = append(all, setting{
			name: kind.KeyVariable,
			help: fmt.Sprintf("key for kind %s when UPSTREAM_API_KEY is not set, whatever the base URL; chooses "+
				"kind %s when "+
				"UPSTREAM_KIND is not set. Requests that name no model then get %s, unless UPSTREAM_MODEL is set",
				names, kind.Name, kind.Model),
			secret: true,
		})
	}
	return all
}

func writeTable(w io.Writer, all []setting) {
	var nameWidth, fallbackWidth int
	for _, s := range all {
		nameWidth = max(nameWidth, len(s.name))
		fallbackWidth = max(fallbackWidth, len(s.fallback))
	}
	helpWidth := usageColumns - nameWidth - fallbackWidth - len("      ")
	for _, s := range all {
		if s.group != "" {
			fmt.Fprintf(w, "\n%s\n", s.group)
		}
		name, fallback := s.name, s.fallback
		for _, line := range wrap(s.help, helpWidth) {
			fmt.Fprintf(w, "  %-*s  %-*s  %s\n", nameWidth, name, fallbackWidth, fallback, line)
			name, fallback = "", ""
		}
	}
}

func writeNotes(w io.Writer, all []setting, kinds Kinds) {
	var secrets []string
	for _, s := range all {
		if s.secret {
			secrets = append(secrets, s.name)
		}
	}
	for _, note := range []string{
		"UPSTREAM_KIND is one of " + kinds.names() + ".",
		"Upstreams to ask when that one fails, in order: UPSTREAM_1_KIND and the rest of its settings, " +
			"UPSTREAM_2_KIND and so on. " +
			"A provider's own key, OPENAI_API_KEY for instance, goes to a fallback only at that provider's own " +
			"base URL.",
		"Durations have a unit (15s, 2m), sizes may have one (1MiB, 512KiB, 1MB).",
		"A secret can be in a file, whose path is then the value of its name with _FILE appended: " +
			strings.Join(secrets, ", ") + ".",
	} {
		fmt.Fprintf(w, "\n%s\n", strings.Join(wrap(note, usageColumns), "\n"))
	}
}

// wrap breaks text between words into lines of at most width bytes. A longer word gets its own line.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}
