package format

import (
	"encoding/json"
	"slices"

	"github.com/websopy/relay/internal/chat"
)

// keeper gathers the state of an answer while it is read. Decoders tell it what is hidden and where signatures
// stand, in the order in which they come; the text and the calls it sees as they are sent.
type keeper struct {
	binding
	rules *rules // nil: nothing is kept
	place string

	items  []item
	marked int // bytes of content that items have
	size   int // bytes that are kept
	worth  bool
	over   bool // more than a state may have

	// How visible thinking goes back: asItem, the name of a field, or "" not at all.
	as string

	thinks         bool // a thinking item is open
	thinking, seal []byte

	field   string // the name of a field that grows, such as reasoning_content
	value   []byte
	details []reasoningDetail
	inner   string // another relay's state
}

// room counts bytes that are about to be kept. When it says no, nothing is kept any more: half a state is none.
func (k *keeper) room(n int) bool {
	if k.rules == nil || k.over {
		return false
	}
	k.size += n
	if k.size > chat.MaxState || len(k.items) == maxStateItems-2 {
		k.giveUp()
		return false
	}
	k.worth = k.worth || n > 0
	return true
}

// giveUp forgets what was kept. It is apart from room for the sake of the stack: inlined, it puts a second keeper into
// the frame of each function on a chunk's way, and every stream takes 16 KiB of stack where 8 are enough.
//
//go:noinline
func (k *keeper) giveUp() {
	*k = keeper{binding: k.binding, rules: k.rules, place: k.place, as: k.as, over: true}
}

// mark ends what came so far: an open thinking item, and the content behind it.
func (k *keeper) mark() {
	if k.thinks {
		k.items = append(k.items, item{kind: itemThinking, text: string(k.thinking), seal: string(k.seal)})
		k.thinks, k.thinking, k.seal = false, k.thinking[:0], k.seal[:0]
	}
	if k.n > k.marked {
		k.items = append(k.items, item{kind: itemText, n: k.n - k.marked})
		k.marked = k.n
	}
}

// openThinking begins a thinking item, or goes on with one if nothing has come since.
func (k *keeper) openThinking() {
	if !k.thinks || k.n > k.marked {
		k.mark()
		k.thinks = k.room(0)
	}
}

// think adds to the thinking item that is open.
func (k *keeper) think(text []byte) {
	if k.thinks && len(text) > 0 && k.room(len(text)) {
		k.thinking = append(k.thinking, text...)
	}
}

// sign adds to the signature of the thinking item that is open.
func (k *keeper) sign(seal []byte) {
	if k.thinks && len(seal) > 0 && k.room(len(seal)) {
		k.seal = append(k.seal, seal...)
	}
}

// has reports whether there is a reasoning item of this id: providers tell of an item again at the end.
func (k *keeper) has(id []byte) bool {
	return slices.ContainsFunc(k.items, func(it item) bool {
		return it.kind == itemReasoning && it.text == string(id)
	})
}

// hiddenThought adds a thought that came whole. It is apart from who passes text on for the sake of the stack: see
// Decoder.
//
//go:noinline
func (k *keeper) hiddenThought(text, seal []byte) {
	k.hidden(item{kind: itemThinking, text: string(text), seal: string(seal)})
}

// hidden adds an item that came whole.
func (k *keeper) hidden(it item) {
	n := len(it.text) + len(it.seal)
	for _, s := range it.summaries {
		n += len(s)
	}
	if k.mark(); k.room(n) {
		k.items = append(k.items, it)
	}
}

// sealText signs the content since the last item, which may be none.
func (k *keeper) sealText(seal []byte) {
	if len(seal) == 0 {
		return
	}
	from := k.marked
	if k.room(len(seal)) {
		if k.thinks {
			k.mark()
		}
		k.items = append(k.items, item{kind: itemText, n: k.n - from, seal: string(seal)})
		k.marked = k.n
	}
}

// call notes that a call stands here, with its signature or without.
func (k *keeper) call(n int, seal []byte) {
	if k.rules == nil || k.over || n < 0 {
		return
	}
	if i := slices.IndexFunc(k.items, func(it item) bool { return it.kind == itemCall && it.n == n }); i >= 0 {
		if len(seal) > 0 && k.room(len(seal)) {
			k.items[i].seal = string(seal)
		}
		return
	}
	k.mark()
	if len(seal) > 0 && !k.room(len(seal)) || len(k.items) >= maxStateItems-2 {
		return
	}
	k.items = append(k.items, item{kind: itemCall, n: n, seal: string(seal)})
}

// asItem is the keeper's as for thinking that has a place among the items.
const asItem = "item"

// reasoned takes a piece of thinking that was sent.
func (k *keeper) reasoned(text []byte) {
	switch k.as {
	case "":
	case asItem:
		k.openThinking()
		k.think(text)
	default:
		k.grow(k.as, text)
	}
}

// grow adds to a field of the message. Where a provider has several for the same, the first counts.
func (k *keeper) grow(name string, text []byte) {
	if len(text) == 0 || k.rules == nil || k.rules.back == noReasoning || k.field != "" && k.field != name {
		return
	}
	if k.room(len(text)) {
		k.field = name
		k.value = append(k.value, text...)
	}
}

// opaque notes Copilot's reasoning_opaque, which is sealed thinking.
func (k *keeper) opaque(value []byte) {
	if len(value) > 0 && k.room(len(value)) {
		k.items = append(k.items, item{kind: itemField, name: opaqueField, text: string(value)})
	}
}

// detail reads one of OpenRouter's reasoning_details. They come in pieces, and those of one index belong together.
func (k *keeper) detail(raw []byte) {
	var piece reasoningDetail
	if k.rules == nil || k.rules.back == noReasoning || json.Unmarshal(raw, &piece) != nil || !k.room(len(raw)) {
		return
	}
	for i := len(k.details) - 1; i >= 0; i-- {
		d := &k.details[i]
		if d.Type != piece.Type || d.Index != piece.Index || d.ID != "" && piece.ID != "" && d.ID != piece.ID {
			continue
		}
		d.Text += piece.Text
		d.Summary += piece.Summary
		d.Data += piece.Data
		for _, set := range []struct{ to, from *string }{{&d.Signature, &piece.Signature}, {&d.ID, &piece.ID},
			{&d.Format, &piece.Format}} {
			if *set.from != "" {
				*set.to = *set.from
			}
		}
		return
	}
	if len(k.details) < maxStateItems {
		k.details = append(k.details, piece)
	}
}

// state makes the state of a complete answer, "" when there is nothing to bring back.
func (k *keeper) state(kind string, reason chat.FinishReason, tools []toolCall) string {
	if k.inner != "" && k.rules != nil {
		text := packState(kind, k.place, &k.binding, nil, k.inner)
		k.over = text == ""
		return text
	}
	if !k.worth || k.over || reason != chat.FinishStop && reason != chat.FinishToolCalls {
		return ""
	}
	if k.thinks {
		k.mark()
	}
	for i := range tools {
		if tools[i].seal != "" {
			k.items = append(k.items, item{kind: itemCall, n: i, seal: tools[i].seal})
		}
	}
	switch {
	case len(k.details) > 0:
		k.items = append(k.items, item{kind: itemDetails, details: k.details})
	case len(k.value) > 0:
		k.items = append(k.items, item{kind: itemField, name: k.field, text: string(k.value)})
	}
	if len(k.items) > maxStateItems {
		k.over = true
		return ""
	}
	text := packState(kind, k.place, &k.binding, numbered(k.items, tools), "")
	k.over = text == ""
	return text
}

// numbered names calls by the numbers that they were sent with. Those that were not are none.
func numbered(items []item, tools []toolCall) []item {
	kept := items[:0]
	for _, it := range items {
		if it.kind == itemCall {
			if it.n = tools[it.n].number - 1; it.n < 0 {
				continue
			}
		}
		kept = append(kept, it)
	}
	return kept
}
