package upstream

import (
	"errors"
	"unicode/utf8"

	"github.com/websopy/relay/internal/chat"
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
	begun    bool // something of the answer has come
	told     bool // that it is about to
	thinking bool // the last that the model did was to think
	waiting  bool // the provider has not begun to answer and says that it is alive, since the driver last looked
	stopped  bool // the provider gave a finish reason since the driver last looked
	finished bool // the provider gave a finish reason
	mayEnd   bool // the provider gave a finish reason that counts only if the body ends after it
	complete bool // the provider said that nothing follows
	called   bool // a tool call was sent
	yield    func(chat.Chunk, error) bool
	tags     *tags  // tells thinking from text; nil: the server does
	keep     keeper // gathers the state

	half half // a character that two events share

	// The name of the string, with its quotes and colon, that was all the event said, and what it is; empty when
	// there was more.
	key string
	typ chat.Type

	done   chat.Completion
	counts chat.Usage // what done points to: some providers count with every chunk

	refused []byte // the refusal so far

	tools     []toolCall // from sent on, in order of appearance
	sent      int
	calls     int // that were sent: some are repetitions
	toolBytes int

	unread string // what came that says nothing to a decoder, for the log

	template template // of the events that are text only
}

// begin prepares for the answer to q. thinkTags says that <think> at its beginning is reasoning.
func (o *output) begin(q *query, thinkTags bool) {
	o.keep.rules, o.keep.place = q.rules, q.place
	if thinkTags {
		o.tags = new(tags)
	}
}

// tooMuch reports whether there is more to come back than a state may have.
func (o *output) tooMuch() bool { return o.keep.over }

// calling reports whether there are tool calls, or pieces of some.
func (o *output) calling() bool { return len(o.tools) > 0 }

func (o *output) emit(c chat.Chunk) {
	if o.gone {
		return
	}
	o.progress, o.begun = true, true
	switch c.Type {
	case chat.Content:
		o.keep.add(c.Text)
	case chat.Reasoning:
		o.keep.reasoned(c.Text)
	}
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

// think notes that the model has begun to think, of which there may be nothing to see.
func (o *output) think() {
	o.progress, o.thinking = true, true
	o.alive()
}

// wait notes that the provider has not begun to answer, and is at work.
func (o *output) wait() {
	o.waiting = true
	o.alive()
}

// alive tells whoever waits for the first chunk that it is worth waiting for, by a pause before it.
func (o *output) alive() {
	if !o.begun && !o.told && !o.gone {
		o.told = true
		o.gone = !o.yield(chat.Chunk{Type: chat.Pause}, nil)
	}
}

// text passes on a piece of content or reasoning, if it is one.
func (o *output) text(typ chat.Type, text []byte) {
	if len(text) == 0 {
		return
	}
	if o.half.n > 0 || text[len(text)-1] >= utf8.RuneSelf || text[0] == surrogate {
		if text = o.mend(typ, text); len(text) == 0 {
			return
		}
	}
	o.thinking = typ == chat.Reasoning
	if o.tags != nil && typ == chat.Content && o.tags.state != behindTags {
		o.untag(text)
		return
	}
	o.emit(chat.Chunk{Type: typ, Text: text})
}

// only passes on a piece of text that is all that its event says, under a key.
func (o *output) only(typ chat.Type, text []byte, key string) {
	o.key, o.typ = key, typ
	o.text(typ, text)
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
	refused := o.refused
	o.refused = nil
	o.text(chat.Content, refused)
}

// usage notes token counts. The last ones count: providers repeat them, cumulatively. All zeroes say nothing
// where something was said before.
func (o *output) usage(u chat.Usage) {
	if o.done.Usage == nil || u != (chat.Usage{}) {
		o.counts, o.done.Usage = u, &o.counts
	}
}

// finish notes the provider's finish reason and sends the tool calls that are whole. The answer may go on all
// the same: some servers give a reason with every event.
func (o *output) finish(reason chat.FinishReason) {
	progress := o.progress
	o.done.FinishReason = reason
	o.finished, o.stopped = true, true
	o.sendRefusal()
	o.sendWholeTools()
	o.progress = progress // what was sent now is no sign that the answer goes on
}

// finishAtEnd notes a finish reason that says nothing until the body ends, because the provider may give
// it again and again.
func (o *output) finishAtEnd(reason chat.FinishReason) {
	o.done.FinishReason = reason
	o.mayEnd = true
}

// nothing reports whether there is nothing at all that could be an answer.
func (o *output) nothing() bool {
	return !o.begun && !o.finished && !o.mayEnd && len(o.tools) == 0 && len(o.refused) == 0 && o.half.n == 0
}

// model notes the first name that the provider gives the model.
func (o *output) model(name []byte) {
	if o.done.Model == "" && len(name) > 0 {
		o.done.Model = string(name)
	}
}

// end sends what is left, all at once, and the done chunk. It reports whether anybody took it.
func (o *output) end(kind string) bool {
	o.more = true
	o.sendRefusal()
	o.flushHalf()
	o.flushTags()
	o.sendTools(len(o.tools))
	reason := &o.done.FinishReason
	if *reason == "" {
		*reason = chat.FinishStop
	}
	if *reason == chat.FinishStop && o.called {
		*reason = chat.FinishToolCalls // several providers say stop in both cases
	}
	o.done.State = o.keep.state(kind, *reason, o.tools)
	o.more = false
	o.emit(chat.Chunk{Type: chat.Done, Done: &o.done})
	return !o.gone
}
