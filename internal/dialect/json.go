package dialect

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// The readers below say what they wanted and what they got, and each level of nesting puts its name
// in front, so that an error reads `messages[2].content[0].type: want a string, got a number`.
// They run on JSON that is known to be valid.

// fieldError is an error at a place in the body.
type fieldError struct {
	path string
	err  error
}

func (e *fieldError) Error() string { return e.path + ": " + e.err.Error() }

// at puts the name of a field, or an index like "[2]", in front of the place of an error.
func at(name string, err error) error {
	inner, ok := err.(*fieldError)
	switch {
	case !ok:
		return &fieldError{name, err}
	case strings.HasPrefix(inner.path, "["):
		return &fieldError{name + inner.path, inner.err}
	}
	return &fieldError{name + "." + inner.path, inner.err}
}

// object reads an object. A member that is null counts as absent: many serializers write what is not set
// so. A key is valid until field returns.
func object(d *jx.Decoder, field func(d *jx.Decoder, key []byte) error) error {
	if d.Next() != jx.Object {
		return wrongType(d, "an object")
	}
	iter, err := d.ObjIter()
	if err != nil {
		return err
	}
	for iter.Next() {
		key := iter.Key()
		if d.Next() == jx.Null {
			if err := d.Null(); err != nil {
				return err
			}
			continue
		}
		if err := field(d, key); err != nil {
			return at(shorten(string(key)), err)
		}
	}
	return iter.Err()
}

// index is the place of an element, for at.
func index(i int) string { return "[" + strconv.Itoa(i) + "]" }

func array(d *jx.Decoder, elem func(d *jx.Decoder, i int) error) error {
	if d.Next() != jx.Array {
		return wrongType(d, "an array")
	}
	iter, err := d.ArrIter()
	if err != nil {
		return err
	}
	for i := 0; iter.Next(); i++ {
		if err := elem(d, i); err != nil {
			return at(index(i), err)
		}
	}
	return iter.Err()
}

func str(d *jx.Decoder) (string, error) {
	if d.Next() != jx.String {
		return "", wrongType(d, "a string")
	}
	return d.Str()
}

func boolean(d *jx.Decoder) (bool, error) {
	if d.Next() != jx.Bool {
		return false, wrongType(d, "true or false")
	}
	return d.Bool()
}

func number(d *jx.Decoder) (chat.Number, error) {
	if d.Next() != jx.Number {
		return "", wrongType(d, "a number")
	}
	n, err := d.Num()
	if err == nil {
		err = checkNumber(n)
	}
	return chat.Number(n), err
}

// maxNumber bounds the text of a number. 1 MB of digits costs some readers seconds.
const maxNumber = 64

// checkNumber refuses what readers of JSON do not agree on, or need long for.
func checkNumber(n jx.Num) error {
	if len(n) > maxNumber {
		return fmt.Errorf("want a number of at most %d characters", maxNumber)
	}
	if _, err := n.Float64(); err != nil {
		return errors.New("want a number that is not too large")
	}
	return nil
}

// checkNumbers does the same for all numbers in a value.
func checkNumbers(value []byte) error {
	return numbersIn(jx.DecodeBytes(value))
}

func numbersIn(d *jx.Decoder) error {
	switch d.Next() {
	case jx.Number:
		n, err := d.Num()
		if err == nil {
			err = checkNumber(n)
		}
		return err
	case jx.Array:
		return d.Arr(numbersIn)
	case jx.Object:
		return d.ObjBytes(func(d *jx.Decoder, _ []byte) error { return numbersIn(d) })
	}
	return d.Skip()
}

// rawObject reads an object that is passed on as it is. It is a copy: the value in the body would keep all of
// the body.
func rawObject(d *jx.Decoder) ([]byte, error) {
	if d.Next() != jx.Object {
		return nil, wrongType(d, "an object")
	}
	raw, err := d.Raw()
	if err == nil {
		err = checkNumbers(raw)
	}
	return bytes.Clone(raw), err
}

func wrongType(d *jx.Decoder, want string) error {
	got := map[jx.Type]string{
		jx.String: "a string", jx.Number: "a number", jx.Null: "null",
		jx.Bool: "a boolean", jx.Array: "an array", jx.Object: "an object",
	}[d.Next()]
	return fmt.Errorf("want %s, got %s", want, got)
}

// shorten keeps a caller's own names out of our messages at length.
func shorten(key string) string {
	const longest = 64
	if len(key) <= longest {
		return key
	}
	return strings.ToValidUTF8(key[:longest], "") + "…"
}
