package provider

import (
	"context"
	"net/http"
)

// An Authorizer shows whose each request is: by a signature of it, or by a token that changes. It may change the
// request's header, which is the request's own. body is what is sent. It must not wait for anything, because the
// client does. An error ends the attempt: a *chat.Error as it is, any other as chat.UpstreamAuth.
type Authorizer interface {
	Authorize(ctx context.Context, r *http.Request, body []byte) error
}
