package provider_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/upstream/provider"
)

// passing is an Authorizer that shows a token of a cloud.
type passing string

func (p passing) Authorize(_ context.Context, r *http.Request, _ []byte) error {
	r.Header.Set("Authorization", "Bearer "+string(p))
	r.Header.Set("X-Amz-Security-Token", "session-"+string(p))
	return nil
}

// A token that is fetched is in no setting, so nobody can be told in advance to look for it.
func TestATokenThatTheProviderQuotesIsToldToNobody(t *testing.T) {
	const token = "q7f-token-of-a-cloud-0123456789"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"error":{"message":"The credential `+token+` and `+
			r.Header.Get("X-Amz-Security-Token")+
			` have expired","type":"invalid_request_error"}}`)
	}))
	defer srv.Close()
	o := options("openai", srv.URL+"/v1")
	o.APIKey, o.Authorizer = "", passing(token)
	got := chattest.Fold(t, newUpstream(t, o).Stream(t.Context(), question()))
	e := chat.AsError(got.Err)
	require.Equal(t, chat.UpstreamAuth, e.Code)
	require.NotContains(t, e.Message, token)
	require.Contains(t, e.Err.Error(), "have expired", "the log says what the provider did")
	require.NotContains(t, e.Err.Error(), token)
}

var _ provider.Authorizer = passing("")
