package handler_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/identity"
	"github.com/websopy/relay/internal/upstream"
	httpprovider "github.com/websopy/relay/internal/upstream/provider"
)

func TestModelsAreListedAsOpenAIDoes(t *testing.T) {
	r := start(t, handler.Options{Router: routed{hello, &upstream.Router{
		Routes: anyModel, Listed: []upstream.Model{{ID: "gpt-6-luna", OwnedBy: "openai"},
			{ID: "meta/llama", OwnedBy: "openai"}},
	}}})
	res, body := fetch(t, http.MethodGet, r.url+"/v1/models", "")
	require.Equal(t, http.StatusOK, res.StatusCode)
	object := func(id string) string {
		return `{"id":"` + id + `","object":"model","created":0,"owned_by":"openai",
			"type":"model","display_name":"` + id + `","created_at":"1970-01-01T00:00:00Z"}`
	}
	require.JSONEq(t, `{"object":"list","data":[`+object("gpt-6-luna")+`,`+object("meta/llama")+`],
		"has_more":false,"first_id":"gpt-6-luna","last_id":"meta/llama"}`, body)

	for _, path := range []string{"/v1/models/meta/llama", "/v1/models/meta%2Fllama"} {
		res, body = fetch(t, http.MethodGet, r.url+path, "")
		require.Equal(t, http.StatusOK, res.StatusCode, path)
		require.JSONEq(t, object("meta/llama"), body)
	}
	res, body = fetch(t, http.MethodGet, r.url+"/v1/models/nothing", "")
	require.Equal(t, http.StatusNotFound, res.StatusCode)
	require.Equal(t, `{"error":{"message":"there is no model of this name","type":"invalid_request_error",`+
		`"param":null,"code":"model_not_found"}}`+"\n", body)

	none := start(t, handler.Options{Router: answering{hello}})
	_, body = fetch(t, http.MethodGet, none.url+"/v1/models", "")
	require.JSONEq(t, `{"object":"list","data":[],"has_more":false,"first_id":null,"last_id":null}`, body)
}

func TestModelsAreListedForCallersOnly(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello},
		Keys: identity.NewKeys([]identity.APIKey{{Name: "web", Key: "sk-test-0123456789"}})})
	res, body := fetch(t, http.MethodGet, r.url+"/v1/models", "")
	require.Equal(t, http.StatusUnauthorized, res.StatusCode)
	require.Contains(t, body, `"code":"unauthorized"`)
}

// anyModel are routes that have every model.
var anyModel = []*upstream.Route{{}}

// listed are routes of a relay that lists models, and answers for every other one as well.
func listed(ids ...string) *upstream.Router {
	r := &upstream.Router{Routes: anyModel}
	for _, id := range ids {
		r.Listed = append(r.Listed, upstream.Model{ID: id})
	}
	return r
}

// Callers make up names: metrics have those that are configured.
func TestMetricsKnowConfiguredModelsOnly(t *testing.T) {
	demo, err := httpprovider.New(httpprovider.Options{Name: "demo", Kind: "demo", IdleTimeout: patience})
	require.NoError(t, err)
	asks := &upstream.Fallback{Budget: patience, Candidates: []*upstream.Candidate{{
		Streamer: demo, Model: func(string) (string, bool) { return "demo-fast", true },
	}}}
	r := start(t, handler.Options{Router: routed{asks, listed("smart", "fast")}})
	for _, model := range []string{"", "smart", "fast", "made-up-1", "made-up-2"} {
		named := map[bool]string{false: `"model":"` + model + `",`}[model == ""]
		fetch(t, http.MethodPost, r.url+"/api/chat/stream", `{`+named+`"messages":[{"role":"user","content":"hi"}]}`)
	}
	r.log.wait(t, "stream", 5)
	families, err := r.registry.Gather()
	require.NoError(t, err)
	counts := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == "relay_upstream_answers_total" {
				counts[m.Label[0].GetValue()] += m.Counter.GetValue()
			}
		}
	}
	require.Equal(t, map[string]float64{"smart": 2, "fast": 1, "other": 2}, counts)
}
