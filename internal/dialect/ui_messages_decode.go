package dialect

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// IsUIMessages tells whether a body is a request of the AI SDK's useChat and not a native one: it says what made it,
// or its messages have parts and no content. An app may send only the last message, as message.
func IsUIMessages(body []byte) bool {
	found := false
	_ = object(jx.DecodeBytes(body), func(d *jx.Decoder, key []byte) error {
		switch string(key) {
		case "trigger":
			found = found || d.Next() == jx.String
		case "messages":
			if d.Next() == jx.Array {
				return d.Arr(func(d *jx.Decoder) error { return hasPartsOnly(d, &found) })
			}
		case "message":
			return hasPartsOnly(d, &found)
		}
		return d.Skip()
	})
	return found
}

func hasPartsOnly(d *jx.Decoder, found *bool) error {
	if d.Next() != jx.Object {
		return d.Skip()
	}
	parts, content := false, false
	err := object(d, func(d *jx.Decoder, key []byte) error {
		parts = parts || string(key) == "parts" && d.Next() == jx.Array
		content = content || string(key) == "content"
		return d.Skip()
	})
	*found = *found || parts && !content
	return err
}

// maxUIID bounds the ids of chats and messages that the relay keeps, in bytes.
const maxUIID = 200

// uiAsk is a request while it is read.
type uiAsk struct {
	Ask
	system    string
	modelName string // of assistant-ui's config
	single    bool   // there is one message, and not all of them
	last      uiMessage
}

func decodeUIMessages(body []byte) (*Ask, error) {
	if err := checkJSON(body); err != nil {
		return nil, invalid("%s", err)
	}
	n := &uiAsk{Ask: Ask{Stream: true}}
	if err := object(jx.DecodeBytes(body), n.uiField); err != nil {
		return nil, invalid("%s", err)
	}
	switch {
	case len(n.Messages) > 0:
	case n.single:
		return nil, invalid("messages: send all messages of the chat, the relay keeps no history")
	default:
		return nil, invalid("messages: at least one message with text is required")
	}
	if n.system != "" {
		n.Messages = append([]chat.Message{{Role: chat.RoleSystem, Content: n.system}}, n.Messages...)
	}
	if n.Model == "" {
		n.Model = n.modelName
	}
	ask := n.Ask // and no more of n, which keeps the body
	ask.Note = n.note()
	return &ask, nil
}

// note is the id of the message that the answer is. What answers the results of tools goes on in the message that
// called them, under whose id it would be shown twice if it had another one; its prelude follows.
func (n *uiAsk) note() string {
	switch {
	case n.last.role != chat.RoleAssistant || n.last.id == "":
		return "msg-" + rand.Text()
	case !n.Resumable:
		return n.last.id
	}
	return n.last.id + "\n" + uiPrelude(n.last.parts)
}

// uiSettings are the fields for the model, which apps send beside the messages or as callSettings. All other fields
// are the app's own.
var uiSettings = map[string]func(n *Ask, d *jx.Decoder) error{}

func init() {
	for _, name := range []string{
		"temperature", "top_p", "topP", "max_tokens", "maxTokens", "max_completion_tokens", "seed", "stop",
		"tool_choice",
		"toolChoice", "response_format", "responseFormat", "reasoning_effort", "reasoningEffort",
	} {
		uiSettings[name] = ownFields[name]
	}
	uiSettings["maxOutputTokens"] = ownFields["max_tokens"]
	uiSettings["stopSequences"] = ownFields["stop"]
}

func (n *uiAsk) setting(d *jx.Decoder, key []byte) error {
	if read := uiSettings[string(key)]; read != nil {
		return read(&n.Ask, d)
	}
	return d.Skip()
}

func (n *uiAsk) uiField(d *jx.Decoder, key []byte) (err error) {
	switch string(key) {
	case "messages":
		return n.uiMessages(d)
	case "message":
		n.single = true
		return d.Skip()
	case "id":
		if d.Next() != jx.String {
			return d.Skip()
		}
		if n.Chat, err = d.Str(); len(n.Chat) > maxUIID {
			return fmt.Errorf("want at most %d bytes", maxUIID)
		}
		return err
	case "model":
		return n.model(d)
	case "system":
		n.system, err = str(d)
		return err
	case "tools":
		return n.uiTools(d)
	case "resumable":
		n.Resumable, err = boolean(d)
		return err
	case "callSettings":
		return object(d, n.setting)
	case "config":
		return n.uiConfig(d)
	}
	return n.setting(d, key)
}

// uiConfig reads assistant-ui's model context. Nothing of it may be logged: there may be a key in it.
func (n *uiAsk) uiConfig(d *jx.Decoder) error {
	if d.Next() != jx.Object {
		return d.Skip()
	}
	return object(d, func(d *jx.Decoder, key []byte) (err error) {
		if string(key) != "modelName" || d.Next() != jx.String {
			return d.Skip()
		}
		if n.modelName, err = d.Str(); err != nil {
			return err
		}
		return checkModel(n.modelName)
	})
}

// uiTools reads tools as Chat Completions has them, or assistant-ui's object of them by name.
func (n *uiAsk) uiTools(d *jx.Decoder) error {
	if d.Next() != jx.Object {
		return n.tools(d)
	}
	n.Tools = nil
	return object(d, func(d *jx.Decoder, key []byte) error {
		t := chat.ToolSpec{Name: string(key)}
		err := object(d, func(d *jx.Decoder, key []byte) (err error) {
			switch string(key) {
			case "description":
				t.Description, err = str(d)
			case "parameters", "inputSchema":
				t.Parameters, err = rawObject(d)
			default:
				err = d.Skip()
			}
			return err
		})
		if err == nil && t.Name == "" {
			err = errors.New("want a name")
		}
		n.Tools = append(n.Tools, t)
		return err
	})
}

func (n *uiAsk) uiMessages(d *jx.Decoder) error {
	n.Messages = nil
	return array(d, func(d *jx.Decoder, i int) error {
		m, err := readUIMessage(d)
		if err != nil {
			return err
		}
		n.last = m
		all, err := m.messages()
		n.Messages = append(n.Messages, all...)
		return err
	})
}

// uiMessage is a message as it comes.
type uiMessage struct {
	id      string
	role    chat.Role
	content string // of a message without parts
	parts   []uiPart
}

func readUIMessage(d *jx.Decoder) (m uiMessage, err error) {
	var content []byte
	hasParts := false
	err = object(d, func(d *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "id":
			m.id, err = shortID(d)
		case "role":
			m.role, err = uiRole(d)
		case "parts":
			hasParts = true
			m.parts = nil
			return array(d, func(d *jx.Decoder, i int) error {
				p, err := readUIPart(d)
				m.parts = append(m.parts, p)
				return err
			})
		case "content":
			content, err = d.Raw()
		default:
			err = d.Skip()
		}
		return err
	})
	switch {
	case err != nil:
	case m.role == "":
		err = at("role", errors.New("is required"))
	case !hasParts && content == nil:
		err = at("parts", errors.New("is required"))
	case !hasParts:
		if m.content, err = str(jx.DecodeBytes(content)); err != nil {
			err = at("content", err)
		}
	}
	return m, err
}

func uiRole(d *jx.Decoder) (chat.Role, error) {
	role, err := str(d)
	switch r := chat.Role(role); {
	case err != nil:
		return "", err
	case r == chat.RoleSystem, r == chat.RoleUser, r == chat.RoleAssistant:
		return r, nil
	}
	return "", fmt.Errorf("unknown role %.40q; want system, user or assistant", role)
}

// messages gives what a message is to a provider: none if it is empty, and for each step of an assistant's one with
// the results of its calls.
func (m *uiMessage) messages() ([]chat.Message, error) {
	if m.parts == nil {
		if m.content == "" {
			return nil, nil
		}
		return []chat.Message{{Role: m.role, Content: m.content}}, nil
	}
	if m.role == chat.RoleAssistant {
		return uiSteps(m.parts)
	}
	var parts []chat.Part
	for i := range m.parts {
		p, err := m.parts[i].part()
		if err != nil {
			return nil, at(fmt.Sprintf("parts[%d]", i), err)
		}
		if p.Type != "" {
			parts = append(parts, p)
		}
	}
	switch {
	case len(parts) == 0:
		return nil, nil
	case len(parts) == 1 && parts[0].Type == chat.PartText:
		return []chat.Message{{Role: m.role, Content: parts[0].Text}}, nil
	}
	return []chat.Message{{Role: m.role, Parts: parts}}, nil
}

// uiSteps gives the messages of an assistant's steps. Each step is one answer of a provider.
func uiSteps(parts []uiPart) (all []chat.Message, err error) {
	var step uiStep
	for i := range parts {
		if parts[i].typ == "step-start" {
			all = step.appendTo(all)
			step = uiStep{}
			continue
		}
		if err := step.add(&parts[i]); err != nil {
			return nil, at(fmt.Sprintf("parts[%d]", i), err)
		}
	}
	return step.appendTo(all), nil
}

type uiStep struct {
	said    chat.Message
	text    strings.Builder // that is said, which may come in any number of parts
	results []chat.Message
}

func (s *uiStep) appendTo(all []chat.Message) []chat.Message {
	if s.said.Content == "" && len(s.said.ToolCalls) == 0 {
		return all
	}
	s.said.Role = chat.RoleAssistant
	return append(append(all, s.said), s.results...)
}

func (s *uiStep) add(p *uiPart) error {
	if state := p.metadataState(); state != "" {
		s.said.State = state
	}
	tool, isTool := strings.CutPrefix(p.typ, "tool-")
	switch {
	case p.typ == "text":
		text, err := p.string("text", p.text)
		s.text.WriteString(text)
		s.said.Content = s.text.String()
		return err
	case p.typ == "dynamic-tool":
		var err error
		if tool, err = p.string("toolName", p.toolName); err != nil {
			return err
		}
	case !isTool: // reasoning, sources, files that it made, and what is the app's own
		return nil
	}
	return s.call(p, tool)
}

// call adds a call with its result. One without is left out: no provider takes it, and after an answer that was
// stopped between the two the chat could never go on.
func (s *uiStep) call(p *uiPart, tool string) error {
	result, ok, err := p.result()
	if !ok || err != nil {
		return err
	}
	id, err := p.string("toolCallId", p.toolCallID)
	if err != nil {
		return err
	}
	if tool == "" {
		return at("type", errors.New("want the tool's name behind tool-"))
	}
	s.said.ToolCalls = append(s.said.ToolCalls, chat.ToolCall{ID: id, Name: tool, Arguments: p.arguments()})
	s.results = append(s.results, chat.Message{Role: chat.RoleTool, ToolCallID: id, Content: result})
	return nil
}
