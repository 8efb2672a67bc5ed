package handler_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
	providers "github.com/websopy/relay/internal/upstream/provider"
	"github.com/websopy/relay/internal/upstream/upstreamtest"
)

// outcome is how an answer ended, as a client of a dialect sees it.
type outcome struct {
	status  int
	text    string
	end     string // complete, failed or cut
	code    chat.Code
	message string // of a failure

	reasoning, calls, finish string
	prompt, answer           float64 // tokens; 0: nobody knows
}

// call takes a tool call into the outcome. Where arguments are no string they are those parsed.
func (o *outcome) call(id, name, arguments any) {
	text, is := arguments.(string)
	if !is {
		parsed, _ := json.Marshal(arguments)
		text = string(parsed)
	}
	o.calls += fmt.Sprint(id, " ", name, " ", text, "; ")
}

// usage takes the counts of two members of an object, if there is one.
func (o *outcome) usage(of any, prompt, answer string) {
	if counts, is := of.(map[string]any); is {
		o.prompt, _ = counts[prompt].(float64)
		o.answer, _ = counts[answer].(float64)
	}
}

func objectsIn(of any) (all []map[string]any) {
	list, _ := of.([]any)
	for _, each := range list {
		all = append(all, each.(map[string]any))
	}
	return all
}

// spoken is a dialect as its clients use it.
type spoken struct {
	path, ask string
	whole     string // the same, asking for one JSON object; empty: the dialect has none
	ofAPI     bool   // a failure before the first chunk has its status
	inWords   bool   // no code comes with a failure

	// event takes an event of a stream, or the object of a whole answer, into the outcome.
	event func(o *outcome, e map[string]any)
	// order says what is wrong with the events of a stream beside one another, empty when nothing is.
	order func(events []map[string]any) string
	done  string // what follows the last event of a complete answer, empty when nothing does
}

// errorIn takes an error as OpenAI's clients look for it.
func errorIn(o *outcome, e map[string]any) bool {
	failure, ok := e["error"].(map[string]any)
	if ok {
		o.end, o.code, o.message = "failed", chat.Code(failure["code"].(string)), failure["message"].(string)
	}
	return ok
}

func textIn(e map[string]any, name string) string {
	text, _ := e[name].(string)
	return text
}

func nativeEvent(o *outcome, e map[string]any) {
	switch textIn(e, "type") {
	case "content":
		o.text += textIn(e, "content")
	case "reasoning":
		o.reasoning += textIn(e, "content")
	case "tool_call":
		call := e["tool"].(map[string]any)
		o.call(call["id"], call["name"], call["arguments"])
	case "done":
		o.end, o.finish = "complete", textIn(e, "finishReason")
		o.usage(e["usage"], "promptTokens", "completionTokens")
	case "error":
		o.end, o.code, o.message = "failed", chat.Code(textIn(e, "code")), textIn(e, "error")
	case "": // a whole answer
		o.text, o.reasoning, o.end, o.finish = textIn(e, "content"), textIn(e, "reasoning"), "complete", textIn(e,
			"finishReason")
		for _, call := range objectsIn(e["toolCalls"]) {
			o.call(call["id"], call["name"], call["arguments"])
		}
		o.usage(e["usage"], "promptTokens", "completionTokens")
	}
}

func completionEvent(o *outcome, e map[string]any) {
	if errorIn(o, e) {
		return
	}
	choice := e["choices"].([]any)[0].(map[string]any)
	for _, name := range []string{"delta", "message"} {
		if said, ok := choice[name].(map[string]any); ok {
			o.text += textIn(said, "content")
			o.reasoning += textIn(said, "reasoning_content")
			for _, call := range objectsIn(said["tool_calls"]) {
				function := call["function"].(map[string]any)
				o.call(call["id"], function["name"], function["arguments"])
			}
		}
	}
	if choice["finish_reason"] != nil {
		o.end, o.finish = "complete", textIn(choice, "finish_reason")
		o.usage(e["usage"], "prompt_tokens", "completion_tokens")
	}
}

func responseEvent(o *outcome, e map[string]any) {
	if errorIn(o, e) {
		return
	}
	switch textIn(e, "type") {
	case "response.output_text.delta":
		o.text += textIn(e, "delta")
	case "response.reasoning_summary_text.delta":
		o.reasoning += textIn(e, "delta")
	case "response.output_item.done":
		if item := e["item"].(map[string]any); item["type"] == "function_call" {
			o.call(item["call_id"], item["name"], item["arguments"])
		}
	case "response.completed", "response.incomplete":
		said := *o
		o.text, o.reasoning, o.calls = "", "", ""
		responseWhole(o, e["response"].(map[string]any))
		if o.text != said.text || o.reasoning != said.reasoning || o.calls != said.calls {
			o.end = "another answer than its pieces"
		}
	case "": // a whole answer
		responseWhole(o, e)
	}
}

func responseWhole(o *outcome, response map[string]any) {
	o.end, o.finish = "complete", "stop"
	for _, item := range objectsIn(response["output"]) {
		for _, part := range objectsIn(item["content"]) {
			o.text += textIn(part, "text")
		}
		for _, part := range objectsIn(item["summary"]) {
			o.reasoning += textIn(part, "text")
		}
		if item["type"] == "function_call" {
			o.call(item["call_id"], item["name"], item["arguments"])
			o.finish = "tool_calls"
		}
	}
	if why, is := response["incomplete_details"].(map[string]any); is {
		o.finish = strings.Replace(textIn(why, "reason"), "max_output_tokens", "length", 1)
	}
	o.usage(response["usage"], "input_tokens", "output_tokens")
}

func messageEvent(o *outcome, e map[string]any) {
	stop := func(of map[string]any, usage any) {
		o.finish = map[string]string{
			"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls", "refusal": "content_filter",
		}[textIn(of, "stop_reason")]
		o.usage(usage, "input_tokens", "output_tokens")
	}
	switch textIn(e, "type") {
	case "content_block_start":
		if block := e["content_block"].(map[string]any); block["type"] == "tool_use" {
			o.calls += fmt.Sprint(block["id"], " ", block["name"], " ")
		}
	case "content_block_delta":
		delta := e["delta"].(map[string]any)
		o.text += textIn(delta, "text")
		o.reasoning += textIn(delta, "thinking")
		if input, is := delta["partial_json"]; is {
			o.calls += fmt.Sprint(input, "; ")
		}
	case "message_delta":
		stop(e["delta"].(map[string]any), e["usage"])
	case "message_stop":
		o.end = "complete"
	case "error":
		errorIn(o, e)
	case "message": // a whole answer
		o.end = "complete"
		for _, block := range objectsIn(e["content"]) {
			o.text += textIn(block, "text")
			o.reasoning += textIn(block, "thinking")
			if block["type"] == "tool_use" {
				o.call(block["id"], block["name"], block["input"])
			}
		}
		stop(e, e["usage"])
	}
}

func runEvent(o *outcome, e map[string]any) {
	switch textIn(e, "type") {
	case "TEXT_MESSAGE_CONTENT":
		o.text += textIn(e, "delta")
	case "REASONING_MESSAGE_CONTENT":
		o.reasoning += textIn(e, "delta")
	case "TOOL_CALL_START":
		o.calls += fmt.Sprint(e["toolCallId"], " ", e["toolCallName"], " ")
	case "TOOL_CALL_ARGS":
		o.calls += fmt.Sprint(e["delta"], "; ")
	case "RUN_FINISHED":
		o.end = "complete"
		o.finish = textIn(e["metadata"].(map[string]any)["tanstack"].(map[string]any), "finishReason")
		for _, usage := range objectsIn(e["usage"]) {
			o.usage(usage, "inputTokens", "outputTokens")
		}
	case "RUN_ERROR":
		o.end, o.code, o.message = "failed", chat.Code(textIn(e, "code")), textIn(e, "message")
	}
}

func uiEvent(o *outcome, e map[string]any) {
	switch textIn(e, "type") {
	case "text-delta":
		o.text += textIn(e, "delta")
	case "reasoning-delta":
		o.reasoning += textIn(e, "delta")
	case "tool-input-available", "tool-input-error":
		o.call(e["toolCallId"], e["toolName"], e["input"])
	case "finish":
		o.end, o.finish = "complete", strings.ReplaceAll(textIn(e, "finishReason"), "-", "_")
	case "error":
		o.end, o.message = "failed", textIn(e, "errorText")
	}
}

// spokenBy is the native dialect, which sets the measure, and the others.
func spokenBy() (native spoken, others map[string]spoken) {
	const whole = `{"messages":[{"role":"user","content":"hi"}],"stream":false}`
	native = spoken{path: "/api/chat/stream", ask: question, whole: whole, event: nativeEvent, done: "[DONE]"}
	return native, map[string]spoken{
		"Chat Completions": {
			path: completionsPath, ask: streamed, whole: question, ofAPI: true, event: completionEvent,
			order: completionOrder, done: "[DONE]",
		},
		"Responses": {
			path: responsesPath, ask: `{"input":"hi","stream":true}`, whole: `{"input":"hi"}`, ofAPI: true,
			event: responseEvent,
			order: responseOrder,
		},
		"Messages": {path: messagesPath, ask: streamed, whole: question, ofAPI: true, event: messageEvent,
			order: messageOrder},
		"AG-UI": {
			path: aguiAt.Path, ask: strings.Replace(aguiQuestion, `{"resumable":true}`, `{}`, 1), event: runEvent,
			order: runOrder,
		},
		"UI messages": {path: "/api/chat", ask: uiQuestion, inWords: true, event: uiEvent, order: uiOrder,
			done: "[DONE]"},
	}
}

// put asks in a dialect and reads the answer to its end.
func (s *spoken) put(t *testing.T, url, body string) outcome {
	t.Helper()
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	res := ask(t, &http.Client{Transport: transport}, http.MethodPost, url+s.path, body)
	return s.read(t, res)
}

func (s *spoken) read(t *testing.T, res *http.Response) outcome {
	t.Helper()
	defer res.Body.Close()
	o := outcome{status: res.StatusCode, end: "cut"}
	all, err := io.ReadAll(res.Body)
	if o.status == http.StatusServiceUnavailable {
		require.NotEmpty(t, res.Header.Get("Retry-After"))
	}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") {
		require.NoError(t, err)
		s.take(t, &o, string(all))
		return o
	}
	var events []map[string]any
	lines := strings.Split(string(all), "\n")
	for i, line := range lines {
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		rest := strings.Join(lines[i+1:], "")
		if data == "[DONE]" {
			require.Equal(t, "complete", o.end, "no end is claimed but after a complete answer")
			require.Empty(t, rest)
			continue
		}
		if o.end == "complete" {
			require.Empty(t, data, "nothing follows the end")
		}
		events = append(events, s.take(t, &o, data))
		if o.end == "failed" {
			require.NotContains(t, rest, "data: ", "nothing follows a failure")
		}
	}
	if s.order != nil {
		require.Empty(t, s.order(events), string(all))
	}
	if o.end == "complete" && s.done != "" {
		require.True(t, strings.HasSuffix(string(all), "data: "+s.done+"\n\n"))
	}
	if o.end == "cut" {
		require.Error(t, err, "what has no end of its own must not look as if it had one")
	}
	return o
}

func (s *spoken) take(t *testing.T, o *outcome, data string) map[string]any {
	t.Helper()
	var event map[string]any
	require.NoError(t, json.Unmarshal([]byte(data), &event), data)
	s.event(o, event)
	return event
}

// requireSame compares the outcome in a dialect with the native one.
func (s *spoken) requireSame(t *testing.T, native, got outcome, name string) {
	t.Helper()
	require.Equal(t, native.text, got.text, name)
	require.Equal(t, native.reasoning, got.reasoning, name)
	require.Equal(t, native.calls, got.calls, name)
	require.Equal(t, native.finish, got.finish, name)
	require.Equal(t, native.end, got.end, name)
	require.Equal(t, native.message, got.message, name)
	if !s.inWords {
		require.Equal(t, native.code, got.code, name)
		require.Equal(t, []float64{native.prompt, native.answer}, []float64{got.prompt, got.answer}, name)
	}
	if s.ofAPI && native.end == "failed" && native.text == "" {
		require.Equal(t, native.code.Status(), got.status, name)
	} else {
		require.Equal(t, http.StatusOK, got.status, name)
	}
}

// allFaults are what a provider can do wrong, wherever it can.
func allFaults() (all []upstreamtest.Fault) {
	everywhere := []upstreamtest.What{
		upstreamtest.Slow, upstreamtest.Stalled, upstreamtest.Reset,
		upstreamtest.Cut, upstreamtest.Truncated, upstreamtest.Garbage,
	}
	positions := []upstreamtest.Position{
		upstreamtest.BeforeHeader, upstreamtest.BeforeFirst, upstreamtest.AtFirst, upstreamtest.AfterFirst,
	}
	for _, at := range positions {
		for _, what := range everywhere {
			all = append(all, upstreamtest.Fault{What: what, At: at})
		}
		if at != upstreamtest.AtFirst {
			all = append(all, upstreamtest.Fault{What: upstreamtest.ErrorEvent, At: at})
		}
	}
	for _, what := range []upstreamtest.What{
		upstreamtest.None, upstreamtest.HalfHeader, upstreamtest.JSONError, upstreamtest.Empty,
	} {
		all = append(all, upstreamtest.Fault{What: what})
	}
	for _, status := range []int{302, 400, 401, 404, 408, 413, 429, 500, 503, 529} {
		all = append(all, upstreamtest.Fault{What: upstreamtest.BadStatus, Status: status})
	}
	return all
}

// TestTheSameFaultHasTheSameOutcomeInEveryDialect has a provider fail in each way, and compares what the clients of
// each dialect see of it with what native ones see.
func TestTheSameFaultHasTheSameOutcomeInEveryDialect(t *testing.T) {
	native, others := spokenBy()
	for i, fault := range allFaults() {
		t.Run(fault.String(), func(t *testing.T) {
			t.Parallel()
			p := upstreamtest.New(t, upstreamtest.Formats[0], uint64(i))
			p.Play(fault)
			o := providers.Options{
				Name: "p", Kind: "openai", BaseURL: p.URL, Model: "m",
				ConnectTimeout: patience, FirstChunkTimeout: patience, IdleTimeout: patience,
			}
			if fault.What == upstreamtest.Stalled {
				o.FirstChunkTimeout, o.IdleTimeout = 150*time.Millisecond, 500*time.Millisecond
			}
			upstream, err := providers.New(o)
			require.NoError(t, err)
			r := start(t, handler.Options{Router: answering{upstream}, Dialects: append(ofProviders, aguiAt)})
			streamed, whole := native.put(t, r.url, native.ask), native.put(t, r.url, native.whole)
			require.NotEqual(t, "cut", streamed.end)
			require.Equal(t, streamed.code, whole.code)
			for name, s := range others {
				s.requireSame(t, streamed, s.put(t, r.url, s.ask), name)
				if s.whole != "" {
					require.Equal(t, whole, s.put(t, r.url, s.whole), "%s, whole", name)
				}
			}
			require.NoError(t, p.WaitIdle(t.Context()), "the provider is told")
		})
	}
}

func TestADrainEndsStreamsOfEveryDialectInItsOwnTerms(t *testing.T) {
	native, others := spokenBy()
	others["native"] = native
	for name, s := range others {
		for _, said := range [][]chat.Chunk{nil, {content("Hel")}} {
			gone := make(chan error, 1)
			r := start(t, handler.Options{Router: answering{hang(gone, said...)},
				Dialects: append(ofProviders, aguiAt)})
			answered := make(chan outcome)
			go func() { answered <- s.put(t, r.url, s.ask) }()
			require.Eventually(t, func() bool { return r.counted(t, "relay_streams_open")[""] == 1 }, patience,
				time.Millisecond)
			r.Drain()
			r.EndStreams()
			got := receive(t, answered)
			want := outcome{
				status: http.StatusOK, end: "failed", code: chat.ServerShutdown,
				message: "the server is shutting down",
			}
			if said != nil && got.text != "" { // the shutdown may come before the first chunk was asked for
				want.text = "Hel"
			} else if s.ofAPI {
				want.status = http.StatusServiceUnavailable
			}
			if s.inWords {
				want.code = ""
			}
			require.Equal(t, want, got, name)
		}
	}
}
