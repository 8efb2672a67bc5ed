package dialect_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/dialect"
)

func TestAFullRequestIsUnderstood(t *testing.T) {
	n, err := dialect.Native{}.Decode([]byte(`{
		"messages": [
			{"role": "system", "content": "Be brief."},
			{"role": "user", "id": "m1", "createdAt": 5, "content": [
				{"type": "text", "text": "What is this?"},
				{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}]},
			{"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
			{"role": "tool", "tool_call_id": "c1", "content": "a cat"}
		],
		"model": "gpt-4", "stream": false, "temperature": 0.70, "topP": 1, "maxTokens": 100, "seed": 15092511270073158000,
		"stop": "END", "tools": [{"type": "function", "function": {"name": "look", "description": "d", "parameters": {"type": "object"}, "strict": true}}],
		"toolChoice": {"type": "function", "function": {"name": "look"}},
		"user": "u", "response_format": {"type": "json_object"}, "reasoning_effort": "low",
		"top_k": 5, "logit_bias": {"1": 2}, "presence_penalty": null
	}`))
	require.NoError(t, err)
	strict := true
	require.Equal(t, &dialect.Ask{Request: chat.Request{
		Model: "gpt-4",
		Messages: []chat.Message{
			{Role: chat.RoleSystem, Content: "Be brief."},
			{Role: chat.RoleUser, Parts: []chat.Part{{Type: chat.PartText, Text: "What is this?"},
				{Type: chat.PartImage, ImageURL: "data:image/png;base64,AAAA", Detail: "low"}}},
			{Role: chat.RoleAssistant, ToolCalls: []chat.ToolCall{{ID: "c1", Name: "look", Arguments: "{}"}}},
			{Role: chat.RoleTool, ToolCallID: "c1", Content: "a cat"},
		},
		Temperature: "0.70", TopP: "1", MaxTokens: "100", Seed: "15092511270073158000",
		Stop: []string{"END"},
		Tools: []chat.ToolSpec{{Name: "look", Description: "d", Parameters: []byte(`{"type": "object"}`),
			Strict: &strict}},
		ToolChoice: chat.ToolChoice{Mode: chat.ChooseFunction, Name: "look"},
		User:       "u", ResponseFormat: []byte(`{"type": "json_object"}`), ReasoningEffort: "low",
		Extra: []chat.Field{{Name: "top_k", Value: []byte("5")}, {Name: "logit_bias", Value: []byte(`{"1": 2}`)}},
	}}, n)
}

func TestAWrongRequestIsToldWhatIsWrong(t *testing.T) {
	for body, want := range map[string]string{
		``:          "the body is empty; want a JSON object",
		`   `:       "the body is empty; want a JSON object",
		`{`:         "the body is not valid JSON: unexpected end of JSON input at byte 1",
		`{"a":1} x`: "the body is not valid JSON: invalid character 'x' after top-level value at byte 9",
		"{\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}": "the body is not valid UTF-8",
		`[]`:                             "want an object, got an array",
		`null`:                           "want an object, got null",
		`{}`:                             "messages: at least one message is required",
		`{"messages":[]}`:                "messages: at least one message is required",
		`{"messages":"x"}`:               "messages: want an array, got a string",
		`{"messages":null}`:              "messages: at least one message is required",
		`{"messages":[null]}`:            "messages[0]: want an object, got null",
		`{"messages":[3]}`:               "messages[0]: want an object, got a number",
		`{"messages":[{"content":"x"}]}`: "messages[0].role: is required",
		`{"messages":[{"role":"user"}]}`: "messages[0].content: is required",
		`{"messages":[{"role":"user","content":null}]}`:                                                   "messages[0].content: is required",
		`{"messages":[{"role":"user","content":"x"},{"role":"wizard","content":"x"}]}`:                    `messages[1].role: unknown role "wizard"; want system, user, assistant or tool`,
		`{"messages":[{"role":null,"content":"x"}]}`:                                                      "messages[0].role: is required",
		`{"messages":[{"role":7,"content":"x"}]}`:                                                         "messages[0].role: want a string, got a number",
		`{"messages":[{"role":"user","content":7}]}`:                                                      "messages[0].content: want a string or an array of parts, got a number",
		`{"messages":[{"role":"user","content":[]}]}`:                                                     "messages[0].content: want at least one part",
		`{"messages":[{"role":"user","content":[{"type":"audio"}]}]}`:                                     `messages[0].content[0].type: unknown part type "audio"; want text or image_url`,
		`{"messages":[{"role":"user","content":[{"text":"x"}]}]}`:                                         "messages[0].content[0].type: is required",
		`{"messages":[{"role":"user","content":[{"type":"text"}]}]}`:                                      "messages[0].content[0].text: is required in a text part",
		`{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}`:                                 "messages[0].content[0].image_url: is required in an image_url part",
		`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"file:///x"}}]}]}`: "messages[0].content[0].image_url.url: want an https: or a data: URL",
		`{"messages":[{"role":"tool","content":"x"}]}`:                                                    "messages[0].tool_call_id: is required in a tool message",
		`{"messages":[{"role":"user","content":"x","tool_calls":[{"id":"a","function":{"name":"f"}}]}]}`:  "messages[0].tool_calls: only an assistant message has tool calls",
		`{"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f"}}]}]}`:                    "messages[0].tool_calls[0].id: is required",
		`{"messages":[{"role":"assistant","tool_calls":[{"id":"a","function":{"arguments":{}}}]}]}`:       "messages[0].tool_calls[0].function.arguments: want a string, got an object",
		hi(`"model":7`):          "model: want a string, got a number",
		hi(`"model":"a\nb"`):     "model: want at most 256 printable characters",
		hi(`"model":"\u009b1m"`): "model: want at most 256 printable characters",
		hi(`"model":"\u202ea"`):  "model: want at most 256 printable characters",
		hi(`"model":".."`):       "model: want a name, not a path",
		hi(`"model":"."`):        "model: want a name, not a path",
		hi(`"model":"a/../b"`):   "model: want a name, not a path",
		hi(`"model":"..\\x"`):    "model: want a name, not a path",
		hi(`"input":"x"`):        "input: is not a field of this request; send messages",
		hi(`"instructions":"x"`): "instructions: is not a field of this request; send it as a " +
			"message of the role system",
		hi(`"max_output_tokens":9`): "max_output_tokens: is not a field of this request; use " +
			"max_tokens",
		hi(`"max_completion_tokens":0`):     "max_completion_tokens: want a positive integer",
		hi(`"stream":"yes"`):                "stream: want true or false, got a string",
		hi(`"resumable":1`):                 "resumable: want true or false, got a number",
		hi(`"temperature":"hot"`):           "temperature: want a number, got a string",
		hi(`"max_tokens":1.5`):              "max_tokens: want a positive integer",
		hi(`"maxTokens":0`):                 "maxTokens: want a positive integer",
		hi(`"seed":1e3`):                    "seed: want an integer",
		hi(`"stop":[1]`):                    "stop[0]: want a string, got a number",
		hi(`"stop":{}`):                     "stop: want a string or an array of strings, got an object",
		hi(`"tools":[{"type":"magic"}]`):    `tools[0].type: unknown tool type "magic"; want function`,
		hi(`"tools":[{"type":"function"}]`): "tools[0].function.name: is required",
		hi(`"tool_choice":"maybe"`): `tool_choice: unknown choice "maybe"; want auto, none, ` +
			`required or a function`,
		hi(`"toolChoice":{"type":"function"}`):       "toolChoice.function.name: is required",
		hi(`"response_format":"json"`):               "response_format: want an object, got a string",
		`{"messages":` + strings.Repeat("[", 200000): "the body is not valid JSON",
	} {
		_, err := dialect.Native{}.Decode([]byte(body))
		require.Error(t, err, "%.80s", body)
		e := chat.AsError(err)
		require.Equal(t, chat.InvalidRequest, e.Code)
		require.Contains(t, e.Message, want, "%.80s", body)
		require.Less(t, len(e.Message), 200, "no error carries the body along")
	}
}

func hi(field string) string { return `{"messages":[{"role":"user","content":"hi"}],` + field + `}` }

func TestNullIsTheSameAsAbsent(t *testing.T) {
	n, err := dialect.Native{}.Decode(
		[]byte(hi(`"model":null,"stream":null,"stop":null,"tools":null,"temperature":null`)))
	require.NoError(t, err)
	require.True(t, n.Stream)
	require.Empty(t, n.Extra)

	for with, without := range map[string]string{
		`{"role":"user","name":null,"content":[{"type":"text","text":"x","image_url":null}]}`:                          `{"role":"user","content":[{"type":"text","text":"x"}]}`,
		`{"role":"user","content":[{"type":"image_url","text":null,"image_url":{"url":"https://x/y","detail":null}}]}`: `{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/y"}}]}`,
		`{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":null,"function":{"name":"f",` +
			`"arguments":null}}]}`: `{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f"}}]}`,
		`{"role":"user","content":"x"}],"tools":[{"type":null,"function":{"name":"f","parameters":null}}],` +
			`"tool_choice":null,"a":[1`: `{"role":"user","content":"x"}],"tools":[{"function":{"name":"f"}}],"a":[1`,
	} {
		got, err := dialect.Native{}.Decode([]byte(`{"messages":[` + with + `]}`))
		require.NoError(t, err)
		want, err := dialect.Native{}.Decode([]byte(`{"messages":[` + without + `]}`))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestANameThatOtherReadersTakeForTheRelaysOwnIsRefused(t *testing.T) {
	own := []string{
		"messages", "model", "stream", "stream_options", "resumable", "temperature", "top_p", "topP", "max_tokens",
		"maxTokens",
		"max_completion_tokens", "seed", "stop", "tools", "tool_choice", "toolChoice", "user", "response_format",
		"responseFormat",
		"reasoning_effort", "reasoningEffort", "input", "instructions", "max_output_tokens",
	}
	for _, name := range own {
		folded := strings.NewReplacer("s", "\u017f", "k", "\u212a").Replace(name) // long s, and the sign for kelvin
		for _, other := range []string{strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:], folded} {
			if other == name {
				continue
			}
			for _, value := range []string{`"x"`, `7`, `[]`} {
				_, err := dialect.Native{}.Decode([]byte(hi(`"` + other + `":` + value)))
				require.Error(t, err, other)
				require.Contains(t, chat.AsError(err).Message, "by readers of JSON that ignore case")
			}
		}
	}
	n, err := dialect.Native{}.Decode([]byte(hi(`"mod\u0065l":"b","model":"a","models":["x"],"model ":"y"`)))
	require.NoError(t, err)
	require.Equal(t, "a", n.Model, "an escape is no other name")
	require.Len(t, n.Extra, 2)
}

func TestNumbersAreBoundedWhereverTheyAre(t *testing.T) {
	digits := strings.Repeat("1", 1<<20)
	for _, number := range []string{digits, "0." + digits, "-" + digits, "1e400", "1E" + digits[:40]} {
		for _, field := range []string{
			`"temperature":` + number, `"seed":` + number, `"max_tokens":` + number, `"top_k":` + number,
			`"metadata":{"a":[{"b":` + number + `}]}`,
			`"response_format":{"a":` + number + `}`, `"tools":[{"function":{"name":"f","parameters":{"a":[` + number +
				`]}}}]`,
		} {
			_, err := dialect.Native{}.Decode([]byte(hi(field)))
			require.Error(t, err, "%.80s", field)
			name, _, _ := strings.Cut(field[1:], `"`)
			require.Contains(t, chat.AsError(err).Message, name)
			require.Contains(t, chat.AsError(err).Message, "want a number")
		}
	}
	for _, number := range []string{"0", "-1.5e-300", "15092511270073158000", "1e308",
		"0.1234567890123456789012345678901234567890"} {
		_, err := dialect.Native{}.Decode([]byte(hi(`"top_k":` + number)))
		require.NoError(t, err)
	}
}

func TestFurtherFieldsAreBoundedAndKeptOnce(t *testing.T) {
	n, err := dialect.Native{}.Decode([]byte(hi(`"top_k":1,"min_p":2,"top_k":3`)))
	require.NoError(t, err)
	require.Equal(t, []chat.Field{{Name: "top_k", Value: []byte("3")}, {Name: "min_p", Value: []byte("2")}}, n.Extra)

	var many []string
	for i := range 129 {
		many = append(many, fmt.Sprintf(`"f%d":1`, i))
	}
	_, err = dialect.Native{}.Decode([]byte(hi(strings.Join(many[:128], ","))))
	require.NoError(t, err)
	_, err = dialect.Native{}.Decode([]byte(hi(strings.Join(many, ","))))
	require.ErrorContains(t, err, "f128: is one field too many")
}

func TestTheCallersNameForMaxTokensIsKept(t *testing.T) {
	for body, want := range map[string]string{`"max_tokens":9`: "", `"maxTokens":9`: "",
		`"max_completion_tokens":9`: "max_completion_tokens"} {
		n, err := dialect.Native{}.Decode([]byte(hi(body)))
		require.NoError(t, err)
		require.Equal(t, chat.Number("9"), n.MaxTokens)
		require.Equal(t, want, n.MaxTokensName)
	}
}

func TestWhiteSpaceBeforeTheBodySaysNothing(t *testing.T) {
	_, err := dialect.Native{}.Decode([]byte(strings.Repeat("\n", 1000) + hi(`"seed":1`)))
	require.NoError(t, err)
}

func TestTenThousandMessagesAreFine(t *testing.T) {
	n, err := dialect.Native{}.Decode([]byte(`{"messages":[` +
		strings.TrimSuffix(strings.Repeat(`{"role":"user","content":"x"},`, 10000), ",") + `]}`))
	require.NoError(t, err)
	require.Len(t, n.Messages, 10000)
}

func FuzzDecodeNative(f *testing.F) {
	f.Add(hi(`"stop":["a"],"tools":[{"function":{"name":"x","parameters":{}}}],"":{"":1}`))
	f.Add(`{"messages":[{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f"}}],"":[]}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		n, err := dialect.Native{}.Decode([]byte(body))
		if err != nil {
			require.Equal(t, chat.InvalidRequest, chat.AsError(err).Code)
			return
		}
		require.NotEmpty(t, n.Messages)
	})
}

func BenchmarkDecodeNative(b *testing.B) {
	body := []byte(hi(`"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true}`))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (dialect.Native{}).Decode(body); err != nil {
			b.Fatal(err)
		}
	}
}
