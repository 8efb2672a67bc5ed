// Package stream keeps answers that outlive the connection that asked for them: it runs a provider
// into a log of chunks, in memory or also in Redis, and lets any number of followers read that log
// from any position. It knows nothing of HTTP, of wire formats or of any provider.
package stream

import (
	"context"
	"errors"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/websopy/relay/internal/chat"
)

// Hub owns the streams of one process. It is safe for concurrent use.
type Hub struct {
	o     Options
	store *store // nil: memory only

	releasing atomic.Bool   // readers are sent away: see Release
	released  chan struct{} // closed then

	mu       sync.Mutex // guards what follows, and what each generation says
	streams  map[string]*generation
	keys     map[string]*generation // by keyName
	chats    map[string]*generation // by keyName; see chats.go
	live     int
	accounts map[string]*account // by share
	rankings [shelves]ranking    // of accounts, by shelf
	bytes    int64               // that all streams count for
	lent     int64               // that streams still hold which are to go: others count for it already
	closing  bool

	running sync.WaitGroup
	closed  sync.Once

	attached               atomic.Int64
	resumed, expired, lost atomic.Uint64
	evicted                atomic.Uint64
	fenced, published      atomic.Uint64
	keysLost               atomic.Uint64
	complained             atomic.Int64 // when Options.Trouble was last called, in Unix seconds
}

// New gives a Hub that keeps its streams in memory. Close it.
func New(o Options) *Hub {
	h := &Hub{
		o:        o,
		streams:  map[string]*generation{},
		keys:     map[string]*generation{},
		chats:    map[string]*generation{},
		accounts: map[string]*account{},
		released: make(chan struct{}),
	}
	for i := range h.rankings {
		h.rankings[i].shelf = shelf(i)
	}
	return h
}

// Keeps tells how long a stream is generated on without a follower, and how long it is kept after its
// end: for the sum of the two a reader that has lost its connection may hope to find it.
func (h *Hub) Keeps() (grace, retention time.Duration) { return h.o.Grace, h.o.Retention }

// Request asks for a new stream.
type Request struct {
	Owner string   // whose it is; only the same string attaches and stops
	Share string   // for whom it counts, where callers share something; empty: not known
	Key   string   // idempotency key, scoped by Owner; empty: none
	Body  [32]byte // a hash of what was asked, compared when Key comes again
	Chat  string   // of which this is the newest stream from now on, scoped by Owner; empty: none

	// Head is what whoever attaches is told of the stream. Its ID and Created are set by Start.
	Head chat.Head

	// Question is what Produce holds until the first chunk is there, in bytes.
	Question int64

	// Produce is called once, on a goroutine of the Hub. Its context carries the values of Start's,
	// not its end.
	Produce func(ctx context.Context) iter.Seq2[chat.Chunk, error]

	// Begun, when set, is called on the same goroutine before the first chunk of the answer is logged, if there is
	// one.
	Begun func()

	// Ended, when set, is called on the same goroutine once the provider has returned.
	Ended func(Outcome)
}

// Start begins a stream and follows it from its beginning, or follows the stream that r.Key started
// before (replayed). The caller closes the Follower.
//
// Errors: *chat.Error with Overloaded, Draining or IdempotencyMismatch; *limit.Full; ErrUnavailable.
func (h *Hub) Start(ctx context.Context, r Request) (f *Follower, replayed bool, err error) {
	f, replayed, err = h.start(ctx, r)
	if replayed && err != nil && chat.AsError(err).Code == chat.StreamNotFound {
		// What the key led to came to the end of its retention just then. The key is free now.
		f, replayed, err = h.start(ctx, r)
	}
	return f, replayed, err
}

// newGeneration makes a stream, and says whether Redis is to have it from the beginning.
func (h *Hub) newGeneration(ctx context.Context, r *Request) (g *generation, there bool) {
	g = &generation{
		hub: h, id: newID(), owner: r.Owner, share: r.Share, body: r.Body, head: r.Head, question: r.Question,
		started: time.Now(), live: true,
	}
	g.log.more.L = &g.log.mu
	g.untold.Store(2)
	if h.store != nil {
		g.id, there = h.store.mint()
	}
	g.head.ID, g.head.Created = g.id, g.started
	if r.Key != "" {
		g.key = keyName(r.Owner, r.Key)
	}
	if r.Chat != "" {
		g.chat = keyName(r.Owner, r.Chat)
	}
	g.ctx, g.quit = context.WithCancel(context.WithoutCancel(ctx))
	return g, there
}

func (h *Hub) start(ctx context.Context, r Request) (f *Follower, replayed bool, err error) {
	g, there := h.newGeneration(ctx, &r)
	if f, err := h.admit(g); f != nil || err != nil {
		g.cancel()
		if errors.Is(err, errNoRoom) && h.store != nil && !there {
			err = ErrUnavailable // without resumability there is room for it
		}
		return f, f != nil, err
	}
	if there {
		if f, replayed, err = h.create(ctx, g); f != nil || err != nil {
			return f, replayed, err
		}
	} else if h.store != nil {
		if f, err = h.keepHere(ctx, g); f != nil || err != nil {
			return f, f != nil, err
		}
	}
	h.holdKey(g)
	h.holdChat(ctx, g)
	if h.store != nil {
		h.store.adopt(g)
	}
	f = newFollower(h, g.head, g.attach(0))
	g.start(&r)
	return f, false, nil
}

// create has g begin in Redis, or in memory when Redis does not take it. It gives a Follower of the stream that has
// g's key already, if there is one; g is none then.
func (h *Hub) create(ctx context.Context, g *generation) (f *Follower, replayed bool, err error) {
	first, err := h.store.create(ctx, g)
	switch {
	case err == nil && first == "":
		return nil, false, nil
	case err == nil:
		h.withdraw(g)
		f, err = h.Attach(ctx, g.owner, first, 0)
		return f, true, err
	case chat.AsError(err).Code == chat.IdempotencyMismatch:
		h.withdraw(g)
		return nil, false, err
	}
	g.mirror.former = g.id // Redis may have taken it after all
	h.rename(g, newHereID())
	f, err = h.keepHere(ctx, g)
	return f, f != nil, err
}

// keepHere has g begin in memory, and be published when Redis is back. It gives a Follower of the stream that has g's
// key already, if there is one; g is none then. A Redis that takes no writes may still say who has the key.
func (h *Hub) keepHere(ctx context.Context, g *generation) (f *Follower, err error) {
	if g.key != "" {
		if first := h.store.holder(ctx, g.key, g.body); first != "" {
			if f, err = h.Attach(ctx, g.owner, first, 0); err == nil {
				h.withdraw(g)
				return f, nil
			}
		}
	}
	if f, err = h.holdKeyHere(g); f != nil || err != nil {
		h.withdraw(g)
		return f, err
	}
	return nil, nil
}

// find gives the stream if it is here and owner's. One that others have ended is here for its readers only.
func (h *Hub) find(owner, id string) (g *generation, here bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if g, here = h.streams[id]; here && g.isFenced() {
		return nil, false
	}
	if here && g.owner != owner {
		g = nil
	}
	return g, here
}

// troubled tells of what Redis refuses for one stream.
func (h *Hub) troubled(err error) {
	now, last := time.Now().Unix(), h.complained.Load()
	if h.o.Trouble != nil && now-last >= 60 && h.complained.CompareAndSwap(last, now) {
		h.o.Trouble(err)
	}
}

// stream gives a stream that is here, or nil.
func (h *Hub) stream(id string) *generation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.streams[id]
}

// Attach follows a stream from behind position after; 0 is its beginning. The caller closes the
// Follower.
//
// Errors: ErrEnd; *chat.Error with StreamNotFound, also for the stream of another owner, with
// CursorExpired for a position that the stream has not reached, with Overloaded when Redis cannot
// be asked.
func (h *Hub) Attach(ctx context.Context, owner, id string, after uint64) (*Follower, error) {
	if !ValidID(id) {
		return nil, notFound()
	}
	g, here := h.find(owner, id)
	var from recordReader
	var head chat.Head
	switch {
	case g != nil:
		last, ended := g.log.end()
		if after > last {
			return nil, notReached()
		}
		if after == last && ended {
			g.seeEnd()
			return nil, ErrEnd
		}
		l := g.attach(after)
		if l == nil {
			return nil, notFound()
		}
		from, head = l, g.head
	case here || h.store == nil:
		return nil, notFound()
	default:
		there, err := h.store.attach(ctx, owner, id, after)
		if err != nil {
			return nil, err
		}
		from, head = there, there.head
	}
	if after > 0 {
		h.resumed.Add(1)
	}
	return newFollower(h, head, from), nil
}

// Stop ends a stream, on whichever replica it runs, with a done chunk whose finish reason is
// stopped. Stopping a stream that has ended changes nothing and is no error.
//
// Errors: *chat.Error with StreamNotFound, also for the stream of another owner, and with Overloaded
// when Redis cannot be asked.
func (h *Hub) Stop(ctx context.Context, owner, id string) error {
	if !ValidID(id) {
		return notFound()
	}
	g, here := h.find(owner, id)
	if fenced := h.stream(id); g == nil && fenced != nil && fenced.owner == owner {
		fenced.stop() // and whoever asked is told how it stands in Redis
	}
	switch {
	case g != nil:
		g.stop()
		return nil
	case here || h.store == nil:
		return notFound()
	default:
		return h.store.stop(ctx, owner, id)
	}
}

// Release ends the followers here with ErrReleased where another replica can go on in their place, or as soon as one
// can: not with the memory log, nor while Redis does not take the stream. Call it once, when no new client comes here.
func (h *Hub) Release() {
	if h.store != nil {
		h.store.handOver()
		h.releasing.Store(true)
		close(h.released)
		for _, g := range h.all() {
			g.log.wake()
		}
	}
}

// Close refuses new streams, waits for the running ones until ctx ends, ends what is left with
// server_shutdown, and lets go of everything. A second call waits for the first.
func (h *Hub) Close(ctx context.Context) {
	h.closed.Do(func() { h.close(ctx) })
}

// providerReturns is how long Close waits for providers whose contexts have ended.
const providerReturns = 5 * time.Second

func (h *Hub) close(ctx context.Context) {
	h.mu.Lock()
	h.closing = true
	h.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.running.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		for _, g := range h.all() {
			g.fail(chat.ServerShutdown, "this replica went away before the answer was complete", nil)
		}
		select {
		case <-done:
		case <-time.After(providerReturns):
		}
	}
	if h.store != nil {
		h.store.close()
	}
	for _, g := range h.all() {
		g.discard()
	}
}

func (h *Hub) all() []*generation {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]*generation, 0, len(h.streams))
	for _, g := range h.streams {
		all = append(all, g)
	}
	return all
}

// Stats says how things stand.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	live, bytes := h.live, h.bytes+h.lent
	h.mu.Unlock()
	var held int
	var nodes [3]int
	if h.store != nil {
		held, nodes = int(h.store.held.Load()), h.store.conn.States()
	}
	return Stats{
		Live:     live,
		Attached: int(h.attached.Load()),
		Bytes:    bytes,
		Resumed:  h.resumed.Load(),
		Expired:  h.expired.Load(),
		Lost:     h.lost.Load(),
		Evicted:  h.evicted.Load(),
		Fenced:   h.fenced.Load(),

		Published:  h.published.Load(),
		KeysLost:   h.keysLost.Load(),
		Held:       held,
		StoreNodes: nodes,
	}
}

// Find follows the stream that an idempotency key started, from its beginning, for who asks the same again. It gives
// none when there is none to be found now. The caller closes the Follower.
func (h *Hub) Find(ctx context.Context, owner, key string, body [32]byte) *Follower {
	name := keyName(owner, key)
	h.mu.Lock()
	first := h.holder(name)
	if first != nil {
		defer h.mu.Unlock()
		f, _ := h.followHolder(first, body)
		return f
	}
	h.mu.Unlock()
	if h.store == nil {
		return nil
	}
	id := h.store.holder(ctx, name, body)
	if id == "" {
		return nil
	}
	f, _ := h.Attach(ctx, owner, id, 0)
	return f
}
