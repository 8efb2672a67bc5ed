package provider

import (
	"slices"

	"github.com/go-faster/jx"
)

// Edits are an operator's changes to the bodies of an upstream's requests, for the day on which a rule of rules.go
// is wrong. A field's name may be a path, as generationConfig.temperature.
type Edits struct {
	Drop   []string          // fields that are left out
	Rename map[string]string // new names by path
	Add    []byte            // a JSON object whose members are set last; objects are merged
}

// apply returns the body with the changes. A body is always an object.
func (x *Edits) apply(body []byte) []byte {
	if x == nil || len(x.Drop) == 0 && len(x.Rename) == 0 && len(x.Add) == 0 {
		return body
	}
	var e jx.Encoder
	e.Grow(len(body) + len(x.Add))
	x.object(&e, body, "", x.Add)
	return e.Bytes()
}

// object writes an object that stands at a path, with the members of add.
func (x *Edits) object(e *jx.Encoder, object []byte, path string, add []byte) {
	added, order := membersOf(add)
	e.ObjStart()
	written := make(map[string]bool)
	write := func(name string, value []byte) {
		if written[name] { // a renamed field meets one of its new name
			return
		}
		written[name] = true
		e.FieldStart(name)
		more, ok := added[name]
		switch {
		case isObject(value) && (!ok || isObject(more)):
			x.object(e, value, path+name+".", more)
		case ok:
			e.Raw(more)
		default:
			e.Raw(value)
		}
	}
	_ = jx.DecodeBytes(object).ObjBytes(func(d *jx.Decoder, key []byte) error {
		name := string(key)
		value, err := d.Raw()
		if err != nil || slices.Contains(x.Drop, path+name) {
			return err
		}
		if other := x.Rename[path+name]; other != "" {
			name = other
		}
		write(name, value)
		return nil
	})
	for _, name := range order {
		if !written[name] {
			written[name] = true
			e.FieldStart(name)
			e.Raw(added[name])
		}
	}
	e.ObjEnd()
}

// membersOf gives the members of an object and their order. Nil is an object without any.
func membersOf(object []byte) (members map[string]jx.Raw, order []string) {
	members = make(map[string]jx.Raw)
	if len(object) == 0 {
		return members, nil
	}
	_ = jx.DecodeBytes(object).ObjBytes(func(d *jx.Decoder, key []byte) (err error) {
		name := string(key)
		if _, ok := members[name]; !ok {
			order = append(order, name)
		}
		members[name], err = d.Raw()
		return err
	})
	return members, order
}

func isObject(value []byte) bool { return len(value) > 0 && jx.DecodeBytes(value).Next() == jx.Object }
