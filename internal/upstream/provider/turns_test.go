package provider_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
)

// said makes a conversation of lines like "user: hi", "call: a b" and "result: a".
func said(lines ...string) []chat.Message {
	var messages []chat.Message
	for _, line := range lines {
		role, text, _ := strings.Cut(line, ": ")
		switch role {
		case "call":
			m := chat.Message{Role: chat.RoleAssistant}
			for id := range strings.FieldsSeq(text) {
				m.ToolCalls = append(m.ToolCalls, chat.ToolCall{ID: id, Name: "f_" + id, Arguments: "{}"})
			}
			messages = append(messages, m)
		case "result":
			messages = append(messages, chat.Message{Role: chat.RoleTool, ToolCallID: text, Content: "result " + text})
		default:
			messages = append(messages, chat.Message{Role: chat.Role(role), Content: text})
		}
	}
	return messages
}

func TestTurnsAreWhatTheProviderWants(t *testing.T) {
	marked := []byte(`{"type":"ephemeral","ttl":"1h","x":[1]}`)
	mark := func(messages []chat.Message, i int) []chat.Message {
		messages[i].CacheControl = marked
		return messages
	}
	const marks = `"cache_control":{"type":"ephemeral","ttl":"1h"}`
	const raw = `"cache_control":{"type":"ephemeral","ttl":"1h","x":[1]}`
	for name, r := range map[string]ruled{
		// Claude
		"white space is no text": {"anthropic", atClaude, "claude-haiku-4-5",
			chat.Request{Messages: said("user: a", "assistant: \n ", "call: x", "result: x", "user:  ", "user: b")},
			`{"role":"assistant","content":[{"type":"tool_use" {"type":"text","text":"b"}`, `"text":"\n "text":""`,
			""},
		"results come first and in the order of the calls": {"anthropic", atClaude, "claude-haiku-4-5",
			chat.Request{Messages: said("user: a", "call: x y", "user: wait", "result: y", "result: x")},
			`"content":[{"type":"tool_result","tool_use_id":"x","content":[{"type":"text","text":"result`, ``, ""},
		"the system speaks in its place": {"anthropic", atClaude, "claude-opus-5-5",
			chat.Request{Messages: said("system: s1", "system: s2", "user: a", "system: s3", "assistant: b", "user: c",
				"system: s4")},
			`"system":"s1\n\ns2" {"role":"system","content":[{"type":"text","text":"s3"}]},` +
				`{"role":"assistant" {"role":"system","content":[{"type":"text","text":"s4"}]}]`, ``, ""},
		"or with the user's voice": {"anthropic", atClaude, "claude-opus-4-7",
			chat.Request{Messages: said("system: s1", "user: a", "system: s3", "assistant: b", "user: c")},
			`"system":"s1" {"type":"text","text":"a"},{"type":"text","text":"<system>\ns3\n` +
				`</system>"}]},{"role":"assistant"`, `"role":"system"`, ""},
		"also where the model has no place for it": {"anthropic", atClaude, "claude-opus-5-5",
			chat.Request{Messages: said("user: a", "assistant: b", "system: s", "user: c")},
			`<system>\ns\n</system>`, `"role":"system"`, ""},
		"results before what the system says": {"anthropic", atClaude, "claude-opus-4-7",
			chat.Request{Messages: said("user: a", "call: x", "system: s", "result: x")},
			`{"role":"user","content":[{"type":"tool_result"`, ``, ""},
		"a mark of a message goes to its last block": {"anthropic", atClaude, "claude-haiku-4-5",
			chat.Request{Messages: mark(said("user: a", "assistant: b"), 0)},
			`{"type":"text","text":"a",` + marks + `}`, `[1]`, ""},
		"of the system": {"anthropic", atClaude, "claude-haiku-4-5",
			chat.Request{Messages: mark(said("system: s", "user: a"), 0)},
			`"system":[{"type":"text","text":"s",` + marks + `}]`, ``, ""},
		"of a call": {"anthropic", atClaude, "claude-haiku-4-5",
			chat.Request{Messages: mark(said("user: a", "call: x y", "result: x", "result: y"), 1)},
			`"name":"f_y","input":{},` + marks, ``, ""},
		"of a result": {"anthropic", atClaude, "claude-haiku-4-5",
			chat.Request{Messages: mark(said("user: a", "call: x", "result: x"), 2)}, `"result x"`[:7] + ` ` + marks,
			``, ""},
		"of a tool": {"anthropic", atClaude, "claude-haiku-4-5",
			chat.Request{Tools: []chat.ToolSpec{{Name: "f", CacheControl: marked}}},
			`"input_schema":{"type":"object"},` + marks, ``, ""},
		"of a part": {"anthropic", atClaude, "claude-haiku-4-5",
			chat.Request{Messages: []chat.Message{{Role: chat.RoleUser,
				Parts: []chat.Part{{Type: chat.PartText, Text: "a", CacheControl: marked},
					{Type: chat.PartText, Text: "b"}}}}}, `"text":"a",` + marks + `},{"type":"text","text":"b"}`, ``,
			""},
		"of another kind is none": {"anthropic", atClaude, "claude-haiku-4-5",
			chat.Request{Tools: []chat.ToolSpec{{Name: "f", CacheControl: []byte(`{"type":"later"}`)}}}, `"tools"`,
			`cache_control`, ""},

		// Gemini
		"results share a turn": {"gemini", atGemini, "gemini-3.5-flash",
			chat.Request{Messages: said("user: a", "call: x y", "result: y", "result: x")},
			`{"role":"user","parts":[{"functionResponse":{"id":"x","name":"f_x"`, ``, ""},
		"the system speaks first": {"gemini", atGemini, "gemini-3.5-flash",
			chat.Request{Messages: said("system: s1", "user: a", "system: s2")},
			`"systemInstruction":{"parts":[{"text":"s1"}]} {"text":"<system>\ns2\n</system>"}`, ``, ""},
		"results have images since 3": {"gemini", atGemini, "gemini-3.5-flash",
			chat.Request{Messages: append(said("user: a", "call: x"), pictured("data:image/png;base64,AAEC"))},
			`"parts":[{"inlineData":{"mimeType":"image/png","data":"AAEC"}}]`, ``, ""},
		"but no URLs": {"gemini", atGemini, "gemini-3.5-flash",
			chat.Request{Messages: append(said("user: a", "call: x"), pictured("https://x/y.png"))}, "", "",
			"messages[2].content[0].image_url: this provider takes no URLs in results; use a data URL"},
		"and none before": {"gemini", atGemini, "gemini-2.5-flash",
			chat.Request{Messages: append(said("user: a", "call: x"), pictured("data:image/png;base64,AAEC"))}, "", "",
			"messages[2].content[0].image_url: this provider takes no images in tool messages"},
		"ids are of 3": {"gemini", atGemini, "gemini-2.5-flash",
			chat.Request{Messages: said("user: a", "call: x", "result: x")},
			`"functionCall":{"name" "functionResponse":{"name"`, `"id"`, ""},
		"and not of Vertex": {"gemini", "https://aiplatform.googleapis.com/v1/publishers/google",
			"gemini-3.5-flash", chat.Request{Messages: said("user: a", "call: x", "result: x")},
			`"functionCall":{"name"`, `"id"`, ""},
		"each step's first call has some": {"gemini", atGemini, "gemini-3.5-flash",
			chat.Request{Messages: said("user: a", "call: x", "result: x", "call: y z", "result: y", "result: z")},
			`"thoughtSignature":"c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=","functionCall":{"id":"y"`,
			`VhbGlkYXRvcg==","functionCall":{"id":"z"`, ""},

		// Chat completions
		"mistral's ids have nine letters": {"openai", atMistral, "m",
			chat.Request{Messages: said("user: a", "call: call_hR7nq0dPzKx1", "result: call_hR7nq0dPzKx1")},
			`"tool_calls"`, `"id":"call_ "tool_call_id":"call_`, ""},
		"its own stay": {"openai", atMistral, "m",
			chat.Request{Messages: said("user: a", "call: D681PevKs", "result: D681PevKs")},
			`"id":"D681PevKs" "tool_call_id":"D681PevKs"`, ``, ""},
		"the user follows an assistant": {"openai", atMistral, "m",
			chat.Request{Messages: said("user: a", "call: D681PevKs", "result: D681PevKs", "user: b")},
			`{"role":"assistant","content":"OK"},{"role":"user"`, ``, ""},
		"a strict server gets no marks": {"openai", atMistral, "m", chat.Request{Messages: mark(said("user: a"), 0),
			Tools: []chat.ToolSpec{{Name: "f", CacheControl: marked}}}, `"content":"a"`, `cache_control`, ""},
		"others get them on parts": {"openai", atRouter, "m",
			chat.Request{Messages: mark(said("user: a"), 0),
				Tools: []chat.ToolSpec{{Name: "f", CacheControl: marked}}},
			`"content":[{"type":"text","text":"a",` + raw + `}] {"name":"f"},` + raw, ``, ""},
		"DashScope, too": {"openai", atDashScope, "qwen-plus",
			chat.Request{Messages: mark(said("system: s", "user: a"), 0)}, raw, ``, ""},
		"another relay as they are": {"websopy", "https://relay.example", "m",
			chat.Request{Messages: mark(said("user: a"), 0)}, `"content":"a",` + raw, ``, ""},
		"the system where it stands": {"openai", atOpenAI, "gpt-4.1",
			chat.Request{Messages: said("system: s", "user: a", "system: t", "user: b")},
			`{"role":"system","content":"t"},{"role":"user"`, ``, ""},
	} {
		t.Run(name, func(t *testing.T) { r.check(t, nil) })
	}
}

func pictured(url string) chat.Message {
	return chat.Message{Role: chat.RoleTool, ToolCallID: "x",
		Parts: []chat.Part{{Type: chat.PartImage, ImageURL: url}}}
}

func TestAnIDThatIsMadeIsTheSameForCallAndResult(t *testing.T) {
	o := options("openai", atMistral)
	body := ask2(t, o, &chat.Request{Messages: said("user: a", "call: toolu_01A toolu_01B", "result: toolu_01A",
		"result: toolu_01B")}, nil).last()
	ids := make(map[string]int)
	for _, part := range strings.Split(body, `id":"`)[1:] {
		id, _, _ := strings.Cut(part, `"`)
		require.Regexp(t, `^[a-zA-Z0-9]{9}$`, id)
		ids[id]++
	}
	require.Len(t, ids, 2)
	for id, n := range ids {
		require.Equal(t, 2, n, id)
	}
}

// Signatures and caches hold as long as what stands before them does not change.
func TestRequestsOnlyGrow(t *testing.T) {
	lines := []string{"system: s1", "user: a", "call: x y", "result: y", "result: x", "assistant: b", "user: c",
		"system: s2", "assistant: d", "user: e", "call: z", "result: z", "system: s3", "assistant: f", "user: g"}
	for kind, at := range map[string][3]string{
		"claude-opus-5-5":  {"anthropic", atClaude, `],"max_tokens"`},
		"claude-haiku-4-5": {"anthropic", atClaude, `],"max_tokens"`},
		"gemini-3.5-flash": {"gemini", atGemini, `],"generationConfig"`},
		"gpt-6-luna":       {"openai-responses", atOpenAI, `],"reasoning"`},
		"gpt-4.1":          {"openai", atOpenAI, `],"stream"`}, "mistral-small-latest": {"openai", atMistral,
			`],"stream"`}, "deepseek-v4-pro": {"openai", atDeepSeek, `],"stream"`},
	} {
		before := ""
		for n := 2; n <= len(lines); n++ {
			if strings.HasPrefix(lines[n-1], "assistant") || strings.HasPrefix(lines[n-1], "call") || n < len(lines) &&
				strings.HasPrefix(lines[n], "result") {
				continue // nobody asks there
			}
			if n < len(lines) && strings.HasPrefix(lines[n], "system") {
				continue
			}
			o := options(at[0], at[1])
			o.Model = kind
			body := ask2(t, o, &chat.Request{Messages: said(lines[:n]...)}, nil).last()
			messages, _, ok := strings.Cut(body, at[2])
			require.True(t, ok, body)
			messages = strings.TrimRight(messages, "]}")
			require.True(t, strings.HasPrefix(messages, before),
				fmt.Sprintf("%s, %d\n%s\n%s", kind, n, before, messages))
			before = messages
		}
	}
}

func TestATemplateThatWantsTheSystemFirstGetsItSo(t *testing.T) {
	req := &chat.Request{Messages: said("system: s", "user: a", "system: t", "user: b")}
	f := ask2(t, options("openai", atHome), req, func(_, body string) (int, string) {
		if strings.Count(body, `"role":"system"`) > 1 {
			return 400, `{"object":"error","message":"System message must be at the beginning.",` +
				`"type":"BadRequestError","code":400}`
		}
		return 200, plain["openai"]
	})
	require.Len(t, f.bodies, 2)
	require.Contains(t, f.last(), `{"role":"user","content":"<system>\nt\n</system>"}`)
}
