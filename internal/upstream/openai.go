package upstream

import (
	"bytes"
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/sse"
)

// openai is the chat completions format of OpenAI and its many relatives.
// https://platform.openai.com/docs/api-reference/chat-streaming
type openai struct{ Options }

func (f *openai) target(model string) string {
	if f.Kind == "azure" {
		// https://learn.microsoft.com/azure/ai-services/openai/reference: the deployment is in the path.
		return f.BaseURL + "/openai/deployments/" + url.PathEscape(model) + "/chat/completions?api-version=" + url.QueryEscape(f.APIVersion)
	}
	return f.BaseURL + "/chat/completions"
}

func (f *openai) setHeaders(h http.Header) {
	if f.Kind == "azure" {
		setKey(h, "Api-Key", f.APIKey)
	} else {
		setBearer(h, f.APIKey)
	}
}

func (f *openai) encode(e *jx.Encoder, model string, req *chat.Request) error {
	e.ObjStart()
	optionalString(e, "model", model)
	encodeOpenAIRequest(e, req, f.maxTokensField(req))
	e.FieldStart("stream")
	e.Bool(true)
	// Mistral refuses the field, and sends usage without being asked.
	if !strings.Contains(f.BaseURL, "mistral.ai") {
		e.FieldStart("stream_options")
		e.RawStr(`{"include_usage":true}`)
	}
	for _, x := range req.Extra {
		e.FieldStart(x.Name)
		e.Raw(x.Value)
	}
	e.ObjEnd()
	return nil
}

// maxTokensField is OpenAI's new name at OpenAI, whose reasoning models refuse the old one, and elsewhere, where
// the new one may not be known, the caller's.
func (f *openai) maxTokensField(req *chat.Request) string {
	host, _, _ := strings.Cut(strings.TrimPrefix(f.BaseURL, "https://"), "/")
	if host == "api.openai.com" || strings.HasSuffix(host, ".api.openai.com") { // a region, like eu.
		return "max_completion_tokens"
	}
	return cmp.Or(req.MaxTokensName, "max_tokens")
}

func (f *openai) newDecoder() decoder { return new(openaiDecoder) }

// openaiDecoder reads chat.completion.chunk objects. Its buffers are used again for every event.
type openaiDecoder struct {
	text      template // of the events that carry content only
	jx        jx.Decoder
	chunk     openaiChunk
	fragments []openaiFragment
}

// openaiChunk is what one event says about choice 0.
type openaiChunk struct {
	model            []byte
	content          []byte
	refusal          []byte
	thinking         []byte // of Mistral's content parts
	reasoningContent []byte
	reasoning        []byte
	details          []byte // of reasoning_details
	finish           []byte
	usage            tokenCounts
	failed           bool
	tools            int // of fragments in use
}

type openaiFragment struct {
	index               int
	id, name, arguments []byte
}

var doneMarker = []byte("[DONE]")

func (d *openaiDecoder) decode(ev *sse.Event, out *output) error {
	if text, ok := d.text.match(ev.Data); ok && len(ev.Type) == 0 && len(ev.Stray) == 0 {
		out.text(chat.Content, text)
		return nil
	}
	return d.decodeOther(ev, out)
}

// decodeOther is apart from decode for the sake of the stack: what a chunk of text uses of it has to be
// small, because with many streams it is in no cache any more when the next chunk comes.
func (d *openaiDecoder) decodeOther(ev *sse.Event, out *output) error {
	if bytes.Equal(bytes.TrimSpace(ev.Data), doneMarker) {
		out.complete = true
		return nil
	}
	if err := d.parse(ev); err != nil {
		return err
	}
	c := &d.chunk
	out.model(c.model)
	if c.usage.known {
		out.usage(c.usage.usage())
	}
	out.text(chat.Reasoning, c.anyReasoning())
	out.text(chat.Content, c.content)
	if err := out.refusal(c.refusal); err != nil {
		return err
	}
	for _, f := range d.fragments[:c.tools] {
		if err := out.toolFragment(f.index, f.id, f.name, f.arguments); err != nil {
			return err
		}
	}
	return finishOpenAI(c.finish, out)
}

// parse reads an event into d.chunk. It is apart from decodeOther, which calls the writer: their frames
// together would not fit into 8 KiB of stack, and every stream would take 16.
//
//go:noinline
func (d *openaiDecoder) parse(ev *sse.Event) error {
	d.reset()
	if err := strayError(ev); err != nil {
		return err
	}
	if len(bytes.TrimSpace(ev.Data)) == 0 {
		return nil
	}
	d.jx.ResetBytes(ev.Data)
	if err := d.jx.ObjBytes(d.field); err != nil {
		return err
	}
	if d.chunk.failed || string(ev.Type) == "error" {
		return reportIn(ev.Data)
	}
	if d.chunk.onlyContent() {
		d.text.learn(ev.Data, `"content":`)
	}
	return nil
}

// onlyContent reports whether the event says nothing but a piece of content (and names the model).
func (c *openaiChunk) onlyContent() bool {
	return len(c.content) > 0 && len(c.refusal)+len(c.anyReasoning())+len(c.finish)+c.tools == 0 && !c.usage.known
}

// anyReasoning picks one of the names that reasoning goes by. Where several are used, they say the same.
func (c *openaiChunk) anyReasoning() []byte {
	for _, b := range [][]byte{c.reasoningContent, c.reasoning, c.details} {
		if len(b) > 0 {
			return b
		}
	}
	return c.thinking
}

func finishOpenAI(reason []byte, out *output) error {
	switch string(reason) {
	case "":
	case "length", "max_tokens", "model_length":
		out.finish(chat.FinishLength)
	case "tool_calls", "function_call":
		out.finish(chat.FinishToolCalls)
	case "content_filter":
		out.finish(chat.FinishContentFilter)
	case "error", "insufficient_system_resource": // OpenRouter; DeepSeek
		return &chat.Error{Code: chat.UpstreamError, Message: "the provider failed in mid-answer", Err: errors.New("finish reason " + string(reason))}
	default: // stop, eos, …
		out.finish(chat.FinishStop)
	}
	return nil
}

// strayError finds an error that a provider wrote outside of the event-stream grammar, as a field of its
// own (GPUStack) or as a bare JSON object (vLLM, Vertex).
func strayError(ev *sse.Event) error {
	stray := bytes.TrimSpace(ev.Stray)
	if rest, ok := bytes.CutPrefix(stray, []byte("error:")); ok {
		return reportIn(rest)
	}
	if len(stray) > 0 && (stray[0] == '{' || stray[0] == '[') {
		var r providerReport
		if r.parse(stray); r.found {
			return r.err()
		}
	}
	return nil
}

// reportIn reads the failure that data describes.
func reportIn(data []byte) error {
	var r providerReport
	r.parse(data)
	return r.err()
}

func (d *openaiDecoder) reset() {
	c := &d.chunk
	*c = openaiChunk{
		model: c.model[:0], content: c.content[:0], refusal: c.refusal[:0], thinking: c.thinking[:0], finish: c.finish[:0],
		reasoningContent: c.reasoningContent[:0], reasoning: c.reasoning[:0], details: c.details[:0],
	}
}

func (d *openaiDecoder) field(j *jx.Decoder, key []byte) (err error) {
	c := &d.chunk
	switch string(key) {
	case "choices":
		return eachItem(j, d.choice)
	case "usage":
		return c.usage.decode(j)
	case "x_groq":
		return eachMember(j, d.groq)
	case "model":
		c.model, err = appendString(j, c.model[:0])
		return err
	case "error":
		return present(j, &c.failed)
	case "object": // vLLM: {"object": "error", "message": …}
		if j.Next() == jx.String {
			kind, err := j.StrBytes()
			c.failed = c.failed || string(kind) == "error"
			return err
		}
	}
	return j.Skip()
}

func (d *openaiDecoder) groq(j *jx.Decoder, key []byte) error {
	if string(key) == "usage" {
		return d.chunk.usage.decode(j)
	}
	return j.Skip()
}

// choice reads one choice. Its index may come last, so what it said is taken back if it is not 0.
func (d *openaiDecoder) choice(j *jx.Decoder) error {
	if j.Next() != jx.Object {
		return j.Skip()
	}
	before := d.chunk
	index := 0
	err := j.ObjBytes(func(j *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "index":
			return integer(j, &index)
		case "delta":
			return eachMember(j, d.delta)
		case "finish_reason":
			d.chunk.finish, err = appendString(j, d.chunk.finish)
			return err
		case "usage": // Moonshot
			return d.chunk.usage.decode(j)
		}
		return j.Skip()
	})
	if index != 0 {
		d.chunk = before
	}
	return err
}

func (d *openaiDecoder) delta(j *jx.Decoder, key []byte) (err error) {
	c := &d.chunk
	switch string(key) {
	case "content":
		if j.Next() == jx.Array {
			return j.Arr(d.contentPart)
		}
		c.content, err = appendString(j, c.content)
		return err
	case "refusal":
		c.refusal, err = appendString(j, c.refusal)
		return err
	case "reasoning_content":
		c.reasoningContent, err = appendString(j, c.reasoningContent)
		return err
	case "reasoning":
		c.reasoning, err = appendString(j, c.reasoning)
		return err
	case "reasoning_details":
		return eachItem(j, d.reasoningDetail)
	case "tool_calls":
		return eachItem(j, d.toolCall)
	}
	return j.Skip()
}

// contentPart reads Mistral's {"type": "thinking", "thinking": [{"type": "text", "text": …}]} and
// {"type": "text", "text": …}.
func (d *openaiDecoder) contentPart(j *jx.Decoder) error {
	c := &d.chunk
	return eachMember(j, func(j *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "text":
			c.content, err = appendString(j, c.content)
			return err
		case "thinking":
			return eachItem(j, func(j *jx.Decoder) error { return appendText(j, &c.thinking, "text") })
		}
		return j.Skip()
	})
}

// reasoningDetail reads OpenRouter's {"type": "reasoning.text", "text": …} and {"type":
// "reasoning.summary", "summary": …}. Encrypted ones have neither.
func (d *openaiDecoder) reasoningDetail(j *jx.Decoder) error {
	return appendText(j, &d.chunk.details, "text", "summary")
}

func (d *openaiDecoder) toolCall(j *jx.Decoder) error {
	if j.Next() != jx.Object {
		return j.Skip()
	}
	n := d.chunk.tools
	if n == maxListed {
		return errListed
	}
	if n == len(d.fragments) {
		d.fragments = append(d.fragments, openaiFragment{})
	}
	d.chunk.tools++
	f := &d.fragments[n]
	f.index, f.id, f.name, f.arguments = noIndex, f.id[:0], f.name[:0], f.arguments[:0]
	return j.ObjBytes(func(j *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "index":
			return integer(j, &f.index)
		case "id":
			f.id, err = appendString(j, f.id)
			return err
		case "function":
			return eachMember(j, func(j *jx.Decoder, key []byte) error {
				return readFunction(j, key, &f.name, &f.arguments)
			})
		}
		return j.Skip()
	})
}
