package format

import (
	"bytes"
	"errors"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/report"
)

// NewDecoder implements Format.
func (Responses) NewDecoder() Decoder { return new(responsesDecoder) }

// responsesDecoder reads Responses events, and a whole response. Its buffers are used again for every object.
type responsesDecoder struct {
	jx    jx.Decoder
	event responsesEvent
	texts []responsesText
	items []responsesItem
	seen  seenTexts
}

// responsesEvent is what one object says.
type responsesEvent struct {
	typ                    []byte
	output, part           int // the place of the item in the response, and of the part in the item
	delta, text, arguments []byte

	model, status, incomplete []byte // of response
	usage                     tokenCounts
	failure                   []byte // response.error, raw
	bare                      bool   // it is a response, not an event
	failed                    bool   // the event itself has an error
	onePart                   bool   // the event is about a part

	texts, items int // of responsesDecoder's in use
}

// responsesText is a text that the event gives as a whole.
type responsesText struct {
	place textPlace
	text  []byte
}

// responsesItem is an item of the response.
type responsesItem struct {
	output                       int
	typ, callID, name, arguments []byte
	id, sealed, phase            []byte // what comes back with it
}

// end takes OpenRouter's [DONE], which says nothing.
func (d *responsesDecoder) End(*Answer) error { return nil }

// Pass implements Decoder.
func (d *responsesDecoder) Pass(object, typ []byte, out *Answer) error {
	e := &d.event
	out.Model(e.model)
	name, _ := bytes.CutPrefix(e.typ, []byte("response."))
	if text, ok := bytes.CutSuffix(name, []byte(".delta")); ok {
		if kind, ok := responsesKinds[string(text)]; ok {
			return d.seen.piece(textPlace{kind, e.output, e.part}, e.delta, out)
		}
	} else if text, ok := bytes.CutSuffix(name, []byte(".done")); ok {
		if kind, ok := responsesKinds[string(text)]; ok {
			return d.seen.whole(textPlace{kind, e.output, e.part}, e.text, out)
		}
	}
	switch string(name) {
	case "output_item.added":
		return d.itemsBegin(out)
	case "function_call_arguments.delta":
		if i := d.callHere(out); i >= 0 {
			return out.toolMoreAt(i, e.delta)
		}
		out.Progress = true
	case "function_call_arguments.done":
		return out.endCall(d.callHere(out), e.arguments)
	case "content_part.done", "reasoning_summary_part.done":
		return d.wholeTexts(out)
	case "output_item.done":
		return d.itemsEnd(out)
	case "completed", "incomplete", "done", "failed", "cancelled":
		return d.finish(string(name), out)
	case "error":
		return report.In(object)
	case "":
		if e.bare {
			return d.finish(string(e.status), out)
		}
		if e.failed {
			return report.In(object)
		}
		return failureIn(object)
	}
	return nil
}

// reset empties d.event, and keeps its memory. Its frame is not below the reading: see Decoder.
//
//go:noinline
func (d *responsesDecoder) reset() {
	e := &d.event
	*e = responsesEvent{
		typ: e.typ[:0], delta: e.delta[:0], text: e.text[:0], arguments: e.arguments[:0], model: e.model[:0],
		status:     e.status[:0],
		incomplete: e.incomplete[:0], failure: e.failure[:0], output: noIndex,
	}
}

// Parse implements Decoder: it reads an object into d.event.
func (d *responsesDecoder) Parse(object, typ []byte) error {
	d.reset()
	e := &d.event
	d.jx.ResetBytes(object)
	if err := d.jx.ObjBytes(d.field); err != nil {
		return err
	}
	if len(e.typ) == 0 && !e.bare {
		e.typ = append(e.typ, typ...)
	}
	for i := range d.items[:e.items] {
		if item := &d.items[i]; item.output == noIndex {
			item.output = e.output
		}
	}
	for i := range d.texts[:e.texts] {
		place := &d.texts[i].place
		if place.output == noIndex {
			place.output = e.output
		}
		if e.onePart {
			place.part = e.part
		}
	}
	return nil
}

// responsesKinds are the texts of a response by the names that their events have between "response." and ".delta" or
// ".done".
var responsesKinds = map[string]textKind{
	"output_text":            contentText,
	"refusal":                refusalText,
	"reasoning_text":         reasoningText,
	"reasoning":              reasoningText,
	"reasoning_summary_text": summaryText,
	"reasoning_summary":      summaryText,
}

// callHere is the place of the call that an event without an item is about.
func (d *responsesDecoder) callHere(out *Answer) int {
	if i := out.callAt(d.event.output); i >= 0 {
		return i
	}
	if last := len(out.tools) - 1; last >= 0 && out.tools[last].index == noIndex {
		return last
	}
	return -1
}

func (d *responsesDecoder) itemsBegin(out *Answer) error {
	out.Progress = true
	for i := range d.items[:d.event.items] {
		item := &d.items[i]
		if string(item.typ) == "reasoning" {
			out.think()
		}
		at, err := d.call(item, out)
		if err == nil && at >= 0 {
			err = out.toolMoreAt(at, item.arguments)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// itemsEnd takes items that are whole: of their texts and calls what has not come in pieces.
func (d *responsesDecoder) itemsEnd(out *Answer) error {
	out.Progress = true
	for i := range d.items[:d.event.items] {
		item := &d.items[i]
		if err := d.textsOf(item, out); err != nil {
			return err
		}
		if string(item.typ) == "reasoning" {
			out.Thinking = false
		}
		at, err := d.call(item, out)
		if err == nil && at >= 0 {
			err = out.endCall(at, item.arguments)
		}
		if err != nil {
			return err
		}
		d.keep(item, at, out)
	}
	return d.wholeTexts(out)
}

// keep notes what has to come back of an item. Only one that is whole is complete.
func (d *responsesDecoder) keep(item *responsesItem, call int, out *Answer) {
	switch string(item.typ) {
	case "reasoning":
		if len(item.sealed) > 0 && !out.keep.has(item.id) {
			out.keep.hidden(d.reasoningOf(item))
		}
	case "message":
		if out.keep.n > out.keep.marked {
			out.keep.sealText(item.phase)
		}
	case "function_call":
		out.keep.call(call, nil)
	}
}

func (d *responsesDecoder) reasoningOf(from *responsesItem) item {
	it := item{kind: itemReasoning, text: string(from.id), seal: string(from.sealed)}
	for _, t := range d.texts[:d.event.texts] {
		if t.place.output == from.output && t.place.kind == summaryText {
			it.summaries = append(it.summaries, string(t.text))
		}
	}
	return it
}

// textsOf passes on what has not been seen of an item's texts, so that its answer keeps its order.
func (d *responsesDecoder) textsOf(item *responsesItem, out *Answer) error {
	for _, t := range d.texts[:d.event.texts] {
		if t.place.output == item.output {
			if err := d.seen.whole(t.place, t.text, out); err != nil {
				return err
			}
		}
	}
	return nil
}

// call is the place of an item's call, which it opens if need be; -1 for an item that is none. What the provider runs
// itself is no function_call.
func (d *responsesDecoder) call(item *responsesItem, out *Answer) (int, error) {
	if string(item.typ) != "function_call" {
		return -1, nil
	}
	i := out.callWithID(item.callID)
	if i < 0 && (item.output != noIndex || len(item.callID) == 0) {
		if i = out.callAt(item.output); i >= 0 && len(item.callID) > 0 && out.tools[i].name != string(item.name) {
			i = -1
		}
	}
	if i >= 0 {
		return i, out.describe(i, &fragment{id: item.callID, name: item.name})
	}
	err := out.openCall(toolCall{index: item.output, id: string(item.callID), name: string(item.name)})
	return len(out.tools) - 1, err
}

func (d *responsesDecoder) wholeTexts(out *Answer) error {
	for i := range d.texts[:d.event.texts] {
		if err := d.seen.whole(d.texts[i].place, d.texts[i].text, out); err != nil {
			return err
		}
	}
	return nil
}

// finish takes the response as it is at its end, by the name of the event or the response's status.
func (d *responsesDecoder) finish(name string, out *Answer) error {
	e := &d.event
	if len(e.status) > 0 && name != "failed" && name != "cancelled" {
		name = string(e.status)
	}
	switch name {
	case "failed", "cancelled":
		if len(e.failure) > 0 {
			return report.In(e.failure)
		}
		return &chat.Error{Code: chat.UpstreamError, Message: "the provider failed in mid-answer",
			Err: errors.New("response " + name)}
	case "in_progress", "queued": // answers of which there is nothing yet
		return nil
	}
	if err := d.itemsEnd(out); err != nil {
		return err
	}
	if e.usage.known {
		out.Usage(e.usage.usage())
	}
	reason := chat.FinishStop
	if string(e.incomplete) == "content_filter" {
		reason = chat.FinishContentFilter
	} else if name == "incomplete" || len(e.incomplete) > 0 { // max_output_tokens
		reason = chat.FinishLength
	}
	out.finish(reason)
	out.Complete = true
	return nil
}

func (d *responsesDecoder) field(j *jx.Decoder, key []byte) error {
	e := &d.event
	var text *[]byte
	switch string(key) {
	case "type":
		text = &e.typ
	case "output_index":
		return integer(j, &e.output)
	case "content_index", "summary_index":
		return integer(j, &e.part)
	case "delta":
		text = &e.delta
	case "text", "refusal": // of a text's .done
		text = &e.text
	case "arguments":
		text = &e.arguments
	case "part":
		e.onePart = true
		return d.textPart(j, textPlace{output: noIndex})
	case "item":
		return d.item(j, noIndex)
	case "response":
		return eachMember(j, d.response)
	case "object":
		if j.Next() == jx.String {
			kind, err := j.StrBytes()
			e.bare = string(kind) == "response"
			return err
		}
	case "error":
		e.failed = e.failed || j.Next() != jx.Null
		return d.response(j, key)
	case "status", "output", "usage", "model", "incomplete_details":
		return d.response(j, key)
	}
	return readStringTo(j, text)
}

func (d *responsesDecoder) response(j *jx.Decoder, key []byte) error {
	e := &d.event
	var text *[]byte
	switch string(key) {
	case "model":
		text = &e.model
	case "status":
		text = &e.status
	case "usage":
		return e.usage.decode(j)
	case "incomplete_details":
		return appendText(j, &e.incomplete, "reason")
	case "output":
		place := -1
		return eachItem(j, func(j *jx.Decoder) error {
			place++
			return d.item(j, place)
		})
	case "error":
		if j.Next() == jx.Object {
			raw, err := j.Raw()
			e.failure = append(e.failure, raw...)
			return err
		}
	}
	return readStringTo(j, text)
}

// item reads an item, which has a place in a response or, noIndex, that of its event. The event may say so later.
func (d *responsesDecoder) item(j *jx.Decoder, place int) error {
	if j.Next() != jx.Object {
		return j.Skip()
	}
	n := d.event.items
	if n == maxListed {
		return errListed
	}
	if n == len(d.items) {
		d.items = append(d.items, responsesItem{})
	}
	d.event.items++
	item := &d.items[n]
	*item = responsesItem{output: place, typ: item.typ[:0], callID: item.callID[:0], name: item.name[:0],
		arguments: item.arguments[:0],
		id:        item.id[:0], sealed: item.sealed[:0], phase: item.phase[:0]}
	first := d.event.texts
	err := j.ObjBytes(func(j *jx.Decoder, key []byte) error {
		var text *[]byte
		switch string(key) {
		case "type":
			text = &item.typ
		case "call_id":
			text = &item.callID
		case "id":
			text = &item.id
		case "encrypted_content":
			text = &item.sealed
		case "phase":
			text = &item.phase
		case "name":
			text = &item.name
		case "arguments":
			return appendArguments(j, &item.arguments)
		case "content", "summary":
			part := -1
			return eachItem(j, func(j *jx.Decoder) error {
				part++
				return d.textPart(j, textPlace{contentText, place, part})
			})
		}
		return readStringTo(j, text)
	})
	switch string(item.typ) {
	case "message", "reasoning", "":
	default: // what the provider ran itself may have texts, which are no answer
		d.event.texts = first
	}
	return err
}

// textPart reads {"type": "output_text", "text": …} and its relatives.
func (d *responsesDecoder) textPart(j *jx.Decoder, place textPlace) error {
	if j.Next() != jx.Object {
		return j.Skip()
	}
	n := d.event.texts
	if n == maxListed {
		return errListed
	}
	if n == len(d.texts) {
		d.texts = append(d.texts, responsesText{})
	}
	d.event.texts++
	t := &d.texts[n]
	t.place, t.text = place, t.text[:0]
	return j.ObjBytes(func(j *jx.Decoder, key []byte) error {
		switch string(key) {
		case "type":
			if j.Next() == jx.String {
				kind, err := j.StrBytes()
				switch string(kind) {
				case "reasoning_text":
					t.place.kind = reasoningText
				case "summary_text":
					t.place.kind = summaryText
				case "refusal":
					t.place.kind = refusalText
				}
				return err
			}
		case "text", "refusal":
			return readStringTo(j, &t.text)
		}
		return j.Skip()
	})
}
