package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// maxSecretFile caps a file of secrets, in bytes, so that a wrong path can't fill the memory.
const maxSecretFile = 1 << 20

// loader makes the value from what a source has.
type loader struct {
	*report
}

// text is what a source has at a path.
func (l *loader) text(at path) string {
	text, _ := l.source.text(at)
	return text
}

// secret is a text that can also come from a file.
func (l *loader) secret(at path) string {
	value, file := l.text(at), at+"_file"
	name := l.text(file)
	if name == "" {
		return value
	}
	if value != "" {
		l.problem(file, "%s is set, too; set only one of them", at)
		return value
	}
	content, err := readSecret(name)
	if err != nil {
		l.problem(file, "%v", unnamed(err))
	}
	return content
}

func readSecret(path string) (string, error) {
	content, err := readBounded(path, maxSecretFile)
	if err != nil {
		return "", err
	}
	value := strings.TrimSpace(string(content))
	if value == "" {
		// Not the same as no secret: an empty mount must not open the relay.
		return "", errors.New("the file is empty")
	}
	return value, nil
}

// unnamed takes the path out of a file error: people put the secret itself where its path belongs.
func unnamed(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s the file: %w", pathErr.Op, pathErr.Err)
	}
	return err
}

// parsers give errors in the words of people instead of package strconv's.
var parsers = map[reflect.Type]env.ParserFunc{
	reflect.TypeFor[time.Duration](): func(s string) (any, error) {
		d, err := time.ParseDuration(s)
		if err != nil {
			return nil, fmt.Errorf("%q is not a duration; use a unit, e.g. 15s", s)
		}
		return d, nil
	},
	reflect.TypeFor[int](): func(s string) (any, error) {
		n, err := strconv.Atoi(s)
		if err != nil {
			return nil, fmt.Errorf("%q is not a whole number", s)
		}
		return n, nil
	},
	reflect.TypeFor[bool](): func(s string) (any, error) {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return nil, fmt.Errorf("%q is neither true nor false", s)
		}
		return b, nil
	},
	reflect.TypeFor[[]string](): func(s string) (any, error) {
		entries := splitList(s)
		if len(entries) == 0 {
			return nil, errors.New("has only separators")
		}
		return entries, nil
	},
	reflect.TypeFor[Rate]():           func(s string) (any, error) { return parseRate(s) },
	reflect.TypeFor[[]netip.Prefix](): func(s string) (any, error) { return parseNetworks(s) },
}

// splitList returns what stands between commas or line ends, less blank entries.
func splitList(s string) []string {
	var entries []string
	for entry := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == ',' || r == '\n' }) {
		if entry = strings.TrimSpace(entry); entry != "" {
			entries = append(entries, entry)
		}
	}
	return entries
}

// parse fills a struct with what stands at the paths of its fields, which begin with at. A field that can't be read
// gets its default, so that the checks that follow don't report it again.
func (l *loader) parse(at func(key string) path, structPtr any) {
	texts := make(map[string]string)
	for _, s := range settingsOf("", structPtr) {
		if texts[s.tag] = l.text(at(s.key)); s.secret {
			texts[s.tag] = l.secret(at(s.key))
		}
	}
	opts := env.Options{Environment: texts, FuncMap: parsers}
	err := env.ParseWithOptions(structPtr, opts)
	if err == nil {
		return
	}
	all, _ := errors.AsType[env.AggregateError](err)
	for _, err := range all.Errors {
		if bad, ok := errors.AsType[env.ParseError](err); ok {
			field, _ := reflect.TypeOf(structPtr).Elem().FieldByName(bad.Name)
			tag := field.Tag.Get("env")
			l.problem(at(keyOfTag(tag)), "%v", bad.Err)
			delete(texts, tag)
		}
	}
	if err := env.ParseWithOptions(structPtr, opts); err != nil {
		panic(err) // a tag or field type that env can't handle
	}
}

// apiKeys reads the accepted keys. Problems give an entry's place, never its text: what stands
// before a colon may be half of somebody's key.
func (l *loader) apiKeys(at path) []APIKey {
	value := l.secret(at)
	if value == "" {
		return nil
	}
	var keys []APIKey
	for i, entry := range splitList(value) {
		owner, key, named := strings.Cut(entry, ":")
		if !named {
			owner, key = "", entry
		}
		switch {
		case key == "" || named && owner == "":
			l.problem(at, "entry %d is not of the form name:key or key", i+1)
		case !isToken(owner) || !isToken(key):
			l.problem(at, "entry %d has characters other than printable ASCII without spaces", i+1)
		case len(key) < 16:
			l.warn("%s: the key of entry %d is shorter than 16 characters and may be guessed", at, i+1)
		}
		keys = append(keys, APIKey{Name: owner, Key: Secret(key)})
	}
	if len(keys) == 0 {
		l.problem(at, "has only separators; leave it unset to accept everyone")
	}
	l.checkDistinct(at, keys)
	return keys
}

// checkDistinct reports names and keys that come twice: the log could not tell their owners apart.
func (l *loader) checkDistinct(at path, keys []APIKey) {
	owners, texts := make(map[string]int), make(map[Secret]int)
	for i, k := range keys {
		if first := owners[k.Name]; first > 0 && k.Name != "" {
			l.problem(at, "entries %d and %d have the same name", first, i+1)
		}
		if first := texts[k.Key]; first > 0 {
			l.problem(at, "entries %d and %d have the same key", first, i+1)
		}
		owners[k.Name], texts[k.Key] = i+1, i+1
	}
}
