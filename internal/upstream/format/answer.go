package format

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

// Answer is where a decoder puts what it finds: it passes text on at once, assembles tool calls, and
// keeps what is only known at the end. Its fields tell its driver, which reads the events, how far it has come. Of
// them a decoder sets Complete only.
type Answer struct {
	More     bool // another event is in hand; set by the driver
	pending  bool // the last chunk promised more
	Gone     bool // nobody wants more
	Progress bool // the model has moved since the driver last looked
	Begun    bool // something of the answer has come
	told     bool // that it is about to
	Thinking bool // the last that the model did was to think
	// the provider has not begun to answer and says that it is alive, since the driver last looked
	Waiting  bool
	Stopped  bool // the provider gave a finish reason since the driver last looked
	Finished bool // the provider gave a finish reason
	// the provider gave a finish reason that counts only if the body ends after it
	MayEnd   bool
	Complete bool                         // the provider said that nothing follows
	called   bool                         // a tool call was sent
	Yield    func(chat.Chunk, error) bool // takes the chunks; set by the driver
	tags     *tags                        // tells thinking from text; nil: the server does
	keep     keeper                       // gathers the state

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

	Unread string // what came that says nothing to a decoder, for the log

	template template // of the events that are text only
}

// Begin prepares for the answer to q. thinkTags says that <think> at its beginning is reasoning.
func (o *Answer) Begin(q *Query, thinkTags bool) {
	o.keep.rules, o.keep.place = q.rules, q.place
	if thinkTags {
		o.tags = new(tags)
	}
}

// Completion is what is known of the end of the answer, and filled in while it comes.
func (o *Answer) Completion() *chat.Completion { return &o.done }

// TooMuch reports whether there is more to come back than a state may have.
func (o *Answer) TooMuch() bool { return o.keep.over }

// Calling reports whether there are tool calls, or pieces of some.
func (o *Answer) Calling() bool { return len(o.tools) > 0 }

func (o *Answer) emit(c chat.Chunk) {
	if o.Gone {
		return
	}
	o.Progress, o.Begun = true, true
	switch c.Type {
	case chat.Content:
		o.keep.add(c.Text)
	case chat.Reasoning:
		o.keep.reasoned(c.Text)
	}
	c.More = o.More
	o.pending = o.More
	o.Gone = !o.Yield(c, nil)
}

// Pause keeps the promise of the last chunk when nothing came of it.
func (o *Answer) Pause() {
	if o.pending && !o.Gone {
		o.pending = false
		o.Gone = !o.Yield(chat.Chunk{Type: chat.Pause}, nil)
	}
}

// think notes that the model has begun to think, of which there may be nothing to see.
func (o *Answer) think() {
	o.Progress, o.Thinking = true, true
	o.alive()
}

// wait notes that the provider has not begun to answer, and is at work.
func (o *Answer) wait() {
	o.Waiting = true
	o.alive()
}

// alive tells whoever waits for the first chunk that it is worth waiting for, by a pause before it.
func (o *Answer) alive() {
	if !o.Begun && !o.told && !o.Gone {
		o.told = true
		o.Gone = !o.Yield(chat.Chunk{Type: chat.Pause}, nil)
	}
}

// Text passes on a piece of content or reasoning, if it is one.
func (o *Answer) Text(typ chat.Type, text []byte) {
	if len(text) == 0 {
		return
	}
	if o.half.n > 0 || text[len(text)-1] >= utf8.RuneSelf || text[0] == surrogate {
		if text = o.mend(typ, text); len(text) == 0 {
			return
		}
	}
	o.Thinking = typ == chat.Reasoning
	if o.tags != nil && typ == chat.Content && o.tags.state != behindTags {
		o.untag(text)
		return
	}
	o.emit(chat.Chunk{Type: typ, Text: text})
}

// only passes on a piece of text that is all that its event says, under a key.
func (o *Answer) only(typ chat.Type, text []byte, key string) {
	o.key, o.typ = key, typ
	o.Text(typ, text)
}

// refusal adds to a refusal, which is passed on as content when the provider has finished it. One that
// breaks off is no answer, and while nothing of it was sent the request can still be retried.
func (o *Answer) refusal(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	o.Progress = true
	if len(o.refused)+len(text) > maxRefusal {
		return &chat.Error{Code: chat.UpstreamMalformed, Message: "the provider sent a refusal over the size limit"}
	}
	o.refused = append(o.refused, text...)
	return nil
}

func (o *Answer) sendRefusal() {
	refused := o.refused
	o.refused = nil
	o.Text(chat.Content, refused)
}

// Usage notes token counts. The last ones count: providers repeat them, cumulatively. All zeroes say nothing
// where something was said before.
func (o *Answer) Usage(u chat.Usage) {
	if o.done.Usage == nil || u != (chat.Usage{}) {
		o.counts, o.done.Usage = u, &o.counts
	}
}

// finish notes the provider's finish reason and sends the tool calls that are whole. The answer may go on all
// the same: some servers give a reason with every event.
func (o *Answer) finish(reason chat.FinishReason) {
	progress := o.Progress
	o.done.FinishReason = reason
	o.Finished, o.Stopped = true, true
	o.sendRefusal()
	o.sendWholeTools()
	o.Progress = progress // what was sent now is no sign that the answer goes on
}

// finishAtEnd notes a finish reason that says nothing until the body ends, because the provider may give
// it again and again.
func (o *Answer) finishAtEnd(reason chat.FinishReason) {
	o.done.FinishReason = reason
	o.MayEnd = true
}

// Nothing reports whether there is nothing at all that could be an answer.
func (o *Answer) Nothing() bool {
	return !o.Begun && !o.Finished && !o.MayEnd && len(o.tools) == 0 && len(o.refused) == 0 && o.half.n == 0
}

// Model notes the first name that the provider gives the model.
func (o *Answer) Model(name []byte) {
	if o.done.Model == "" && len(name) > 0 {
		o.done.Model = string(name)
	}
}

// End sends what is left, all at once, and the done chunk. ended says that nothing will be waited for after it. End
// reports whether anybody took it.
func (o *Answer) End(kind string, ended bool) bool {
	o.More = true
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
	o.More = ended
	o.emit(chat.Chunk{Type: chat.Done, Done: &o.done})
	return !o.Gone
}
