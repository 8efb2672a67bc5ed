package format

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// partialCall is a function call whose arguments come value by value, as Vertex streams them: each says
// where it belongs by a JSON path (RFC 9535, of names and indexes only), and a string may come in pieces.
// https://cloud.google.com/vertex-ai/generative-ai/docs/multimodal/function-calling#streaming-fc
type partialCall struct {
	open     bool
	size     int // of the partialArgs so far, in bytes
	id, name []byte
	seal     []byte // the call's thoughtSignature
	args     any
}

// maxPartialArgs bounds them, in bytes of JSON. Paths can make many objects of few bytes.
const maxPartialArgs = 1 << 20

// partialArg is one value. At most one of the four is set: none says only that there is something at the path.
type partialArg struct {
	Path   string          `json:"jsonPath"`
	String *string         `json:"stringValue"`
	Number *json.Number    `json:"numberValue"`
	Bool   *bool           `json:"boolValue"`
	Null   json.RawMessage `json:"nullValue"` // a name or null itself
}

// begin opens a call, with the arguments that it has from the start, and ends the one before it.
func (c *partialCall) begin(id, name, args []byte, out *Answer) error {
	if err := c.end(out); err != nil {
		return err
	}
	object := map[string]any{}
	if len(args) > 0 {
		d := json.NewDecoder(bytes.NewReader(args))
		d.UseNumber()
		if err := d.Decode(&object); err != nil {
			return fmt.Errorf("arguments: %w", err)
		}
	}
	*c = partialCall{open: true, id: append(c.id[:0], id...), name: append(c.name[:0], name...), args: object}
	return nil
}

// add takes a list of partialArgs, in JSON. Without an open call there is nothing they could belong to.
func (c *partialCall) add(list []byte) error {
	if !c.open || len(list) == 0 {
		return nil
	}
	if c.size += len(list); c.size > maxPartialArgs {
		return errors.New("partial arguments over the size limit")
	}
	var args []partialArg
	if err := json.Unmarshal(list, &args); err != nil {
		return fmt.Errorf("partial arguments: %w", err)
	}
	for _, a := range args {
		steps, err := jsonPath(a.Path)
		if err != nil {
			return err
		}
		if len(steps) == 0 && !a.says() {
			continue // the arguments as a whole, which are there
		}
		if c.args, err = place(c.args, steps, a); err != nil {
			return err
		}
	}
	return nil
}

// end sends the call, if one is open.
func (c *partialCall) end(out *Answer) error {
	if !c.open {
		return nil
	}
	c.open = false
	args, err := marshalPlain(c.args)
	if err != nil {
		return err
	}
	if err := out.wholeTool(c.id, c.name, args); err != nil {
		return err
	}
	out.keep.call(len(out.tools)-1, c.seal)
	return nil
}

// place puts a value into the tree at have, and returns the tree. Lists grow by one at a time, so that a
// path can't ask for more memory than it has bytes.
func place(have any, steps []any, a partialArg) (any, error) {
	if len(steps) == 0 {
		return a.value(have), nil
	}
	switch step := steps[0].(type) {
	case string:
		object, ok := have.(map[string]any)
		if !ok && have != nil {
			return nil, errPath
		}
		if object == nil {
			object = map[string]any{}
		}
		value, err := place(object[step], steps[1:], a)
		object[step] = value
		return object, err
	case int:
		list, ok := have.([]any)
		if step == atEnd {
			if step = len(list); len(steps) == 1 && !a.says() { // the end of a list, or an empty one
				if list == nil && have == nil {
					list = []any{}
				} else if !ok {
					return have, nil
				}
				return list, nil
			}
		}
		if !ok && have != nil || step > len(list) {
			return nil, errPath
		}
		if step == len(list) {
			list = append(list, nil)
		}
		value, err := place(list[step], steps[1:], a)
		list[step] = value
		return list, err
	}
	return nil, errPath
}

// says reports whether the argument has a value.
func (a partialArg) says() bool {
	return a.String != nil || a.Number != nil || a.Bool != nil || len(a.Null) > 0
}

// value is what the argument says; a string goes on where one stands already. Without a value what stands there stays,
// and where nothing does there is an object of no members.
func (a partialArg) value(have any) any {
	switch {
	case a.String != nil:
		text, ok := have.(*partialText)
		if !ok {
			before, _ := have.(string)
			text = new(partialText(before))
		}
		*text = append(*text, *a.String...)
		return text
	case a.Number != nil:
		return *a.Number
	case a.Bool != nil:
		return *a.Bool
	case len(a.Null) > 0:
		return nil
	case have == nil:
		return map[string]any{}
	}
	return have
}

// partialText is a string that comes in pieces. Were they joined one by one, each would cost as much as all before it.
type partialText []byte

// MarshalText implements encoding.TextMarshaler.
func (t *partialText) MarshalText() ([]byte, error) { return *t, nil }

// atEnd is the index of [], which is that of the item to come.
const atEnd = -1

var errPath = errors.New("partial arguments: a path that fits nothing")

// jsonPath takes a path apart into names and indexes: $.a.b[0]['c d']. Vertex writes [] for the item to come.
func jsonPath(p string) (steps []any, err error) {
	rest, ok := strings.CutPrefix(p, "$")
	for ok && rest != "" {
		var step any
		switch {
		case rest[0] == '.':
			rest = rest[1:]
			n := strings.IndexAny(rest, ".[")
			if n < 0 {
				n = len(rest)
			}
			step, rest, ok = rest[:n], rest[n:], n > 0
		case strings.HasPrefix(rest, "['"), strings.HasPrefix(rest, `["`):
			var name string
			name, rest, ok = quotedName(rest[1:])
			step = name
		case rest[0] == '[':
			var digits string
			digits, rest, ok = strings.Cut(rest[1:], "]")
			index, convErr := strconv.ParseUint(digits, 10, 31)
			if step, ok = int(index), ok && (convErr == nil || digits == ""); digits == "" {
				step = atEnd
			}
		default:
			ok = false
		}
		steps = append(steps, step)
	}
	if !ok || len(steps) > 100 {
		return nil, errPath
	}
	return steps, nil
}

// quotedName reads 'name'] or "name"], in which a backslash takes the next character as it is.
func quotedName(s string) (name, rest string, ok bool) {
	quote := s[0]
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
			b.WriteByte(s[i])
		case quote:
			rest, ok = strings.CutPrefix(s[i+1:], "]")
			return b.String(), rest, ok
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", false
}
