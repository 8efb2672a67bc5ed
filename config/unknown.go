package config

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// kubernetes matches the variables that Kubernetes puts into every container for a Service whose name
// begins with relay or upstream. NAME_PORT is among them only with a URL as its value.
// https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
var kubernetes = regexp.MustCompile(
	`^[A-Z0-9_]+_(SERVICE_(HOST|PORT(_\w+)?)=|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?=|PORT=\w+://)`)

// warnUnknown warns of variables that look like settings and are none. RELAY_SHARED is the tests'.
func (l *loader) warnUnknown() {
	settings := settingsOf("", &Config{})
	for n := range maxFallbacks + 1 {
		settings = append(settings, settingsOf(Upstream{Number: n}.prefix(), &Upstream{})...)
	}
	var known []string
	for _, s := range settings {
		known = append(known, s.name)
		if s.secret {
			known = append(known, s.name+"_FILE")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.env)) {
		ours := strings.HasPrefix(name, "RELAY_") || strings.HasPrefix(name, "UPSTREAM_")
		if !ours || name == "RELAY_SHARED" || slices.Contains(known, name) || kubernetes.MatchString(name+"="+l.env[name]) {
			continue
		}
		if likely := closest(name, known); likely != "" {
			l.warn("%s is not a setting; did you mean %s?", name, likely)
		} else {
			l.warn("%s is not a setting", name)
		}
	}
}

// closest returns the known name that is a slip of the pen away from name, or "" when none is near.
func closest(name string, known []string) string {
	_, distinct, _ := strings.Cut(name, "_") // the prefix is always right, and so no evidence
	best, limit := "", len(distinct)/3+1
	for _, k := range known {
		if d := editDistance(name, k); d < limit {
			best, limit = k, d
		}
	}
	return best
}

// editDistance is Levenshtein's, in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
