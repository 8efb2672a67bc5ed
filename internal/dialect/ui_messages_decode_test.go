package dialect_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/dialect"
)

func TestABodyTellsThatItIsTheAISDKs(t *testing.T) {
	for body, want := range map[string]bool{
		`{"id":"c","trigger":"submit-message","messages":[]}`:                     true,
		`{"messages":[{"role":"user","parts":[]}]}`:                               true,
		`{"messages":[{"role":"user","content":"x"},{"parts":[],"role":"user"}]}`: true,
		`{"id":"c","message":{"role":"user","parts":[]}}`:                         true,
		`{"messages":[{"role":"user","content":"x","parts":[]}]}`:                 false,
		`{"messages":[{"role":"user","content":"x"}]}`:                            false,
		`{"trigger":{"mine":1},"message":"x","messages":[{"parts":1},5,null]}`:    false,
		`{"messages":5}`: false,
		`[]`:             false,
		`{"trig`:         false,
		``:               false,
	} {
		require.Equal(t, want, dialect.IsUIMessages([]byte(body)), body)
	}
}

// uiMessages decodes a request with messages and other members.
func uiMessages(t *testing.T, messages, members string) *dialect.Ask {
	t.Helper()
	n, err := ui.Decode([]byte(`{"id":"c1","trigger":"submit-message","messages":[` + messages + `]` + members + `}`))
	require.NoError(t, err)
	return n
}

const uiHi = `{"id":"u1","role":"user","parts":[{"type":"text","text":"hi"}]}`

func TestWhatUseChatAsks(t *testing.T) {
	n := uiMessages(t, uiHi, `,"messageId":null,"model":"m","system":"be nice","resumable":true,"mine":{"a":1},`+
		`"user":{"id":5}`)
	require.True(t, n.Stream)
	require.True(t, n.Resumable)
	require.Equal(t, "c1", n.Chat)
	require.Equal(t, "m", n.Model)
	require.Empty(t, n.Extra, "the other fields are the app's")
	require.Equal(t, []chat.Message{{Role: chat.RoleSystem, Content: "be nice"}, {Role: chat.RoleUser, Content: "hi"}},
		n.Messages)
	require.Regexp(t, `^msg-[A-Z2-7]{26}$`, n.Note)
	require.NotEqual(t, n.Note, uiMessages(t, uiHi, "").Note)
}

func TestTheModelsSettingsOfAnApp(t *testing.T) {
	const settings = `"temperature":0.5,"maxTokens":9,"topP":0.1,"seed":7,"presencePenalty":1`
	for _, members := range []string{"," + settings, `,"callSettings":{` + settings + `}`} {
		n := uiMessages(t, uiHi, members)
		require.Equal(t, []chat.Number{"0.5", "9", "0.1", "7"},
			[]chat.Number{n.Temperature, n.MaxTokens, n.TopP, n.Seed})
		require.Empty(t, n.Extra)
	}
	require.Equal(t, chat.Number("5"), uiMessages(t, uiHi, `,"maxOutputTokens":5`).MaxTokens)
	require.Equal(t, "a", uiMessages(t, uiHi, `,"config":{"apiKey":"k","modelName":"a"}`).Model, "of assistant-ui")
	require.Equal(t, "b", uiMessages(t, uiHi, `,"config":{"modelName":"a"},"model":"b"`).Model)
}

func TestToolsOfAnApp(t *testing.T) {
	want := []chat.ToolSpec{{Name: "look", Description: "d", Parameters: []byte(`{"type":"object"}`)}}
	for _, tools := range []string{
		`{"look":{"description":"d","parameters":{"type":"object"}}}`,
		`[{"type":"function","function":{"name":"look","description":"d","parameters":{"type":"object"}}}]`,
	} {
		require.Equal(t, want, uiMessages(t, uiHi, `,"tools":`+tools).Tools)
	}
	require.Empty(t, uiMessages(t, uiHi, `,"tools":{}`).Tools)
}

func TestMessagesOfAChat(t *testing.T) {
	user := func(m chat.Message) []chat.Message {
		m.Role = chat.RoleUser
		return []chat.Message{m}
	}
	for parts, want := range map[string][]chat.Message{
		`{"type":"text","text":"a"},{"type":"text","text":""},{"type":"data-x","data":1}`: user(
			chat.Message{Content: "a"}),
		`{"type":"text","text":"a"},{"type":"file","mediaType":"image/png","filename":"f",` +
			`"url":"data:image/png;base64,AA"}`: user(chat.Message{
			Parts: []chat.Part{{Type: chat.PartText, Text: "a"},
				{Type: chat.PartImage, ImageURL: "data:image/png;base64,AA"}},
		}),
		`{"type":"text","text":""}`: nil,
		``:                          nil,
	} {
		n := uiMessages(t, uiHi+`,{"role":"user","parts":[`+parts+`]}`, "")
		require.Equal(t, append(user(chat.Message{Content: "hi"}), want...), n.Messages, parts)
	}
	require.Equal(t, user(chat.Message{Content: "old"}), uiMessages(t, `{"role":"user","content":"old"}`, "").Messages)
}

func TestStepsOfAnAssistantAreMessages(t *testing.T) {
	n := uiMessages(t, uiHi+`,{"id":"a1","role":"assistant","parts":[
		{"type":"step-start"},
		{"type":"reasoning","text":"hm"},
		{"type":"text","text":"I "},{"type":"text","text":"look"},
		{"type":"tool-look","toolCallId":"1","state":"output-available","input":{"a": 1},"output":{"b":2}},
		{"type":"dynamic-tool","toolName":"ask","toolCallId":"2","state":"output-error","input":{},"errorText":"no"},
		{"type":"tool-look","toolCallId":"3","state":"output-denied","input":{}},
		{"type":"tool-look","toolCallId":"4","state":"output-error","rawInput":"{\"a","errorText":"bad"},
		{"type":"tool-look","toolCallId":"5","state":"input-available","input":{}},
		{"type":"tool-look","toolCallId":"6","state":"approval-responded","input":{},"approval":{"id":"x","approved":false}},
		{"type":"tool-a-b","toolCallId":"7","state":"output-available","input":null,"output":"text",
			"callProviderMetadata":{"websopy":{"state":"1.abc"},"other":{}}},
		{"type":"source-url","url":"u"},{"type":"data-x","data":{}},{"type":"file","mediaType":"image/png","url":"x"},
		{"type":"step-start"},
		{"type":"tool-look","toolCallId":"8","state":"approval-responded","input":{},"approval":{"id":"x","approved":true}},
		{"type":"step-start"},
		{"type":"text","text":"done","state":"done","providerMetadata":{"websopy":{"state":"1.def"}}}]}`, "")
	tool := func(id, result string) chat.Message {
		return chat.Message{Role: chat.RoleTool, ToolCallID: id, Content: result}
	}
	require.Equal(t, []chat.Message{
		{Role: chat.RoleUser, Content: "hi"},
		{Role: chat.RoleAssistant, Content: "I look", State: "1.abc", ToolCalls: []chat.ToolCall{
			{ID: "1", Name: "look", Arguments: `{"a": 1}`}, {ID: "2", Name: "ask", Arguments: `{}`},
			{ID: "3", Name: "look", Arguments: `{}`},
			{ID: "4", Name: "look", Arguments: `{"a`}, {ID: "6", Name: "look", Arguments: `{}`},
			{ID: "7", Name: "a-b", Arguments: `{}`},
		}},
		tool("1", `{"b":2}`), tool("2", "no"), tool("3", "The user did not allow this call."), tool("4", "bad"),
		tool("6", "The user did not allow this call."), tool("7", "text"),
		{Role: chat.RoleAssistant, Content: "done", State: "1.def"},
	}, n.Messages)
	require.Equal(t, "a1", n.Note, "the answer goes on in the message that called")
}

func TestAMessageIsGoneOnWithOnlyIfItIsTheLast(t *testing.T) {
	const assistant = `{"id":"a1","role":"assistant","parts":[{"type":"text","text":"x"}]}`
	require.Equal(t, "a1", uiMessages(t, uiHi+","+assistant, "").Note)
	require.NotEqual(t, "a1", uiMessages(t, assistant+","+uiHi, "").Note)
}

func TestUIRequestsThatAreRefused(t *testing.T) {
	user := func(part string) string { return `{"messages":[{"role":"user","parts":[` + part + `]}]}` }
	for body, want := range map[string]string{
		`{"trigger":"x"}`:               "messages: at least one message with text is required",
		`{"trigger":"x","messages":[]}`: "messages: at least one message with text is required",
		`{"message":{"role":"user","parts":[]}}`: "messages: send all messages of the chat, the relay keeps " +
			"no history",
		user(`{"type":"text","text":""}`): "messages: at least one message with text is required",
		user(`{"type":"text","text":5}`):  "messages[0].parts[0].text: want a string, got a number",
		user(`{"type":"text"}`):           "messages[0].parts[0].text: is required in a part of the type text",
		user(`{"text":"x"}`):              "messages[0].parts[0].type: is required",
		user(`{"type":"video"}`):          `messages[0].parts[0].type: unknown part type "video"; want text or file`,
		user(`{"type":"file","mediaType":"application/pdf","url":"data:"}`):                                          `messages[0].parts[0].mediaType: want an image, got "application/pdf"`,
		user(`{"type":"file","mediaType":"image/png","url":"blob:x"}`):                                               "messages[0].parts[0].url: want an https: or a data: URL",
		`{"messages":[{"role":"tool","parts":[]}]}`:                                                                  `messages[0].role: unknown role "tool"; want system, user or assistant`,
		`{"messages":[{"parts":[]}]}`:                                                                                "messages[0].role: is required",
		`{"trigger":"x","messages":[{"role":"user"}]}`:                                                               "messages[0].parts: is required",
		`{"trigger":"x","messages":[{"role":"user","content":[]}]}`:                                                  "messages[0].content: want a string, got an array",
		`{"messages":[{"role":"assistant","parts":[{"type":"tool-f","state":"output-available"}]}]}`:                 "messages[0].parts[0].toolCallId: is required in a part of the type tool-f",
		`{"messages":[{"role":"assistant","parts":[{"type":"tool-","toolCallId":"1","state":"output-available"}]}]}`: "messages[0].parts[0].type: want the tool's name behind tool-",
		`{"trigger":"x","messages":[` + uiHi + `],"temperature":"warm"}`:                                             "temperature: want a number, got a string",
		`{"trigger":"x","messages":[` + uiHi + `],"callSettings":{"maxTokens":0.5}}`:                                 "callSettings.maxTokens: want a positive integer",
		`{"trigger":"x","id":"` + strings.Repeat("x", 201) + `","messages":[` + uiHi +
			`]}`: "id: want at most 200 bytes",
		`{"trigger":"x"`: "the body is not valid JSON: unexpected end of JSON input at byte 14",
	} {
		_, err := ui.Decode([]byte(body))
		require.Error(t, err, body)
		require.Equal(t, chat.InvalidRequest, chat.AsError(err).Code)
		require.Equal(t, want, chat.AsError(err).Message, body)
	}
}

func FuzzDecodeUIMessages(f *testing.F) {
	f.Add(`{"trigger":"x","messages":[` + uiHi + `],"tools":{"f":{"parameters":{}}},"callSettings":{"seed":1}}`)
	f.Add(`{"messages":[{"role":"assistant","parts":[{"type":"tool-f","toolCallId":"1","state":"output-available","input":{},"output":[]},
		{"type":"step-start"},{"type":"dynamic-tool","toolName":"g","toolCallId":"2","state":"output-error","errorText":"x","rawInput":5}]}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		dialect.IsUIMessages([]byte(body))
		n, err := ui.Decode([]byte(body))
		if err != nil {
			require.Equal(t, chat.InvalidRequest, chat.AsError(err).Code)
			return
		}
		require.NotEmpty(t, n.Messages)
		require.NotEmpty(t, n.Note)
		called := map[string]int{}
		for _, m := range n.Messages {
			require.True(t, m.Content != "" || len(m.Parts) > 0 || len(m.ToolCalls) > 0 || m.Role == chat.RoleTool)
			for _, c := range m.ToolCalls {
				called[c.ID]++
			}
			if m.Role == chat.RoleTool {
				called[m.ToolCallID]--
			}
		}
		for _, n := range called {
			require.Zero(t, n, "each call has its result")
		}
	})
}
