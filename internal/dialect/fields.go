package dialect

import (
	"errors"
	"strings"

	"github.com/go-faster/jx"
)

// fields read the fields of a request that a dialect knows, by name.
type fields map[string]func(n *Ask, d *jx.Decoder) error

// ownFields are the relay's own, in all their spellings. Among them are those that some provider's format has for the
// same things: the relay writes them itself.
var ownFields = fields{
	"messages":              (*Ask).messages,
	"model":                 (*Ask).model,
	"stream":                func(n *Ask, d *jx.Decoder) (err error) { n.Stream, err = boolean(d); return err },
	"stream_options":        func(n *Ask, d *jx.Decoder) error { return d.Skip() }, // usage is always told
	"resumable":             func(n *Ask, d *jx.Decoder) (err error) { n.Resumable, err = boolean(d); return err },
	"temperature":           func(n *Ask, d *jx.Decoder) (err error) { n.Temperature, err = number(d); return err },
	"top_p":                 (*Ask).topP,
	"topP":                  (*Ask).topP,
	"max_tokens":            func(n *Ask, d *jx.Decoder) error { return n.maxTokens(d, "") },
	"maxTokens":             func(n *Ask, d *jx.Decoder) error { return n.maxTokens(d, "") },
	"max_completion_tokens": func(n *Ask, d *jx.Decoder) error { return n.maxTokens(d, "max_completion_tokens") },
	"seed":                  (*Ask).seed,
	"stop":                  func(n *Ask, d *jx.Decoder) (err error) { n.Stop, err = stop(d); return err },
	"tools":                 (*Ask).tools,
	"tool_choice":           (*Ask).toolChoice,
	"toolChoice":            (*Ask).toolChoice,
	"user":                  func(n *Ask, d *jx.Decoder) (err error) { n.User, err = str(d); return err },
	"response_format":       (*Ask).responseFormat,
	"responseFormat":        (*Ask).responseFormat,
	"reasoning_effort":      (*Ask).reasoningEffort,
	"reasoningEffort":       (*Ask).reasoningEffort,

	"input":             notOurs("send messages"),
	"instructions":      notOurs("send it as a message of the role system"),
	"max_output_tokens": notOurs("use max_tokens"),
}

// nameLike is the field that a name equals under Unicode's simple case folding, or "". Many readers
// of JSON ignore case: to them "Model" is another model beside the one that was checked.
func (f fields) nameLike(name string) string {
	for own := range f {
		if strings.EqualFold(own, name) {
			return own
		}
	}
	return ""
}

// notOurs refuses a field, without which the answer would be another one.
func notOurs(instead string) func(*Ask, *jx.Decoder) error {
	return func(*Ask, *jx.Decoder) error { return errors.New("is not a field of this request; " + instead) }
}

func (n *Ask) messages(d *jx.Decoder) error {
	n.Messages = nil // of two members with one name the last counts, as everywhere
	return array(d, func(d *jx.Decoder, i int) error {
		m, err := message(d, nil)
		n.Messages = append(n.Messages, m)
		return err
	})
}

func (n *Ask) model(d *jx.Decoder) (err error) {
	if n.Model, err = str(d); err != nil {
		return err
	}
	return checkModel(n.Model)
}

func (n *Ask) topP(d *jx.Decoder) (err error) {
	n.TopP, err = number(d)
	return err
}

func (n *Ask) maxTokens(d *jx.Decoder, name string) (err error) {
	n.MaxTokens, err = number(d)
	n.MaxTokensName = name
	if err == nil && (strings.ContainsAny(string(n.MaxTokens), ".eE-") || n.MaxTokens == "0") {
		err = errors.New("want a positive integer")
	}
	return err
}

func (n *Ask) seed(d *jx.Decoder) (err error) {
	n.Seed, err = number(d)
	if err == nil && strings.ContainsAny(string(n.Seed), ".eE") {
		err = errors.New("want an integer")
	}
	return err
}

func (n *Ask) tools(d *jx.Decoder) error {
	n.Tools = nil
	return array(d, func(d *jx.Decoder, i int) error {
		t, err := tool(d)
		n.Tools = append(n.Tools, t)
		return err
	})
}

func (n *Ask) toolChoice(d *jx.Decoder) (err error) {
	n.ToolChoice, err = toolChoice(d)
	return err
}

func (n *Ask) responseFormat(d *jx.Decoder) (err error) {
	n.ResponseFormat, err = rawObject(d)
	return err
}

func (n *Ask) reasoningEffort(d *jx.Decoder) (err error) {
	n.ReasoningEffort, err = str(d)
	return err
}
