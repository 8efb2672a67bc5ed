package upstream

import (
	"bytes"
	"errors"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/sse"
)

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

type geminiUsage struct {
	prompt, candidates, thoughts, cached int64
	known                                bool
}

type geminiPart struct {
	text    []byte
	thought bool

	call           bool
	id, name, args []byte
	partial        []byte // partialArgs, a JSON array
	willContinue   bool
}

func (d *geminiDecoder) decode(ev *sse.Event, out *output) error {
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
		out.usage(chat.Usage{PromptTokens: e.usage.prompt, CompletionTokens: e.usage.candidates + e.usage.thoughts, // as everybody else counts
			CachedTokens: e.usage.cached, ReasoningTokens: e.usage.thoughts})
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
		return eachItem(j, d.candidate)
	case "usageMetadata":
		return e.usage.decode(j)
	case "modelVersion":
		e.model, err = appendString(j, e.model)
		return err
	case "promptFeedback":
		return appendText(j, &e.blocked, "blockReason")
	case "error":
		return present(j, &e.failed)
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
			return integer(j, &index)
		case "content":
			return eachMember(j, d.content)
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
	if string(key) == "parts" {
		return eachItem(j, d.readPart)
	}
	return j.Skip()
}

func (d *geminiDecoder) readPart(j *jx.Decoder) error {
	if j.Next() != jx.Object {
		return j.Skip()
	}
	if d.event.parts == maxListed {
		return errListed
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
			return boolean(j, &p.thought)
		case "functionCall":
			p.call = j.Next() == jx.Object
			return eachMember(j, p.functionCall)
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
		return boolean(j, &p.willContinue)
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
			u.known = u.known || j.Next() == jx.Number
			return tokens(j, &u.prompt)
		case "candidatesTokenCount":
			u.known = u.known || j.Next() == jx.Number
			return tokens(j, &u.candidates)
		case "thoughtsTokenCount":
			return tokens(j, &u.thoughts)
		case "cachedContentTokenCount":
			return tokens(j, &u.cached)
		}
		return j.Skip()
	})
}
