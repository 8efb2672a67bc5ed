package format

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/jsonscan"
)

// The tool calls of one answer are bounded in bytes and in number. The bytes are a format's event limit once
// more: a provider may send as much in pieces as in one.
const (
	maxToolBytes = 16 << 20
	maxToolCalls = 4096
	maxToolName  = 4 << 10 // bytes: one that comes in pieces is copied with each of them
)

// noIndex is the index of a fragment that has none.
const noIndex = -1 << 31

// fragment is what one event says of a tool call. All of it may be missing.
type fragment struct {
	index               int // the provider's, or noIndex
	id, name, arguments []byte
	seal                []byte // Google's signature of the call
}

// opens reports whether the fragment's arguments begin an object.
func (f *fragment) opens() bool {
	arguments := bytes.TrimLeft(f.arguments, " \t\r\n")
	return len(arguments) > 0 && arguments[0] == '{'
}

// read reads a member of {"id": …, "function": {"name": …, "arguments": …}}.
func (f *fragment) read(j *jx.Decoder, key []byte) error {
	switch string(key) {
	case "id":
		return readStringTo(j, &f.id)
	case "function":
		return eachMember(j, func(j *jx.Decoder, key []byte) error {
			return readFunction(j, key, &f.name, &f.arguments)
		})
	}
	return j.Skip()
}

// fragments are those of one event. Their memory is used again for the next event's.
type fragments struct {
	all []fragment
	n   int // of all in use
}

func (l *fragments) list() []fragment { return l.all[:l.n] }

func (l *fragments) clear() { l.n = 0 }

// add gives one more, which says nothing yet.
func (l *fragments) add() (*fragment, error) {
	if l.n == maxListed {
		return nil, errListed
	}
	if l.n == len(l.all) {
		l.all = append(l.all, fragment{})
	}
	f := &l.all[l.n]
	l.n++
	*f = fragment{index: noIndex, id: f.id[:0], name: f.name[:0], arguments: f.arguments[:0], seal: f.seal[:0]}
	return f, nil
}

// read reads one more.
func (l *fragments) read(j *jx.Decoder) error {
	if j.Next() != jx.Object {
		return j.Skip()
	}
	f, err := l.add()
	if err != nil {
		return err
	}
	return j.ObjBytes(f.read)
}

// toolCall is a call in the making.
type toolCall struct {
	index     int // the provider's, or noIndex
	id, name  string
	arguments []byte
	scan      jsonscan.Scan // of the arguments
	ended     bool          // the provider said that it is whole

	// again is one more than the place of a call after whose arguments these came, with neither a name nor an id of
	// their own. They are another call, or the same again.
	again int
	sent  string // the arguments, once the call was sent

	number int    // that the call was sent as, from 1; 0 if it was not
	seal   string // see fragment
}

func (t *toolCall) whole() bool { return t.ended || t.scan.Whole }

// open reports whether the call's arguments have begun and not ended.
func (t *toolCall) open() bool { return len(t.arguments) > 0 && !t.whole() }

// is reports whether the call's arguments are these.
func (t *toolCall) is(arguments []byte) bool {
	if t.sent != "" {
		return strings.TrimSpace(t.sent) == string(bytes.TrimSpace(arguments))
	}
	return bytes.Equal(bytes.TrimSpace(t.arguments), bytes.TrimSpace(arguments))
}

// toolFragment adds to a tool call, or opens one.
//
// Whose fragment it is, is told by its index and its id, and where these contradict each other, as they do with
// many servers, by what fits the calls that there are (callOf). Arguments that begin anew where a call's are
// whole are another call of the same tool, unless they turn out to be the same (seen: a proxy that sends
// everything again with each chunk, and calls that all have index 0 and no id). A name may come late, in
// pieces, or again and again.
func (o *Answer) toolFragment(f fragment) error {
	i := o.callOf(&f)
	if i < 0 {
		i = len(o.tools)
		if err := o.openCall(toolCall{index: f.index}); err != nil {
			return err
		}
	}
	if err := o.describe(i, &f); err != nil {
		return err
	}
	if len(f.seal) > 0 && o.keep.room(len(f.seal)) {
		o.tools[i].seal = string(f.seal)
	}
	return o.addArguments(i, &f)
}

// callOf finds the call that a fragment belongs to, -1 when it opens one.
func (o *Answer) callOf(f *fragment) int {
	if len(o.tools) == 0 {
		return -1
	}
	last := len(o.tools) - 1
	byID := o.callWithID(f.id)
	if f.index == noIndex {
		return o.callWithoutIndex(f, byID, last)
	}
	if i := o.callAt(f.index); i >= 0 {
		return o.callOnIndex(f, i, byID)
	}
	switch {
	case byID >= 0:
		// One id on two indexes (seen: one call, first named on the one, then with its arguments on the other).
		t := &o.tools[byID]
		if (len(f.name) == 0 || t.name == "" || t.name == string(f.name)) &&
			(!t.whole() || len(f.arguments) > 0 && t.is(f.arguments)) {
			t.index = f.index
			return byID
		}
	case len(f.id) == 0 && len(f.name) == 0 && !o.tools[last].whole():
		return last // an index that counts fragments
	}
	return -1
}

// callOnIndex decides between the call at i, which has the fragment's index, and another one.
func (o *Answer) callOnIndex(f *fragment, i, byID int) int {
	t := &o.tools[i]
	if len(f.id) == 0 || t.id == "" || t.id == string(f.id) {
		if t.whole() && len(f.name) > 0 && t.name != string(f.name) {
			return -1
		}
		return i
	}
	switch {
	case byID >= 0:
		return byID
	case len(f.name) == 0: // ids that change with every chunk
		return i
	case t.open() && !f.opens() && len(f.arguments) > 0 && t.name == string(f.name):
		return i
	}
	return -1 // seen: fifteen calls, all with index 0
}

func (o *Answer) callWithoutIndex(f *fragment, byID, last int) int {
	t := &o.tools[last]
	switch {
	case byID >= 0:
		if t := &o.tools[byID]; t.whole() && len(f.name) > 0 && t.name != string(f.name) {
			return -1
		}
		return byID
	case len(f.id) > 0:
		if t.open() && len(f.arguments) > 0 && !f.opens() && (len(f.name) == 0 || t.name == string(f.name)) {
			return last
		}
		return -1
	case len(f.name) > 0 && t.whole() && t.name != string(f.name):
		return -1
	}
	return last
}

// callAt finds the last call of an index, or the last one of all for noIndex; -1 if there is none.
func (o *Answer) callAt(index int) int {
	for i := len(o.tools) - 1; i >= 0; i-- {
		if index == noIndex || o.tools[i].index == index {
			return i
		}
	}
	return -1
}

func (o *Answer) callWithID(id []byte) int {
	if len(id) == 0 {
		return -1
	}
	for i := len(o.tools) - 1; i >= 0; i-- {
		if o.tools[i].id == string(id) {
			return i
		}
	}
	return -1
}

// describe notes the id and the name that a fragment gives its call.
func (o *Answer) describe(i int, f *fragment) error {
	t := &o.tools[i]
	if i < o.sent {
		return nil // an afterthought
	}
	if t.id == "" && len(f.id) > 0 && o.callWithID(f.id) < 0 {
		o.Progress = true
		if err := o.countTool(len(f.id)); err != nil {
			return err
		}
		t.id = string(f.id)
	}
	switch {
	case len(f.name) == 0 || t.name == string(f.name):
		return nil
	case strings.HasPrefix(string(f.name), t.name): // the first, or all of it again with more
		if err := o.countTool(len(f.name) - len(t.name)); err != nil {
			return err
		}
		t.name = string(f.name)
	default: // a piece
		if len(t.name)+len(f.name) > maxToolName {
			return &chat.Error{Code: chat.UpstreamMalformed,
				Message: "the provider sent a tool's name over the size limit"}
		}
		if err := o.countTool(len(f.name)); err != nil {
			return err
		}
		t.name += string(f.name)
	}
	o.Progress = true
	return nil
}

// addArguments adds a fragment's arguments to the call at i. Where that is whole, they are another call's.
func (o *Answer) addArguments(i int, f *fragment) error {
	for arguments := f.arguments; len(arguments) > 0; {
		t := &o.tools[i]
		if t.whole() || i < o.sent {
			rest := bytes.TrimLeft(arguments, " \t\r\n")
			switch {
			case len(rest) == 0 || rest[0] != '{' || t.ended:
				return nil // nothing that could be of use
			case i >= o.sent && string(bytes.TrimSpace(t.arguments)) == "{}": // a place holder
				t.arguments, t.scan = t.arguments[:0], jsonscan.Scan{}
				continue
			}
			next := toolCall{index: t.index, name: t.name, again: i + 1}
			if o.callWithID(f.id) < 0 {
				next.id = string(f.id)
			}
			i = len(o.tools)
			if err := o.openCall(next); err != nil {
				return err
			}
			continue
		}
		if len(t.arguments) > 1 && t.arguments[0] == '{' && len(arguments) > len(t.arguments) &&
			bytes.HasPrefix(arguments, t.arguments) {
			t.arguments, t.scan = t.arguments[:0], jsonscan.Scan{} // all so far again, with more
		}
		n := t.scan.Add(arguments)
		if err := o.countTool(n); err != nil {
			return err
		}
		o.Progress, o.Thinking = true, false
		t.arguments = append(t.arguments, arguments[:n]...)
		arguments = arguments[n:]
	}
	return nil
}

// openCall begins a call. Those before it that are whole can be sent now.
func (o *Answer) openCall(call toolCall) error {
	o.sendWholeTools()
	if len(o.tools) == maxToolCalls {
		return &chat.Error{Code: chat.UpstreamMalformed, Message: "the provider sent more tool calls than the limit"}
	}
	o.Progress, o.Thinking = true, false
	o.tools = append(o.tools, call)
	return o.countTool(len(call.id))
}

// toolMore adds arguments to a call that has begun. Where there is none of that index they are passed
// over: providers stream the arguments of tools that they run themselves in the same way.
func (o *Answer) toolMore(index int, arguments []byte) error {
	i := o.callAt(index)
	if i < 0 {
		o.Progress = true
		return nil
	}
	return o.toolMoreAt(i, arguments)
}

func (o *Answer) toolMoreAt(i int, arguments []byte) error {
	if o.tools[i].ended {
		o.Progress = true
		return nil
	}
	return o.addArguments(i, &fragment{arguments: arguments})
}

// toolEnd ends a call that has begun. Arguments that are given replace those that came in pieces.
func (o *Answer) toolEnd(index int, arguments []byte) error {
	return o.endCall(o.callAt(index), arguments)
}

func (o *Answer) endCall(i int, arguments []byte) error {
	if i < o.sent || o.tools[i].ended {
		return nil
	}
	call := &o.tools[i]
	call.ended = true
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
func (o *Answer) wholeTool(id, name, arguments []byte) error {
	if i := o.callWithID(id); i >= 0 && o.tools[i].name == string(name) && o.tools[i].is(arguments) {
		return nil // once more
	}
	if err := o.countTool(len(name) + len(arguments)); err != nil {
		return err
	}
	if err := o.openCall(toolCall{index: noIndex, id: string(id), name: string(name), arguments: arguments,
		ended: true}); err != nil {
		return err
	}
	o.sendTools(len(o.tools))
	return nil
}

// countTool counts bytes that are about to be kept.
func (o *Answer) countTool(n int) error {
	if o.toolBytes += n; o.toolBytes > maxToolBytes {
		return &chat.Error{Code: chat.UpstreamMalformed, Message: "the provider sent tool calls over the size limit"}
	}
	return nil
}

// sendWholeTools sends the calls that are complete, now that another one begins. A call whose arguments
// or name are not whole yet, because fragments of several calls interleave, holds back those after it.
func (o *Answer) sendWholeTools() {
	n := o.sent
	for n < len(o.tools) && o.tools[n].whole() && o.tools[n].name != "" { // which may come late
		n++
	}
	o.sendTools(n)
}

// sendTools sends the calls before n that are not sent yet.
func (o *Answer) sendTools(n int) {
	for ; o.sent < n; o.sent++ {
		t := &o.tools[o.sent]
		t.arguments = joinSurrogates(t.arguments)
		arguments := bytes.TrimSpace(t.arguments)
		if t.name == "" && len(arguments) == 0 || t.again > 0 && o.repeats(t, arguments) {
			continue // nobody could make such a call; or it was made
		}
		t.sent = string(t.arguments)
		if len(arguments) == 0 || string(arguments) == "null" { // a call of no arguments
			t.sent = "{}"
		}
		t.id, t.arguments = o.freshID(t.id), nil
		o.called = true
		o.calls++
		t.number = o.calls
		call := &chat.ToolCall{ID: t.id, Name: t.name, Arguments: t.sent}
		o.keep.addCall(call)
		o.emit(chat.Chunk{Type: chat.Tool, Tool: call})
	}
}

// repeats reports whether a call is the one before it once more, or as much of it as came.
func (o *Answer) repeats(t *toolCall, arguments []byte) bool {
	first := &o.tools[t.again-1]
	if t.id != "" || !strings.HasPrefix(strings.TrimSpace(first.sent), string(arguments)) {
		return false
	}
	t.sent, t.arguments = first.sent, nil
	return true
}

// freshID is a call's id, or another one where it has none or one that was used: results must name their call.
func (o *Answer) freshID(id string) string {
	for n := o.sent; id == "" || o.idSent(id); n++ {
		id = "call_" + strconv.Itoa(n)
	}
	return id
}

func (o *Answer) idSent(id string) bool {
	for i := range o.tools[:o.sent] {
		if o.tools[i].id == id {
			return true
		}
	}
	return false
}
