package dialect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// maxModel bounds a model's name, which ends up in logs and, for some providers, in a URL.
const maxModel = 256

// decodeNative decodes and validates a native request body (docs/protocol.md, 2). Its errors are *chat.Error
// with code invalid_request, and name the field.
func decodeNative(body []byte) (*Ask, error) {
	n := &Ask{Stream: true}
	return n, n.decode(body, ownFields)
}

// decode reads a body that has messages, with the fields of a dialect.
func (n *Ask) decode(body []byte, own fields) error {
	if err := checkJSON(body); err != nil {
		return invalid("%s", err)
	}
	read := func(d *jx.Decoder, key []byte) error { return n.field(d, key, own) }
	if err := object(jx.DecodeBytes(body), read); err != nil {
		return invalid("%s", err)
	}
	if len(n.Messages) == 0 {
		return invalid("messages: at least one message is required")
	}
	return nil
}

// Question makes the request of a GET, which has one message of the user in its URL.
func Question(message, model string) (*Ask, error) {
	switch err := checkModel(model); {
	case message == "":
		return nil, invalid("message: is required, as in ?message=Hello")
	case !utf8.ValidString(message):
		return nil, invalid("message: is not valid UTF-8")
	case err != nil:
		return nil, invalid("model: %s", err)
	}
	return &Ask{Stream: true, Request: chat.Request{
		Model:    model,
		Messages: []chat.Message{{Role: chat.RoleUser, Content: message}},
	}}, nil
}

// unprintable is what is no letter, mark, number, sign or plain space: a terminal may take it for an order.
func unprintable(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

// checkModel keeps names short and printable: they go into URLs, logs and messages.
func checkModel(name string) error {
	if len(name) > maxModel || strings.ContainsFunc(name, unprintable) {
		return fmt.Errorf("want at most %d printable characters", maxModel)
	}
	if !strings.Contains(name, ".") {
		return nil
	}
	for part := range strings.FieldsFuncSeq(name, func(r rune) bool { return r == '/' || r == '\\' }) {
		if part == "." || part == ".." { // some providers have the model in the URL's path
			return errors.New("want a name, not a path")
		}
	}
	return nil
}

func invalid(format string, args ...any) *chat.Error {
	return &chat.Error{Code: chat.InvalidRequest, Message: fmt.Sprintf(format, args...)}
}

func checkJSON(body []byte) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return errors.New("the body is empty; want a JSON object")
	}
	if !utf8.Valid(body) {
		return errors.New("the body is not valid UTF-8")
	}
	if jx.DecodeBytes(body).Validate() == nil {
		return nil
	}
	// The standard library's errors read better.
	var syntax *json.SyntaxError
	if err := json.Unmarshal(body, new(any)); errors.As(err, &syntax) {
		return fmt.Errorf("the body is not valid JSON: %w at byte %d", syntax, syntax.Offset)
	}
	return errors.New("the body is not valid JSON")
}

// maxFurther bounds the fields that the relay does not know.
const maxFurther = 128

// field reads one of the fields that are the relay's own, or keeps one that is not.
func (n *Ask) field(d *jx.Decoder, key []byte, own fields) error {
	if read, own := own[string(key)]; own {
		return read(n, d)
	}
	name := string(key)
	if own := own.nameLike(name); own != "" {
		return fmt.Errorf("is taken for %s by readers of JSON that ignore case", own)
	}
	raw, err := d.Raw()
	if err != nil {
		return err
	}
	if err := checkNumbers(raw); err != nil {
		return err
	}
	// What is kept is a copy: the value in the body would keep all of the body.
	f := chat.Field{Name: name, Value: bytes.Clone(raw)}
	if i := slices.IndexFunc(n.Extra, func(x chat.Field) bool { return x.Name == name }); i >= 0 {
		n.Extra[i] = f // of two members with one name the last counts, as everywhere
		return nil
	}
	if len(n.Extra) == maxFurther {
		return fmt.Errorf("is one field too many; want at most %d that the relay does not know", maxFurther)
	}
	n.Extra = append(n.Extra, f)
	return nil
}

// message reads a message. The names of its roles are the relay's own and those in alias.
func message(d *jx.Decoder, alias map[string]chat.Role) (m chat.Message, err error) {
	hasContent := false
	err = object(d, func(d *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "role":
			var role string
			role, err = str(d)
			if m.Role = alias[role]; m.Role == "" {
				m.Role = chat.Role(role)
			}
			switch m.Role {
			case chat.RoleSystem, chat.RoleUser, chat.RoleAssistant, chat.RoleTool:
			default:
				if err == nil {
					err = fmt.Errorf("unknown role %.40q; want system, user, assistant or tool", role)
				}
			}
		case "content":
			hasContent = true
			m.Content, m.Parts, err = content(d)
		case "name":
			m.Name, err = str(d)
		case "tool_calls":
			m.ToolCalls = nil
			return array(d, func(d *jx.Decoder, i int) error {
				c, err := toolCall(d)
				m.ToolCalls = append(m.ToolCalls, c)
				return err
			})
		case "tool_call_id":
			m.ToolCallID, err = str(d)
		case "state":
			m.State, err = str(d)
		case "cache_control":
			m.CacheControl, err = rawObject(d)
		case "reasoning_content", "reasoning":
			err = reasoning(d, &m, string(key))
		case "reasoning_details":
			m.ReasoningDetails, err = rawIf(d, jx.Array)
		case "extra_content":
			m.ExtraContent, err = rawIf(d, jx.Object)
		default: // frontends keep ids, dates and more in their messages
			err = d.Skip()
		}
		return err
	})
	switch {
	case err != nil:
	case m.Role == "":
		err = at("role", errors.New("is required"))
	case len(m.ToolCalls) > 0 && m.Role != chat.RoleAssistant:
		err = at("tool_calls", errors.New("only an assistant message has tool calls"))
	case m.Role == chat.RoleTool && m.ToolCallID == "":
		err = at("tool_call_id", errors.New("is required in a tool message"))
	case !hasContent && len(m.ToolCalls) == 0:
		err = at("content", errors.New("is required"))
	}
	if m.Role != chat.RoleAssistant {
		m.State, m.Reasoning, m.ReasoningName, m.ReasoningDetails, m.ExtraContent = "", "", "", nil, nil
	}
	if err == nil && bytes.Contains(m.ReasoningDetails, []byte(detailsFormat)) {
		err = takeState(&m)
	}
	return m, err
}

// reasoning reads an answer's thinking by either of its names. Those who send both say the same twice.
// Frontends also keep objects of their own by these names, which are theirs.
func reasoning(d *jx.Decoder, m *chat.Message, name string) (err error) {
	if d.Next() != jx.String || m.Reasoning != "" {
		return d.Skip()
	}
	m.ReasoningName = name
	m.Reasoning, err = d.Str()
	return err
}

// rawIf reads a value of one type, and passes over others.
func rawIf(d *jx.Decoder, typ jx.Type) ([]byte, error) {
	if d.Next() != typ {
		return nil, d.Skip()
	}
	raw, err := d.Raw()
	if err == nil {
		err = checkNumbers(raw)
	}
	return bytes.Clone(raw), err // the request is kept longer than its body
}

func content(d *jx.Decoder) (text string, parts []chat.Part, err error) {
	switch d.Next() {
	case jx.String:
		text, err = d.Str()
	case jx.Array:
		err = array(d, func(d *jx.Decoder, i int) error {
			p, err := part(d)
			parts = append(parts, p)
			return err
		})
		if err == nil && len(parts) == 0 {
			err = errors.New("want at least one part")
		}
	default:
		err = wrongType(d, "a string or an array of parts")
	}
	return text, parts, err
}

func part(d *jx.Decoder) (p chat.Part, err error) {
	var hasText, hasImage bool
	err = object(d, func(d *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "type":
			var typ string
			typ, err = str(d)
			p.Type = chat.PartType(typ)
			if err == nil && p.Type != chat.PartText && p.Type != chat.PartImage {
				err = fmt.Errorf("unknown part type %.40q; want text or image_url", typ)
			}
		case "text":
			hasText = true
			p.Text, err = str(d)
		case "image_url":
			hasImage = true
			p.ImageURL, p.Detail, err = imageURL(d)
		case "cache_control":
			p.CacheControl, err = rawObject(d)
		default:
			err = d.Skip()
		}
		return err
	})
	switch {
	case err != nil:
	case p.Type == "":
		err = at("type", errors.New("is required"))
	case p.Type == chat.PartText && !hasText:
		err = at("text", errors.New("is required in a text part"))
	case p.Type == chat.PartImage && !hasImage:
		err = at("image_url", errors.New("is required in an image_url part"))
	}
	return p, err
}

func imageURL(d *jx.Decoder) (url, detail string, err error) {
	if d.Next() == jx.String { // seen in the wild, and unambiguous
		url, err = d.Str()
	} else {
		err = object(d, func(d *jx.Decoder, key []byte) (err error) {
			switch string(key) {
			case "url":
				url, err = str(d)
			case "detail":
				detail, err = str(d)
			default:
				err = d.Skip()
			}
			return err
		})
	}
	if err == nil {
		err = checkImageURL(url)
	}
	return url, detail, err
}

func checkImageURL(url string) error {
	if !strings.HasPrefix(url, "https://") && !strings.HasPrefix(url, "http://") && !strings.HasPrefix(url, "data:") {
		return at("url", errors.New("want an https: or a data: URL"))
	}
	return nil
}

func toolCall(d *jx.Decoder) (c chat.ToolCall, err error) {
	err = object(d, func(d *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "id":
			c.ID, err = str(d)
		case "extra_content":
			c.ExtraContent, err = rawIf(d, jx.Object)
		case "function":
			err = object(d, func(d *jx.Decoder, key []byte) (err error) {
				switch string(key) {
				case "name":
					c.Name, err = str(d)
				case "arguments":
					c.Arguments, err = str(d)
				default:
					err = d.Skip()
				}
				return err
			})
		default:
			err = d.Skip()
		}
		return err
	})
	switch {
	case err != nil:
	case c.ID == "":
		err = at("id", errors.New("is required"))
	case c.Name == "":
		err = at("function.name", errors.New("is required"))
	}
	return c, err
}

func tool(d *jx.Decoder) (t chat.ToolSpec, err error) {
	err = object(d, func(d *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "type":
			var typ string
			if typ, err = str(d); err == nil && typ != "function" {
				err = fmt.Errorf("unknown tool type %.40q; want function", typ)
			}
		case "function":
			err = object(d, func(d *jx.Decoder, key []byte) (err error) {
				if d.Next() == jx.Null {
					return d.Null()
				}
				switch string(key) {
				case "name":
					t.Name, err = str(d)
				case "description":
					t.Description, err = str(d)
				case "parameters":
					t.Parameters, err = rawObject(d)
				case "strict":
					var strict bool
					strict, err = boolean(d)
					t.Strict = &strict
				default:
					err = d.Skip()
				}
				return err
			})
		case "cache_control":
			t.CacheControl, err = rawObject(d)
		default:
			err = d.Skip()
		}
		return err
	})
	if err == nil && t.Name == "" {
		err = at("function.name", errors.New("is required"))
	}
	return t, err
}

func toolChoice(d *jx.Decoder) (c chat.ToolChoice, err error) {
	switch d.Next() {
	case jx.String:
		mode, err := d.Str()
		c.Mode = chat.ToolChoiceMode(mode)
		if err == nil && c.Mode != chat.ChooseAuto && c.Mode != chat.ChooseNone && c.Mode != chat.ChooseRequired {
			err = fmt.Errorf("unknown choice %.40q; want auto, none, required or a function", mode)
		}
		return c, err
	case jx.Object:
		c.Mode = chat.ChooseFunction
		err = object(d, func(d *jx.Decoder, key []byte) (err error) {
			if string(key) == "type" {
				return functionType(d)
			}
			if string(key) != "function" {
				return d.Skip()
			}
			return object(d, func(d *jx.Decoder, key []byte) (err error) {
				if string(key) != "name" {
					return d.Skip()
				}
				c.Name, err = str(d)
				return err
			})
		})
		if err == nil && c.Name == "" {
			err = at("function.name", errors.New("is required"))
		}
		return c, err
	}
	return c, wrongType(d, "a string or an object")
}

// functionType reads a type that can only be one.
func functionType(d *jx.Decoder) error {
	typ, err := str(d)
	if err == nil && typ != "function" {
		err = fmt.Errorf("unknown type %.40q; want function", typ)
	}
	return err
}

func stop(d *jx.Decoder) (list []string, err error) {
	switch d.Next() {
	case jx.String:
		s, err := d.Str()
		return []string{s}, err
	case jx.Array:
		err = array(d, func(d *jx.Decoder, i int) error {
			s, err := str(d)
			list = append(list, s)
			return err
		})
		return list, err
	}
	return nil, wrongType(d, "a string or an array of strings")
}
