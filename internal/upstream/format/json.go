package format

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// The readers below take what providers send where the format has a string, a number or an object: a
// value of another type is passed over, because a null or an oddity in one field is no reason to lose
// an answer.

// readString appends a string value to dst. It may begin or end with half of a surrogate pair, see unescape.
func readString(d *jx.Decoder, dst []byte) ([]byte, error) {
	if d.Next() != jx.String {
		return dst, d.Skip()
	}
	raw, err := d.Raw()
	if err != nil {
		return dst, err
	}
	return unescape(dst, raw[1:len(raw)-1]), nil
}

// readStringTo is readString for a destination that a switch has chosen, nil for none.
func readStringTo(d *jx.Decoder, dst *[]byte) (err error) {
	if dst == nil {
		return d.Skip()
	}
	*dst, err = readString(d, *dst)
	return err
}

// appendText appends the string members of an object that have one of these names.
func appendText(d *jx.Decoder, dst *[]byte, names ...string) error {
	return eachMember(d, func(d *jx.Decoder, key []byte) error {
		if !slices.Contains(names, string(key)) {
			return d.Skip()
		}
		return readStringTo(d, dst)
	})
}

// eachMember reads the members of an object.
func eachMember(d *jx.Decoder, read func(d *jx.Decoder, key []byte) error) error {
	if d.Next() != jx.Object {
		return d.Skip()
	}
	return d.ObjBytes(read)
}

// eachItem reads the items of a list.
func eachItem(d *jx.Decoder, read func(d *jx.Decoder) error) error {
	if d.Next() != jx.Array {
		return d.Skip()
	}
	return d.Arr(read)
}

// integer reads a whole number.
func integer(d *jx.Decoder, n *int) (err error) {
	if d.Next() != jx.Number {
		return d.Skip()
	}
	*n, err = d.Int()
	return err
}

// boolean reads true or false.
func boolean(d *jx.Decoder, b *bool) (err error) {
	if d.Next() != jx.Bool {
		return d.Skip()
	}
	*b, err = d.Bool()
	return err
}

// present notes a member that says something, and passes over it: some servers write all the members that they know,
// empty.
func present(d *jx.Decoder, b *bool) error {
	raw, err := d.Raw()
	switch string(raw) {
	case `null`, `false`, `""`, `{}`, `[]`, `0`:
	default:
		*b = true
	}
	return err
}

// readFunction reads a member of a call's function.
func readFunction(d *jx.Decoder, key []byte, name, arguments *[]byte) error {
	switch string(key) {
	case "name":
		return readStringTo(d, name)
	case "arguments":
		return appendArguments(d, arguments)
	}
	return d.Skip()
}

// appendArguments appends the arguments of a call: JSON text, or the object itself, in Ollama's format and from
// servers that forget to encode it in OpenAI's. An empty list is PHP's way to write an empty object.
func appendArguments(d *jx.Decoder, arguments *[]byte) error {
	switch d.Next() {
	case jx.Object, jx.Array:
		raw, err := d.Raw()
		if err == nil && (raw.Type() == jx.Object || !isEmptyList(raw)) {
			*arguments = append(*arguments, raw...)
		}
		return err
	}
	return readStringTo(d, arguments)
}

func isEmptyList(raw []byte) bool { return len(bytes.TrimSpace(bytes.Trim(raw, "[]"))) == 0 }

// tokenCounts are what a provider says of usage, in the terms of OpenAI's formats, their relatives and Cohere.
type tokenCounts struct {
	prompt, completion, total int64
	cached, reasoning         int64
	known                     bool
}

// decode reads an object that replaces all that was said before.
func (c *tokenCounts) decode(d *jx.Decoder) error {
	if d.Next() != jx.Object {
		return d.Skip()
	}
	*c = tokenCounts{}
	return d.ObjBytes(c.field)
}

func (c *tokenCounts) field(d *jx.Decoder, key []byte) error {
	count := &c.total
	switch string(key) {
	case "prompt_tokens", "input_tokens":
		count = &c.prompt
		c.known = c.known || d.Next() == jx.Number
	case "completion_tokens", "output_tokens":
		count = &c.completion
		c.known = c.known || d.Next() == jx.Number
	case "total_tokens":
	case "cached_tokens", "prompt_cache_hit_tokens": // Moonshot and Cohere; DeepSeek
		count = &c.cached
	case "prompt_tokens_details", "input_tokens_details", "completion_tokens_details", "output_tokens_details":
		return eachMember(d, c.detail)
	default:
		return d.Skip()
	}
	return tokens(d, count)
}

func (c *tokenCounts) detail(d *jx.Decoder, key []byte) error {
	switch string(key) {
	case "cached_tokens":
		return tokens(d, &c.cached)
	case "reasoning_tokens":
		return tokens(d, &c.reasoning)
	}
	return d.Skip()
}

// usage gives the counts in our terms. xAI does not count reasoning as completion, but it is in the total.
func (c *tokenCounts) usage() chat.Usage {
	u := chat.Usage{PromptTokens: c.prompt, CompletionTokens: c.completion, CachedTokens: c.cached,
		ReasoningTokens: c.reasoning}
	if c.prompt > 0 {
		u.CompletionTokens = max(c.completion, c.total-c.prompt)
	}
	return u
}

// maxTokens is more than any request has. What a provider counts beyond it is a mistake, and as good as not counted:
// its caller would have to pay for it for years by its limits, also for a part of it.
const maxTokens = 1e9

// tokens reads a token count. It may be a float by its notation.
func tokens(d *jx.Decoder, n *int64) error {
	if d.Next() != jx.Number {
		return d.Skip()
	}
	f, err := d.Float64()
	if *n = 0; f > 0 && f < maxTokens {
		*n = int64(f)
	}
	return err
}

func optionalString(e *jx.Encoder, name, value string) {
	if value != "" {
		e.FieldStart(name)
		e.Str(value)
	}
}

func optionalNumber(e *jx.Encoder, name string, n chat.Number) {
	if n != "" {
		e.FieldStart(name)
		e.Raw([]byte(n))
	}
}

func encodeStrings(e *jx.Encoder, list []string) {
	e.ArrStart()
	for _, s := range list {
		e.Str(s)
	}
	e.ArrEnd()
}

func optionalRaw(e *jx.Encoder, name string, value []byte) {
	if value != nil {
		e.FieldStart(name)
		e.Raw(value)
	}
}

// marshalPlain is json.Marshal without escapes for HTML, by which a stranger's text of < would go on at six times its
// size.
func marshalPlain(v any) ([]byte, error) {
	var text bytes.Buffer
	plain := json.NewEncoder(&text)
	plain.SetEscapeHTML(false)
	err := plain.Encode(v)
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), err
}
