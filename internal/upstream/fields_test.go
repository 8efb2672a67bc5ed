package upstream_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/upstream/provider"
)

// extra makes further fields of names and values, in turn.
func extra(pairs ...string) []chat.Field {
	var list []chat.Field
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, chat.Field{Name: pairs[i], Value: []byte(pairs[i+1])})
	}
	return list
}

// screened asks an upstream of a kind for a request with further fields, and gives the names of those that it
// got, less the relay's own, and of those that are told to be left out.
func screened(t *testing.T, kind string, pass []string, fields []chat.Field) (got, leftOut []string, err error) {
	t.Helper()
	var seen *chat.Request
	f := chain(&scripted{acts: []act{says("Hi")}, see: func(req *chat.Request) { seen = req }})
	f.Candidates[0].Fields = provider.Fields(kind, pass)
	req := question()
	req.Extra = fields
	if leftOut, err = routed(f).Resolve(req); err != nil {
		return nil, nil, err
	}
	require.NoError(t, chattest.Fold(t, f.Stream(t.Context(), req)).Err)
	for _, x := range seen.Extra {
		got = append(got, x.Name+"="+string(x.Value))
	}
	require.Equal(t, fields, req.Extra, "the request is shared")
	return got, leftOut, nil
}

func TestFurtherFieldsReachAProviderByTheList(t *testing.T) {
	for name, tc := range map[string]struct {
		kind, pass string
		fields     []chat.Field
		got        []string
		leftOut    []string
	}{
		"chat completions": {"openai", "", extra("top_k", "5", "frequency_penalty", "1", "reasoning", "{}"),
			[]string{"top_k=5", "frequency_penalty=1", "reasoning={}"}, nil},
		"another relay": {"websopy", "", extra("top_k", "5", "models", "[]"), []string{"top_k=5"},
			[]string{"models"}},
		"Azure": {"azure", "", extra("min_p", "0.1"), []string{"min_p=0.1"}, nil},
		"what may cost": {"openai", "", extra("models", `["b"]`, "route", `"fallback"`, "service_tier",
			`"priority"`, "web_search_options", "{}", "guided_regex", `"(a*)*"`, "provider", "{}"), nil,
			[]string{"models", "route", "service_tier", "web_search_options", "guided_regex", "provider"}},
		"Responses": {"openai-responses", "", extra("reasoning", "{}", "top_k", "5", "include", "[]"),
			[]string{"reasoning={}", "include=[]"}, []string{"top_k"}},
		"Responses' text": {"openai-responses", "", extra("text", `{"verbosity":"low","format":null}`),
			[]string{`text={"verbosity":"low"}`}, nil},
		"a format without": {"anthropic", "", extra("top_k", "5"), nil, []string{"top_k"}},
		"letter by letter": {"openai", "", extra("Top_K", "5", "top_k ", "5", "", "1"), nil,
			[]string{"Top_K", "top_k ", ""}},
		"one more": {"openai", "models,x", extra("models", "[]", "route", "1", "x", "2"),
			[]string{"models=[]", "x=2"}, []string{"route"}},
		"all": {"openai", "*", extra("models", "[]", "n", "128", "store", "true", "models\x00", "1",
			"mo dels", "1"), []string{"models=[]", "n=128", "store=true"}, []string{"models\x00", "mo dels"}},
		"all of Responses": {"openai-responses", "*", extra("text", `{"format":{"type":"text"}}`),
			[]string{`text={"format":{"type":"text"}}`}, nil},
		"what is as it is": {"openai", "", extra("n", "1", "background", "false", "store", "false",
			"previous_response_id", `""`, "functions", "[]", "modalities", `["text"]`), nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, leftOut, err := screened(t, tc.kind,
				slices.DeleteFunc(strings.Split(tc.pass, ","), func(s string) bool { return s == "" }), tc.fields)
			require.NoError(t, err)
			require.Equal(t, tc.got, got)
			require.Equal(t, tc.leftOut, leftOut)
		})
	}
}

func TestAFieldWithoutWhichTheAnswerWouldBeAnotherIsRefused(t *testing.T) {
	for _, kind := range []string{"openai", "azure", "openai-responses", "anthropic", "gemini", "ollama", "cohere",
		"websopy", "demo"} {
		for name, value := range map[string]string{
			"n": "2", "best_of": "128", "background": "true", "store": "true", "previous_response_id": `"resp_1"`,
			"conversation": `"conv_1"`,
			"prompt":       `{"id":"pmpt_1"}`, "system": `"Be brief."`, "functions": `[{}]`,
			"function_call": `{"name":"f"}`, "modalities": `["text","audio"]`, "audio": `{"voice":"x"}`,
		} {
			_, _, err := screened(t, kind, nil, extra("top_k", "5", name, value))
			require.Error(t, err, "%s at %s", name, kind)
			e := chat.AsError(err)
			require.Equal(t, chat.InvalidRequest, e.Code)
			require.True(t, strings.HasPrefix(e.Message, name+": "), e.Message)
			got, _, err := screened(t, kind, []string{name}, extra(name, value))
			require.NoError(t, err)
			require.Equal(t, []string{name + "=" + value}, got, "the operator may let it through")
		}
	}
	_, _, err := screened(t, "openai-responses", nil, extra("text", `{"format":{"type":"json_object"}}`))
	require.ErrorContains(t, err, "text.format: use response_format")
}

func TestEachProviderGetsItsOwnFields(t *testing.T) {
	var seen [2]*chat.Request
	f := chain(&scripted{acts: []act{fails(chat.UpstreamError)}, see: func(req *chat.Request) { seen[0] = req }},
		&scripted{acts: []act{says("Hi")}, see: func(req *chat.Request) { seen[1] = req }})
	f.Candidates[0].Fields = provider.Fields("openai-responses", nil)
	f.Candidates[1].Fields = provider.Fields("openai", nil)
	f.Candidates[1].Model = func(string) (string, bool) { return "b", true }
	req := question()
	req.Extra = extra("top_k", "5", "include", "[]", "metadata", "{}")
	leftOut, err := routed(f).Resolve(req)
	require.NoError(t, err)
	require.Equal(t, []string{"top_k"}, leftOut, "of the one that is asked first")
	require.NoError(t, chattest.Fold(t, f.Stream(t.Context(), req)).Err)
	require.Equal(t, "[{include []} {metadata {}}]", fmt.Sprintf("%s", seen[0].Extra))
	require.Equal(t, "[{top_k 5} {metadata {}}]", fmt.Sprintf("%s", seen[1].Extra))
	require.Equal(t, "b", seen[1].Model)
}
