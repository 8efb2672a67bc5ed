package config

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile caps the settings' file, in bytes.
const maxFile = 1 << 20

// file is the source that has settings as YAML: the variables' names in lower case without RELAY_ and UPSTREAM_. What
// the environment has of the relay's own settings comes before it.
type file struct {
	variables *environment
	base      string // the file's name, for people
	texts     map[path]string
	lines     map[path]int // of all that is in the file, mappings and lists as well
	count     int          // of upstreams
	routes    []Model
	tiers     map[string]Limits
	callers   map[string]Caller
	sum       [sha256.Size]byte
	has       map[string]bool // which of the root's mappings and lists the file has
}

// readFile reads a file of settings. What of it can't be understood is reported to r, whose source it becomes.
// The error is that of a file which can't be read at all.
func readFile(name string, variables *environment, r *report) (*file, error) {
	f := &file{
		variables: variables, base: filepath.Base(name),
		texts: make(map[path]string), lines: make(map[path]int), has: make(map[string]bool),
	}
	r.source = f
	content, err := readBounded(name, maxFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variables.name("config"), unnamed(err))
	}
	f.sum = sha256.Sum256(content)
	root, err := f.parse(content)
	switch {
	case err != nil:
		return nil, err
	case root == nil || root.Tag == "!!null": // empty, or nothing but comments
	case root.Kind != yaml.MappingNode:
		return nil, fmt.Errorf("%s:%d: is not a mapping of settings; use e.g. addr: \":8080\"", f.base, root.Line)
	default:
		f.root(root, r)
	}
	return f, nil
}

// refuseUpstreams reports variables of upstreams that are in the file as well: which of them is asked first nobody
// could tell.
func (f *file) refuseUpstreams(r *report) {
	if !f.has["upstreams"] {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(f.variables.variables)) {
		isSetting := slices.Contains(variablesOf([]int{0, numberIn(name)}), name)
		if strings.HasPrefix(name, "UPSTREAM_") && isSetting && f.variables.variables[name] != "" {
			r.problems = append(r.problems, fmt.Sprintf("%s: set, but %s has upstreams; use only one of them", name,
				f.base))
		}
	}
}

func (f *file) parse(content []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var document, further yaml.Node
	err := decoder.Decode(&document)
	if err == io.EOF {
		return nil, nil
	}
	if err == nil && decoder.Decode(&further) != io.EOF {
		return nil, fmt.Errorf("%s: has more than one document; remove what follows the line ---", f.base)
	}
	if err != nil {
		line, why := notYAML(content, err)
		return nil, fmt.Errorf("%s:%d: is not YAML: %s", f.base, line, why)
	}
	return document.Content[0], nil
}

func (f *file) root(root *yaml.Node, r *report) {
	settings := settingsOf("", &Config{})
	settings = slices.DeleteFunc(settings, func(s setting) bool { return s.key == "config" })
	f.mapping("", root, r, func(key string, at path, value *yaml.Node) {
		switch key {
		case "upstreams":
			f.has[key] = true
			f.list(at, value, r, func(i int, item *yaml.Node) {
				f.count++
				f.settings(upstreamAt(i), item, settingsOf("", &Upstream{}), nil, r)
			})
			if value.Kind == yaml.SequenceNode && f.count == 0 {
				r.problem(at, "is empty; leave it out for those of the environment")
			}
		case "models":
			f.has[key] = true
			f.models(at, value, r)
		case "tiers":
			f.readTiers(at, value, r)
		case "callers":
			f.readCallers(at, value, r)
		default:
			f.setting(key, at, value, settings, []string{"upstreams", "models", "tiers", "callers"}, r)
		}
	})
}

// settings reads a mapping whose keys are settings.
func (f *file) settings(at path, node *yaml.Node, settings []setting, others []string, r *report) {
	f.mapping(at, node, r, func(key string, at path, value *yaml.Node) {
		f.setting(key, at, value, settings, others, r)
	})
}

// setting reads one, in the form that its variable has.
func (f *file) setting(key string, at path, value *yaml.Node, settings []setting, others []string, r *report) {
	names := others
	for _, s := range settings {
		if key == s.key || s.secret && key == s.key+"_file" {
			text, err := textOf(key, value)
			if err != nil {
				r.problem(at, "%v", err)
			}
			f.texts[at] = text
			return
		}
		if names = append(names, s.key); s.secret {
			names = append(names, s.key+"_file")
		}
	}
	f.unknown(key, at, names, r)
}

func (f *file) unknown(key string, at path, names []string, r *report) {
	if likely := closest(key, len(key), names); likely != "" {
		r.problem(at, "is not a setting; did you mean %s?", likely)
	} else {
		r.problem(at, "is not a setting")
	}
}

// mapping calls each for every entry, also for those that "<<" brings.
func (f *file) mapping(at path, node *yaml.Node, r *report, each func(key string, at path, value *yaml.Node)) {
	node = target(node)
	if node.Kind != yaml.MappingNode {
		r.problem(at, "is not a mapping")
		return
	}
	all, flaws := entriesOf(node)
	for _, e := range all {
		p := member(at, e.key)
		f.lines[p] = e.line
		each(e.key, p, e.value)
	}
	for _, flaw := range flaws {
		if flaw.key == "" {
			r.problem(at, "%s", flaw.why)
		} else {
			r.problem(member(at, flaw.key), "%s", flaw.why)
		}
	}
}

// list calls each for every item.
func (f *file) list(at path, node *yaml.Node, r *report, each func(i int, item *yaml.Node)) {
	if node.Kind != yaml.SequenceNode {
		r.problem(at, "is not a list")
		return
	}
	for i, item := range node.Content {
		item = target(item)
		f.lines[at.item(i)] = item.Line
		each(i, item)
	}
}

// member is the path of a key, which may be a name that somebody chose.
func member(at path, key string) path {
	if at == "" {
		return path(key)
	}
	return at.field(key)
}

func readBounded(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(content)) > most {
		err = fmt.Errorf("the file is larger than %v", ByteSize(most))
	}
	return content, err
}

// overridden tells whether the environment has a setting of the relay itself, in either form.
func (f *file) overridden(p path) bool {
	secret := strings.TrimSuffix(string(p), "_file")
	for _, name := range []path{p, path(secret), path(secret + "_file")} {
		if text, set := f.variables.text(name); text != "" || set && name == "admin_addr" {
			return true
		}
	}
	return false
}

// fromVariables tells whether a path is the environment's.
func (f *file) fromVariables(p path) bool {
	if p == "config" {
		return f.lines[p] == 0 // a file names no other
	}
	if strings.HasPrefix(string(p), "$") {
		return true
	}
	if _, _, ok := p.split(); ok {
		return !f.has["upstreams"]
	}
	return f.overridden(p)
}

func (f *file) text(p path) (string, bool) {
	if f.fromVariables(p) {
		return f.variables.text(p)
	}
	text, set := f.texts[p]
	return text, set
}

func (f *file) name(p path) string {
	if f.fromVariables(p) {
		return f.variables.name(p)
	}
	if p == "" { // the file itself
		return f.base
	}
	return f.place(p) + ": " + string(p)
}

func (f *file) short(p path) string {
	if f.fromVariables(p) {
		return f.variables.name(p)
	}
	return string(p)
}

// place is the file's name with the line of a path or, for what is not in it, of the nearest that it belongs to.
func (f *file) place(p path) string {
	for p != "" {
		if line := f.lines[p]; line > 0 {
			return f.base + ":" + strconv.Itoa(line)
		}
		p = p[:max(strings.LastIndexAny(string(p), ".["), 0)]
	}
	return f.base
}

func (f *file) upstreams() []int {
	if !f.has["upstreams"] {
		return f.variables.upstreams()
	}
	numbers := make([]int, f.count)
	for i := range numbers {
		numbers[i] = i
	}
	return numbers
}

func (f *file) chosenByKey() bool { return !f.has["upstreams"] }
