package handler_test

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
)

// parts follow what is open in a stream: a part is closed before the next one opens, and has its pieces while it is
// open.
type parts struct {
	open  string
	wrong string
}

func (p *parts) step(opens, closes bool, id string) {
	switch {
	case opens && p.open != "":
		p.wrong += id + " begins in " + p.open + "; "
	case !opens && p.open != id:
		p.wrong += id + " is not open; "
	}
	if p.open = id; closes {
		p.open = ""
	}
}

// first says what is wrong if the events do not begin with one of a type, or with the error that is all there is.
func first(events []map[string]any, typ string) string {
	if len(events) == 0 || textIn(events[0], "type") == typ || textIn(events[0], "type") == "error" {
		return ""
	}
	return "begins with " + textIn(events[0], "type")
}

func completionOrder(events []map[string]any) (wrong string) {
	for i, e := range events {
		choices, _ := e["choices"].([]any)
		if len(choices) == 0 {
			continue
		}
		_, role := choices[0].(map[string]any)["delta"].(map[string]any)["role"]
		if role != (i == 0) {
			wrong = "the role is told once, first"
		}
	}
	return wrong
}

func responseOrder(events []map[string]any) string {
	var p parts
	for i, e := range events {
		if e["sequence_number"] != float64(i) {
			return "an event is missing"
		}
		switch textIn(e, "type") {
		case "response.output_item.added":
			p.step(true, false, textIn(e["item"].(map[string]any), "id"))
		case "response.output_item.done":
			p.step(false, true, textIn(e["item"].(map[string]any), "id"))
		case "response.output_text.delta", "response.reasoning_summary_text.delta",
			"response.function_call_arguments.delta":
			p.step(false, false, textIn(e, "item_id"))
		}
	}
	return p.wrong + first(events, "response.created")
}

func messageOrder(events []map[string]any) string {
	next, open := 0.0, false
	for _, e := range events {
		switch typ := textIn(e, "type"); typ {
		case "content_block_start", "content_block_delta", "content_block_stop":
			if e["index"] != next || open == (typ == "content_block_start") {
				return "a block has the wrong place"
			}
			if open = typ != "content_block_stop"; !open {
				next++
			}
		}
	}
	return first(events, "message_start")
}

func runOrder(events []map[string]any) string {
	var p parts
	for _, e := range events {
		typ := textIn(e, "type")
		for _, of := range []string{"TEXT_MESSAGE_", "REASONING_MESSAGE_", "TOOL_CALL_"} {
			if step, is := strings.CutPrefix(typ, of); is {
				p.step(step == "START", step == "END", textIn(e, "messageId")+textIn(e, "toolCallId"))
			}
		}
	}
	return p.wrong + first(events, "RUN_STARTED")
}

func uiOrder(events []map[string]any) string {
	var p parts
	for _, e := range events {
		kind, step, _ := strings.Cut(textIn(e, "type"), "-")
		switch kind {
		case "text", "reasoning":
			p.step(step == "start", step == "end", textIn(e, "id"))
		case "tool", "finish":
			if p.open != "" {
				p.wrong += kind + " while a part is open; "
			}
		}
	}
	return p.wrong + first(events, "start")
}

// An answer that gets too long ends so in every dialect, whatever it has most of, and what was sent of it before the
// end is in order.
func TestAnAnswerThatIsTooLongEndsAlikeInEveryDialect(t *testing.T) {
	call := func(id string, size int) chat.Chunk {
		return chat.Chunk{Type: chat.Tool, More: true, Tool: &chat.ToolCall{
			ID: id, Name: "f", Arguments: `{"x":"` + strings.Repeat("y", size) + `"}`,
		}}
	}
	thought := content(strings.Repeat("x", 1000))
	thought.Type, thought.More = chat.Reasoning, true
	text := content(strings.Repeat("x", 1000))
	text.More = true
	many := func(n int, c any) (all []any) {
		for range n {
			all = append(all, c)
		}
		return all
	}
	for name, steps := range map[string][]any{
		"text":            many(30, text),
		"thinking":        append(many(30, thought), text),
		"a call":          {call("1", 30_000)},
		"text and a call": {text, call("1", 30_000)},
		"calls":           {call("1", 8000), call("2", 8000), call("3", 8000), call("4", 8000)},
		"a little of each": {thought, text, call("1", 6000), thought, text, call("2", 6000), text,
			call("3", 6000)},
		"text and then, later": append(many(3, content(strings.Repeat("x", 4000))), many(30, text)...),
	} {
		r := start(t, handler.Options{
			Router: answering{play(append(steps, done(chat.FinishStop))...)}, MaxStreamBytes: 20_000,
			Dialects: append(ofProviders, aguiAt),
		})
		native, others := spokenBy()
		others["native"] = native
		for dialect, s := range others {
			streamed := s.put(t, r.url, s.ask)
			require.Equal(t, "failed", streamed.end, "%s in %s", name, dialect)
			require.Equal(t, "the answer is longer than allowed", streamed.message)
			require.LessOrEqual(t, len(streamed.text), 20_000)
			if s.whole == "" {
				continue
			}
			whole := s.put(t, r.url, s.whole)
			require.Equal(t, chat.StreamTooLong, whole.code, "%s in %s, whole", name, dialect)
			require.Equal(t, http.StatusBadGateway, whole.status)
		}
		plain := ask(t, http.DefaultClient, http.MethodPost, r.url+"/api/chat", uiQuestion, "Accept", "text/plain")
		_, err := io.ReadAll(plain.Body)
		require.Error(t, err, "%s as plain text", name)
	}
	http.DefaultClient.CloseIdleConnections()
}

// A body of HTTP/1.0 has no end but that of its connection. Proxies that ask so, as nginx does by default, take that
// for the end of the answer.
func TestACutIsNoEndOverHTTP10(t *testing.T) {
	failure := &chat.Error{Code: chat.UpstreamError, Message: "no"}
	for name, tc := range map[string]struct {
		upstream chat.Streamer
		cut      bool
	}{
		"an answer":                   {hello, false},
		"one that fails":              {play(content("Hel"), content("lo"), failure), true},
		"one that fails with no text": {play(failure), true},
	} {
		r := start(t, handler.Options{Router: answering{tc.upstream}})
		c := dial(t, r)
		c.send(t, "POST /api/chat HTTP/1.0\r\nAccept: text/plain\r\nContent-Type: application/json\r\n"+
			"Content-Length: "+strconv.Itoa(len(uiQuestion))+"\r\n\r\n"+uiQuestion)
		answer, err := io.ReadAll(c)
		require.Equal(t, tc.cut, errors.Is(err, syscall.ECONNRESET), "%s: %v", name, err)
		require.Contains(t, string(answer), "200 OK")
		if name != "one that fails with no text" {
			require.True(t, strings.HasSuffix(string(answer), "\r\n\r\nHello"), "all of the text has come")
		}
	}
}
