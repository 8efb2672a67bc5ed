package stream

import "context"

// A chat is what some clients ask in: they know its name and none of its streams. A chat leads to its newest stream.
// What it led to before is stopped: nobody would find it any more.

// chatRoom is what the name of a chat takes beside its stream, in bytes.
const chatRoom = 256

// holdChat has g's chat lead to it, here and in Redis, and stops what the chat led to before. Where Redis can be asked
// it alone says what that was: of two that come here at once, the first here may be the second there.
func (h *Hub) holdChat(ctx context.Context, g *generation) {
	if g.chat == "" {
		return
	}
	h.mu.Lock()
	former := h.chats[g.chat]
	h.chats[g.chat] = g
	h.mu.Unlock()
	there := false
	if h.store != nil {
		id, err := h.store.holdChat(ctx, g)
		g.chatHere.Store(err != nil)
		if there = err == nil; id != "" {
			_ = h.Stop(ctx, g.owner, id) // it may be gone
		}
	}
	if former != nil && (!there || former.chatHere.Load()) {
		former.stop()
	}
}

// loseChat has g's chat lead nowhere, if it leads to g. The caller holds mu.
func (h *Hub) loseChat(g *generation) {
	if h.chats[g.chat] == g {
		delete(h.chats, g.chat)
	}
}

// chat gives the stream that is the newest of a chat here, or nil.
func (h *Hub) chat(name string) *generation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.chats[name]
}

// Chat gives the id of the newest stream of a chat, and whether a reader has its end (see ReadChat). The id is empty
// when there is none. The error, a *chat.Error, is that Redis, which alone knows, can't be asked.
func (h *Hub) Chat(ctx context.Context, owner, chat string) (id string, read bool, err error) {
	name := keyName(owner, chat)
	g := h.chat(name)
	if h.store != nil && (g == nil || !g.chatHere.Load()) {
		if id, read, err = h.store.chat(ctx, name); err == nil {
			return id, read, nil
		}
	}
	if g == nil {
		if err != nil {
			err = h.store.unreachable(err)
		}
		return "", false, err
	}
	return g.id, g.chatRead.Load(), nil
}

// ReadChat notes that the end of a stream, which is the newest of a chat, has reached a reader.
func (h *Hub) ReadChat(ctx context.Context, owner, chat, id string) {
	name := keyName(owner, chat)
	if g := h.chat(name); g != nil && g.id == id {
		g.chatRead.Store(true)
	}
	if h.store != nil {
		h.store.readChat(context.WithoutCancel(ctx), name, id)
	}
}
