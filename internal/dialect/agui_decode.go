package dialect

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

func decodeAGUI(body []byte) (*Ask, error) {
	if err := checkJSON(body); err != nil {
		return nil, invalid("%s", err)
	}
	n := &aguiAsk{Ask: Ask{Stream: true}, thread: "thread-" + rand.Text(), run: "run-" + rand.Text()}
	if err := object(jx.DecodeBytes(body), n.aguiField); err != nil {
		return nil, invalid("%s", err)
	}
	if n.Messages = answeredCalls(n.Messages); len(n.Messages) == 0 {
		return nil, invalid("messages: at least one message with text is required")
	}
	n.Note = n.thread + "\n" + n.run + "\nmsg-" + rand.Text()
	return &n.Ask, nil
}

// aguiAsk is a request while it is read.
type aguiAsk struct {
	Ask
	thread, run string
}

// aguiField reads a field of RunAgentInput. The settings of the model are in forwardedProps; state and context are
// for agents, which the relay is none of.
func (n *aguiAsk) aguiField(d *jx.Decoder, key []byte) (err error) {
	switch string(key) {
	case "threadId":
		n.thread, err = shortID(d)
	case "runId":
		n.run, err = shortID(d)
	case "messages":
		n.Messages = nil
		return array(d, func(d *jx.Decoder, i int) error {
			m, err := aguiMessage(d)
			if m.Content != "" || len(m.Parts) > 0 || len(m.ToolCalls) > 0 || m.Role == chat.RoleTool {
				n.Messages = append(n.Messages, m)
			}
			return err
		})
	case "tools":
		n.Tools = nil
		return array(d, func(d *jx.Decoder, i int) error {
			t, err := aguiTool(d)
			n.Tools = append(n.Tools, t)
			return err
		})
	case "forwardedProps":
		if d.Next() == jx.Object {
			return object(d, n.aguiProp)
		}
		return d.Skip()
	default:
		return d.Skip()
	}
	return err
}

func (n *aguiAsk) aguiProp(d *jx.Decoder, key []byte) (err error) {
	switch string(key) {
	case "model":
		return n.model(d)
	case "resumable":
		n.Resumable, err = boolean(d)
		return err
	}
	if read := uiSettings[string(key)]; read != nil {
		return read(&n.Ask, d)
	}
	return d.Skip()
}

// shortID reads an id that is kept.
func shortID(d *jx.Decoder) (string, error) {
	id, err := str(d)
	if err == nil && (len(id) > maxUIID || strings.ContainsFunc(id, unprintable)) {
		err = fmt.Errorf("want at most %d printable bytes", maxUIID)
	}
	return id, err
}

// aguiRoles are those that a provider is told of. The others are shown to the user only.
var aguiRoles = map[string]chat.Role{
	"user": chat.RoleUser, "system": chat.RoleSystem, "developer": chat.RoleSystem,
	"assistant": chat.RoleAssistant, "tool": chat.RoleTool, "reasoning": "", "activity": "",
}

// aguiMessage reads a message, an empty one if it is not for the provider.
func aguiMessage(d *jx.Decoder) (m chat.Message, err error) {
	var content []byte
	hasRole := false
	err = object(d, func(d *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "role":
			var role string
			role, err = str(d)
			if m.Role, hasRole = aguiRoles[role]; !hasRole && err == nil {
				err = fmt.Errorf("unknown role %.40q; want user, assistant, system, developer or tool", role)
			}
		case "name":
			m.Name, err = str(d)
		case "content":
			content, err = d.Raw()
		case "toolCalls":
			m.ToolCalls = nil
			return array(d, func(d *jx.Decoder, i int) error {
				c, err := toolCall(d)
				m.ToolCalls = append(m.ToolCalls, c)
				return err
			})
		case "toolCallId":
			m.ToolCallID, err = str(d)
		case "encryptedValue":
			m.State, err = str(d)
		default:
			err = d.Skip()
		}
		return err
	})
	switch {
	case err != nil:
		return m, err
	case !hasRole:
		return m, at("role", errors.New("is required"))
	case m.Role == "":
		return chat.Message{}, nil
	case m.Role == chat.RoleTool && m.ToolCallID == "":
		return m, at("toolCallId", errors.New("is required in a tool message"))
	case len(m.ToolCalls) > 0 && m.Role != chat.RoleAssistant:
		return m, at("toolCalls", errors.New("only an assistant message has tool calls"))
	}
	if m.Role != chat.RoleAssistant {
		m.State = ""
	}
	if content != nil {
		if m.Content, m.Parts, err = aguiContent(jx.DecodeBytes(content)); err != nil {
			err = at("content", err)
		}
	}
	return m, err
}

func aguiContent(d *jx.Decoder) (text string, parts []chat.Part, err error) {
	switch d.Next() {
	case jx.String:
		text, err = d.Str()
	case jx.Array:
		err = array(d, func(d *jx.Decoder, i int) error {
			p, err := aguiPart(d)
			parts = append(parts, p)
			return err
		})
	default:
		err = wrongType(d, "a string or an array of parts")
	}
	return text, parts, err
}

// aguiPart reads a text, or an image in one of the two forms that versions of the protocol have.
func aguiPart(d *jx.Decoder) (p chat.Part, err error) {
	var typ string
	var from aguiSource
	err = object(d, func(d *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "type":
			typ, err = str(d)
		case "text":
			p.Text, err = str(d)
		case "source":
			return object(d, from.field)
		case "url", "data", "mimeType":
			return from.field(d, key)
		default:
			err = d.Skip()
		}
		return err
	})
	switch {
	case err != nil:
	case typ == "text":
		p.Type = chat.PartText
	case typ == "image", typ == "binary" && strings.HasPrefix(from.media, "image/"):
		p.Type = chat.PartImage
		p.ImageURL, err = from.imageURL()
	case typ == "binary":
		err = at("mimeType", fmt.Errorf("want an image, got %.80q", from.media))
	default:
		err = at("type", fmt.Errorf("unknown part type %.40q; want text or image", typ))
	}
	return p, err
}

// aguiSource is where the bytes of a part are.
type aguiSource struct{ typ, value, url, data, media string }

func (s *aguiSource) field(d *jx.Decoder, key []byte) error {
	into := map[string]*string{
		"type": &s.typ, "value": &s.value, "url": &s.url, "data": &s.data, "mimeType": &s.media,
	}[string(key)]
	if into == nil {
		return d.Skip()
	}
	text, err := str(d)
	*into = text
	return err
}

func (s *aguiSource) imageURL() (string, error) {
	switch s.typ {
	case "url":
		s.url = s.value
	case "data":
		s.data = s.value
	case "":
	default:
		return "", at("source.type", fmt.Errorf("want data or url, got %.40q", s.typ))
	}
	if s.url != "" {
		return s.url, checkImageURL(s.url)
	}
	if s.data == "" || s.media == "" {
		return "", at("source", errors.New("want an image's url, or its data with a mimeType"))
	}
	return "data:" + s.media + ";base64," + s.data, nil
}

func aguiTool(d *jx.Decoder) (t chat.ToolSpec, err error) {
	err = object(d, func(d *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "name":
			t.Name, err = str(d)
		case "description":
			t.Description, err = str(d)
		case "parameters":
			t.Parameters, err = rawObject(d)
		default:
			err = d.Skip()
		}
		return err
	})
	if err == nil && t.Name == "" {
		err = at("name", errors.New("is required"))
	}
	return t, err
}

// answeredCalls leaves out calls without a result: no provider takes them, and after an answer that was stopped
// between the two the chat could never go on.
func answeredCalls(all []chat.Message) []chat.Message {
	answered := map[string]bool{}
	for i := range all {
		answered[all[i].ToolCallID] = true
	}
	for i := range all {
		m := &all[i]
		m.ToolCalls = slices.DeleteFunc(m.ToolCalls, func(c chat.ToolCall) bool { return !answered[c.ID] })
	}
	return slices.DeleteFunc(all, func(m chat.Message) bool {
		return m.Content == "" && len(m.Parts) == 0 && len(m.ToolCalls) == 0 && m.Role != chat.RoleTool
	})
}
