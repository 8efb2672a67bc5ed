package upstream

import (
	"bytes"
	"errors"
	"strconv"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// The tool calls of one answer are bounded in bytes and in number. The bytes are a format's event limit once
// more: a provider may send as much in pieces as in one.
const (
	maxToolBytes = 16 << 20
	maxToolCalls = 4096
)

// maxListed bounds the calls or parts that one event lists, of which an empty one costs more memory
// here than on the wire.
const maxListed = 4096

var errListed = errors.New("more calls or parts in one event than the limit")

// maxRefusal bounds a refusal, which is a sentence or two.
const maxRefusal = 1 << 20

// output is where a decoder puts what it finds: it passes text on at once, assembles tool calls, and
// keeps what is only known at the end.
type output struct {
	more     bool // another event is in hand
	pending  bool // the last chunk promised more
	gone     bool // nobody wants more
	progress bool // the model has moved since the driver last looked
	finished bool // the provider gave a finish reason
	mayEnd   bool // the provider gave a finish reason that counts only if the body ends after it
	complete bool // the provider said that nothing follows
	yield    func(chat.Chunk, error) bool

	done   chat.Completion
	counts chat.Usage // what done points to: some providers count with every chunk

	refused []byte // the refusal so far

	tools     []toolCall // from sent on, in order of appearance
	sent      int
	toolBytes int
}

// toolCall is a call in the making.
type toolCall struct {
	index     int // the provider's, or noIndex
	id, name  string
	arguments []byte
	whole     bool // the provider said that it is
}

// noIndex is the index of a fragment that has none.
const noIndex = -1 << 31

func (o *output) emit(c chat.Chunk) {
	if o.gone {
		return
	}
	o.progress = true
	c.More = o.more
	o.pending = o.more
	o.gone = !o.yield(c, nil)
}

// pause keeps the promise of the last chunk when nothing came of it.
func (o *output) pause() {
	if o.pending && !o.gone {
		o.pending = false
		o.gone = !o.yield(chat.Chunk{Type: chat.Pause}, nil)
	}
}

// text passes on a piece of content or reasoning, if it is one.
func (o *output) text(typ chat.Type, text []byte) {
	if len(text) > 0 {
		o.emit(chat.Chunk{Type: typ, Text: text})
	}
}

// refusal adds to a refusal, which is passed on as content when the provider has finished it. One that
// breaks off is no answer, and while nothing of it was sent the request can still be retried.
func (o *output) refusal(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	o.progress = true
	if len(o.refused)+len(text) > maxRefusal {
		return &chat.Error{Code: chat.UpstreamMalformed, Message: "the provider sent a refusal over the size limit"}
	}
	o.refused = append(o.refused, text...)
	return nil
}

func (o *output) sendRefusal() {
	o.text(chat.Content, o.refused)
	o.refused = nil
}

// usage notes token counts. The last ones count: providers repeat them, cumulatively. All zeroes say nothing
// where something was said before.
func (o *output) usage(u chat.Usage) {
	if o.done.Usage == nil || u != (chat.Usage{}) {
		o.counts, o.done.Usage = u, &o.counts
	}
}

// finish notes the provider's finish reason and sends the tool calls, which are whole now.
func (o *output) finish(reason chat.FinishReason) {
	o.done.FinishReason = reason
	o.finished = true
	o.sendRefusal()
	o.sendTools(len(o.tools))
}

// finishAtEnd notes a finish reason that says nothing until the body ends, because the provider may give
// it again and again.
func (o *output) finishAtEnd(reason chat.FinishReason) {
	o.done.FinishReason = reason
	o.mayEnd = true
}

// model notes the first name that the provider gives the model.
func (o *output) model(name []byte) {
	if o.done.Model == "" && len(name) > 0 {
		o.done.Model = string(name)
	}
}

// toolFragment adds to a tool call. A new index opens a call, and so does a new id with a name on an
// index in use (seen: fifteen calls, all with index 0); without an index the id tells, and without both
// the fragment belongs to the last call. Names and ids that repeat say nothing new.
func (o *output) toolFragment(index int, id, name, arguments []byte) error {
	i := o.findCall(index, id)
	switch {
	case i < 0 || len(name) > 0 && len(id) > 0 && o.tools[i].id != "" && o.tools[i].id != string(id):
		o.sendWholeTools()
		i = len(o.tools)
		if err := o.openCall(toolCall{index: index}); err != nil {
			return err
		}
	case i < o.sent:
		return nil // an afterthought to a call that was whole
	}
	o.progress = true
	call := &o.tools[i]
	if call.id != "" {
		id = nil
	}
	if call.name != "" {
		name = nil
	}
	if err := o.countTool(len(id) + len(name) + len(arguments)); err != nil {
		return err
	}
	call.id += string(id)
	call.name += string(name)
	call.arguments = append(call.arguments, arguments...)
	return nil
}

func (o *output) openCall(call toolCall) error {
	if len(o.tools) == maxToolCalls {
		return &chat.Error{Code: chat.UpstreamMalformed, Message: "the provider sent more tool calls than the limit"}
	}
	o.tools = append(o.tools, call)
	return nil
}

// toolMore adds arguments to a call that has begun. Where there is none of that index they are passed
// over: providers stream the arguments of tools that they run themselves in the same way.
func (o *output) toolMore(index int, arguments []byte) error {
	o.progress = true
	if i := o.findCall(index, nil); i < 0 || o.tools[i].whole {
		return nil
	}
	return o.toolFragment(index, nil, nil, arguments)
}

// toolEnd ends a call that has begun. Arguments that are given replace those that came in pieces.
func (o *output) toolEnd(index int, arguments []byte) error {
	i := o.findCall(index, nil)
	if i < o.sent || o.tools[i].whole {
		return nil
	}
	call := &o.tools[i]
	call.whole = true
	if len(arguments) > 0 {
		if err := o.countTool(len(arguments) - len(call.arguments)); err != nil {
			return err
		}
		call.arguments = bytes.Clone(arguments) // and not into the memory of what was there, which may be larger
	}
	o.sendWholeTools()
	return nil
}

// wholeTool sends a call that came in one piece.
func (o *output) wholeTool(id, name, arguments []byte) error {
	if err := o.countTool(len(id) + len(name) + len(arguments)); err != nil {
		return err
	}
	if err := o.openCall(toolCall{index: noIndex, id: string(id), name: string(name), arguments: arguments}); err != nil {
		return err
	}
	o.sendTools(len(o.tools))
	return nil
}

// countTool counts bytes that are about to be kept.
func (o *output) countTool(n int) error {
	if o.toolBytes += n; o.toolBytes > maxToolBytes {
		return &chat.Error{Code: chat.UpstreamMalformed, Message: "the provider sent tool calls over the size limit"}
	}
	return nil
}

// findCall finds the last call that a fragment may belong to, -1 if there is none.
func (o *output) findCall(index int, id []byte) int {
	for i := len(o.tools) - 1; i >= 0; i-- {
		t := &o.tools[i]
		if index != noIndex && t.index == index || index == noIndex && (len(id) == 0 || t.id == string(id)) {
			return i
		}
	}
	return -1
}

// sendWholeTools sends the calls that are complete, now that another one begins. A call whose arguments
// are not whole yet, because fragments of several calls interleave, holds back those after it.
func (o *output) sendWholeTools() {
	n := o.sent
	for n < len(o.tools) && (o.tools[n].whole || jx.Valid(o.tools[n].arguments)) {
		n++
	}
	o.sendTools(n)
}

// sendTools sends the calls before n that are not sent yet.
func (o *output) sendTools(n int) {
	for ; o.sent < n; o.sent++ {
		t := &o.tools[o.sent]
		call := &chat.ToolCall{ID: t.id, Name: t.name, Arguments: string(t.arguments)}
		if call.ID == "" { // tool results must name their call, so there has to be one
			call.ID = "call_" + strconv.Itoa(o.sent)
		}
		if call.Arguments == "" {
			call.Arguments = "{}"
		}
		t.arguments = nil
		o.emit(chat.Chunk{Type: chat.Tool, Tool: call})
	}
}

// end sends what is left, all at once, and the done chunk. It reports whether anybody took it.
func (o *output) end() bool {
	o.more = true
	o.sendRefusal()
	o.sendTools(len(o.tools))
	reason := &o.done.FinishReason
	if *reason == "" {
		*reason = chat.FinishStop
	}
	if *reason == chat.FinishStop && o.sent > 0 {
		*reason = chat.FinishToolCalls // several providers say stop in both cases
	}
	o.more = false
	o.emit(chat.Chunk{Type: chat.Done, Done: &o.done})
	return !o.gone
}
