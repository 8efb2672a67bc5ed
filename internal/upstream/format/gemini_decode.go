package format

import (
	"errors"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/report"
)

// NewDecoder implements Format.
func (Gemini) NewDecoder() Decoder { return new(geminiDecoder) }

// geminiDecoder reads GenerateContentResponse objects. Its buffers are used again for every event.
type geminiDecoder struct {
	jx     jx.Decoder
	event  geminiEvent
	before geminiEvent // event, before a candidate that may be another than 0
	parts  []geminiPart
	call   partialCall
}

// geminiEvent is what one event says about candidate 0.
type geminiEvent struct {
	model, finish, blocked []byte
	usage                  geminiUsage
	failed                 bool
	answers                bool // there are candidates, or there is usage
	parts                  int  // of geminiDecoder.parts in use
}

type geminiUsage struct {
	prompt, candidates, thoughts, cached int64
	known                                bool
}

type geminiPart struct {
	text    []byte
	thought bool
	seal    []byte // thoughtSignature

	call           bool
	id, name, args []byte
	partial        []byte // partialArgs, a JSON array
	willContinue   bool
}

// end takes a [DONE], which some gateways add.
func (d *geminiDecoder) End(*Answer) error { return nil }

// Pass implements Decoder.
func (d *geminiDecoder) Pass(object, typ []byte, out *Answer) error {
	e := &d.event
	if e.failed || string(typ) == "error" {
		return report.In(object)
	}
	if !e.answers {
		if err := failureIn(object); err != nil {
			return err
		}
	}
	if len(e.blocked) > 0 {
		return &chat.Error{Code: chat.ContentFiltered, Message: "the provider blocked the prompt",
			Err: errors.New("block reason " + string(e.blocked))}
	}
	out.Model(e.model)
	if e.usage.known {
		// as everybody else counts
		out.Usage(chat.Usage{PromptTokens: e.usage.prompt, CompletionTokens: e.usage.candidates + e.usage.thoughts,
			CachedTokens: e.usage.cached, ReasoningTokens: e.usage.thoughts})
	}
	for i := range d.parts[:e.parts] {
		if err := d.part(&d.parts[i], out); err != nil {
			return err
		}
	}
	return d.finish(out)
}

func (d *geminiDecoder) part(p *geminiPart, out *Answer) error {
	switch {
	case !p.call && p.thought:
		out.Text(chat.Reasoning, p.text)
		if len(p.seal) > 0 {
			out.keep.hiddenThought(p.text, p.seal)
		}
		return nil
	case !p.call:
		if len(p.seal) > 0 {
			out.keep.mark() // a signed part is never one with its neighbour
		}
		out.Text(chat.Content, p.text)
		out.keep.sealText(p.seal)
		return nil
	case len(p.name) > 0 && !p.willContinue && len(p.partial) == 0:
		if err := d.call.end(out); err != nil {
			return err
		}
		if err := out.wholeTool(p.id, p.name, p.args); err != nil {
			return err
		}
		out.keep.call(len(out.tools)-1, p.seal)
		return nil
	}
	if len(p.name) > 0 {
		if err := d.call.begin(p.id, p.name, p.args, out); err != nil {
			return err
		}
		d.call.seal = append(d.call.seal[:0], p.seal...)
	}
	out.Progress = true
	if err := d.call.add(p.partial); err != nil || p.willContinue {
		return err
	}
	return d.call.end(out)
}

// Parse implements Decoder: it reads an object into d.event.
func (d *geminiDecoder) Parse(object, _ []byte) error {
	d.reset()
	d.jx.ResetBytes(object)
	return d.jx.ObjBytes(d.field)
}

// reset empties d.event, and keeps its memory. Its frame is not below the reading: see Decoder.
//
//go:noinline
func (d *geminiDecoder) reset() {
	e := &d.event
	*e = geminiEvent{model: e.model[:0], finish: e.finish[:0], blocked: e.blocked[:0]}
}

// finish notes the finish reason, which old models give with every event.
func (d *geminiDecoder) finish(out *Answer) error {
	if len(d.event.finish) == 0 {
		return nil
	}
	if err := d.call.end(out); err != nil {
		return err
	}
	reason, err := finishReason(d.event.finish)
	if err == nil {
		out.finishAtEnd(reason)
	}
	return err
}

func (d *geminiDecoder) field(j *jx.Decoder, key []byte) error {
	e := &d.event
	switch string(key) {
	case "candidates":
		e.answers = true
		return eachItem(j, d.candidate)
	case "usageMetadata":
		e.answers = true
		return e.usage.decode(j)
	case "modelVersion":
		return readStringTo(j, &e.model)
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
	d.before = d.event
	index := 0
	err := j.ObjBytes(func(j *jx.Decoder, key []byte) error {
		switch string(key) {
		case "index":
			return integer(j, &index)
		case "content":
			return eachMember(j, d.content)
		case "finishReason":
			return readStringTo(j, &d.event.finish)
		}
		return j.Skip()
	})
	if index != 0 {
		d.event = d.before
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
	p := d.nextPart()
	return j.ObjBytes(func(j *jx.Decoder, key []byte) error {
		switch string(key) {
		case "text":
			return readStringTo(j, &p.text)
		case "thought":
			return boolean(j, &p.thought)
		case "thoughtSignature", "thought_signature":
			return readStringTo(j, &p.seal)
		case "functionCall":
			p.call = j.Next() == jx.Object
			return eachMember(j, p.functionCall)
		}
		return j.Skip() // what the provider ran itself, images, signatures
	})
}

// nextPart is an empty part of the event. Its frame is not below the reading: see Decoder.
//
//go:noinline
func (d *geminiDecoder) nextPart() *geminiPart {
	if d.event.parts == len(d.parts) {
		d.parts = append(d.parts, geminiPart{})
	}
	p := &d.parts[d.event.parts]
	d.event.parts++
	*p = geminiPart{
		text: p.text[:0], seal: p.seal[:0], id: p.id[:0], name: p.name[:0], args: p.args[:0], partial: p.partial[:0],
	}
	return p
}

func (p *geminiPart) functionCall(j *jx.Decoder, key []byte) error {
	switch string(key) {
	case "id":
		return readStringTo(j, &p.id)
	case "name":
		return readStringTo(j, &p.name)
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
