package stream

import (
	"time"

	"github.com/websopy/relay/internal/chat"
)

// reserved is what a live stream counts for at least, in bytes, against Options.MaxBytes.
const reserved = 64 << 10

// admit registers g, or follows the local stream that has its key.
func (h *Hub) admit(g *generation) (*Follower, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if first := h.keys[g.key]; first != nil && g.key != "" {
		if first.body != g.body {
			return nil, mismatch()
		}
		return newFollower(h, first.head, first.attach(0)), nil
	}
	switch {
	case h.closing:
		return nil, &chat.Error{Code: chat.Draining, Message: "this replica is going away", RetryAfter: time.Second}
	case h.o.MaxBytes > 0 && h.bytes+reserved > h.o.MaxBytes:
		return nil, &chat.Error{Code: chat.Overloaded, Message: "there is no room for another resumable stream", RetryAfter: time.Second}
	}
	var err error
	if g.place, err = h.o.Generations.Take(g.ctx, g.share); err != nil {
		return nil, err
	}
	if h.store == nil && g.key != "" { // with a store the key is g's when Redis says so: see begin
		h.keys[g.key] = g
	}
	h.streams[g.id] = g
	h.live++
	h.account(g)
	h.running.Add(1)
	return nil, nil
}

// holdKey has those that come with g's key follow g, without a question to Redis.
func (h *Hub) holdKey(g *generation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if g.key != "" && h.streams[g.id] == g {
		h.keys[g.key] = g
	}
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
	g.live = false
	h.account(g)
}

// grew counts what the log of g took for more records.
func (h *Hub) grew(g *generation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.account(g)
}

// forget drops a stream; followers that read it go on reading.
func (h *Hub) forget(g *generation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams[g.id] != g {
		return
	}
	delete(h.streams, g.id)
	if h.keys[g.key] == g {
		delete(h.keys, g.key)
	}
	h.account(g)
}

// account sets what g counts for. The caller holds mu.
func (h *Hub) account(g *generation) {
	var now int64
	if h.streams[g.id] == g {
		now = g.log.memory()
		if g.live {
			now = max(now, reserved)
		}
	}
	h.bytes += now - g.charged
	g.charged = now
}
