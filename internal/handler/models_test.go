package handler_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/identity"
)

func TestModelsAreListedAsOpenAIDoes(t *testing.T) {
	r := start(t, handler.Options{Upstream: hello, Models: []handler.Model{{"gpt-6-luna", "openai"}, {"meta/llama", "openai"}}})
	res, body := fetch(t, http.MethodGet, r.url+"/v1/models", "")
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.JSONEq(t, `{"object":"list","data":[{"id":"gpt-6-luna","object":"model","created":0,"owned_by":"openai"},
		{"id":"meta/llama","object":"model","created":0,"owned_by":"openai"}]}`, body)

	for _, path := range []string{"/v1/models/meta/llama", "/v1/models/meta%2Fllama"} {
		res, body = fetch(t, http.MethodGet, r.url+path, "")
		require.Equal(t, http.StatusOK, res.StatusCode, path)
		require.JSONEq(t, `{"id":"meta/llama","object":"model","created":0,"owned_by":"openai"}`, body)
	}
	res, body = fetch(t, http.MethodGet, r.url+"/v1/models/nothing", "")
	require.Equal(t, http.StatusNotFound, res.StatusCode)
	require.Equal(t, chat.NotFound, lastError(t, body).Code)

	none := start(t, handler.Options{Upstream: hello})
	_, body = fetch(t, http.MethodGet, none.url+"/v1/models", "")
	require.JSONEq(t, `{"object":"list","data":[]}`, body)
}

func TestModelsAreListedForCallersOnly(t *testing.T) {
	r := start(t, handler.Options{Upstream: hello, Keys: identity.NewKeys([]identity.APIKey{{Name: "web", Key: "sk-test-0123456789"}})})
	res, body := fetch(t, http.MethodGet, r.url+"/v1/models", "")
	require.Equal(t, http.StatusUnauthorized, res.StatusCode)
	require.Equal(t, chat.Unauthorized, lastError(t, body).Code)
}
