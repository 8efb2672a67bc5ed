package config

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/caarlos0/env/v11"
)

// environment is the source that has settings as variables: addr is RELAY_ADDR, upstreams[0].kind is UPSTREAM_KIND and
// upstreams[2].kind is UPSTREAM_5_KIND, if that is the second fallback that is set.
type environment struct {
	variables map[string]string
	numbers   []int // of the upstreams' variables, 0 for the first
}

func newEnvironment(environ []string) *environment {
	e := &environment{variables: env.ToMap(environ)}
	for name, value := range e.variables {
		// Files of variables with CRLF, and secrets made by echo, leave space at the end.
		e.variables[name] = strings.TrimSpace(value)
	}
	e.numbers = append([]int{0}, e.fallbacks()...)
	return e
}

// numbered matches the variables of fallbacks.
var numbered = regexp.MustCompile(`^UPSTREAM_([1-9][0-9]{0,3})_([A-Z_]+)$`)

// fallbacks are the numbers that any setting is set of. Numbers may be left out, so that one can be taken out of
// service without a change to the others.
func (e *environment) fallbacks() []int {
	var numbers []int
	settings := settingsOf("", &Upstream{})
	for name, value := range e.variables {
		parts := numbered.FindStringSubmatch(name)
		if parts == nil || value == "" {
			continue
		}
		isSetting := slices.ContainsFunc(settings, func(s setting) bool {
			return parts[2] == s.tag || s.secret && parts[2] == s.tag+"_FILE"
		})
		if n, err := strconv.Atoi(parts[1]); err == nil && isSetting && !slices.Contains(numbers, n) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers
}

func (e *environment) upstreams() []int { return e.numbers }

func (e *environment) chosenByKey() bool { return true }

func (e *environment) text(p path) (string, bool) {
	text, set := e.variables[e.name(p)]
	return text, set
}

func (e *environment) short(p path) string { return e.name(p) }

func (e *environment) name(p path) string {
	if name, ok := strings.CutPrefix(string(p), "$"); ok {
		return strings.ToUpper(name) // of the file with a key, too
	}
	if i, field, ok := p.split(); ok {
		return upstreamPrefix(e.numbers[i]) + strings.ToUpper(field)
	}
	return "RELAY_" + strings.ToUpper(string(p))
}

// upstreamPrefix is what the names of an upstream's variables begin with.
func upstreamPrefix(number int) string {
	if number == 0 {
		return "UPSTREAM_"
	}
	return "UPSTREAM_" + strconv.Itoa(number) + "_"
}

// kubernetes matches the variables that Kubernetes puts into every container for a Service whose name
// begins with relay or upstream. NAME_PORT is among them only with a URL as its value.
// https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
var kubernetes = regexp.MustCompile(
	`^[A-Z0-9_]+_(SERVICE_(HOST|PORT(_\w+)?)=|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?=|PORT=\w+://)`)

// warnUnknown warns of variables that look like settings and are none. RELAY_SHARED is the tests'.
func (e *environment) warnUnknown(r *report) {
	for _, name := range slices.Sorted(maps.Keys(e.variables)) {
		ours := strings.HasPrefix(name, "RELAY_") || strings.HasPrefix(name, "UPSTREAM_")
		if !ours || name == "RELAY_SHARED" || kubernetes.MatchString(name+"="+e.variables[name]) {
			continue
		}
		known := variablesOf([]int{0, 1, numberIn(name)})
		if slices.Contains(known, name) {
			continue
		}
		_, distinct, _ := strings.Cut(name, "_") // the prefix is always right, and so no evidence
		if likely := closest(name, len(distinct), known); likely != "" {
			r.warn("%s is not a setting; did you mean %s?", name, likely)
		} else {
			r.warn("%s is not a setting", name)
		}
	}
}

// numberIn is the number that a variable's name has behind UPSTREAM_, or 0.
func numberIn(name string) int {
	if parts := numbered.FindStringSubmatch(name); parts != nil {
		n, _ := strconv.Atoi(parts[1])
		return n
	}
	return 0
}

// variablesOf are the names of all variables of the relay and of these upstreams.
func variablesOf(upstreams []int) []string {
	settings := settingsOf("", &Config{})
	for _, n := range upstreams {
		settings = append(settings, settingsOf(upstreamPrefix(n), &Upstream{})...)
	}
	var names []string
	for _, s := range settings {
		names = append(names, s.name)
		if s.secret {
			names = append(names, s.name+"_FILE")
		}
	}
	return names
}
