package handler_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
)

// answers are those that are not only text, as providers give them.
func answers() map[string][]any {
	thought := func(text string) chat.Chunk { return chat.Chunk{Type: chat.Reasoning, Text: []byte(text)} }
	call := func(id, arguments string) chat.Chunk {
		return chat.Chunk{Type: chat.Tool, Tool: &chat.ToolCall{ID: id, Name: "f", Arguments: arguments}}
	}
	end := func(reason chat.FinishReason) chat.Chunk {
		return chat.Chunk{Type: chat.Done, Done: &chat.Completion{FinishReason: reason}}
	}
	withState := end(chat.FinishToolCalls)
	withState.Done.State, withState.Done.Usage = "1.abc", &chat.Usage{PromptTokens: 7, CompletionTokens: 2}
	failure := &chat.Error{Code: chat.UpstreamError, Message: "the provider failed"}
	return map[string][]any{
		"nothing":        {done(chat.FinishStop)},
		"thinking alone": {thought("hm"), done(chat.FinishStop)},
		"thinking by turns": {thought("a"), content("b"), thought("c"), content("d"),
			done(chat.FinishStop)},
		"several calls": {call("1", `{"x":1}`), call("2", `{}`), call("3", `{"y":[2]}`),
			done(chat.FinishToolCalls)},
		"text, calls":  {content("a"), call("1", `{}`), call("2", `{}`), done(chat.FinishToolCalls)},
		"a call, text": {call("1", `{"x":1}`), content("a"), done(chat.FinishToolCalls)},
		"all of it, with state": {thought("h"), content("a"), call("1", `{}`), thought("m"), call("2", `{}`),
			withState},
		"a limit":                      {content("a"), done(chat.FinishLength)},
		"a filter":                     {content("a"), done(chat.FinishContentFilter)},
		"a filter at once":             {done(chat.FinishContentFilter)},
		"no usage":                     {content("a"), end(chat.FinishStop)},
		"a failure after thinking":     {thought("hm"), failure},
		"a failure after a call":       {call("1", `{"x":1}`), failure},
		"a failure after text, a call": {content("a"), call("1", `{}`), failure},
		"signs":                        {content("\u2028\u0085\x00\"\\😀"), done(chat.FinishStop)},
	}
}

func TestTheSameAnswerIsToldInEveryDialect(t *testing.T) {
	native, others := spokenBy()
	for name, answer := range answers() {
		r := start(t, handler.Options{Router: answering{play(answer...)}, Dialects: append(ofProviders, aguiAt)})
		streamed, whole := native.put(t, r.url, native.ask), native.put(t, r.url, native.whole)
		for in, s := range others {
			s.requireAnswer(t, streamed, s.put(t, r.url, s.ask), name+" in "+in)
			if s.whole != "" {
				require.Equal(t, whole, s.put(t, r.url, s.whole), "%s in %s, whole", name, in)
			}
		}
	}
}

// requireAnswer is requireSame, for an answer that may have begun without text.
func (s *spoken) requireAnswer(t *testing.T, native, got outcome, name string) {
	t.Helper()
	if native.text == "" && native.reasoning+native.calls != "" {
		got.text, native.text = "begun", "begun"
	}
	s.requireSame(t, native, got, name)
}

// Who leaves is seen by the provider, whatever dialect he asks in, for a stream or not.
func TestWhoLeavesIsSeenInEveryDialect(t *testing.T) {
	native, others := spokenBy()
	others["native"] = native
	for name, s := range others {
		for _, said := range [][]chat.Chunk{nil, {content("Hel")}} {
			for _, body := range []string{s.ask, s.whole} {
				if body == "" {
					continue
				}
				gone := make(chan error, 1)
				r := start(t, handler.Options{Router: answering{hang(gone, said...)},
					Dialects: append(ofProviders, aguiAt)})
				ctx, leave := context.WithCancel(t.Context())
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+s.path, strings.NewReader(body))
				require.NoError(t, err)
				req.Header.Set("Content-Type", "application/json")
				left := make(chan struct{})
				go func() {
					defer close(left)
					transport := new(http.Transport)
					defer transport.CloseIdleConnections()
					if res, err := transport.RoundTrip(req); err == nil {
						_, _ = io.Copy(io.Discard, res.Body)
						res.Body.Close()
					}
				}()
				require.Eventually(t, func() bool { return r.counted(t, "relay_streams_open")[""] == 1 }, patience,
					time.Millisecond, name)
				leave()
				require.ErrorIs(t, receive(t, gone), context.Canceled, name)
				<-left
				require.Equal(t, "client_gone", r.log.stream(t)["reason"], name)
			}
		}
	}
}
