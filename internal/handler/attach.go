package handler

import (
	"crypto/sha256"
	"errors"
	"net/http"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/limit"
)

// mayAttach tells whether a caller may come for an answer that there is, which costs no tokens but a connection and
// questions to Redis. It is counted for each answer by itself: when a replica goes away, all readers come back at
// once, and an application has thousands of them under one key. Only a loop comes for the same one again and again.
//
// name is what the client calls the answer by: its stream or, of a UI's chat, the chat.
func (r *Relay) mayAttach(w http.ResponseWriter, req *http.Request, name string) *chat.Error {
	const longest = 64 // of a name that is kept as it is; a chat's is its client's choice
	if len(name) > longest {
		hash := sha256.Sum256([]byte(name))
		name = string(hash[:])
	}
	reservation, err := r.attaches.Reserve(visitOf(req).caller.Share+"\n"+name, "", 0)
	exceeded, ok := errors.AsType[*limit.Exceeded](err)
	if !ok {
		reservation.Settle(0)
		return nil
	}
	r.metrics.Limited(attachLimit)
	exceeded.Stand[0].Name = attachLimit
	tellLimits(w.Header(), exceeded.Stand)
	return &chat.Error{Code: chat.RateLimited, Limit: attachLimit, RetryAfter: exceeded.After,
		Message: "this caller comes for the same answer too often (RELAY_LIMIT_ATTACH)"}
}

const attachLimit = "attach"
