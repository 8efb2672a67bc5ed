package upstream_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/upstream"
)

func TestWhatAnotherProviderMayDoIsAskedThere(t *testing.T) {
	for body, tc := range map[string]struct {
		status  int
		another bool
	}{
		`{"error":{"message":"The model does not exist","code":"model_not_found"}}`:    {404, true},
		`{"error":{"message":"Model Not Exist"}}`:                                      {400, true},
		`{"error":{"message":"Too large"}}`:                                            {413, true},
		`{"error":{"message":"Failed dependency"}}`:                                    {424, true},
		`{"error":{"message":"credit balance is too low"}}`:                            {400, true},
		`{"error":{"message":"temperature is wrong"}}`:                                 {400, false},
		`{"error":{"message":"prompt is too long: 9 tokens > 8 maximum"}}`:             {400, false},
		`{"error":{"message":"Content Exists Risk"}}`:                                  {400, false},
		`{"error":{"message":"Content violates usage guidelines"}}`:                    {403, false},
		`{"error":{"message":"The prompt was flagged","code":"content_filter"}}`:       {500, false},
		`{"error":{"message":"The model is fine, but its prompt was not","code":"x"}}`: {422, false},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tc.status)
			_, _ = io.WriteString(w, body)
		}))
		second := &scripted{acts: []act{says("Hi")}}
		f := chain(second)
		f.Candidates = append([]*upstream.Candidate{{Streamer: newUpstream(t, options("openai", srv.URL))}},
			f.Candidates...)
		got := chattest.Fold(t, f.Stream(t.Context(), question()))
		srv.Close()
		require.Equal(t, tc.another, got.Err == nil, "%s: %v", body, got.Err)
	}
}
