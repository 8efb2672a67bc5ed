package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// maxSecretFile caps a file of secrets, in bytes, so that a wrong path can't fill the memory.
const maxSecretFile = 1 << 20

// loader collects what is wrong while one environment is read.
type loader struct {
	env      map[string]string
	problems Problems
	warnings []string
}

func newLoader(environ []string) *loader {
	l := &loader{env: env.ToMap(environ)}
	for name, value := range l.env {
		// Files of variables with CRLF, and secrets made by echo, leave space at the end.
		l.env[name] = strings.TrimSpace(value)
	}
	return l
}

func (l *loader) problem(name, format string, args ...any) {
	line := name + ": " + fmt.Sprintf(format, args...)
	if !slices.Contains(l.problems, line) { // upstreams can share a key, and with it what is wrong with it
		l.problems = append(l.problems, line)
	}
}

func (l *loader) warn(format string, args ...any) {
	l.warnings = append(l.warnings, fmt.Sprintf(format, args...))
}

// given tells whether a secret is set, in either of its two ways.
func (l *loader) given(name string) bool {
	return l.env[name] != "" || l.env[name+"_FILE"] != ""
}

// secret returns the value of a variable that can also come from a file.
func (l *loader) secret(name string) string {
	value, file := l.env[name], name+"_FILE"
	path := l.env[file]
	if path == "" {
		return value
	}
	if value != "" {
		l.problem(file, "%s is set, too; set only one of them", name)
		return value
	}
	content, err := readSecret(path)
	if err != nil {
		l.problem(file, "%v", unnamed(err))
	}
	return content
}

func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return "", err
	}
	if len(content) > maxSecretFile {
		return "", fmt.Errorf("the file is larger than %v", ByteSize(maxSecretFile))
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

// parse fills a struct from the variables that its tags name. A field whose variable can't be read
// gets its default, so that the checks that follow don't report it again.
func (l *loader) parse(prefix string, structPtr any) {
	for _, s := range settingsOf(prefix, structPtr) {
		if s.secret && l.given(s.name) {
			l.env[s.name] = l.secret(s.name)
		}
	}
	opts := env.Options{Environment: l.env, Prefix: prefix, FuncMap: parsers}
	err := env.ParseWithOptions(structPtr, opts)
	if err == nil {
		return
	}
	all, _ := errors.AsType[env.AggregateError](err)
	for _, err := range all.Errors {
		if bad, ok := errors.AsType[env.ParseError](err); ok {
			field, _ := reflect.TypeOf(structPtr).Elem().FieldByName(bad.Name)
			name := prefix + field.Tag.Get("env")
			l.problem(name, "%v", bad.Err)
			delete(l.env, name)
		}
	}
	if err := env.ParseWithOptions(structPtr, opts); err != nil {
		panic(err) // a tag or field type that env can't handle
	}
}

// apiKeys reads the accepted keys. Problems give an entry's place, never its text: what stands
// before a colon may be half of somebody's key.
func (l *loader) apiKeys(name string) []APIKey {
	value := l.env[name]
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
			l.problem(name, "entry %d is not of the form name:key or key", i+1)
		case !isToken(owner) || !isToken(key):
			l.problem(name, "entry %d has characters other than printable ASCII without spaces", i+1)
		case len(key) < 16:
			l.warn("%s: the key of entry %d is shorter than 16 characters and may be guessed", name, i+1)
		}
		keys = append(keys, APIKey{Name: owner, Key: Secret(key)})
	}
	if len(keys) == 0 {
		l.problem(name, "has only separators; leave it unset to accept everyone")
	}
	l.checkDistinct(name, keys)
	return keys
}

// checkDistinct reports names and keys that come twice: the log could not tell their owners apart.
func (l *loader) checkDistinct(name string, keys []APIKey) {
	owners, texts := make(map[string]int), make(map[Secret]int)
	for i, k := range keys {
		if first := owners[k.Name]; first > 0 && k.Name != "" {
			l.problem(name, "entries %d and %d have the same name", first, i+1)
		}
		if first := texts[k.Key]; first > 0 {
			l.problem(name, "entries %d and %d have the same key", first, i+1)
		}
		owners[k.Name], texts[k.Key] = i+1, i+1
	}
}
