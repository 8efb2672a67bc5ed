package handler

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/dialect"
	"github.com/websopy/relay/internal/stream"
)

// leastOpenChat is how long the id of a chat must be where all callers are one owner, so that nobody finds the answer
// of somebody else by guessing. The AI SDK's own ids have 16 random characters.
const leastOpenChat = 16

// chatOf is the name of a chat, under which its newest stream is found, or empty: there is none, or the id could be
// guessed.
func chatOf(req *http.Request, id string) string {
	if visitOf(req).caller.Owner == "" && len(id) < leastOpenChat {
		return ""
	}
	return id
}

// chatID is the id of a chat in the path.
func chatID(req *http.Request) string {
	id := chi.URLParam(req, "chatId")
	if req.URL.RawPath == "" {
		return id
	}
	if plain, err := url.PathUnescape(id); err == nil {
		return plain
	}
	return id
}

// newestOf gives the id of the stream that a chat leads to, and whether its reader has its end. A client that began in
// another dialect names the stream itself. The error is why nobody knows now.
func (r *Relay) newestOf(req *http.Request) (id string, read bool, err error) {
	if r.streams == nil {
		return "", false, nil
	}
	name := chatID(req)
	if visitOf(req).chat = chatOf(req, name); visitOf(req).chat != "" {
		id, read, err = r.streams.Chat(req.Context(), visitOf(req).caller.Owner, visitOf(req).chat)
	}
	if id == "" && stream.ValidID(name) {
		return name, false, nil
	}
	return id, read, err
}

// resumeChat follows the newest stream of a chat from its beginning. useChat asks for it whenever a page with a chat
// is opened, and anything but a stream or 204 is an error to it.
func (r *Relay) resumeChat(w http.ResponseWriter, req *http.Request) {
	visitOf(req).dialect = uiDialect(req)
	if err := r.mayAttach(w, req, chatID(req)); err != nil {
		r.turnAway(w, req, err)
		return
	}
	id, read, _ := r.newestOf(req)
	if id == "" || read {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	place, refused := r.enter(req)
	if refused != nil {
		r.turnAway(w, req, refused)
		return
	}
	defer r.leave(place)
	f, err := r.streams.Attach(req.Context(), visitOf(req).caller.Owner, id, 0)
	switch {
	case err == nil:
		r.serve(w, req, f, dialect.Response{}, r.newRecord(req, f.Head().Model))
	case chat.AsError(err).Code == chat.StreamNotFound: // its retention is over
		w.WriteHeader(http.StatusNoContent)
	default:
		r.turnAway(w, req, chat.AsError(err))
	}
}

// stopChat ends the newest stream of a chat for its user.
func (r *Relay) stopChat(w http.ResponseWriter, req *http.Request) {
	visitOf(req).dialect = uiDialect(req)
	id, _, err := r.newestOf(req)
	switch {
	case err != nil: // the answer may go on
		r.fail(w, req, chat.AsError(err))
		return
	case id == "":
		r.fail(w, req, errNoStreams)
		return
	}
	r.stop(w, req, id)
}

// noteRead notes that a chat's reader has the end of its stream, so that it is not told again. It waits until the
// client's side has taken what was written: into a connection that is dead one can write for a while.
func (r *Relay) noteRead(req *http.Request, rec *record) {
	chatName := visitOf(req).chat
	ended := rec.done != nil || rec.failure != nil && rec.seq > 0
	if chatName == "" || rec.cut || !ended || !delivered(req.Context()) {
		return
	}
	r.streams.ReadChat(req.Context(), visitOf(req).caller.Owner, chatName, rec.id)
}

// longestDelivery is how long the end of an answer waits for the client's side to take it.
const longestDelivery = 500 * time.Millisecond

// delivered waits until the client's side has all that was written to the connection, and tells whether it has.
func delivered(ctx context.Context) bool {
	conn, known := ctx.Value(connKey{}).(*connection)
	if !known {
		return ctx.Err() == nil
	}
	for wait := 50 * time.Microsecond; ; wait *= 2 {
		switch unsent, ok := conn.unsent(); {
		case !ok || unsent == 0:
			return ok
		case wait > longestDelivery/2 || ctx.Err() != nil:
			return false
		}
		time.Sleep(wait)
	}
}
