package upstream

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/sse"
)

// gemini is the GenerateContent format of the Gemini API and of Vertex AI.
// https://ai.google.dev/api/generate-content
type gemini struct{ Options }

func (f *gemini) newRequest(ctx context.Context, req *chat.Request) (*http.Request, error) {
	model := cmp.Or(req.Model, f.Model)
	var e jx.Encoder
	if err := encodeGemini(&e, model, req); err != nil {
		return nil, err
	}
	target := f.BaseURL + "/models/" + url.PathEscape(strings.TrimPrefix(model, "models/")) + ":streamGenerateContent?alt=sse"
	hreq, err := newPost(ctx, target, &e)
	if err != nil {
		return nil, err
	}
	if f.APIKey != "" {
		hreq.Header.Set("X-Goog-Api-Key", f.APIKey)
	}
	return hreq, nil
}

func encodeGemini(e *jx.Encoder, model string, req *chat.Request) error {
	system, err := systemText(req.Messages)
	if err != nil {
		return err
	}
	e.ObjStart()
	if system != "" {
		e.FieldStart("systemInstruction")
		e.ObjStart()
		e.FieldStart("parts")
		e.ArrStart()
		encodeGeminiText(e, system)
		e.ArrEnd()
		e.ObjEnd()
	}
	e.FieldStart("contents")
	e.ArrStart()
	err = encodeTurns(e, req.Messages, "model", "parts", func(i int, m *chat.Message) error { return encodeGeminiParts(e, model, req.Messages, i) })
	if err != nil {
		return err
	}
	e.ArrEnd()
	encodeGeminiTools(e, req)
	if err := encodeGenerationConfig(e, model, req); err != nil {
		return err
	}
	e.ObjEnd()
	return nil
}

func encodeGeminiText(e *jx.Encoder, text string) {
	e.ObjStart()
	optionalString(e, "text", text)
	e.ObjEnd()
}

func encodeGeminiParts(e *jx.Encoder, model string, messages []chat.Message, i int) error {
	m := &messages[i]
	if m.Role == chat.RoleTool {
		return encodeFunctionResponse(e, messages, i)
	}
	for j, p := range partsOf(m) {
		if p.Type == chat.PartText {
			encodeGeminiText(e, p.Text)
			continue
		}
		img, err := imageOf(i, j, p)
		if err != nil {
			return err
		}
		e.ObjStart()
		if img.url != "" {
			e.FieldStart("fileData")
			e.ObjStart()
			optionalString(e, "mimeType", mediaTypeByName(img.url))
			optionalString(e, "fileUri", img.url)
		} else {
			e.FieldStart("inlineData")
			e.ObjStart()
			optionalString(e, "mimeType", img.mediaType)
			optionalString(e, "data", img.base64)
		}
		e.ObjEnd()
		e.ObjEnd()
	}
	for j := range m.ToolCalls {
		c := &m.ToolCalls[j]
		args, err := arguments(i, j, c)
		if err != nil {
			return err
		}
		e.ObjStart()
		if j == 0 && !geminiWithBudget(model) {
			optionalString(e, "thoughtSignature", noThoughtSignature)
		}
		e.FieldStart("functionCall")
		e.ObjStart()
		optionalString(e, "id", c.ID)
		optionalString(e, "name", c.Name)
		e.FieldStart("args")
		e.Raw(args)
		e.ObjEnd()
		e.ObjEnd()
	}
	return nil
}

// noThoughtSignature is "skip_thought_signature_validator" in base64, which Google documents for calls
// whose signature is not at hand: the contract does not carry them.
// https://ai.google.dev/gemini-api/docs/thought-signatures
const noThoughtSignature = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="

// geminiWithBudget tells models before Gemini 3 from those since: the later ones refuse calls without a
// signature, and think on levels instead of a budget.
func geminiWithBudget(model string) bool {
	return strings.Contains(model, "gemini-1") || strings.Contains(model, "gemini-2")
}

// mediaTypeByName guesses a media type, which Vertex wants to be told, by the name's extension.
func mediaTypeByName(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	return mime.TypeByExtension(strings.ToLower(path.Ext(u.Path)))
}

// encodeFunctionResponse writes a tool result. It must be an object, under whose "output" the model
// looks for one that is not.
func encodeFunctionResponse(e *jx.Encoder, messages []chat.Message, i int) error {
	text, err := textOf(i, &messages[i])
	if err != nil {
		return err
	}
	name, err := calledName(messages, i)
	if err != nil {
		return err
	}
	e.ObjStart()
	e.FieldStart("functionResponse")
	e.ObjStart()
	optionalString(e, "id", messages[i].ToolCallID)
	optionalString(e, "name", name)
	e.FieldStart("response")
	if object := bytes.TrimSpace([]byte(text)); len(object) > 0 && object[0] == '{' && jx.Valid(object) {
		e.Raw(object)
	} else {
		e.Obj(func(e *jx.Encoder) { e.Field("output", func(e *jx.Encoder) { e.Str(text) }) })
	}
	e.ObjEnd()
	e.ObjEnd()
	return nil
}

func encodeGeminiTools(e *jx.Encoder, req *chat.Request) {
	if len(req.Tools) == 0 {
		return
	}
	e.FieldStart("tools")
	e.ArrStart()
	e.ObjStart()
	e.FieldStart("functionDeclarations")
	e.ArrStart()
	for i := range req.Tools {
		t := &req.Tools[i]
		e.ObjStart()
		optionalString(e, "name", t.Name)
		optionalString(e, "description", t.Description)
		if t.Parameters != nil {
			e.FieldStart("parametersJsonSchema") // parameters is OpenAPI's subset, and refuses the rest
			e.Raw(t.Parameters)
		}
		e.ObjEnd()
	}
	e.ArrEnd()
	e.ObjEnd()
	e.ArrEnd()
	modes := map[chat.ToolChoiceMode]string{chat.ChooseAuto: "AUTO", chat.ChooseNone: "NONE", chat.ChooseRequired: "ANY", chat.ChooseFunction: "ANY"}
	if mode := modes[req.ToolChoice.Mode]; mode != "" {
		e.FieldStart("toolConfig")
		e.ObjStart()
		e.FieldStart("functionCallingConfig")
		e.ObjStart()
		optionalString(e, "mode", mode)
		if req.ToolChoice.Name != "" {
			e.FieldStart("allowedFunctionNames")
			encodeStrings(e, []string{req.ToolChoice.Name})
		}
		e.ObjEnd()
		e.ObjEnd()
	}
}

func encodeGenerationConfig(e *jx.Encoder, model string, req *chat.Request) error {
	format, err := responseFormatOf(req)
	if err != nil {
		return err
	}
	e.FieldStart("generationConfig")
	e.ObjStart()
	optionalNumber(e, "temperature", req.Temperature)
	optionalNumber(e, "topP", req.TopP)
	optionalNumber(e, "maxOutputTokens", req.MaxTokens)
	if fits(req.Seed, 32) {
		optionalNumber(e, "seed", req.Seed)
	}
	if len(req.Stop) > 0 {
		e.FieldStart("stopSequences")
		encodeStrings(e, req.Stop)
	}
	if strings.HasPrefix(format.Type, "json") {
		optionalString(e, "responseMimeType", "application/json")
	}
	if format.Type == "json_schema" {
		e.FieldStart("responseJsonSchema")
		e.Raw(format.JSONSchema.Schema)
	}
	if err := encodeThinkingConfig(e, model, req.ReasoningEffort); err != nil {
		return err
	}
	e.ObjEnd()
	return nil
}

// maxGeminiBudget is the most that every model with a budget takes, in tokens.
const maxGeminiBudget = 24576

// encodeThinkingConfig writes the effort in the model's terms. Levels can't be none, and only the Pro
// models lack the lowest.
func encodeThinkingConfig(e *jx.Encoder, model, effort string) error {
	budget, known, err := thinkingBudget(effort)
	if err != nil || !known {
		return err
	}
	e.FieldStart("thinkingConfig")
	e.ObjStart()
	switch {
	case geminiWithBudget(model):
		e.Field("thinkingBudget", func(e *jx.Encoder) { e.Int(min(budget, maxGeminiBudget)) })
	case budget > thinkingBudgets["medium"]:
		optionalString(e, "thinkingLevel", "HIGH")
	case budget > thinkingBudgets["low"]:
		optionalString(e, "thinkingLevel", "MEDIUM")
	case budget > thinkingBudgets["minimal"] || strings.Contains(model, "pro"):
		optionalString(e, "thinkingLevel", "LOW")
	default:
		optionalString(e, "thinkingLevel", "MINIMAL")
	}
	if budget > 0 {
		e.Field("includeThoughts", func(e *jx.Encoder) { e.Bool(true) })
	}
	e.ObjEnd()
	return nil
}

func (f *gemini) newDecoder() decoder { return new(geminiDecoder) }

// geminiDecoder reads GenerateContentResponse objects. Its buffers are used again for every event.
type geminiDecoder struct {
	jx    jx.Decoder
	event geminiEvent
	parts []geminiPart
	call  partialCall
}

// geminiEvent is what one event says about candidate 0.
type geminiEvent struct {
	model, finish, blocked []byte
	usage                  geminiUsage
	failed                 bool
	parts                  int // of geminiDecoder.parts in use
}

type geminiPart struct {
	text    []byte
	thought bool

	call           bool
	id, name, args []byte
	partial        []byte // partialArgs, a JSON array
	willContinue   bool
}

type geminiUsage struct {
	prompt, candidates, thoughts int64
	known                        bool
}

func (d *geminiDecoder) decode(ev sse.Event, out *output) error {
	if err := strayError(ev); err != nil {
		return err
	}
	data := bytes.TrimSpace(ev.Data)
	if len(data) == 0 || bytes.Equal(data, doneMarker) {
		return nil
	}
	e := &d.event
	*e = geminiEvent{model: e.model[:0], finish: e.finish[:0], blocked: e.blocked[:0]}
	d.jx.ResetBytes(data)
	if err := d.jx.ObjBytes(d.field); err != nil {
		return err
	}
	if e.failed || string(ev.Type) == "error" {
		return reportIn(data)
	}
	if len(e.blocked) > 0 {
		return &chat.Error{Code: chat.ContentFiltered, Message: "the provider blocked the prompt", Err: errors.New("block reason " + string(e.blocked))}
	}
	out.model(e.model)
	if e.usage.known {
		out.usage(e.usage.prompt, e.usage.candidates+e.usage.thoughts) // as everybody else counts
	}
	for i := range d.parts[:e.parts] {
		if err := d.part(&d.parts[i], out); err != nil {
			return err
		}
	}
	return d.finish(out)
}

func (d *geminiDecoder) part(p *geminiPart, out *output) error {
	switch {
	case !p.call && p.thought:
		out.text(chat.Reasoning, p.text)
		return nil
	case !p.call:
		out.text(chat.Content, p.text)
		return nil
	case len(p.name) > 0 && !p.willContinue && len(p.partial) == 0:
		if err := d.call.end(out); err != nil {
			return err
		}
		return out.wholeTool(p.id, p.name, p.args)
	}
	if len(p.name) > 0 {
		if err := d.call.begin(p.id, p.name, p.args, out); err != nil {
			return err
		}
	}
	out.progress = true
	if err := out.countTool(p.partial); err != nil {
		return err
	}
	if err := d.call.add(p.partial); err != nil || p.willContinue {
		return err
	}
	return d.call.end(out)
}

// finish notes the finish reason, which old models give with every event.
func (d *geminiDecoder) finish(out *output) error {
	reason := string(d.event.finish)
	if reason == "" {
		return nil
	}
	if err := d.call.end(out); err != nil {
		return err
	}
	switch reason {
	case "MAX_TOKENS":
		out.finishAtEnd(chat.FinishLength)
	case "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION":
		out.finishAtEnd(chat.FinishContentFilter)
	case "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE", "MALFORMED_RESPONSE":
		return &chat.Error{Code: chat.UpstreamError, Message: "the model made a tool call that can't be used", Err: errors.New("finish reason " + reason)}
	default: // STOP, OTHER, …
		out.finishAtEnd(chat.FinishStop)
	}
	return nil
}

func (d *geminiDecoder) field(j *jx.Decoder, key []byte) (err error) {
	e := &d.event
	switch string(key) {
	case "candidates":
		if j.Next() == jx.Array {
			return j.Arr(d.candidate)
		}
	case "usageMetadata":
		return e.usage.decode(j)
	case "modelVersion":
		e.model, err = appendString(j, e.model)
		return err
	case "promptFeedback":
		return appendText(j, &e.blocked, "blockReason")
	case "error":
		e.failed = e.failed || j.Next() != jx.Null
	}
	return j.Skip()
}

// candidate reads one candidate. Its index may come last, so what it said is taken back if it is not 0.
func (d *geminiDecoder) candidate(j *jx.Decoder) error {
	if j.Next() != jx.Object {
		return j.Skip()
	}
	before := d.event
	index := 0
	err := j.ObjBytes(func(j *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "index":
			if j.Next() == jx.Number {
				index, err = j.Int()
				return err
			}
		case "content":
			if j.Next() == jx.Object {
				return j.ObjBytes(d.content)
			}
		case "finishReason":
			d.event.finish, err = appendString(j, d.event.finish)
			return err
		}
		return j.Skip()
	})
	if index != 0 {
		d.event = before
	}
	return err
}

func (d *geminiDecoder) content(j *jx.Decoder, key []byte) error {
	if string(key) == "parts" && j.Next() == jx.Array {
		return j.Arr(d.readPart)
	}
	return j.Skip()
}

func (d *geminiDecoder) readPart(j *jx.Decoder) error {
	if j.Next() != jx.Object {
		return j.Skip()
	}
	if d.event.parts == len(d.parts) {
		d.parts = append(d.parts, geminiPart{})
	}
	p := &d.parts[d.event.parts]
	d.event.parts++
	*p = geminiPart{text: p.text[:0], id: p.id[:0], name: p.name[:0], args: p.args[:0], partial: p.partial[:0]}
	return j.ObjBytes(func(j *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "text":
			p.text, err = appendString(j, p.text)
			return err
		case "thought":
			if j.Next() == jx.Bool {
				p.thought, err = j.Bool()
				return err
			}
		case "functionCall":
			if j.Next() == jx.Object {
				p.call = true
				return j.ObjBytes(p.functionCall)
			}
		}
		return j.Skip() // what the provider ran itself, images, signatures
	})
}

func (p *geminiPart) functionCall(j *jx.Decoder, key []byte) (err error) {
	switch string(key) {
	case "id":
		p.id, err = appendString(j, p.id)
		return err
	case "name":
		p.name, err = appendString(j, p.name)
		return err
	case "args", "partialArgs":
		dst, want := &p.args, jx.Object
		if string(key) == "partialArgs" {
			dst, want = &p.partial, jx.Array
		}
		if j.Next() == want {
			raw, err := j.Raw()
			*dst = append(*dst, raw...)
			return err
		}
	case "willContinue":
		if j.Next() == jx.Bool {
			p.willContinue, err = j.Bool()
			return err
		}
	}
	return j.Skip()
}

func (u *geminiUsage) decode(j *jx.Decoder) error {
	if j.Next() != jx.Object {
		return j.Skip()
	}
	*u = geminiUsage{}
	return j.ObjBytes(func(j *jx.Decoder, key []byte) error {
		switch string(key) {
		case "promptTokenCount":
			u.known = true
			return tokens(j, &u.prompt)
		case "candidatesTokenCount":
			u.known = true
			return tokens(j, &u.candidates)
		case "thoughtsTokenCount":
			return tokens(j, &u.thoughts)
		}
		return j.Skip()
	})
}
