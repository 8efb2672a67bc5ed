package stream

import (
	"errors"
	"time"

	"github.com/websopy/relay/internal/chat"
)

// What a stream counts for in Hub.bytes, in bytes: its log, its question until the answer begins, and overhead.
// While it is live it counts for reserved at least, so that answers of usual length find room when they have
// begun. What overhead is has been measured: of a stream that has ended, of the only one of its caller, with a key.
const (
	overhead = 3<<10 + 512
	reserved = 64 << 10
	endRoom  = 1 << 10 // for a live one's last record
)

// errNoRoom is why a new stream is refused that Options.MaxBytes has no room for.
var errNoRoom = errors.New("RELAY_RESUME_BYTES are used up")

// admit registers g, or follows the local stream that has its key.
func (h *Hub) admit(g *generation) (f *Follower, err error) {
	var cut []*generation
	defer func() { endForRoom(cut) }()
	h.mu.Lock()
	defer h.mu.Unlock()
	if first := h.holder(g.key); first != nil {
		return h.followHolder(first, g.body)
	}
	if h.closing {
		return nil, &chat.Error{Code: chat.Draining, Message: "this replica is going away", RetryAfter: time.Second}
	}
	if g.place, err = h.o.Generations.Take(g.ctx, g.share); err != nil {
		return nil, err
	}
	a := h.account(g.share)
	cut, ok := h.makeRoom(nil, a, h.whileLive(g))
	if !ok {
		g.place.Give()
		h.drop(a)
		return nil, &chat.Error{Code: chat.Overloaded, RetryAfter: h.o.Generations.After(), Err: errNoRoom,
			Message: "there is no room for another resumable stream (RELAY_RESUME_BYTES)"}
	}
	if h.store == nil { // with a store the key is g's when Redis says so: see begin
		h.giveKey(g)
	}
	h.streams[g.id] = g
	h.live++
	h.count(g)
	h.running.Add(1)
	return nil, nil
}

// holder is the stream that has an idempotency key, nil when the key is free: also when its stream failed in a way
// that is worth another try, before anybody saw anything of the answer. The caller holds mu.
func (h *Hub) holder(key string) *generation {
	first := h.keys[key]
	if key == "" || first == nil || first.failedEarly() {
		return nil
	}
	return first
}

// holdKey has those that come with g's key follow g, without a question to Redis.
func (h *Hub) holdKey(g *generation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams[g.id] == g {
		h.giveKey(g)
	}
}

// giveKey gives g its key, if it has one, and takes it from who had it. The caller holds mu.
func (h *Hub) giveKey(g *generation) {
	former := h.keys[g.key]
	if g.key == "" {
		return
	}
	h.keys[g.key] = g
	if former != nil && former != g {
		h.count(former)
	}
}

// holdKeyHere is holdKey for a stream that Redis can't be asked about. It gives a Follower of the stream here that
// has g's key already, if there is one.
func (h *Hub) holdKeyHere(g *generation) (*Follower, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if first := h.holder(g.key); first != nil && first != g {
		return h.followHolder(first, g.body)
	}
	h.giveKey(g)
	return nil, nil
}

// followHolder follows the stream that has an idempotency key, from its beginning, for who asks the same. The caller
// holds mu.
func (h *Hub) followHolder(first *generation, body [32]byte) (*Follower, error) {
	if first.body != body {
		return nil, mismatch()
	}
	from := first.attach(0)
	if from == nil {
		return nil, notFound()
	}
	return newFollower(h, first.head, from), nil
}

// loseKey takes g's key from it, which is another stream's.
func (h *Hub) loseKey(g *generation) {
	h.letKeyGo(g)
	h.keysLost.Add(1)
}

// letKeyGo has those that come with g's key ask Redis for it.
func (h *Hub) letKeyGo(g *generation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.keys[g.key] == g {
		delete(h.keys, g.key)
		h.count(g)
	}
}

// rename gives g another id, before anybody knows the first.
func (h *Hub) rename(g *generation, id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.streams, g.id)
	g.id, g.head.ID = id, id
	h.streams[id] = g
}

// withdraw undoes admit for a generation that does not come to be.
func (h *Hub) withdraw(g *generation) {
	g.cancel()
	h.forget(g)
	h.settle(g)
}

// settle stops counting g as live: its provider has returned.
func (h *Hub) settle(g *generation) {
	defer h.running.Done()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.live--
	g.place.Give()
	g.live, g.question = false, 0
	h.count(g)
}

// begun is called when the answer of g begins: its question is let go.
func (h *Hub) begun(g *generation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	g.question = 0
	h.count(g)
}

// grow makes room for n bytes more in the log of g. It says whether there is any.
func (h *Hub) grow(g *generation, n int64) bool {
	h.mu.Lock()
	if g.cut {
		h.mu.Unlock()
		return false
	}
	bytes := max(h.size(g)+n+endRoom, reserved)
	cut, ok := h.makeRoom(g, h.account(g.share), bytes-g.charged)
	if ok {
		h.set(g, bytes, growing)
	}
	h.mu.Unlock()
	endForRoom(cut)
	return ok
}

// left is called when a reader of g has left after its end.
func (h *Hub) left(g *generation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count(g)
}

// forget drops a stream and its key; followers that read it go on reading.
func (h *Hub) forget(g *generation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams[g.id] == g {
		delete(h.streams, g.id)
	}
	if h.keys[g.key] == g {
		delete(h.keys, g.key)
	}
	h.loseChat(g)
	h.count(g)
}

// makeRoom sees to it that n bytes more can be counted for a caller, for its stream g or, nil, for a new one.
// First ended streams give way. If that is not enough, the growing streams of the caller with most bytes do, which
// are cut: whoever calls makeRoom ends them, without mu. A caller that wants a new stream gets no such room if it
// would have most bytes itself, and g gets none when it is the one to end. The caller holds mu.
func (h *Hub) makeRoom(g *generation, a *account, n int64) (cut []*generation, ok bool) {
	if h.o.MaxBytes <= 0 || n <= 0 {
		return nil, true
	}
	for h.bytes+n > h.o.MaxBytes {
		if h.evict(a, n) {
			continue
		}
		most := h.rankings[growing].first()
		if g != nil && (most == nil || most.bytes < a.bytes+n) {
			most = a
		}
		if most == nil || g == nil && (most == a || most.bytes <= a.bytes+n) {
			return cut, false
		}
		victim := largest(most)
		if victim == nil || g != nil && most == a && victim.charged < g.charged+n {
			victim = g
		}
		if victim == g {
			return cut, false
		}
		// Its readers may need a moment to see its end. Its bytes are for others already, but not those of
		// too many at once: somebody may read slowly on purpose.
		if h.lent > 0 && h.lent+h.size(victim) > h.o.MaxBytes/2 {
			return cut, false
		}
		victim.cut = true
		h.count(victim)
		cut = append(cut, victim)
	}
	return cut, true
}

// evict drops one ended stream, of the caller with most bytes, so that a caller can have n bytes more. Those that
// were read come before those that were not, and of these it leaves alone what belongs to callers with less than
// the one that wants more. It reports whether there was any. The caller holds mu.
func (h *Hub) evict(a *account, n int64) bool {
	seen, unseen := h.rankings[read].first(), h.rankings[unread].first()
	if unseen != nil && unseen != a && unseen.bytes <= a.bytes+n {
		unseen = nil
	}
	switch {
	case seen != nil && (unseen == nil || seen.bytes >= unseen.bytes):
		h.empty(oldest(seen, read))
	case unseen != nil:
		h.empty(oldest(unseen, unread))
	default:
		remembered := h.rankings[emptied].first()
		if remembered == nil {
			return false
		}
		g := oldest(remembered, emptied)
		if h.keys[g.key] == g {
			delete(h.keys, g.key)
		}
		h.count(g)
	}
	return true
}

// empty lets go of an ended stream that nobody reads. Its key is remembered: its question is not asked again.
func (h *Hub) empty(g *generation) {
	if g.empty() { // else somebody has come to read it just now
		delete(h.streams, g.id)
		h.loseChat(g)
		h.evicted.Add(1)
		if h.store != nil { // which can't have its end any more
			g.mirror.closed.Store(true)
			h.running.Go(g.settled)
		}
	}
	h.count(g)
}

func oldest(a *account, s shelf) *generation { return a.shelves[s].Front().Value.(*generation) }

// largest is the growing stream of a that takes most.
func largest(a *account) (most *generation) {
	for e := a.shelves[growing].Front(); e != nil; e = e.Next() {
		if g := e.Value.(*generation); most == nil || g.charged > most.charged {
			most = g
		}
	}
	return most
}

// endForRoom ends streams that makeRoom has cut.
func endForRoom(cut []*generation) {
	for _, g := range cut {
		g.fail(chat.StreamTooLong, "there is no room for more of this answer (RELAY_RESUME_BYTES)", nil)
	}
}

// count sets what g counts for, and puts it on the shelf where it belongs. The caller holds mu.
func (h *Hub) count(g *generation) {
	here, remembered := h.streams[g.id] == g, g.key != "" && h.keys[g.key] == g
	readers, ended, seen := g.standing()
	h.lent -= g.lent
	g.lent = 0
	switch {
	case g.cut && (here && g.live || readers):
		g.lent = h.size(g)
		h.lent += g.lent
		h.set(g, 0, nowhere)
	case here && g.live && !ended:
		h.set(g, h.whileLive(g), growing)
	case here && g.live: // its last record is there already
		h.set(g, max(h.size(g), reserved), growing)
	case readers:
		h.set(g, h.size(g), nowhere)
	case here && g.cut:
		h.bury(g)
	case here && seen:
		h.set(g, h.size(g), read)
	case here:
		h.set(g, h.size(g), unread)
	case remembered:
		h.set(g, overhead, emptied)
	default:
		h.set(g, 0, nowhere)
		g.stopRetention()
	}
}

// bury lets go of a stream that was cut, now that nobody reads it: its bytes belong to others. If there is room
// again, it stays. The caller holds mu.
func (h *Hub) bury(g *generation) {
	g.cut = false
	if h.bytes+h.size(g) > h.o.MaxBytes {
		for a := h.account(g.share); h.bytes+overhead > h.o.MaxBytes && h.evict(a, overhead); {
		}
		if h.bytes+overhead > h.o.MaxBytes && h.keys[g.key] == g {
			delete(h.keys, g.key)
		}
		h.empty(g)
		return
	}
	h.count(g)
}

// size is what g takes. The caller holds mu.
func (h *Hub) size(g *generation) int64 {
	n := overhead + g.question + g.log.memory()
	if g.chat != "" {
		n += chatRoom
	}
	return n + int64(len(g.head.Note))
}

// whileLive is what g counts for before it ends. The caller holds mu.
func (h *Hub) whileLive(g *generation) int64 { return max(h.size(g)+endRoom, reserved) }

// set notes what g counts for and where it stands. The caller holds mu.
func (h *Hub) set(g *generation, bytes int64, to shelf) {
	a := h.account(g.share)
	a.bytes += bytes - g.charged
	h.bytes += bytes - g.charged
	g.charged = bytes
	if g.shelf != to {
		if g.shelf != nowhere {
			a.shelves[g.shelf].Remove(g.stands)
		}
		if g.shelf = to; to != nowhere {
			g.stands = a.shelves[to].PushBack(g)
		}
	}
	for i := range h.rankings {
		h.rankings[i].update(a)
	}
	h.drop(a)
}

// account is the one of a caller. The caller of it holds mu.
func (h *Hub) account(share string) *account {
	a := h.accounts[share]
	if a == nil {
		a = &account{share: share}
		h.accounts[share] = a
	}
	return a
}

// drop forgets an account that has nothing. The caller holds mu.
func (h *Hub) drop(a *account) {
	for i := range a.shelves {
		if a.bytes > 0 || a.shelves[i].Len() > 0 {
			return
		}
	}
	delete(h.accounts, a.share)
}
