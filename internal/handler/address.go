package handler

import (
	"net/http"

	"github.com/websopy/relay/internal/identity"
)

// address notes from where each request comes, and as whose it counts until authenticate knows better.
func address(proxies identity.Proxies) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			v := visitOf(req)
			v.caller.Addr, v.caller.Share, v.byProxy = proxies.Client(req.RemoteAddr, req.Header["X-Forwarded-For"])
			next.ServeHTTP(w, req)
		})
	}
}
