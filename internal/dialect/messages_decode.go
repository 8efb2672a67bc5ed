package dialect

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// messagesFields read the fields of a Messages request. All others mean nothing to the relay, and reach no provider.
var messagesFields = fields{
	"model":          (*Ask).model,
	"stream":         func(n *Ask, d *jx.Decoder) (err error) { n.Stream, err = boolean(d); return err },
	"max_tokens":     func(n *Ask, d *jx.Decoder) error { return n.maxTokens(d, "") },
	"temperature":    func(n *Ask, d *jx.Decoder) (err error) { n.Temperature, err = number(d); return err },
	"top_p":          (*Ask).topP,
	"stop_sequences": func(n *Ask, d *jx.Decoder) (err error) { n.Stop, err = stop(d); return err },
	"tools":          (*Ask).messagesTools,
	"tool_choice":    (*Ask).messagesToolChoice,
	"metadata":       (*Ask).messagesMetadata,
	"thinking":       (*Ask).messagesThinking,
	"output_config":  (*Ask).messagesOutput,
}

// decodeMessages reads a request of Anthropic's Messages API.
func decodeMessages(body []byte) (*Ask, error) {
	if err := checkJSON(body); err != nil {
		return nil, invalid("%s", err)
	}
	n := &Ask{}
	var system *chat.Message
	var said turns
	err := object(jx.DecodeBytes(body), func(d *jx.Decoder, key []byte) (err error) {
		switch name := string(key); name {
		case "system":
			system, err = messagesSystem(d)
			return err
		case "messages":
			said = nil
			return array(d, func(d *jx.Decoder, _ int) error { return said.read(d) })
		default:
			if read, known := messagesFields[name]; known {
				return read(n, d)
			}
			return d.Skip()
		}
	})
	switch {
	case err != nil:
		return nil, invalid("%s", err)
	case len(said) == 0:
		return nil, invalid("messages: at least one message is required")
	}
	if system != nil {
		n.Messages = append(n.Messages, *system)
	}
	n.Messages = append(n.Messages, said...)
	return n, n.checkToolChoice()
}

// messagesSystem reads the system prompt, nil when there is nothing in it.
func messagesSystem(d *jx.Decoder) (*chat.Message, error) {
	blocks, err := readBlocks(d)
	if err != nil {
		return nil, err
	}
	m := &chat.Message{Role: chat.RoleSystem}
	for i, b := range blocks {
		if b.typ != "text" {
			return nil, at(index(i), at("type", fmt.Errorf("unknown block %.40q; want text", b.typ)))
		}
		m.Parts = append(m.Parts, b.part())
	}
	if len(m.Parts) == 0 || len(m.Parts) == 1 && m.Parts[0].Text == "" {
		return nil, nil
	}
	simplify(m)
	return m, nil
}

// simplify makes a content of one text without a mark a text.
func simplify(m *chat.Message) {
	if len(m.Parts) == 1 && m.Parts[0].Type == chat.PartText && m.Parts[0].CacheControl == nil {
		m.Content, m.Parts = m.Parts[0].Text, nil
	}
}

// turns are the messages of a conversation. A message of Anthropic's may be several: results of tools stand in the
// user's.
type turns []chat.Message

func (t *turns) read(d *jx.Decoder) error {
	var role string
	var blocks []block
	has := false
	err := object(d, func(d *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "role":
			role, err = str(d)
		case "content":
			has = true
			blocks, err = readBlocks(d)
		default:
			err = d.Skip()
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case !has:
		return at("content", errors.New("is required"))
	}
	switch role {
	case "user", "system":
		return t.user(chat.Role(role), blocks)
	case "assistant":
		return t.assistant(blocks)
	}
	return at("role", fmt.Errorf("unknown role %.40q; want user, assistant or system", role))
}

// user adds the messages of a user, or of a system that says something in between.
func (t *turns) user(role chat.Role, blocks []block) error {
	m := chat.Message{Role: role}
	flush := func() {
		if len(m.Parts) > 0 {
			simplify(&m)
			*t = append(*t, m)
			m = chat.Message{Role: role}
		}
	}
	for i, b := range blocks {
		switch {
		case b.typ == "text":
			m.Parts = append(m.Parts, b.part())
		case b.typ == "image" && role == chat.RoleUser:
			p, err := b.image()
			if err != nil {
				return at("content", at(index(i), err))
			}
			m.Parts = append(m.Parts, p)
		case b.typ == "tool_result" && role == chat.RoleUser:
			flush()
			result, err := b.result()
			if err != nil {
				return at("content", at(index(i), err))
			}
			*t = append(*t, result)
		default:
			return at("content", at(index(i), unknownBlock(b.typ, "text, image or tool_result")))
		}
	}
	flush()
	return nil
}

func unknownBlock(typ, want string) error {
	if typ == "" {
		return at("type", errors.New("is required"))
	}
	return at("type", fmt.Errorf("unknown block %.40q; want %s", typ, want))
}

// assistant adds an answer. What is sealed and not ours is of no use to any provider that may be asked here.
func (t *turns) assistant(blocks []block) error {
	m := chat.Message{Role: chat.RoleAssistant}
	var reasoning strings.Builder // there may be any number of blocks
	for i, b := range blocks {
		switch b.typ {
		case "text":
			m.Parts = append(m.Parts, b.part())
		case "thinking":
			reasoning.WriteString(b.thinking)
			m.Reasoning = reasoning.String()
			m.ReasoningName = "reasoning_content"
		case "redacted_thinking":
			if isState(b.data) {
				m.State = b.data
			}
		case "tool_use":
			if b.id == "" || b.name == "" {
				return at("content", at(index(i), errors.New("id and name are required in a tool_use block")))
			}
			m.ToolCalls = append(m.ToolCalls, chat.ToolCall{ID: b.id, Name: b.name, Arguments: b.arguments()})
			if b.mark != nil {
				m.CacheControl = b.mark
			}
		case "server_tool_use", "web_search_tool_result", "tool_search_tool_result", "fallback", "compaction":
		default:
			return at("content", at(index(i), unknownBlock(b.typ, "text, thinking, redacted_thinking or tool_use")))
		}
	}
	if len(m.Parts) == 0 && len(m.ToolCalls) == 0 {
		return nil // of thinking alone, which no provider takes back
	}
	simplify(&m)
	*t = append(*t, m)
	return nil
}

// messagesTools reads the functions. Tools that run at the provider are left out: clients offer some always.
func (n *Ask) messagesTools(d *jx.Decoder) error {
	n.Tools = nil
	return array(d, func(d *jx.Decoder, _ int) error {
		var t chat.ToolSpec
		typ := "custom"
		err := object(d, func(d *jx.Decoder, key []byte) (err error) {
			switch string(key) {
			case "type":
				typ, err = str(d)
			case "name":
				t.Name, err = str(d)
			case "description":
				t.Description, err = str(d)
			case "input_schema":
				t.Parameters, err = rawObject(d)
			case "cache_control":
				t.CacheControl, err = rawObject(d)
			default:
				err = d.Skip()
			}
			return err
		})
		switch {
		case err != nil:
			return err
		case typ != "custom":
			return nil
		case t.Name == "":
			return at("name", errors.New("is required"))
		}
		n.Tools = append(n.Tools, t)
		return nil
	})
}

func (n *Ask) messagesToolChoice(d *jx.Decoder) error {
	n.ToolChoice = chat.ToolChoice{}
	alone := false
	err := object(d, func(d *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "type":
			n.ToolChoice.Mode, err = messagesMode(d)
		case "name":
			n.ToolChoice.Name, err = str(d)
		case "disable_parallel_tool_use":
			alone, err = boolean(d)
		default:
			err = d.Skip()
		}
		return err
	})
	if n.Extra = nil; alone {
		n.Extra = []chat.Field{{Name: "parallel_tool_calls", Value: []byte("false")}}
	}
	if err == nil && n.ToolChoice.Mode == chat.ChooseFunction && n.ToolChoice.Name == "" {
		err = at("name", errors.New("is required"))
	}
	return err
}

func messagesMode(d *jx.Decoder) (chat.ToolChoiceMode, error) {
	typ, err := str(d)
	modes := map[string]chat.ToolChoiceMode{
		"auto": chat.ChooseAuto, "any": chat.ChooseRequired, "none": chat.ChooseNone, "tool": chat.ChooseFunction,
	}
	mode, known := modes[typ]
	if err == nil && !known {
		err = fmt.Errorf("unknown choice %.40q; want auto, any, none or tool", typ)
	}
	return mode, err
}

func (n *Ask) messagesMetadata(d *jx.Decoder) error {
	return object(d, func(d *jx.Decoder, key []byte) (err error) {
		if string(key) == "user_id" {
			n.User, err = str(d)
			return err
		}
		return d.Skip()
	})
}

// messagesThinking reads how the model is to think. An effort that is named in output_config says it better.
func (n *Ask) messagesThinking(d *jx.Decoder) error {
	var typ string
	budget := 0
	err := object(d, func(d *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "type":
			typ, err = str(d)
		case "budget_tokens":
			budget, err = d.Int()
		default:
			err = d.Skip()
		}
		return err
	})
	if err != nil || n.ReasoningEffort != "" {
		return err
	}
	switch {
	case typ == "disabled":
		n.ReasoningEffort = "none"
	case typ == "enabled" && budget < 4<<10:
		n.ReasoningEffort = "low"
	case typ == "enabled" && budget < 16<<10:
		n.ReasoningEffort = "medium"
	case typ == "enabled":
		n.ReasoningEffort = "high"
	}
	return nil
}

func (n *Ask) messagesOutput(d *jx.Decoder) error {
	return object(d, func(d *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "effort":
			return n.reasoningEffort(d)
		case "format":
			n.ResponseFormat, err = messagesFormat(d)
			return err
		}
		return d.Skip()
	})
}

// messagesFormat reads a format as Chat Completions has it, where a schema has a name.
func messagesFormat(d *jx.Decoder) ([]byte, error) {
	var typ string
	var schema []byte
	err := object(d, func(d *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "type":
			typ, err = str(d)
		case "schema":
			schema, err = rawObject(d)
		default:
			err = d.Skip()
		}
		return err
	})
	if err == nil && (typ != "json_schema" || schema == nil) {
		err = errors.New("want a json_schema with its schema")
	}
	if err != nil {
		return nil, err
	}
	head := []byte(`{"type":"json_schema","json_schema":{"name":"answer","strict":true,"schema":`)
	return slices.Concat(head, schema, []byte(`}}`)), nil
}

// isState tells whether a sealed text is one that the relay has given out. Those of providers have no version.
func isState(sealed string) bool {
	version, _, ok := strings.Cut(sealed, ".")
	return ok && version != "" && strings.Trim(version, "0123456789") == ""
}
