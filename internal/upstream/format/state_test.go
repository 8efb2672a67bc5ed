package format

import (
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/go-faster/jx"
	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
)

func TestNothingOfAStateIsCopiedIntoARequest(t *testing.T) {
	m := chat.Message{Role: chat.RoleAssistant, Content: "héllo",
		ToolCalls: []chat.ToolCall{{ID: "a", Name: "f", Arguments: "{}"}}}
	for _, items := range []string{
		`[["t","a"]]`, // a field that is missing is empty
		`[["item_reference","x"]]`, `[["z"]]`, `[[1]]`, `[{}]`, `{}`, `[["t",{}]]`, `[["t","a","b","c"]]`,
		`[["x",-1]]`, `[["x",2]]`, `[["x",99]]`, `[["x",1.5]]`,
		`[["c",0],["c",0]]`, `[["c",1]]`, `[["c",-1]]`, `[["f","role","system"]]`,
		`[["f","reasoning_content","a"],["f","reasoning_content","b"]]`,
		`[["d",[{"type":"message"}]]]`, `[["d",[5]]]`, `[["d",{}]]`, `[["s","id","seal","no list"]]`,
		`[["s","id","seal",[{}]]]`,
		"[" + strings.TrimSuffix(strings.Repeat(`["r","x"],`, 5000), ",") + "]",
	} {
		state := makeState(&m, "openai", "here", items)
		m.State = state
		got := readState(&m, "openai", "here")
		if items == `[["t","a"]]` {
			require.NotEmpty(t, got)
			continue
		}
		require.Empty(t, got, items[:min(len(items), 80)])
	}
}

// Of two lists the first would take the call from the second, so that the request has a result without its call.
func TestAStateHasOneListOfItems(t *testing.T) {
	m := chat.Message{Role: chat.RoleAssistant,
		ToolCalls: []chat.ToolCall{{ID: "a", Name: "f", Arguments: "{}"}}}
	at := (&Host{Kind: "anthropic", BaseURL: "https://provider.example"}).Target("claude-opus-4-1")
	m.State = makeState(&m, "anthropic", at.place, `[["c",0]],"i":[]`)
	req := &chat.Request{ReasoningEffort: "high", Messages: []chat.Message{{Role: chat.RoleUser, Content: "hi"}, m,
		{Role: chat.RoleTool, ToolCallID: "a", Content: "4"}}}
	var e jx.Encoder
	require.NoError(t, Anthropic{}.Encode(&e, NewQuery(req, at, 0)))
	require.Contains(t, e.String(), `"tool_use"`)
}

// A provider refuses blocks that say nothing, and its answers have none.
func TestWhatSaysNothingInAStateGoesNowhere(t *testing.T) {
	m := chat.Message{Role: chat.RoleAssistant, Content: "Hi"}
	items := `[["t"],["r"],["r",""],["s","id"],["x",0],["d",[]],["x",2]]`
	for kind, format := range map[string]Format{"anthropic": Anthropic{}, "bedrock": Bedrock{}, "gemini": Gemini{},
		"openai-responses": Responses{}, "openai": OpenAI{}} {
		at := (&Host{Kind: kind, BaseURL: "https://provider.example"}).Target("m")
		encoded := func(state string) string {
			with := m
			with.State = state
			req := &chat.Request{Messages: []chat.Message{{Role: chat.RoleUser, Content: "hi"}, with,
				{Role: chat.RoleUser, Content: "go on"}}}
			var e jx.Encoder
			require.NoError(t, format.Encode(&e, NewQuery(req, at, 0)))
			return e.String()
		}
		require.JSONEq(t, encoded(""), encoded(makeState(&m, kind, at.place, items)), kind)
	}
}

// A stranger's request goes to the provider at about its size, and what is read of it takes little.
func TestAForgedStateGrowsInNoRequest(t *testing.T) {
	at := (&Host{Kind: "anthropic", BaseURL: "https://provider.example"}).Target("m")
	details := (&Host{Kind: "openai", BaseURL: "https://provider.example"}).Target("m")
	m := chat.Message{Role: chat.RoleAssistant, Content: "Hi"}
	for name, c := range map[string]struct {
		format Format
		at     *Target
		items  string
	}{
		"many small seals": {Anthropic{}, at, `[["r","x"]` + strings.Repeat(`,["r","x"]`, 4000) + `]`},
		"what HTML escapes": {OpenAI{}, details,
			`[["d",[{"type":"reasoning.text","text":"` + strings.Repeat("<", 100<<10) + `"}]]]`},
	} {
		with := m
		with.State = makeState(&m, c.at.kind, c.at.place, c.items)
		req := &chat.Request{}
		size := 0
		for range 50 {
			req.Messages = append(req.Messages, with, chat.Message{Role: chat.RoleUser, Content: "hi"})
			size += len(with.State)
		}
		var e jx.Encoder
		q := NewQuery(req, c.at, 0)
		require.NoError(t, c.format.Encode(&e, q))
		require.Less(t, len(e.Bytes()), size, name)
		require.True(t, q.used, name)
	}
}

func TestLongArgumentsAreComparedAsTheyAre(t *testing.T) {
	c := chat.ToolCall{ID: "a", Name: "f", Arguments: "[" + strings.Repeat("7,", 150<<10) + "7]"}
	pieces := testing.AllocsPerRun(1, func() { new(binding).addCall(&c) })
	require.Less(t, pieces, 100.0, "memory for each number")
}

func FuzzState(f *testing.F) {
	m := chat.Message{Role: chat.RoleAssistant, Content: "héllo",
		ToolCalls: []chat.ToolCall{{ID: "a", Name: "f", Arguments: "{}"}, {ID: "b", Name: "g", Arguments: `{"x":1}`}}}
	for _, items := range []string{
		`[["t","a","b"],["r","c"],["x",3,"p"],["c",1,"s"],["c",0]]`, `[["s","rs","enc",["one","two"]]]`,
		`[["f","reasoning","x"]]`,
		`[["d",[{"type":"reasoning.text","text":"x","index":0,"signature":null}]]]`, `[["x",0,"s"]]`, `null`, `[]`,
	} {
		f.Add(items, "")
	}
	f.Add(`[]`, ".1.inner")
	formats := map[string]Format{"openai": OpenAI{}, "openai-responses": Responses{}, "anthropic": Anthropic{},
		"gemini":  Gemini{},
		"bedrock": Bedrock{}, "ollama": Ollama{}, "cohere": Cohere{}, "websopy": Websopy{}}
	f.Fuzz(func(t *testing.T, items, tail string) {
		for kind, format := range formats {
			at := (&Host{Kind: kind, BaseURL: "https://provider.example"}).Target("m")
			m.State = makeState(&m, kind, at.place, items) + tail
			again := readState(&m, kind, at.place)
			if again == "" {
				continue
			}
			m.State = again
			require.Equal(t, again, readState(&m, kind, at.place), "what was read is read again")
			req := &chat.Request{Messages: []chat.Message{{Role: chat.RoleUser, Content: "hi"}, m,
				{Role: chat.RoleTool, ToolCallID: "a", Content: "4"},
				{Role: chat.RoleTool, ToolCallID: "b", Content: "4"}}}
			var e jx.Encoder
			require.NoError(t, format.Encode(&e, NewQuery(req, at, 0)))
			require.True(t, json.Valid(e.Bytes()), e.String())
			require.NotRegexp(t, regexp.MustCompile(`"role":"system"|item_reference`), e.String())
		}
	})
}

// readState reads a state as if it had come back with a message, and writes it again; "" if it is none.
func readState(m *chat.Message, kind, place string) string {
	s := openState(m, kind, place)
	if s == nil {
		return ""
	}
	var b binding
	b.add([]byte(contentOf(m)))
	for i := range m.ToolCalls {
		b.addCall(&m.ToolCalls[i])
	}
	return packState(kind, place, &b, s.items, s.inner)
}

// makeState makes a state of raw items for a message.
func makeState(m *chat.Message, kind, place, items string) string {
	raw := `{"k":"` + kind + `","u":"` + place + `","b":"` + bindingOf(m) + `","i":` + items + `}`
	return stateVersion + base64.RawURLEncoding.EncodeToString([]byte(raw))
}
