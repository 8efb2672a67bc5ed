package dialect_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/dialect"
)

// begun is the beginning of an answer to a request, for its own client or for one that comes by GET.
func begun(t *testing.T, parts, members string, get bool) string {
	t.Helper()
	n := uiMessages(t, uiHi+`,{"id":"a1","role":"assistant","parts":[`+parts+`]}`, members)
	e := ui.Encoder(dialect.Response{Head: chat.Head{Dialect: "ui-messages", Note: n.Note}, Get: get})
	return strings.Join(frames(e, []chat.Chunk{{Type: chat.Content, Text: []byte("x")}})[:2], "")
}

func TestWhoFollowsTheAnswerToAToolHasTheCallsToo(t *testing.T) {
	const resumable = `,"resumable":true`
	const parts = `{"type":"step-start"},{"type":"reasoning","text":"hm"},
		{"type":"text","text":"I look","providerMetadata":{"websopy": {"state":"1.abc"}}},
		{"type":"tool-look","toolCallId":"1","state":"output-available","input":{"a": 1},"output":{"b":
			2}},
		{"type":"step-start"},
		{"type":"dynamic-tool","toolName":"ask","toolCallId":"2","state":"output-error","rawInput":"{","errorText":"no"}`
	n := uiMessages(t, uiHi+`,{"id":"a1","role":"assistant","parts":[`+parts+`]}`, resumable)
	e := ui.Encoder(dialect.Response{Head: chat.Head{Dialect: "ui-messages", Note: n.Note}, Get: true})
	require.Equal(t, uiFrames(
		`{"type":"start","messageId":"a1"}`,
		`{"type":"start-step"}`,
		`{"type":"reasoning-start","id":"before-1"}`, `{"type":"reasoning-delta","id":"before-1","delta":"hm"}`,
		`{"type":"reasoning-end","id":"before-1"}`,
		`{"type":"text-start","id":"before-2"}`, `{"type":"text-delta","id":"before-2","delta":"I look"}`,
		`{"type":"text-end","id":"before-2","providerMetadata":{"websopy":{"state":"1.abc"}}}`,
		`{"type":"tool-input-available","toolCallId":"1","toolName":"look","input":{"a":1},"providerExecuted":true}`,
		`{"type":"tool-output-available","toolCallId":"1","output":{"b":2}}`,
		`{"type":"finish-step"}`, `{"type":"start-step"}`,
		`{"type":"tool-input-available","toolCallId":"2","toolName":"ask","input":"{","providerExecuted":true,`+
			`"dynamic":true}`,
		`{"type":"tool-output-error","toolCallId":"2","errorText":"no"}`,
		`{"type":"finish-step"}`, `{"type":"start-step"}`,
	)[:16], frames(e, []chat.Chunk{{Type: chat.Content, Text: []byte("x")}})[:16])

	const begin = "data: {\"type\":\"start\",\"messageId\":\"%\"}\n\ndata: {\"type\":\"start-step\"}\n\n"
	as := func(id string) string { return strings.Replace(begin, "%", id, 1) }
	require.Equal(t, as("a1"), begun(t, parts, resumable, false), "its own client has them")
	require.Equal(t, as("a1"), begun(t, parts, "", true))
	for _, untold := range []string{
		`{"type":"data-x","data":1}`, `{"type":"tool-f","toolCallId":"1","state":"output-denied","input":{}}`,
		`{"type":"text","text":"` + strings.Repeat("x", 40<<10) + `"}`,
	} {
		rest := begun(t, parts+","+untold, resumable, true)
		require.Equal(t, as("a1-rest"), rest, "what can't be told is not lost: the answer is a message of its own")
	}
}
