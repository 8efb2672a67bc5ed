package dialect

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// errNotKept is told to clients that refer to what an earlier request had: the relay keeps no conversations. Some SDKs
// do so by default, from the second turn on.
var errNotKept = errors.New("nothing is stored here: set store to false (AI SDK: providerOptions.openai.store), " +
	"or use .chat(), and the client sends the whole conversation")

// responsesFields read the fields of a Responses request. All others mean nothing to the relay, and reach no provider.
var responsesFields = fields{
	"model":                (*Ask).model,
	"stream":               func(n *Ask, d *jx.Decoder) (err error) { n.Stream, err = boolean(d); return err },
	"tools":                (*Ask).responsesTools,
	"tool_choice":          (*Ask).responsesToolChoice,
	"max_output_tokens":    func(n *Ask, d *jx.Decoder) error { return n.maxTokens(d, "") },
	"temperature":          func(n *Ask, d *jx.Decoder) (err error) { n.Temperature, err = number(d); return err },
	"top_p":                (*Ask).topP,
	"reasoning":            (*Ask).responsesReasoning,
	"text":                 (*Ask).responsesText,
	"previous_response_id": refused(errNotKept),
	"conversation":         refused(errNotKept),
	"prompt":               refused(errors.New("prompts are not kept here; send what it says in input")),
	"background":           (*Ask).notInBackground,
	"parallel_tool_calls":  (*Ask).oneCallAtATime,
}

func refused(err error) func(*Ask, *jx.Decoder) error {
	return func(*Ask, *jx.Decoder) error { return err }
}

// decodeResponses reads a request whose instructions and input become the messages of a chat.
func decodeResponses(body []byte) (*Ask, error) {
	if err := checkJSON(body); err != nil {
		return nil, invalid("%s", err)
	}
	n := &Ask{}
	var instructions string
	var input conversation
	err := object(jx.DecodeBytes(body), func(d *jx.Decoder, key []byte) (err error) {
		switch name := string(key); name {
		case "instructions":
			instructions, err = str(d)
			return err
		case "input":
			input = conversation{}
			return input.read(d)
		default:
			if read, known := responsesFields[name]; known {
				return read(n, d)
			}
			return d.Skip()
		}
	})
	switch {
	case err != nil:
		return nil, invalid("%s", err)
	case len(input.messages) == 0:
		return nil, invalid("input: at least one message is required")
	}
	if instructions != "" {
		n.Messages = append(n.Messages, chat.Message{Role: chat.RoleSystem, Content: instructions})
	}
	n.Messages = append(n.Messages, input.messages...)
	return n, n.checkToolChoice()
}

// checkToolChoice drops what is said of calls when there is nothing to call: providers refuse it.
func (n *Ask) checkToolChoice() error {
	if len(n.Tools) > 0 {
		return nil
	}
	n.Extra = nil
	if n.ToolChoice.Mode == chat.ChooseRequired || n.ToolChoice.Mode == chat.ChooseFunction {
		return invalid("tool_choice: there is no function among the tools that could be called")
	}
	n.ToolChoice = chat.ToolChoice{}
	return nil
}

// responsesTools reads the functions. The provider's own tools are left out: clients offer them always, and go on
// without them.
func (n *Ask) responsesTools(d *jx.Decoder) error {
	n.Tools = nil
	return array(d, func(d *jx.Decoder, _ int) error {
		var t chat.ToolSpec
		var typ string
		err := object(d, func(d *jx.Decoder, key []byte) (err error) {
			switch string(key) {
			case "type":
				typ, err = str(d)
			case "name":
				t.Name, err = str(d)
			case "description":
				t.Description, err = str(d)
			case "parameters":
				t.Parameters, err = rawIf(d, jx.Object)
			case "strict":
				var strict bool
				strict, err = boolean(d)
				t.Strict = &strict
			default:
				err = d.Skip()
			}
			return err
		})
		switch {
		case err != nil:
			return err
		case typ != "function":
			return nil
		case t.Name == "":
			return at("name", errors.New("is required"))
		}
		n.Tools = append(n.Tools, t)
		return nil
	})
}

func (n *Ask) responsesToolChoice(d *jx.Decoder) (err error) {
	if d.Next() != jx.Object {
		n.ToolChoice, err = toolChoice(d)
		return err
	}
	n.ToolChoice = chat.ToolChoice{Mode: chat.ChooseFunction}
	err = object(d, func(d *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "type":
			return functionType(d)
		case "name":
			n.ToolChoice.Name, err = str(d)
			return err
		}
		return d.Skip()
	})
	if err == nil && n.ToolChoice.Name == "" {
		err = at("name", errors.New("is required"))
	}
	return err
}

// oneCallAtATime passes on that a client can't cope with several calls. That it can is what all providers take for
// granted.
func (n *Ask) oneCallAtATime(d *jx.Decoder) error {
	parallel, err := boolean(d)
	if n.Extra = nil; !parallel {
		n.Extra = []chat.Field{{Name: "parallel_tool_calls", Value: []byte("false")}}
	}
	return err
}

func (n *Ask) responsesReasoning(d *jx.Decoder) error {
	return object(d, func(d *jx.Decoder, key []byte) error {
		if string(key) == "effort" {
			return n.reasoningEffort(d)
		}
		return d.Skip()
	})
}

func (n *Ask) responsesText(d *jx.Decoder) error {
	return object(d, func(d *jx.Decoder, key []byte) (err error) {
		if string(key) == "format" {
			n.ResponseFormat, err = responsesFormat(d)
			return err
		}
		return d.Skip()
	})
}

// responsesFormat reads a format as Chat Completions has it, where a schema stands in an object of its own.
func responsesFormat(d *jx.Decoder) ([]byte, error) {
	var typ string
	schema := []byte{'{'}
	err := object(d, func(d *jx.Decoder, key []byte) (err error) {
		switch name := string(key); name {
		case "type":
			typ, err = str(d)
		case "name", "description", "schema", "strict":
			var raw jx.Raw
			if raw, err = d.Raw(); err == nil {
				err = checkNumbers(raw)
			}
			schema = append(member(schema, name), raw...)
		default:
			err = d.Skip()
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case typ == "text":
		return nil, nil
	case typ == "json_object":
		return []byte(`{"type":"json_object"}`), nil
	case typ == "json_schema":
		return append(append([]byte(`{"type":"json_schema","json_schema":`), schema...), `}}`...), nil
	}
	return nil, at("type", fmt.Errorf("unknown format %.40q; want text, json_object or json_schema", typ))
}

func (n *Ask) notInBackground(d *jx.Decoder) error {
	wanted, err := boolean(d)
	if wanted {
		err = errors.New("want false: the answer comes with the response, and nowhere else")
	}
	return err
}

// conversation makes messages of items. What the assistant said and called between two items of others is one
// message, as it was one answer.
type conversation struct {
	messages []chat.Message
	text     strings.Builder // of the last message, if it is an assistant's: it may come in any number of pieces
	answer   bool            // the last message is an assistant's, and goes on with its next item
	state    string          // of the answer whose items come next
}

func (c *conversation) read(d *jx.Decoder) error {
	if d.Next() == jx.String {
		text, err := d.Str()
		c.add(chat.Message{Role: chat.RoleUser, Content: text})
		return err
	}
	if d.Next() != jx.Array {
		return wrongType(d, "a string or an array of items")
	}
	return array(d, func(d *jx.Decoder, _ int) error {
		it, err := readItem(d)
		if err != nil {
			return err
		}
		return c.item(&it)
	})
}

// inputItem is an item of the input, whatever its type is.
type inputItem struct {
	typ, role, id           string
	callID, name, arguments string
	content, output         []byte // as they stand, nil when absent
	encrypted               string
}

func readItem(d *jx.Decoder) (it inputItem, err error) {
	texts := map[string]*string{
		"type": &it.typ, "role": &it.role, "id": &it.id, "call_id": &it.callID, "name": &it.name,
		"arguments":         &it.arguments,
		"encrypted_content": &it.encrypted,
	}
	err = object(d, func(d *jx.Decoder, key []byte) (err error) {
		name := string(key)
		switch into := texts[name]; {
		case into != nil:
			*into, err = str(d)
		case name == "content":
			it.content, err = d.Raw()
		case name == "output":
			it.output, err = d.Raw()
		default:
			err = d.Skip()
		}
		return err
	})
	if it.typ == "" && it.role != "" {
		it.typ = "message"
	}
	if it.typ == "" && it.id != "" {
		it.typ = "item_reference"
	}
	return it, err
}

func (c *conversation) item(it *inputItem) error {
	switch it.typ {
	case "message":
		return c.message(it)
	case "function_call":
		return c.call(it)
	case "function_call_output":
		return c.output(it)
	case "reasoning":
		c.reasoning(it.encrypted)
		return nil
	case "compaction", "compaction_summary", "compaction_trigger":
		return nil
	case "item_reference":
		return errNotKept
	case "":
		return at("type", errors.New("is required"))
	}
	return at("type", fmt.Errorf("unknown item %.40q; want message, function_call, function_call_output or reasoning",
		it.typ))
}

// responsesRoles are the roles of messages.
var responsesRoles = map[string]chat.Role{
	"user": chat.RoleUser, "assistant": chat.RoleAssistant, "system": chat.RoleSystem, "developer": chat.RoleSystem,
}

func (c *conversation) message(it *inputItem) error {
	role, known := responsesRoles[it.role]
	if !known {
		return at("role", fmt.Errorf("unknown role %.40q; want user, assistant, system or developer", it.role))
	}
	if it.content == nil {
		return at("content", errors.New("is required"))
	}
	text, parts, err := responsesContent(it.content)
	if err != nil {
		return at("content", err)
	}
	if role != chat.RoleAssistant {
		c.add(chat.Message{Role: role, Content: text, Parts: parts})
		return nil
	}
	m := c.assistant()
	c.text.WriteString(text)
	for _, p := range parts {
		if p.Type != chat.PartText {
			return at("content", errors.New("an assistant's message has text only"))
		}
		c.text.WriteString(p.Text)
	}
	m.Content = c.text.String()
	return nil
}

// add adds a message of anybody but the assistant.
func (c *conversation) add(m chat.Message) {
	c.messages = append(c.messages, m)
	c.answer, c.state = false, ""
}

// assistant is the message that an item of the assistant's belongs to.
func (c *conversation) assistant() *chat.Message {
	if !c.answer {
		c.messages = append(c.messages, chat.Message{Role: chat.RoleAssistant, State: c.state})
		c.answer, c.state = true, ""
		c.text.Reset()
	}
	return &c.messages[len(c.messages)-1]
}

func (c *conversation) call(it *inputItem) error {
	switch {
	case it.callID == "":
		return at("call_id", errors.New("is required"))
	case it.name == "":
		return at("name", errors.New("is required"))
	}
	m := c.assistant()
	m.ToolCalls = append(m.ToolCalls, chat.ToolCall{ID: it.callID, Name: it.name, Arguments: it.arguments})
	return nil
}

func (c *conversation) output(it *inputItem) error {
	switch {
	case it.callID == "":
		return at("call_id", errors.New("is required"))
	case it.output == nil:
		return at("output", errors.New("is required"))
	}
	text, parts, err := responsesContent(it.output)
	if err != nil {
		return at("output", err)
	}
	c.add(chat.Message{Role: chat.RoleTool, ToolCallID: it.callID, Content: text, Parts: parts})
	return nil
}

// reasoning takes the state of an answer. The relay sends it behind the other items, because only then it is known;
// some clients put it first. What is sealed by others is of no use to any provider that may be asked here.
func (c *conversation) reasoning(sealed string) {
	if !isState(sealed) {
		return
	}
	if c.answer && c.assistant().State == "" {
		c.assistant().State = sealed
		c.answer = false
		return
	}
	c.answer, c.state = false, sealed
}

// responsesContent reads the content of a message or the output of a call.
func responsesContent(raw []byte) (text string, parts []chat.Part, err error) {
	d := jx.DecodeBytes(raw)
	switch d.Next() {
	case jx.String:
		text, err = d.Str()
		return text, nil, err
	case jx.Array:
		err = array(d, func(d *jx.Decoder, _ int) error {
			p, err := responsesPart(d)
			parts = append(parts, p)
			return err
		})
		if len(parts) == 1 && parts[0].Type == chat.PartText {
			return parts[0].Text, nil, err
		}
		return "", parts, err
	}
	return "", nil, wrongType(d, "a string or an array of parts")
}

func responsesPart(d *jx.Decoder) (p chat.Part, err error) {
	var typ, text, refusal string
	err = object(d, func(d *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "type":
			typ, err = str(d)
		case "text":
			text, err = str(d)
		case "refusal":
			refusal, err = str(d)
		case "image_url":
			p.ImageURL, _, err = imageURL(d)
		case "detail":
			p.Detail, err = str(d)
		default:
			err = d.Skip()
		}
		return err
	})
	if err != nil {
		return p, err
	}
	switch typ {
	case "input_text", "output_text", "text":
		return chat.Part{Type: chat.PartText, Text: text}, nil
	case "refusal":
		return chat.Part{Type: chat.PartText, Text: refusal}, nil
	case "input_image":
		if p.ImageURL == "" {
			return p, at("image_url", errors.New("is required: files are not kept here"))
		}
		p.Type = chat.PartImage
		return p, nil
	}
	return p, at("type", fmt.Errorf("unknown part type %.40q; want input_text, output_text, refusal or input_image",
		typ))
}
