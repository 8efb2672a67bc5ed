package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// entry is one of a mapping.
type entry struct {
	key   string
	line  int // of the key
	value *yaml.Node
}

// flaw is what of a mapping can't be used.
type flaw struct {
	key string // of the entry; empty: it is about the mapping
	why string
}

// entriesOf are those of a mapping: its own and, behind them, what "<<" brings of others that it has not itself. What
// is read of a mapping is read here, whatever it is about, so that anchors and keys that are there twice are alike
// everywhere.
func entriesOf(node *yaml.Node) ([]entry, []flaw) {
	m := merger{first: make(map[string]int), open: make(map[*yaml.Node]bool)}
	m.add(node, true)
	return m.entries, m.flaws
}

type merger struct {
	entries []entry
	flaws   []flaw
	first   map[string]int      // lines of keys
	open    map[*yaml.Node]bool // mappings that were seen; true: their end was not
}

func (m *merger) add(node *yaml.Node, own bool) {
	m.open[node] = true
	here := make(map[string]int) // what another mapping has as well is not there twice
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := target(node.Content[i])
		switch {
		case key.Tag == "!!merge":
			continue
		case key.Kind != yaml.ScalarNode:
			m.flaw("", "has a key in line %d that is not text", node.Content[i].Line)
			continue
		case own && here[key.Value] > 0: // of a mapping that is referred to it is told where it stands
			m.flaw(key.Value, "is in line %d, too", node.Content[i].Line)
		}
		here[key.Value] = node.Content[i].Line
		if m.first[key.Value] == 0 {
			m.first[key.Value] = node.Content[i].Line
			m.entries = append(m.entries, entry{key.Value, node.Content[i].Line, target(node.Content[i+1])})
		}
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Tag == "!!merge" {
			m.merge(target(node.Content[i+1]), node.Content[i].Line)
		}
	}
	m.open[node] = false
}

// merge adds what a "<<" in a line refers to: a mapping, or several, of which the first counts most.
func (m *merger) merge(from *yaml.Node, line int) {
	all := []*yaml.Node{from}
	if from.Kind == yaml.SequenceNode {
		all = from.Content
	}
	for _, from := range all {
		from = target(from)
		within, seen := m.open[from]
		switch {
		case from.Kind != yaml.MappingNode:
			m.flaw("", "<< in line %d does not refer to a mapping", line)
		case within:
			m.flaw("", "<< in line %d refers to what it is in", line)
		case !seen:
			m.add(from, false)
		}
	}
}

func (m *merger) flaw(key, format string, args ...any) {
	m.flaws = append(m.flaws, flaw{key, fmt.Sprintf(format, args...)})
}

// target is what an alias stands for.
func target(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

// scalar is the text of a value that is text or a number. A null, in whichever way it is written, is no text.
func scalar(node *yaml.Node) string {
	if node.Tag == "!!null" {
		return ""
	}
	return strings.TrimSpace(node.Value)
}

// pairs are the settings whose entries are name=value, which a mapping says better.
var pairs = []string{"headers", "models", "family", "rename_fields", "jwt_require"}

var errNoText = errors.New("has an entry that is neither text nor a number")

// textOf gives the value of a setting the form that it has in a variable: entries of a list one a line, those of a
// mapping as name=value. No error quotes it: it may be a secret.
func textOf(key string, node *yaml.Node) (string, error) {
	switch node.Kind {
	case yaml.ScalarNode:
		return scalar(node), nil
	case yaml.SequenceNode:
		var lines strings.Builder
		for _, item := range node.Content {
			if item = target(item); item.Kind != yaml.ScalarNode {
				return "", errNoText
			}
			lines.WriteString(scalar(item) + "\n")
		}
		return lines.String(), nil
	}
	switch {
	case key == "add_fields":
		return asJSON(node)
	case !slices.Contains(pairs, key):
		return "", errors.New("is a mapping, and can only be text or a list")
	}
	all, err := entriesFor(node)
	if err != nil {
		return "", err
	}
	var lines strings.Builder
	for _, e := range all {
		if e.value.Kind != yaml.ScalarNode {
			return "", errNoText
		}
		lines.WriteString(e.key + "=" + scalar(e.value) + "\n")
	}
	return lines.String(), nil
}

// entriesFor are the entries of a setting's value.
func entriesFor(node *yaml.Node) ([]entry, error) {
	all, flaws := entriesOf(node)
	switch {
	case len(flaws) == 0:
		return all, nil
	case flaws[0].key == "":
		return nil, errors.New(flaws[0].why)
	}
	return nil, errors.New("has an entry that " + flaws[0].why)
}

// maxJSON bounds the values of a setting that is JSON: anchors multiply.
const maxJSON = 10_000

func asJSON(node *yaml.Node) (string, error) {
	left := maxJSON
	value, err := jsonOf(node, &left)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(value)
	if err != nil {
		return "", errNoJSON
	}
	return string(text), nil
}

var errNoJSON = errors.New("is not a mapping that JSON could have")

// jsonOf is a value as JSON has it. Keys are text there, and a date is what stands in the file. left is how many
// values it may have.
func jsonOf(node *yaml.Node, left *int) (any, error) {
	if *left--; *left < 0 {
		return nil, fmt.Errorf("has more than %d values", maxJSON)
	}
	switch node = target(node); node.Kind {
	case yaml.MappingNode:
		all, err := entriesFor(node)
		object := make(map[string]any)
		for _, e := range all {
			if err == nil {
				object[e.key], err = jsonOf(e.value, left)
			}
		}
		return object, err
	case yaml.SequenceNode:
		list := []any{}
		for _, item := range node.Content {
			value, err := jsonOf(item, left)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		return list, nil
	}
	if node.Tag != "!!null" && node.Tag != "!!bool" && node.Tag != "!!int" && node.Tag != "!!float" {
		return node.Value, nil
	}
	var value any
	if node.Decode(&value) != nil {
		return nil, errNoJSON
	}
	return value, nil
}

var (
	yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`) // the library's, with the line in the middle
	// errors of its parser, which counts lines from 0; its scanner counts them from 1
	parserError   = regexp.MustCompile(`^did not find expected (node content|key|'.*|<.*)$`)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// notYAML says in which line a file can't be read, and why. The library does not tell the first line, nor that of a
// character or an alias.
func notYAML(content []byte, err error) (line int, why string) {
	why = err.Error()
	if parts := yamlError.FindStringSubmatch(why); parts != nil {
		if why = parts[2]; parts[1] != "" {
			line, _ = strconv.Atoi(parts[1])
			if parserError.MatchString(strings.TrimSuffix(why, " indicator")) {
				line++
			}
			last := 1 + bytes.Count(bytes.TrimSpace(content), []byte("\n")) // what is missing is behind it
			return min(line, last), why
		}
	}
	text, bad := string(content), -1
	if anchor := unknownAnchor.FindStringSubmatch(why); anchor != nil {
		bad = strings.Index(text, "*"+anchor[1])
	} else if strings.Contains(why, "UTF-8") || strings.Contains(why, "control characters") {
		bad = oddCharacter(text)
	}
	return 1 + strings.Count(text[:max(bad, 0)], "\n"), why
}

// oddCharacter is where the first character is that YAML can't have, -1 where there is none.
func oddCharacter(text string) int {
	for i, c := range text {
		_, size := utf8.DecodeRuneInString(text[i:])
		if c == utf8.RuneError && size == 1 || c < ' ' && !strings.ContainsRune("\t\n\r", c) || c == 0x7f {
			return i
		}
	}
	return -1
}
