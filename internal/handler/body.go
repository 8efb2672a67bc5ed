package handler

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/websopy/relay/internal/chat"
)

const (
	bodyTimeout = 30 * time.Second // for a client to send its request body
	roomForBody = 8 << 10          // bytes; more is taken when they have come, whatever the client announces
)

// boundBody gives a request's body its time, whoever reads it: where no handler does, the server reads it
// away before it answers. A body that has no meaning is read here, because a stream would wait for it.
func (r *Relay) boundBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // a recorder has none
			if req.Method != http.MethodPost {
				if _, err := r.readBody(w, req); err != nil {
					r.fail(w, req, err)
					return
				}
			}
		}
		next.ServeHTTP(w, req)
	})
}

// readBody reads a body whole, and ends its time: the server goes on reading, to notice that the client
// leaves.
func (r *Relay) readBody(w http.ResponseWriter, req *http.Request) ([]byte, *chat.Error) {
	var body bytes.Buffer
	body.Grow(int(min(max(req.ContentLength, 0), roomForBody)) + bytes.MinRead)
	if _, err := body.ReadFrom(http.MaxBytesReader(w, req.Body, r.MaxBody)); err != nil {
		if req.ProtoMajor == 1 {
			w.Header().Set("Connection", "close") // the rest of the body is still on its way
		}
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, &chat.Error{Code: chat.BodyTooLarge, Message: fmt.Sprintf("the body is larger than %d bytes", r.MaxBody)}
		}
		return nil, &chat.Error{Code: chat.InvalidRequest, Message: "the body did not arrive whole", Err: err}
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return body.Bytes(), nil
}
