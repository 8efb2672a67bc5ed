package dialect_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/dialect"
)

func TestAMessageBringsBackWhatCameWithTheAnswer(t *testing.T) {
	call := chat.ToolCall{ID: "c1", Name: "look", Arguments: "{}"}
	signed := call
	signed.ExtraContent = []byte(`{"google":{"thought_signature":"c2ln"}}`)
	for name, tc := range map[string]struct {
		message string // less its role and calls
		want    chat.Message
	}{
		"state": {`"state":"1.abc"`, chat.Message{State: "1.abc"}},
		"reasoning_content, as DeepSeek has it": {`"reasoning_content":"hm"`,
			chat.Message{Reasoning: "hm", ReasoningName: "reasoning_content"}},
		"reasoning, as OpenRouter has it": {`"reasoning":"hm"`,
			chat.Message{Reasoning: "hm", ReasoningName: "reasoning"}},
		"both, which say the same": {`"reasoning":"hm","reasoning_content":"hm"`,
			chat.Message{Reasoning: "hm", ReasoningName: "reasoning"}},
		"details": {`"reasoning_details":[{"type":"reasoning.text"}]`,
			chat.Message{ReasoningDetails: []byte(`[{"type":"reasoning.text"}]`)}},
		"extra content": {`"extra_content":{"google":{}}`, chat.Message{ExtraContent: []byte(`{"google":{}}`)}},
		"a frontend's own objects by these names": {
			`"reasoning":{"open":true},"reasoning_details":"none","extra_content":[]`,
			chat.Message{}},
		"a mark for the cache": {`"cache_control":{"type":"ephemeral"}`,
			chat.Message{CacheControl: []byte(`{"type":"ephemeral"}`)}},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := dialect.Native{}.Decode([]byte(`{"messages":[{"role":"assistant",` + tc.message +
				`,"tool_calls":[{"id":"c1","type":"function","function":{"name":"look","arguments":"{}"}},` +
				`{"id":"c1","type":"function","function":{"name":"look","arguments":"{}"},` +
				`"extra_content":{"google":{"thought_signature":"c2ln"}}}]}]}`))
			require.NoError(t, err)
			tc.want.Role, tc.want.ToolCalls = chat.RoleAssistant, []chat.ToolCall{call, signed}
			require.Equal(t, tc.want, n.Messages[0])
		})
	}
}

func TestOnlyAnAssistantsMessageBringsThingsBack(t *testing.T) {
	n, err := dialect.Native{}.Decode(
		[]byte(`{"messages":[{"role":"user","content":"x","state":"1.abc","reasoning":"hm","reasoning_details":[],` +
			`"extra_content":{}}]}`))
	require.NoError(t, err)
	require.Equal(t, chat.Message{Role: chat.RoleUser, Content: "x"}, n.Messages[0])
}

func TestPartsAndToolsCanBeMarkedForTheCache(t *testing.T) {
	n, err := dialect.Native{}.Decode(
		[]byte(
			`{"messages":[{"role":"user","content":[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}]}],
		"tools":[{"type":"function","function":{"name":"f"},"cache_control":{"type":"ephemeral"}}]}`))
	require.NoError(t, err)
	require.Equal(t, `{"type":"ephemeral"}`, string(n.Messages[0].Parts[0].CacheControl))
	require.Equal(t, `{"type":"ephemeral"}`, string(n.Tools[0].CacheControl))
}

func TestAStateThatIsNoTextIsNamed(t *testing.T) {
	_, err := dialect.Native{}.Decode([]byte(`{"messages":[{"role":"assistant","content":"x","state":{}}]}`))
	require.ErrorContains(t, err, "messages[0].state: want a string, got an object")
}

func TestDoneAndTheWholeAnswerHaveTheState(t *testing.T) {
	done := chat.Chunk{Type: chat.Done, Done: &chat.Completion{FinishReason: chat.FinishStop, State: "1.abc"}}
	require.Equal(t, `data: {"type":"done","finishReason":"stop","state":"1.abc"}`+"\n\n",
		string(plain.Chunk(nil, done)))
	var a dialect.Answer
	a.Add(done)
	require.Equal(t, `{"content":"","finishReason":"stop","state":"1.abc"}`,
		string(dialect.Native{}.AppendAnswer(nil, &a)))
}
