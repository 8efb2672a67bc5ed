package provider_test

import (
	"strings"
	"testing"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
)

// calls makes a chunk of fragments: index, id, name and arguments, each of which may be missing.
func calls(fragments ...string) string {
	return delta(`"tool_calls":[` + strings.Join(fragments, ",") + `]`)
}

// frag is a fragment. Its index is JSON, "" for none; the arguments are the text itself.
func frag(index, id, name, arguments string) string {
	var members []string
	if index != "" {
		members = append(members, `"index":`+index)
	}
	if id != "" {
		members = append(members, `"id":"`+id+`"`)
	}
	function := `"arguments":"` + strings.ReplaceAll(strings.ReplaceAll(arguments, `\`, `\\`), `"`, `\"`) + `"`
	if name != "" {
		function = `"name":"` + name + `",` + function
	}
	return "{" + strings.Join(append(members, `"type":"function"`, `"function":{`+function+`}`), ",") + "}"
}

func call(id, name, arguments string) chat.ToolCall {
	return chat.ToolCall{ID: id, Name: name, Arguments: arguments}
}

const oslo, lima, rome = `{"city":"Oslo"}`, `{"city":"Lima"}`, `{"city":"Rome"}`

// fragmentStreams are the ways in which servers cut calls into pieces, each of which somebody has reported.
var fragmentStreams = map[string]struct {
	chunks []string
	want   []chat.ToolCall
}{
	"a name in pieces": {[]string{calls(frag("0", "a", "get", "")), calls(frag("0", "", "_city", "")),
		calls(frag("0", "", "", oslo))}, []chat.ToolCall{call("a", "get_city", oslo)}},
	"a name in pieces and then whole": {[]string{calls(frag("0", "a", "get", "")),
		calls(frag("0", "a", "get_city", "")), calls(frag("0", "a", "get_city", oslo))},
		[]chat.ToolCall{call("a", "get_city", oslo)}},
	"a name repeated": {[]string{calls(frag("0", "a", "get", `{"city"`)),
		calls(frag("0", "a", "get", `:"Oslo"}`))}, []chat.ToolCall{call("a", "get", oslo)}},
	"a name after the arguments": {[]string{calls(frag("0", "a", "", `{"city"`)),
		calls(frag("0", "", "get", `:"Oslo"}`))}, []chat.ToolCall{call("a", "get", oslo)}},
	"a name last, without an index": {[]string{calls(frag("", "a", "", "")), calls(frag("", "a", "", `{"city"`)),
		calls(frag("", "a", "get", `:"Oslo"}`))}, []chat.ToolCall{call("a", "get", oslo)}},
	"an id after the arguments": {[]string{calls(frag("0", "", "get", `{"city"`)),
		calls(frag("0", "a", "", `:"Oslo"}`))}, []chat.ToolCall{call("a", "get", oslo)}},
	"an id that changes": {[]string{calls(frag("0", "a", "get", "")), calls(frag("0", "b", "", `{"city"`)),
		calls(frag("0", "c", "", `:"Oslo"}`))}, []chat.ToolCall{call("a", "get", oslo)}},
	"an id that changes, with the name": {
		[]string{calls(frag("0", "a", "get", `{"city"`)), calls(frag("0", "b", "get", `:"Oslo"}`))},
		[]chat.ToolCall{call("a", "get", oslo)}},
	"an id that changes, without an index": {
		[]string{calls(frag("", "a", "get", `{"city"`)), calls(frag("", "b", "", `:"Oslo"}`))},
		[]chat.ToolCall{call("a", "get", oslo)}},
	"an index that counts fragments": {
		[]string{calls(frag("0", "a", "get", "")), calls(frag("1", "", "", `{"city"`)),
			calls(frag("2", "", "", `:"Oslo"}`))}, []chat.ToolCall{call("a", "get", oslo)}},
	"one id on two indexes": {
		[]string{calls(frag("0", "a", "get", "")), calls(frag("1", "a", "get", oslo))},
		[]chat.ToolCall{call("a", "get", oslo)}},
	"one id on two indexes, in pieces": {
		[]string{calls(frag("0", "a", "get", "")), calls(frag("1", "a", "get", `{"city"`)),
			calls(frag("1", "", "", `:"Oslo"}`))}, []chat.ToolCall{call("a", "get", oslo)}},
	"one id for two calls": {
		[]string{calls(frag("0", "a", "get", oslo)), calls(frag("1", "a", "get", lima))},
		[]chat.ToolCall{call("a", "get", oslo), call("call_1", "get", lima)}},
	"one id for two tools, without an index": {
		[]string{calls(frag("", "a", "get", oslo)), calls(frag("", "a", "put", lima))},
		[]chat.ToolCall{call("a", "get", oslo), call("call_1", "put", lima)}},
	"three calls on one index": {
		[]string{calls(frag("0", "a", "get", oslo)), calls(frag("0", "b", "get", lima)),
			calls(frag("0", "c", "get", rome))},
		[]chat.ToolCall{call("a", "get", oslo), call("b", "get", lima), call("c", "get", rome)}},
	"three calls on one index, in pieces": {
		[]string{calls(frag("0", "a", "get", "")), calls(frag("0", "", "", oslo)), calls(frag("0", "b", "get", "")),
			calls(frag("0", "", "", `{"city":`)), calls(frag("0", "", "", `"Lima"}`))},
		[]chat.ToolCall{call("a", "get", oslo), call("b", "get", lima)}},
	"calls on one index that interleave by id": {
		[]string{calls(frag("0", "a", "get", `{"city"`)), calls(frag("0", "b", "get", `{"city"`)),
			calls(frag("0", "a", "", `:"Oslo"}`)), calls(frag("0", "b", "", `:"Lima"}`))},
		[]chat.ToolCall{call("a", "get", oslo), call("b", "get", lima)}},
	"a second call of nothing but arguments": {
		[]string{calls(frag("0", "a", "get", "")), calls(frag("0", "", "", oslo)), calls(frag("0", "", "", lima))},
		[]chat.ToolCall{call("a", "get", oslo), call("call_1", "get", lima)}},
	"a second call of nothing but arguments, in pieces": {
		[]string{calls(frag("0", "a", "get", oslo)), calls(frag("0", "", "", `{"city"`)),
			calls(frag("0", "", "", `:"Lima"}`))},
		[]chat.ToolCall{call("a", "get", oslo), call("call_1", "get", lima)}},
	"two calls' arguments in one fragment": {
		[]string{calls(frag("0", "a", "get", oslo+lima))},
		[]chat.ToolCall{call("a", "get", oslo), call("call_1", "get", lima)}},
	"two calls' arguments, cut anywhere": {
		[]string{calls(frag("0", "a", "get", `{"city":"Os`)), calls(frag("0", "", "", `lo"}{"city":`)),
			calls(frag("0", "", "", `"Lima"}`))},
		[]chat.ToolCall{call("a", "get", oslo), call("call_1", "get", lima)}},
	"all of it again": {
		[]string{calls(frag("0", "a", "get", oslo)), calls(frag("0", "a", "get", oslo)),
			calls(frag("0", "a", "get", oslo))}, []chat.ToolCall{call("a", "get", oslo)}},
	"the arguments again, without an index": {
		[]string{calls(frag("", "a", "get", oslo)), calls(frag("", "", "", oslo))},
		[]chat.ToolCall{call("a", "get", oslo)}},
	"two calls again and again": {
		[]string{calls(frag("0", "a", "get", oslo), frag("1", "b", "get", lima)),
			calls(frag("0", "a", "get", oslo), frag("1", "b", "get", lima))},
		[]chat.ToolCall{call("a", "get", oslo), call("b", "get", lima)}},
	"all so far again, with more": {
		[]string{calls(frag("0", "a", "get", `{"ci`)), calls(frag("0", "a", "get", `{"city":"Os`)),
			calls(frag("0", "a", "get", oslo))}, []chat.ToolCall{call("a", "get", oslo)}},
	"an empty object, and then the arguments": {
		[]string{calls(frag("0", "a", "get", `{}`)), calls(frag("0", "", "", `{"city"`)),
			calls(frag("0", "", "", `:"Oslo"}`))}, []chat.ToolCall{call("a", "get", oslo)}},
	"two items of a list without index and id": {
		[]string{calls(frag("", "", "get", oslo), frag("", "", "put", lima))},
		[]chat.ToolCall{call("call_0", "get", oslo), call("call_1", "put", lima)}},
	"two items of one tool in a list without index and id": {
		[]string{calls(frag("", "", "get", oslo), frag("", "", "get", lima))},
		[]chat.ToolCall{call("call_0", "get", oslo), call("call_1", "get", lima)}},
	"two lists without index and id": {
		[]string{calls(frag("", "", "get", oslo)), calls(frag("", "", "put", lima))},
		[]chat.ToolCall{call("call_0", "get", oslo), call("call_1", "put", lima)}},
	"objects, nulls and empty strings": {
		[]string{calls(`{"index":null,"id":"a","function":{"name":"get","arguments":{"city":"Oslo"}}}`),
			calls(`{"id":"","function":{"name":null,"arguments":null}}`),
			calls(`{"function":null}`, `null`), calls(`{"id":"b","function":{"name":"put","arguments":[]}}`),
			calls(`{"id":"c","function":{"name":"put","arguments":"null"}}`)},
		[]chat.ToolCall{call("a", "get", oslo), call("b", "put", "{}"), call("c", "put", "{}")}},
	"a call of nothing is none": {[]string{calls(frag("0", "a", "get", oslo)),
		calls(`{"index":1}`, frag("2", "", "", ""))}, []chat.ToolCall{call("a", "get", oslo)}},
	"a finish reason with every fragment": {
		[]string{`{"model":"m-1","choices":[{"delta":{"tool_calls":[` + frag("0", "a", "get", `{"city"`) +
			`]},"finish_reason":"tool_calls"}]}`,
			`{"choices":[{"delta":{"tool_calls":[` + frag("0", "", "", `:"Oslo"}`) +
				`]},"finish_reason":"tool_calls"}]}`}, []chat.ToolCall{call("a", "get", oslo)}},
	"the call of before there were several": {
		[]string{delta(`"function_call":{"name":"get","arguments":""}`),
			delta(`"function_call":{"arguments":"{\"city\""}`), delta(`"function_call":{"arguments":":\"Oslo\"}"}`)},
		[]chat.ToolCall{call("call_0", "get", oslo)}},
	"half a character at the end of a fragment": {
		[]string{calls(`{"index":0,"id":"a","function":{"name":"get","arguments":"{\"x\":\"\ud83d"}}`),
			calls(`{"index":0,"function":{"arguments":"\ude00\"}"}}`)},
		[]chat.ToolCall{call("a", "get", `{"x":"😀"}`)}},
}

func TestFragmentsOfToolCalls(t *testing.T) {
	streams := make(map[string]stream)
	for name, tc := range fragmentStreams {
		want := &chat.Completion{FinishReason: chat.FinishToolCalls, Model: "m-1"}
		streams[name] = stream{body: sse(append(tc.chunks, finished("tool_calls"), "[DONE]")...),
			want: chattest.Transcript{Tools: tc.want, Done: want}}
		streams[name+", that ends without a word"] = stream{body: sse(append(tc.chunks, "[DONE]")...),
			want: chattest.Transcript{Tools: tc.want, Done: want}}
	}
	requireStreams(t, "openai", streams)
}
