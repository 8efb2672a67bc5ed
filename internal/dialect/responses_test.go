package dialect_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/dialect"
)

var responses dialect.Responses

// object is an event of a response, or the response itself.
type object = map[string]any

// events are those of frames, each with its name and number as they have to be.
func events(t *testing.T, frames string) (all []object) {
	t.Helper()
	for i, frame := range strings.Split(strings.TrimSuffix(frames, "\n\n"), "\n\n") {
		name, data, ok := strings.Cut(strings.TrimPrefix(frame, "event: "), "\ndata: ")
		require.True(t, ok, frame)
		var event object
		require.NoError(t, json.Unmarshal([]byte(data), &event), data)
		require.Equal(t, name, event["type"])
		require.EqualValues(t, i, event["sequence_number"])
		all = append(all, event)
	}
	return all
}

// told is what an event tells beside its name and number, as JSON with sorted names.
func told(t *testing.T, event object) string {
	t.Helper()
	rest := object{}
	for name, value := range event {
		if name != "type" && name != "sequence_number" {
			rest[name] = value
		}
	}
	text, err := json.Marshal(rest)
	require.NoError(t, err)
	return fmt.Sprintf("%s %s", strings.TrimPrefix(event["type"].(string), "response."), text)
}

// responseWith is a response as it stands.
func responseWith(status, output, more string) string {
	return `{"id":"resp_s1","object":"response","created_at":1800000000,"status":"` + status +
		`","model":"m","output":[` + output +
		`],"tools":[],"tool_choice":"auto","parallel_tool_calls":true,"store":false,"metadata":{},` + more + `}`
}

const (
	thinkingItem = `{"id":"rs_s1_0","type":"reasoning","summary":[{"type":"summary_text","text":"hm"}]}`
	messageItem  = `{"id":"msg_s1_1","type":"message","status":"completed","role":"assistant","content":[` +
		helloPart + `]}`
	helloPart     = `{"type":"output_text","annotations":[],"logprobs":[],"text":"Hello"}`
	firstCallItem = `{"id":"fc_s1_2","type":"function_call","status":"completed","call_id":"1","name":"f",` +
		`"arguments":"{\"a\":1}"}`
	otherCallItem = `{"id":"fc_s1_3","type":"function_call","status":"completed","call_id":"2","name":"g",` +
		`"arguments":"{}"}`
	stateItem     = `{"id":"rs_s1_4","type":"reasoning","summary":[],"encrypted_content":"1.abc"}`
	responseUsage = `"usage":{"input_tokens":30,"input_tokens_details":{"cached_tokens":20},"output_tokens":4,` +
		`"output_tokens_details":{"reasoning_tokens":1},"total_tokens":34}`
	noFault = `"error":null,"incomplete_details":null,`
)

func TestAResponseIsStreamed(t *testing.T) {
	all := strings.Join(frames(responses.Encoder(dialect.Response{Head: completionsHead}), answerWithAll("1.abc")), "")
	var got []string
	for _, event := range events(t, all) {
		got = append(got, told(t, event))
	}
	begun := `{"response":` + responseWith("in_progress", "", noFault+`"usage":null`) + `}`
	at := func(prefix string, i int) string {
		return fmt.Sprintf(`"item_id":"%s_s1_%d","output_index":%d`, prefix, i, i)
	}
	call := func(i int, id, name, arguments, item string) []string {
		open := fmt.Sprintf(`{"id":"fc_s1_%d","type":"function_call","status":"in_progress","call_id":"%s",`+
			`"name":"%s","arguments":""}`, i, id, name)
		return []string{
			fmt.Sprintf(`output_item.added {"output_index":%d,"item":%s}`, i, open),
			`function_call_arguments.delta {` + at("fc", i) + `,"delta":` + arguments + `}`,
			`function_call_arguments.done {` + at("fc", i) + `,"name":"` + name + `","arguments":` + arguments + `}`,
			fmt.Sprintf(`output_item.done {"output_index":%d,"item":%s}`, i, item),
		}
	}
	items := strings.Join([]string{thinkingItem, messageItem, firstCallItem, otherCallItem, stateItem}, ",")
	want := []string{
		`created ` + begun, `in_progress ` + begun,
		`output_item.added {"output_index":0,"item":{"id":"rs_s1_0","type":"reasoning","summary":[]}}`,
		`reasoning_summary_part.added {` + at("rs", 0) +
			`,"summary_index":0,"part":{"type":"summary_text","text":""}}`,
		`reasoning_summary_text.delta {` + at("rs", 0) + `,"summary_index":0,"delta":"hm"}`,
		`reasoning_summary_text.done {` + at("rs", 0) + `,"summary_index":0,"text":"hm"}`,
		`reasoning_summary_part.done {` + at("rs", 0) +
			`,"summary_index":0,"part":{"type":"summary_text","text":"hm"}}`,
		`output_item.done {"output_index":0,"item":` + thinkingItem + `}`,
		`output_item.added {"output_index":1,"item":{"id":"msg_s1_1","type":"message","status":"in_progress",` +
			`"role":"assistant","content":[]}}`,
		`content_part.added {` + at("msg", 1) + `,"content_index":0,"part":` + strings.Replace(helloPart, "Hello", "",
			1) + `}`,
		`output_text.delta {` + at("msg", 1) + `,"content_index":0,"delta":"Hel","logprobs":[]}`,
		`output_text.delta {` + at("msg", 1) + `,"content_index":0,"delta":"lo","logprobs":[]}`,
		`output_text.done {` + at("msg", 1) + `,"content_index":0,"text":"Hello","logprobs":[]}`,
		`content_part.done {` + at("msg", 1) + `,"content_index":0,"part":` + helloPart + `}`,
		`output_item.done {"output_index":1,"item":` + messageItem + `}`,
	}
	want = append(want, call(2, "1", "f", `"{\"a\":1}"`, firstCallItem)...)
	want = append(want, call(3, "2", "g", `"{}"`, otherCallItem)...)
	want = append(want, `output_item.added {"output_index":4,"item":`+stateItem+`}`,
		`output_item.done {"output_index":4,"item":`+stateItem+`}`,
		`completed {"response":`+responseWith("completed", items, noFault+responseUsage)+`}`)
	require.Len(t, got, len(want), all)
	for i := range want {
		name, data, _ := strings.Cut(want[i], " ")
		gotName, gotData, _ := strings.Cut(got[i], " ")
		require.Equal(t, name, gotName)
		require.JSONEq(t, data, gotData, name)
	}
	require.True(t, strings.HasSuffix(all, "}\n\n"), "no [DONE]")
}

func TestAWholeResponseIsTheEndOfAStream(t *testing.T) {
	whole := func(chunks ...chat.Chunk) string {
		a := dialect.Answer{Head: completionsHead}
		for _, c := range chunks {
			a.Add(c)
		}
		return string(responses.AppendAnswer(nil, &a))
	}
	items := strings.Join([]string{thinkingItem, messageItem, firstCallItem, otherCallItem, stateItem}, ",")
	require.JSONEq(t, responseWith("completed", items, noFault+responseUsage), whole(answerWithAll("1.abc")...))

	zeros := `"usage":{"input_tokens":0,"input_tokens_details":{"cached_tokens":0},"output_tokens":0,` +
		`"output_tokens_details":{"reasoning_tokens":0},"total_tokens":0}`
	for reason, want := range map[chat.FinishReason]string{
		chat.FinishStop:    responseWith("completed", "", noFault+zeros),
		chat.FinishStopped: responseWith("completed", "", noFault+zeros),
		chat.FinishLength: responseWith("incomplete", "",
			`"error":null,"incomplete_details":{"reason":"max_output_tokens"},`+zeros),
		chat.FinishContentFilter: responseWith("incomplete", "",
			`"error":null,"incomplete_details":{"reason":"content_filter"},`+zeros),
	} {
		end := chat.Chunk{Type: chat.Done, Done: &chat.Completion{FinishReason: reason}}
		require.JSONEq(t, want, whole(end), reason)
		stream := events(t, string(responses.Encoder(dialect.Response{Head: completionsHead}).Chunk(nil, end)))
		require.Len(t, stream, 3, "an answer without content has a beginning, too")
		require.Equal(t, "response."+stream[2]["response"].(object)["status"].(string), stream[2]["type"])
	}
}

// Some clients know only one of the two events, some only the object in the second.
func TestAFailedResponseEndsInTwoEvents(t *testing.T) {
	for name, chunks := range map[string][]chat.Chunk{"at once": nil,
		"after a text": {{Type: chat.Content, Text: []byte("Hel")}}} {
		e := responses.Encoder(dialect.Response{Head: completionsHead})
		var all []byte
		for _, c := range chunks {
			all = e.Chunk(all, c)
		}
		all = e.Fail(all, &chat.Error{Code: chat.UpstreamTruncated, Message: `broke "off"`}, 9)
		require.True(t, strings.HasSuffix(string(all), "}\nid: s1.9\n\n"), name)
		got := events(t, strings.Replace(string(all), "\nid: s1.9", "", 1))
		require.Equal(t, "response.created", got[0]["type"], name)
		require.JSONEq(t, `{"response":`+responseWith("failed", "",
			`"error":{"code":"upstream_truncated","message":"broke \"off\""},"incomplete_details":null,"usage":null`)+
			`}`,
			strings.TrimPrefix(told(t, got[len(got)-2]), "failed "))
		require.JSONEq(t, `{"code":"upstream_truncated","message":"broke \"off\"","param":null,
			"error":{"type":"server_error","code":"upstream_truncated","message":"broke \"off\"","param":null}}`,
			strings.TrimPrefix(told(t, got[len(got)-1]), "error "))
	}
}

// The ids of items, their indexes and the numbers of events go on where the client stopped.
func TestEachPrefixOfAStreamAndTheRestAreTheStream(t *testing.T) {
	for _, d := range []dialect.Dialect{responses, completions, messages} {
		read := func(after uint64) (frames []string) {
			e := d.Encoder(dialect.Response{Head: completionsHead, Resumed: after > 0, After: after})
			for i, c := range answerWithAll("1.abc") {
				c.Seq = uint64(i + 1)
				frames = append(frames, string(e.Chunk(nil, c)))
			}
			return frames
		}
		whole := read(0)
		for after := range whole {
			rest := read(uint64(after))
			require.Empty(t, strings.Join(rest[:after], ""))
			require.Equal(t, whole[after:], rest[after:])
		}
	}
}

func TestTheLastEventOfAChunkTellsItsPosition(t *testing.T) {
	e := responses.Encoder(dialect.Response{Head: completionsHead})
	got := string(e.Chunk(nil, chat.Chunk{Type: chat.Content, Text: []byte("x"), Seq: 1}))
	require.Equal(t, 1, strings.Count(got, "id: s1."))
	require.True(t, strings.HasSuffix(got, "\nid: s1.1\n\n"))
	require.Equal(t, ": hb\n", string(e.Ping(nil)))
	require.Empty(t, e.Close(nil))
}

func TestResponseTextDoesNotAllocate(t *testing.T) {
	buf := make([]byte, 0, 4096)
	for _, typ := range []chat.Type{chat.Content, chat.Reasoning} {
		e := responses.Encoder(dialect.Response{Head: completionsHead})
		c := chat.Chunk{Type: typ, Text: []byte("a few words, \"quoted\", 和中文\n")}
		require.Zero(t, testing.AllocsPerRun(1000, func() { buf = e.Chunk(buf[:0], c) }),
			"but for the room of all text")
	}
}

func TestAResponsesRequest(t *testing.T) {
	n, err := responses.Decode(
		[]byte(
			`{"model":"gpt-6","instructions":"be brief","stream":true,"max_output_tokens":9,"temperature":0.5,"top_p":1,
		"reasoning":{"effort":"low","summary":"auto"},"store":true,"include":["reasoning.encrypted_content"],"client_metadata":{},
		"previous_response_id":null,"background":false,"parallel_tool_calls":true,"prompt_cache_key":"k","text":{"verbosity":"low",
		"format":{"type":"json_schema","name":"n","strict":true,"schema":{"type":"object"}}},
		"tools":[{"type":"function","name":"f","description":"d","strict":null,"parameters":{"type":"object"}},{"type":"web_search"},
			{"type":"custom","name":"apply_patch","format":{}},{"type":"namespace","name":"x","tools":[]}],
		"tool_choice":{"type":"function","name":"f"},
		"input":[{"role":"developer","content":"and kind"},{"type":"message","role":"user","content":[{"type":"input_text","text":"hi"},
			{"type":"input_image","image_url":"data:image/png;base64,AA==","detail":"low"}]}]}`))
	require.NoError(t, err)
	require.Equal(t, &dialect.Ask{Stream: true, Request: chat.Request{
		Model: "gpt-6", MaxTokens: "9", Temperature: "0.5", TopP: "1", ReasoningEffort: "low",
		ResponseFormat: []byte(`{"type":"json_schema","json_schema":{"name":"n","strict":true,` +
			`"schema":{"type":"object"}}}`),
		Tools:      []chat.ToolSpec{{Name: "f", Description: "d", Parameters: []byte(`{"type":"object"}`)}},
		ToolChoice: chat.ToolChoice{Mode: chat.ChooseFunction, Name: "f"},
		Messages: []chat.Message{
			{Role: chat.RoleSystem, Content: "be brief"}, {Role: chat.RoleSystem, Content: "and kind"},
			{Role: chat.RoleUser, Parts: []chat.Part{
				{Type: chat.PartText, Text: "hi"},
				{Type: chat.PartImage, ImageURL: "data:image/png;base64,AA==", Detail: "low"},
			}},
		},
	}}, n)

	one := `{"input":"hi","parallel_tool_calls":false,"tools":[{"type":"function","name":"f"}]}`
	n, err = responses.Decode([]byte(one))
	require.NoError(t, err)
	require.Equal(t, []chat.Field{{Name: "parallel_tool_calls", Value: []byte("false")}}, n.Extra)

	n, err = responses.Decode([]byte(`{"input":"hi","tools":[{"type":"web_search"}],"tool_choice":"auto",` +
		`"parallel_tool_calls":false,"text":{"format":{"type":"text"}}}`))
	require.NoError(t, err)
	require.Equal(t,
		&dialect.Ask{Request: chat.Request{Messages: []chat.Message{{Role: chat.RoleUser, Content: "hi"}}}}, n)
}

func TestItemsBecomeMessages(t *testing.T) {
	const (
		user = `{"role":"user","content":"q"}`
		text = `{"type":"message","role":"assistant","content":[{"type":"output_text","text":"a",` +
			`"annotations":[]},{"type":"refusal","refusal":"b"}]}`
		call   = `{"type":"function_call","id":"fc_1","call_id":"1","name":"f","arguments":"{}"}`
		call2  = `{"type":"function_call","call_id":"2","name":"g","arguments":"{}"}`
		result = `{"type":"function_call_output","call_id":"1","output":"r"}`
		parts  = `{"type":"function_call_output","call_id":"2","output":[{"type":"input_text","text":"s"}]}`
		state  = `{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"1.abc"}`
		sealed = `{"type":"reasoning","summary":[{"type":"summary_text","text":"hm"}],"encrypted_content":"gAAAAABo"}`
		shown  = `{"type":"reasoning","summary":[{"type":"summary_text","text":"hm"}]}`
	)
	q := chat.Message{Role: chat.RoleUser, Content: "q"}
	f, g := chat.ToolCall{ID: "1", Name: "f", Arguments: "{}"}, chat.ToolCall{ID: "2", Name: "g", Arguments: "{}"}
	r, s := chat.Message{Role: chat.RoleTool, ToolCallID: "1", Content: "r"}, chat.Message{Role: chat.RoleTool,
		ToolCallID: "2", Content: "s"}
	said := func(content, state string, calls ...chat.ToolCall) chat.Message {
		return chat.Message{Role: chat.RoleAssistant, Content: content, State: state, ToolCalls: calls}
	}
	for name, tc := range map[string]struct {
		items []string
		want  []chat.Message
	}{
		"text and calls are one message": {[]string{user, text, call, call2, result, parts},
			[]chat.Message{q, said("ab", "", f, g), r, s}},
		"calls alone":        {[]string{user, call, result}, []chat.Message{q, said("", "", f), r}},
		"text between calls": {[]string{text, call, text, result}, []chat.Message{said("abab", "", f), r}},
		"one call after the other": {[]string{call, result, call2, parts},
			[]chat.Message{said("", "", f), r, said("", "", g), s}},
		"a state behind its answer": {[]string{user, shown, text, call, state, result},
			[]chat.Message{q, said("ab", "1.abc", f), r}},
		"a state before its answer": {[]string{user, state, text, call, result},
			[]chat.Message{q, said("ab", "1.abc", f), r}},
		"states of two answers": {[]string{call, state, result, text, state},
			[]chat.Message{said("", "1.abc", f), r, said("ab", "1.abc")}},
		"a state of nothing": {[]string{user, state, user}, []chat.Message{q, q}},
		"the thinking of others": {[]string{sealed, text, sealed, `{"type":"compaction","encrypted_content":"x"}`},
			[]chat.Message{said("ab", "")}},
	} {
		n, err := responses.Decode([]byte(`{"input":[` + strings.Join(tc.items, ",") + `]}`))
		require.NoError(t, err, name)
		require.Equal(t, tc.want, n.Messages, name)
	}
}

func TestWhatResponsesCannotDoIsRefused(t *testing.T) {
	const kept = "nothing is stored here: set store to false (AI SDK: providerOptions.openai.store), or use .chat()"
	for members, want := range map[string]string{
		`"input":[{"type":"item_reference","id":"msg_1"}]`: "input[0]: " + kept,
		`"input":[{"id":"msg_1"}]`:                         "input[0]: " + kept,
		`"input":"x","previous_response_id":"resp_1"`:      "previous_response_id: " + kept,
		`"input":"x","conversation":"conv_1"`:              "conversation: " + kept,
		`"input":"x","prompt":{"id":"p"}`: "prompt: prompts are not " +
			"kept here",
		`"input":"x","background":true`:                                              "background: want false",
		`"input":[{"role":"user","content":[{"type":"input_file","file_id":"f"}]}]`:  "input[0].content[0].type: unknown part type",
		`"input":[{"role":"user","content":[{"type":"input_image","file_id":"f"}]}]`: "input[0].content[0].image_url: is required",
		`"input":[{"type":"computer_call"}]`:                                         "input[0].type: unknown item",
		`"input":[{}]`:                                                               "input[0].type: is required",
		`"input":[{"role":"robot","content":"x"}]`:                                   "input[0].role: unknown role",
		`"input":[{"role":"user"}]`:                                                  "input[0].content: is required",
		`"input":[{"type":"function_call","name":"f"}]`:                              "input[0].call_id: is required",
		`"input":[{"type":"function_call_output","call_id":"1"}]`:                    "input[0].output: is required",
		`"input":[]`:                           "input: at least one message is required",
		`"model":"m"`:                          "input: at least one message is required",
		`"input":7`:                            "input: want a string or an array of items",
		`"input":"x","tool_choice":"required"`: "tool_choice: there is no function",
		`"input":"x","tool_choice":{"type":"allowed_tools"}`: "tool_choice.type: unknown type",
		`"input":"x","tools":[{"type":"function"}]`:          "tools[0].name: is required",
		`"input":"x","text":{"format":{"type":"xml"}}`:       "text.format.type: unknown format",
		`"input":"x","max_output_tokens":0`:                  "max_output_tokens: want a positive integer",
	} {
		_, err := responses.Decode([]byte(`{` + members + `}`))
		require.ErrorContains(t, err, want, members)
		require.Equal(t, chat.InvalidRequest, chat.AsError(err).Code)
	}
}

func FuzzDecodeResponses(f *testing.F) {
	f.Add(`{"instructions":"x","input":[{"role":"user","content":[{"type":"input_text","text":"x"}]},` +
		`{"type":"reasoning","encrypted_content":"1.a"},{"type":"function_call","call_id":"1","name":"f",` +
		`"arguments":"{}"},` +
		`{"type":"function_call_output","call_id":"1","output":"x"}],"tools":[{"type":"function","name":"f"}]}`)
	f.Add(`{"input":"x","text":{"format":{"type":"json_schema","name":"n","schema":{}}},` +
		`"tool_choice":{"type":"function","name":"f"}}`)
	f.Fuzz(func(t *testing.T, body string) {
		n, err := responses.Decode([]byte(body))
		if err != nil {
			require.Equal(t, chat.InvalidRequest, chat.AsError(err).Code)
			return
		}
		require.NotEmpty(t, n.Messages)
		require.LessOrEqual(t, len(n.Extra), 1)
		require.True(t, n.ResponseFormat == nil || json.Valid(n.ResponseFormat), string(n.ResponseFormat))
		for _, m := range n.Messages {
			require.True(t, m.Role == chat.RoleAssistant || m.State == "" && m.ToolCalls == nil)
		}
	})
}
