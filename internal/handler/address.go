package handler

import (
	"net/http"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/identity"
)

// address notes from where each request comes, and as whose it counts until authenticate knows better.
func address(proxies identity.Proxies) check {
	return func(_ http.ResponseWriter, req *http.Request) *chat.Error {
		v := visitOf(req)
		v.caller.Addr, v.caller.Share, v.byProxy = proxies.Client(req.RemoteAddr, req.Header["X-Forwarded-For"])
		return nil
	}
}
