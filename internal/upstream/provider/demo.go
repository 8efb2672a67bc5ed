package provider

import (
	"context"
	"iter"
	"strings"
	"time"
	"unicode"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/trace"
)

// demo answers without a network, the same each time, so that a frontend can be built and tested
// against every way that a stream can go. The model's name picks the way; names that it does not know
// are "demo", so that a client's own model setting does no harm.
type demo struct {
	name string
	idle time.Duration
}

func newDemo(o Options) chat.Streamer { return demo{o.Name, o.IdleTimeout} }

// demoModels are the names of the ways, the default first.
var demoModels = []string{
	"demo", "demo-fast", "demo-slow", "demo-long", "demo-reasoning", "demo-tools", "demo-unicode",
	"demo-error", "demo-truncated", "demo-stall",
}

// demoSlow is longer than the default heartbeat, so that pings are seen before the first word.
const demoSlow = 25 * time.Second

// demoPace is a word's time in all models but demo-fast.
const demoPace = 30 * time.Millisecond

const (
	demoAnswer = `You asked: “%s”

This is the relay's demo provider. It needs no network and no key, and it answers every question with these few paragraphs, a word at a time, so that you can see a stream arrive as a user will see it.

Each word you read came in a frame of its own, written and flushed the moment it existed. When the last one is here, a frame of type done says so and brings the token counts; a stream that ends without it is not a whole answer.

To put a real model in this place, set OPENAI_API_KEY, or UPSTREAM_KIND and its companions, and start the relay again. Nothing in your frontend has to change.`

	demoAnswerChinese = `你问的是：“%s”

这是中继自带的演示模型。它不需要网络，也不需要密钥；无论问什么，它都会把这几段话一个词一个词地发给你，让你看到流式回答到达时的样子。

你读到的每个词都单独成为一帧，一产生就写出并刷新。最后一帧的类型是 done，附带令牌用量；没有它，回答就不算完整。

想换成真正的模型，只要设置 OPENAI_API_KEY，或者 UPSTREAM_KIND 等变量，再启动一次中继。前端不用改。`

	demoUnicode = "Emoji 😀 👩‍👩‍👧‍👦 🏳️‍🌈, 中文、日本語、한국어, العربية עברית, naïve café e\u0301, 𝒜𝓃 𝔞𝔰𝔱𝔯𝔞𝔩 plane, " +
		"zero\u200bwidth, line\u2028separator, \"quotes\", back\\slash, tab\t, <b>&amp;</b>, null\u0000byte, and a " +
		"last word: 完"
)

func (d demo) Stream(ctx context.Context, req *chat.Request) iter.Seq2[chat.Chunk, error] {
	return func(yield func(chat.Chunk, error) bool) {
		ctx := trace.Begin(ctx, trace.Target{Upstream: d.name, System: "demo", Model: req.Model})
		err := d.stream(ctx, req, yield)
		trace.End(ctx, d.name, err)
		if err != nil {
			yield(chat.Chunk{}, err)
		}
	}
}

func (d demo) stream(ctx context.Context, req *chat.Request, yield func(chat.Chunk, error) bool) error {
	last := req.Messages[len(req.Messages)-1]
	question := plainText(last)
	words := split(answerTo(question))
	prompt := 0
	for _, m := range req.Messages {
		prompt += len(split(plainText(m)))
	}
	s := &demoStream{ctx: ctx, yield: yield, pace: demoPace, model: req.Model}

	switch req.Model {
	case "demo-fast":
		s.pace = 0
	case "demo-slow":
		s.wait(demoSlow)
	case "demo-long":
		for range 4 {
			words = append(words, append([]string{"\n\n"}, words...)...)
		}
	case "demo-unicode":
		words = split(demoUnicode)
	case "demo-reasoning":
		s.say(chat.Reasoning,
			split("The user asks something. I have one answer, so this is quick: quote the question, then explain "+
				"what a stream is."))
	case "demo-tools":
		if last.Role != chat.RoleTool {
			s.say(chat.Content, split("Let me look at the weather. "))
			s.tool("get_weather", `{"city":"Paris","unit":"celsius"}`)
			s.tool("get_time", `{"city":"Paris"}`)
			s.done(chat.FinishToolCalls, prompt)
			return s.err
		}
		words = split("The tools say: " + question)
	case "demo-error":
		s.say(chat.Content, words[:len(words)/2])
		s.fail(&chat.Error{Code: chat.UpstreamError,
			Message: "the provider failed in mid-answer (as demo-error does)"})
	case "demo-truncated":
		s.say(chat.Content, words[:len(words)/2])
		s.fail(&chat.Error{Code: chat.UpstreamTruncated, Message: "the provider's answer broke off"})
	case "demo-stall":
		s.say(chat.Content, words[:len(words)/2])
		s.wait(d.idle)
		s.fail(errIdle)
	default:
		s.model = "demo"
	}
	s.say(chat.Content, words)
	s.done(chat.FinishStop, prompt)
	return s.err
}

// demoStream keeps the first reason to stop; after it, all its methods do nothing.
type demoStream struct {
	ctx   context.Context
	yield func(chat.Chunk, error) bool
	pace  time.Duration
	model string
	said  int
	tools int
	begun bool
	ended bool
	err   error
}

func (s *demoStream) say(typ chat.Type, words []string) {
	for _, w := range words {
		s.wait(s.pace)
		s.said++
		s.emit(chat.Chunk{Type: typ, Text: []byte(w)})
	}
}

func (s *demoStream) tool(name, arguments string) {
	s.wait(s.pace)
	s.tools++
	s.emit(chat.Chunk{Type: chat.Tool, Tool: &chat.ToolCall{ID: "call_demo_" + string(rune('0'+s.tools)), Name: name,
		Arguments: arguments}})
}

func (s *demoStream) done(reason chat.FinishReason, prompt int) {
	s.emit(chat.Chunk{Type: chat.Done, Done: &chat.Completion{FinishReason: reason, Model: s.model,
		Usage: &chat.Usage{PromptTokens: int64(prompt), CompletionTokens: int64(s.said)}}})
}

func (s *demoStream) emit(c chat.Chunk) {
	if s.ended {
		return
	}
	if !s.begun {
		s.begun = true
		trace.First(s.ctx)
	}
	if c.Type == chat.Done {
		trace.Done(s.ctx, c.Done)
	}
	s.ended = !s.yield(c, nil)
}

func (s *demoStream) fail(err error) {
	if !s.ended {
		s.ended, s.err = true, err
	}
}

func (s *demoStream) wait(d time.Duration) {
	if s.ended {
		return
	}
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-s.ctx.Done():
		}
	}
	if s.ctx.Err() != nil {
		s.fail(context.Cause(s.ctx))
	}
}

func answerTo(question string) string {
	const longest = 400
	if r := []rune(question); len(r) > longest {
		question = string(r[:longest]) + "…"
	}
	answer := demoAnswer
	if strings.ContainsFunc(question, func(r rune) bool { return unicode.Is(unicode.Han, r) }) {
		answer = demoAnswerChinese
	}
	return strings.Replace(answer, "%s", question, 1)
}

func plainText(m chat.Message) string {
	text := m.Content
	for _, p := range m.Parts {
		text += p.Text
	}
	return text
}

// split cuts text into what a model would call tokens: a word with the space after it, or two Han
// characters. Joined, the pieces are the text.
func split(text string) []string {
	var words []string
	start, han := 0, 0
	for i, r := range text {
		switch {
		case unicode.Is(unicode.Han, r):
			if han++; han == 3 {
				words = append(words, text[start:i])
				start, han = i, 1
			}
		case i > start && (text[i-1] == ' ' || text[i-1] == '\n') && r != ' ' && r != '\n':
			words = append(words, text[start:i])
			start, han = i, 0
		}
	}
	if start < len(text) {
		words = append(words, text[start:])
	}
	return words
}
