package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// path is where a setting stands in the value: "redis_url", "upstreams[2].base_url". A secret that is the content of
// a file has a second one, which ends with "_file". What a source calls it is the source's own: a variable has one
// name, a line of a file another.
type path string

// field is the path of a member.
func (p path) field(name string) path { return p + "." + path(name) }

// item is the path of one of a list.
func (p path) item(i int) path { return p + path("["+strconv.Itoa(i)+"]") }

// upstreamAt is the path of an upstream.
func upstreamAt(i int) path { return path("upstreams").item(i) }

// keyOf is the path of a provider's own key, which has a name that providers' SDKs agree on and no field.
func keyOf(variable string) path { return path("$" + variable) }

// split takes the index and the field out of a path of an upstream.
func (p path) split() (i int, field string, ok bool) {
	rest, ok := strings.CutPrefix(string(p), "upstreams[")
	index, field, _ := strings.Cut(rest, "].")
	if !ok {
		return 0, "", false
	}
	i, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
	return i, field, err == nil
}

// source is where settings come from.
type source interface {
	// text is what is set at a path, less the space around it; set is true for an empty value, too.
	text(p path) (text string, set bool)
	// name is what people know a path by, as the subject of a problem.
	name(p path) string
	// short is the same inside a sentence, where the place in a file would not help.
	short(p path) string
	// upstreams are the numbers that the upstreams are known by, in the order in which they are asked.
	upstreams() []int
	// chosenByKey tells whether a provider's own key chooses the kind of the first upstream that has none.
	chosenByKey() bool
}

// report collects what is wrong with a value, by the paths of its fields.
type report struct {
	source   source
	kinds    Kinds // that upstreams can be
	problems Problems
	warnings []string
}

// given tells whether a setting is set, in either of the two ways that a secret has.
func (r *report) given(p path) bool {
	text, _ := r.source.text(p)
	file, _ := r.source.text(p + "_file")
	return text != "" || file != ""
}

// problem reports what makes a value useless. Paths among the arguments get the names that the source has for them.
func (r *report) problem(at path, format string, args ...any) {
	line := r.source.name(at) + ": " + r.sentence(format, args)
	if !slices.Contains(r.problems, line) { // upstreams can share a key, and with it what is wrong with it
		r.problems = append(r.problems, line)
	}
}

// warn reports what works but looks like a mistake.
func (r *report) warn(format string, args ...any) {
	r.warnings = append(r.warnings, r.sentence(format, args))
}

func (r *report) sentence(format string, args []any) string {
	named := slices.Clone(args)
	for i, arg := range args {
		if p, ok := arg.(path); ok {
			named[i] = r.source.short(p)
		}
	}
	return fmt.Sprintf(format, named...)
}
