package format

import (
	"bytes"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/report"
)

// NewDecoder implements Format.
func (OpenAI) NewDecoder() Decoder {
	d := new(openaiDecoder)
	c := &d.chunk
	c.content, c.model, c.finish = d.room[:0:32], d.room[32:32:80], d.room[80:80:96]
	return d
}

// openaiDecoder reads chat.completion.chunk objects, and chat.completion objects: an answer in one piece. Its buffers
// are used again for every object.
type openaiDecoder struct {
	jx        jx.Decoder
	message   jx.Decoder // reads a message after the rest of its choice
	chunk     openaiChunk
	before    *openaiChunk // chunk, before a choice that may be another than 0; nil: there was none
	fragments fragments

	deltas bool // there was one
	begun  bool // something of the answer has come

	processed int64 // tokens of the prompt, as far as the server says

	room [96]byte // for what most answers say in a chunk
}

// openaiChunk is what one object says about choice 0.
type openaiChunk struct {
	model            []byte
	content          []byte
	refusal          []byte
	thinking         []byte // of Mistral's content parts
	reasoningContent []byte
	reasoning        []byte
	reasoningText    []byte // Copilot's
	details          []byte // of reasoning_details
	rawDetails       []byte // themselves, a line each
	opaque           []byte // Copilot's reasoning_opaque
	seal             []byte // Google's signature, of the text
	finish           []byte
	usage            tokenCounts
	failed           bool
	choices          bool  // there are some, or there is usage
	whole            bool  // it is the whole answer
	progress         int64 // of reading the prompt, in tokens
}

func (d *openaiDecoder) End(out *Answer) error {
	if out.Nothing() {
		return errNothing()
	}
	out.Complete = true
	return nil
}

// Pass implements Decoder.
func (d *openaiDecoder) Pass(_, _ []byte, out *Answer) error {
	c := &d.chunk
	out.Model(c.model)
	if c.usage.known {
		out.Usage(c.usage.usage())
	}
	if c.progress > d.processed {
		d.processed = c.progress
		out.wait()
	}
	d.text(out)
	if err := out.refusal(c.refusal); err != nil {
		return err
	}
	if err := d.passCalls(out); err != nil {
		return err
	}
	if c.whole && len(c.finish) == 0 {
		c.finish = append(c.finish, "stop"...)
	}
	return out.FinishWith(c.finish)
}

func (d *openaiDecoder) passCalls(out *Answer) error {
	for _, f := range d.fragments.list() {
		if err := out.toolFragment(f); err != nil {
			return err
		}
	}
	return nil
}

// text passes on what the chunk has of it. An event with nothing else is what the next ones are likely to look like.
func (d *openaiDecoder) text(out *Answer) {
	c := &d.chunk
	reasoning, key := c.anyReasoning()
	if len(reasoning) > 0 {
		out.keep.as = c.reasoningName()
	}
	if len(c.rawDetails) > 0 {
		c.keepDetails(out)
	}
	plain := len(c.refusal)+len(c.finish)+len(c.rawDetails)+len(c.seal)+len(c.opaque)+d.fragments.n == 0 &&
		!c.usage.known && !c.whole && c.progress == 0
	d.begun = d.begun || len(c.content)+len(reasoning)+len(c.refusal)+d.fragments.n > 0
	switch {
	case plain && len(reasoning) == 0 && len(c.content) > 0:
		out.only(chat.Content, c.content, `"content":`)
	case plain && len(c.content) == 0 && key != "":
		out.only(chat.Reasoning, reasoning, key)
	default:
		out.Text(chat.Reasoning, reasoning)
		out.Text(chat.Content, c.content)
	}
	out.keep.sealText(c.seal)
	out.keep.opaque(c.opaque)
}

// keepDetails keeps the entries of reasoning_details for the next turn. It is rare and has a large frame: see Decoder.
//
//go:noinline
func (c *openaiChunk) keepDetails(out *Answer) {
	for raw := range bytes.SplitSeq(c.rawDetails, []byte("\n")) {
		if len(raw) > 0 {
			out.keep.detail(raw)
		}
	}
}

// reasoningName is the name under which the reasoning goes back that anyReasoning picks. Details have their own.
func (c *openaiChunk) reasoningName() string {
	switch {
	case len(c.reasoningContent) > 0:
		return "reasoning_content"
	case len(c.reasoning) > 0:
		return "reasoning"
	case len(c.reasoningText) > 0:
		return "reasoning_text"
	case len(c.details) > 0:
		return ""
	}
	return asItem
}

// anyReasoning picks one of the names that reasoning goes by. Where several are used, they say the same, and there is
// no one key that it stands under.
//
//go:noinline
func (c *openaiChunk) anyReasoning() (reasoning []byte, key string) {
	if len(c.reasoningContent)+len(c.reasoning)+len(c.reasoningText)+len(c.details)+len(c.thinking) == 0 {
		return nil, ""
	}
	used := 0
	for _, b := range []struct {
		text []byte
		key  string
	}{
		{c.reasoningContent, `"reasoning_content":`}, {c.reasoning, `"reasoning":`},
		{c.reasoningText, `"reasoning_text":`},
		{c.details, ""}, {c.thinking, ""},
	} {
		if len(b.text) == 0 {
			continue
		}
		if used++; used == 1 {
			reasoning, key = b.text, b.key
		}
	}
	if used > 1 {
		key = ""
	}
	return reasoning, key
}

// Parse implements Decoder: it reads an object into d.chunk.
func (d *openaiDecoder) Parse(object, typ []byte) error {
	d.reset()
	d.jx.ResetBytes(object)
	if err := d.jx.ObjBytes(d.field); err != nil {
		return err
	}
	if d.chunk.failed || string(typ) == "error" {
		return report.In(object)
	}
	if !d.chunk.choices {
		return failureIn(object)
	}
	return nil
}

// reset empties d.chunk, and keeps its memory. Its frame is not below the reading: see Decoder.
//
//go:noinline
func (d *openaiDecoder) reset() {
	d.fragments.clear()
	c := &d.chunk
	c.model, c.content, c.refusal, c.thinking = c.model[:0], c.content[:0], c.refusal[:0], c.thinking[:0]
	c.reasoningContent, c.reasoning, c.reasoningText = c.reasoningContent[:0], c.reasoning[:0], c.reasoningText[:0]
	c.details, c.rawDetails, c.opaque, c.seal = c.details[:0], c.rawDetails[:0], c.opaque[:0], c.seal[:0]
	c.finish = c.finish[:0]
	c.usage = tokenCounts{}
	c.failed, c.choices, c.whole, c.progress = false, false, false, 0
}

func (d *openaiDecoder) field(j *jx.Decoder, key []byte) error {
	c := &d.chunk
	switch string(key) {
	case "choices":
		c.choices = c.choices || j.Next() == jx.Array
		return eachItem(j, d.choice)
	case "usage":
		c.choices = c.choices || j.Next() == jx.Object
		return c.usage.decode(j)
	case "x_groq":
		return eachMember(j, func(j *jx.Decoder, key []byte) error {
			if string(key) == "usage" {
				return c.usage.decode(j)
			}
			return j.Skip()
		})
	case "model":
		c.model = c.model[:0]
		return readStringTo(j, &c.model)
	case "error":
		return present(j, &c.failed)
	case "prompt_progress": // llama.cpp, when asked with return_progress
		return eachMember(j, func(j *jx.Decoder, key []byte) error {
			if string(key) == "processed" {
				return tokens(j, &c.progress)
			}
			return j.Skip()
		})
	case "object": // vLLM: {"object": "error", "message": …}
		if j.Next() == jx.String {
			kind, err := j.StrBytes()
			c.failed = c.failed || string(kind) == "error"
			return err
		}
	}
	return j.Skip()
}

// choice reads one choice. Its index may come last: then what it said is taken back if it is not 0.
func (d *openaiDecoder) choice(j *jx.Decoder) error {
	if j.Next() != jx.Object {
		return j.Skip()
	}
	calls := d.fragments.n
	index, known, kept, delta := 0, false, false, false
	var message, text jx.Raw
	err := j.ObjBytes(func(j *jx.Decoder, key []byte) (err error) {
		switch {
		case string(key) == "index":
			known = true
			return integer(j, &index)
		case index != 0:
			return j.Skip()
		case !known && !kept:
			kept = true
			d.keepChunk()
		}
		switch string(key) {
		case "delta":
			delta = delta || j.Next() == jx.Object
			return eachMember(j, d.delta)
		case "message":
			message, err = j.Raw()
			return err
		case "text":
			text, err = j.Raw()
			return err
		case "finish_reason":
			return readStringTo(j, &d.chunk.finish)
		case "usage": // Moonshot
			return d.chunk.usage.decode(j)
		}
		return j.Skip()
	})
	if index != 0 {
		if d.fragments.n = calls; kept {
			d.chunk = *d.before
		}
		return err
	}
	d.deltas = d.deltas || delta
	if err != nil || delta {
		return err
	}
	return d.wholeChoice(message, text)
}

// keepChunk keeps what was said before a choice whose index does not come first. Most servers begin with it. Its frame
// is not below the reading: see Decoder.
//
//go:noinline
func (d *openaiDecoder) keepChunk() {
	if d.before == nil {
		d.before = new(openaiChunk)
	}
	*d.before = d.chunk
}

// wholeChoice reads a choice without a delta: its message is the whole answer, unless the answer has come in pieces
// before, and the text is that of the completions format, where it is a piece.
func (d *openaiDecoder) wholeChoice(message, text jx.Raw) error {
	switch {
	case len(message) > 0 && message[0] == '{' && !d.begun:
		d.message.ResetBytes(message)
		d.chunk.whole = true
		return d.message.ObjBytes(d.delta)
	case len(text) > 0 && text[0] == '"' && !d.deltas:
		d.chunk.content = unescape(d.chunk.content, text[1:len(text)-1])
	}
	return nil
}

func (d *openaiDecoder) delta(j *jx.Decoder, key []byte) error {
	c := &d.chunk
	var text *[]byte
	switch string(key) {
	case "content":
		switch j.Next() {
		case jx.Array:
			return j.Arr(d.contentPart)
		case jx.Object:
			return d.contentPart(j)
		}
		text = &c.content
	case "refusal":
		text = &c.refusal
	case "reasoning_content":
		text = &c.reasoningContent
	case "reasoning":
		text = &c.reasoning
	case "reasoning_text":
		text = &c.reasoningText
	case "reasoning_opaque":
		text = &c.opaque
	case "extra_content":
		return googleContent(j, &c.seal)
	case "thinking":
		text = &c.thinking
	case "reasoning_details":
		return eachItem(j, d.reasoningDetail)
	case "tool_calls":
		return d.toolCalls(j)
	case "function_call": // what tool calls were called before there could be several
		return d.functionCall(j)
	}
	return readStringTo(j, text)
}

// contentPart reads Mistral's {"type": "thinking", "thinking": [{"type": "text", "text": …}]} and
// {"type": "text", "text": …}.
func (d *openaiDecoder) contentPart(j *jx.Decoder) error {
	c := &d.chunk
	return eachMember(j, func(j *jx.Decoder, key []byte) error {
		switch string(key) {
		case "text":
			return readStringTo(j, &c.content)
		case "thinking":
			if j.Next() == jx.String {
				return readStringTo(j, &c.thinking)
			}
			return eachItem(j, func(j *jx.Decoder) error { return appendText(j, &c.thinking, "text") })
		}
		return j.Skip()
	})
}

// reasoningDetail reads OpenRouter's {"type": "reasoning.text", "text": …} and {"type":
// "reasoning.summary", "summary": …}. Encrypted ones have neither.
func (d *openaiDecoder) reasoningDetail(j *jx.Decoder) error {
	raw, err := j.Raw()
	if err != nil {
		return err
	}
	d.chunk.rawDetails = append(appendLine(d.chunk.rawDetails, raw), '\n')
	return appendText(jx.DecodeBytes(raw), &d.chunk.details, "text", "summary")
}

// googleContent reads {"google": {"thought_signature": ...}}.
func googleContent(j *jx.Decoder, seal *[]byte) error {
	return eachMember(j, func(j *jx.Decoder, key []byte) error {
		if string(key) == "google" {
			return appendText(j, seal, "thought_signature")
		}
		return j.Skip()
	})
}

// appendLine appends JSON without the line breaks that stand between its tokens.
func appendLine(dst, raw []byte) []byte {
	for _, c := range raw {
		if c != '\n' && c != '\r' {
			dst = append(dst, c)
		}
	}
	return dst
}

// toolCalls reads a list of fragments. Where none has an index and not all have an id, the place in the list is the
// index, if there are several: two items of a list are two calls.
func (d *openaiDecoder) toolCalls(j *jx.Decoder) error {
	first := d.fragments.n
	if err := eachItem(j, d.toolCall); err != nil {
		return err
	}
	list := d.fragments.list()[first:]
	named := true
	for i := range list {
		if list[i].index != noIndex {
			return nil
		}
		named = named && len(list[i].id) > 0
	}
	for i := range list {
		if !named && len(list) > 1 {
			list[i].index = i
		}
	}
	return nil
}

func (d *openaiDecoder) toolCall(j *jx.Decoder) error {
	if j.Next() != jx.Object {
		return j.Skip()
	}
	f, err := d.fragments.add()
	if err != nil {
		return err
	}
	return j.ObjBytes(func(j *jx.Decoder, key []byte) error {
		switch string(key) {
		case "index":
			return integer(j, &f.index)
		case "extra_content":
			return googleContent(j, &f.seal)
		}
		return f.read(j, key)
	})
}

func (d *openaiDecoder) functionCall(j *jx.Decoder) error {
	if j.Next() != jx.Object || d.fragments.n > 0 { // where there are both, they say the same
		return j.Skip()
	}
	f, err := d.fragments.add()
	if err != nil {
		return err
	}
	return j.ObjBytes(func(j *jx.Decoder, key []byte) error { return readFunction(j, key, &f.name, &f.arguments) })
}
