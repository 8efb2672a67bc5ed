package handler

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/websopy/relay/internal/chat"
)

// resolve decides whether anybody is to answer a request. The fields that do not reach the provider are named in the
// response, where a developer sees them, and in the stream's log line.
func (r *Relay) resolve(w http.ResponseWriter, req *http.Request, ask *chat.Request) *chat.Error {
	leftOut, err := r.router.Resolve(ask)
	if err != nil {
		return chat.AsError(err)
	}
	if len(leftOut) > 0 {
		visitOf(req).ignored = headerList(leftOut)
		w.Header().Set("X-Relay-Ignored", visitOf(req).ignored)
	}
	return nil
}

// headerList makes a header's value of names that a caller made up. It has at most 20 of them, each with at most 64
// characters and none but those that a header may have.
func headerList(names []string) string {
	const most, longest = 20, 64
	var list []string
	for _, name := range names[:min(len(names), most)] {
		list = append(list, strings.Map(func(r rune) rune {
			if r <= ' ' || r > '~' || r == ',' {
				return '?'
			}
			return r
		}, name[:min(len(name), longest)]))
	}
	if more := len(names) - most; more > 0 {
		list = append(list, strconv.Itoa(more)+" more")
	}
	return strings.Join(list, ", ")
}
