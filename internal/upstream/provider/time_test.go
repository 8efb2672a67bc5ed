package provider_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/upstream"
	"github.com/websopy/relay/internal/upstream/provider"
)

// part is something that a provider sends, some time after what it sent before.
type part struct {
	after time.Duration
	data  string
}

// paced is a provider that takes its time, on the clock of a synctest bubble: for its headers, and for
// each part of the stream. After the last part the connection stays open if hang is set.
type paced struct {
	headers time.Duration
	parts   []part
	hang    bool
}

func (p paced) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := wait(req.Context(), p.headers); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, Request: req,
		Header: http.Header{"Content-Type": {req.Header.Get("Accept")}},
		Body:   &pacedBody{ctx: req.Context(), parts: p.parts, hang: p.hang}}, nil
}

type pacedBody struct {
	ctx   context.Context
	parts []part
	hang  bool
}

func (b *pacedBody) Read(p []byte) (int, error) {
	if len(b.parts) == 0 {
		if b.hang {
			<-b.ctx.Done()
			return 0, b.ctx.Err()
		}
		return 0, io.EOF
	}
	next := b.parts[0]
	if err := wait(b.ctx, next.after); err != nil {
		return 0, err
	}
	n := copy(p, next.data)
	if rest := next.data[n:]; rest != "" {
		b.parts = append([]part{{0, rest}}, b.parts[1:]...)
	} else {
		b.parts = b.parts[1:]
	}
	return n, nil
}

func (b *pacedBody) Close() error { return nil }

// wait returns ctx's error when that ends first.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// What is promised with More comes, or a pause does, before the upstream waits for the network: a chunk
// that waits for another one would be seen late.
func TestMoreIsPromisedOnlyOfWhatIsInHand(t *testing.T) {
	for _, tc := range []struct{ name, kind, chunk, behind string }{
		{"nothing", "openai", delta(`"content":"Hi"`), ""},
		{"a comment", "openai", delta(`"content":"Hi"`), ": OPENROUTER PROCESSING\n\n"},
		{"an event without data", "openai", delta(`"content":"Hi"`), "event: ping\n\n"},
		{"an event that says nothing", "openai", delta(`"content":"Hi"`), sse(delta(`"content":""`))},
		{"a comment and half an event", "openai", delta(`"content":"Hi"`), ": x\n\ndata: {\"ch"},
		{"a comment and an event that says nothing", "openai", delta(`"content":"Hi"`),
			":\n\n" + sse(delta(`"content":""`))},
		{"blank lines", "ollama", `{"message":{"content":"Hi"}}`, "\n \n\n"},
	} {
		t.Run(tc.kind+" "+tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newUpstream(t, options(tc.kind, "http://provider.invalid"))
				provider.SetTransport(s, paced{parts: []part{{0, events(tc.kind, tc.chunk) + tc.behind}}, hang: true})
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				var seen []chat.Type
				held := false
				for c, err := range s.Stream(ctx, question()) {
					if err != nil {
						break
					}
					seen, held = append(seen, c.Type), c.More
				}
				require.Contains(t, seen, chat.Content)
				require.False(t, held, "the chunk waits for the next one")
			})
		})
	}
}

// What is silent while it thinks says before that it does: Claude by a block, of which nothing is shown, and Responses
// by an item.
func TestAModelThatThinksInSilenceHasTime(t *testing.T) {
	const s = time.Second
	for name, tc := range map[string]struct {
		kind  string
		parts []part
		ends  time.Duration
		text  string
		code  chat.Code
	}{
		"Claude": {"anthropic", []part{{0, sse(messageStart, blockStart(`"type":"thinking","thinking":""`))},
			{100 * s, sse(`{"type":"ping"}`)},
			{10 * s, sse(blockDelta(`"type":"text_delta","text":"Hi"`), messageDelta("end_turn"), messageStop)}},
			110*s + 100*time.Millisecond, "Hi", ""},
		"Claude, redacted": {"anthropic",
			[]part{{0, sse(messageStart, blockStart(`"type":"redacted_thinking","data":"x"`))},
				{110 * s, sse(blockDelta(`"type":"text_delta","text":"Hi"`), messageDelta("end_turn"), messageStop)}},
			110*s + 100*time.Millisecond, "Hi", ""},
		"Claude, for too long": {"anthropic",
			[]part{{0, sse(messageStart, blockStart(`"type":"thinking","thinking":""`))},
				{100 * s, sse(`{"type":"ping"}`)}}, 120 * s, "", chat.UpstreamTimeout},
		"Claude, between two texts": {"anthropic",
			[]part{{0, sse(blockDelta(`"type":"text_delta","text":"H"`),
				blockStart(`"type":"thinking","thinking":""`))},
				{110 * s, sse(blockStart(`"type":"text","text":"i"`))}}, 140 * s, "Hi", chat.UpstreamTimeout},
		"Responses": {"openai-responses",
			[]part{{0, sse(responseCreated, responseItem("added", "0", `"type":"reasoning","summary":[]`))},
				{110 * s, sse(responseDelta("output_text", "Hi"), responseCompleted)}}, 110*s + 100*time.Millisecond,
			"Hi", ""},
		"Responses, after its item": {"openai-responses",
			[]part{{0, sse(responseItem("added", "0", `"type":"reasoning"`))},
				{s, sse(responseItem("done", "0", `"type":"reasoning"`))}},
			31 * s, "", chat.UpstreamTimeout},
		"nobody, before a sign of it": {"openai-responses", []part{{0, sse(responseCreated)}}, 60 * s, "",
			chat.UpstreamTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := options(tc.kind, "http://provider.invalid")
				o.FirstChunkTimeout, o.IdleTimeout, o.ThinkingTimeout = 60*s, 30*s, 120*s
				p := newUpstream(t, o)
				provider.SetTransport(p, paced{parts: tc.parts, hang: true})
				f := &upstream.Fallback{Budget: 65 * s, Candidates: []*upstream.Candidate{{Streamer: p}}}
				began := time.Now()
				got := chattest.Fold(t, f.Stream(t.Context(), question()))
				require.Equal(t, tc.text, got.Text)
				require.Equal(t, tc.ends, time.Since(began))
				if tc.code != "" {
					require.Equal(t, tc.code, chat.AsError(got.Err).Code)
				} else {
					require.NoError(t, got.Err)
				}
			})
		})
	}
}

func TestClocks(t *testing.T) {
	const s = time.Second
	hi, empty, tool := sse(delta(`"content":"Hi"`)), sse(delta(`"content":""`)),
		sse(delta(`"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":" "}}]`))
	sent := sse(delta(`"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}},{"index":1,` +
		`"id":"b","function":{"name":"f"}}]`))
	more := sse(delta(`"tool_calls":[{"index":0,"function":{"arguments":" "}}]`))
	stop := sse(`{"model":"m-1","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}`)
	prompt := func(processed string) string {
		return sse(`{"choices":[{"index":0,"delta":{"role":"assistant","content":null}}],` +
			`"prompt_progress":{"total":40,"cache":0,"processed":` + processed + `,"time_ms":1}}`)
	}
	for name, tc := range map[string]struct {
		provider paced
		ends     time.Duration
		text     string
		code     chat.Code
		phase    chat.Phase
	}{
		"headers count towards the first chunk": {paced{headers: time.Hour}, 60 * s, "", chat.UpstreamTimeout,
			chat.PhaseFirstChunk},
		"headers alone are no chunk": {paced{headers: 59 * s, hang: true}, 60 * s, "", chat.UpstreamTimeout,
			chat.PhaseFirstChunk},
		"neither are events without content": {paced{parts: []part{{30 * s, empty}, {29 * s, ": ping\n\n"}},
			hang: true}, 60 * s, "", chat.UpstreamTimeout, chat.PhaseFirstChunk},
		"a chunk starts the idle clock anew": {
			paced{parts: []part{{59 * s, hi}, {29 * s, hi}, {29 * s, hi}}, hang: true}, (59 + 29 + 29 + 30) * s,
			"HiHiHi", chat.UpstreamTimeout, chat.PhaseIdle,
		},
		"what is no progress does not": {
			paced{parts: []part{{0, hi}, {20 * s, ": ping\n\n"}, {9 * s, empty}}, hang: true}, 30 * s, "Hi",
			chat.UpstreamTimeout, chat.PhaseIdle,
		},
		"a tool call in the making is progress": {
			paced{parts: []part{{0, hi}, {29 * s, tool}, {29 * s, tool}, {29 * s, finished("tool_calls")}},
				hang: true}, (29 + 29 + 30) * s, "Hi", chat.UpstreamTimeout, chat.PhaseIdle,
		},
		"an afterthought to a call that was sent is none": {
			paced{parts: []part{{0, sent}, {20 * s, more}, {9 * s, more}}, hang: true}, 30 * s, "",
			chat.UpstreamTimeout, chat.PhaseIdle,
		},
		"many chunks in no time cost no time": {
			paced{parts: []part{{0, strings.Repeat(hi, 20)}, {29 * s, sse("[DONE]")}}}, 29 * s,
			strings.Repeat("Hi", 20), "", "",
		},
		"a finish reason without a terminator completes after a grace": {
			paced{parts: []part{{0, hi}, {1 * s, sse(finished("stop"))}}, hang: true}, 3 * s, "Hi", "", "",
		},
		"also when the idle clock has looked before": { // which it does after 30 s
			paced{parts: []part{{0, hi}, {29 * s, hi}, {2 * s, sse(finished("stop"))}}, hang: true}, 33 * s, "HiHi",
			"", "",
		},
		"in which usage may come": {
			paced{parts: []part{{0, hi}, {1 * s, sse(finished("stop"))}, {1500 * time.Millisecond, sse(usage)}},
				hang: true}, 3 * s, "Hi", "", "",
		},
		"which what is no progress does not prolong": {
			paced{parts: []part{{0, hi}, {1 * s, sse(finished("stop"))}, {1500 * time.Millisecond, empty},
				{400 * time.Millisecond, empty}}, hang: true}, 3 * s, "Hi", "", "",
		},
		"progress after it shows that it was no end: the answer goes on": {
			paced{parts: []part{{0, hi}, {1 * s, sse(finished("tool_calls"))}, {1500 * time.Millisecond, tool},
				{20 * s, hi}}, hang: true},
			(1+20+30)*s + 1500*time.Millisecond, "HiHi", "", "",
		},
		"until there is a finish reason alone": {
			paced{parts: []part{{0, hi}, {1 * s, sse(finished("stop"))}, {1 * s, hi}, {20 * s, sse(finished("stop"))}},
				hang: true}, 24 * s, "HiHi", "", "",
		},
		"a finish reason beside text has a longer grace": {
			paced{parts: []part{{0, stop}, {4 * s, stop}, {20 * s, stop}, {5 * s, sse(finished("stop"))}}, hang: true},
			31 * s, "HiHiHi", "", "",
		},
		"that of the first text is over after it": {paced{parts: []part{{0, stop}}, hang: true}, 5 * s, "Hi", "", ""},
		"a finish reason before the first word ends nothing": {
			paced{parts: []part{{0, sse(finished("stop"))}, {59 * s, hi}, {29 * s, sse(finished("stop"))}},
				hang: true}, 90 * s, "Hi", "", "",
		},
		"a model that thinks has more time": {
			paced{parts: []part{{0, sse(delta(`"reasoning_content":"Hm"`))}, {119 * s, hi}}, hang: true},
			(119 + 30) * s, "Hi", chat.UpstreamTimeout, chat.PhaseIdle,
		},
		"but not all the time": {
			paced{parts: []part{{0, hi + sse(delta(`"reasoning_content":"Hm"`))}}, hang: true}, 120 * s, "Hi",
			chat.UpstreamTimeout, chat.PhaseIdle,
		},
		"a server that reads the prompt is alive": {
			paced{parts: []part{{0, prompt("10")}, {50 * s, prompt("20")}, {50 * s, prompt("30")}, {50 * s, hi}},
				hang: true}, (150 + 30) * s, "Hi",
			chat.UpstreamTimeout, chat.PhaseIdle,
		},
		"unless it gets nowhere": {
			paced{parts: []part{{0, prompt("10")}, {50 * s, prompt("10")}}, hang: true}, 60 * s, "",
			chat.UpstreamTimeout, chat.PhaseFirstChunk,
		},
		"a terminator ends it at once": {
			paced{parts: []part{{0, hi}, {1 * s, sse(finished("stop"), "[DONE]")}}, hang: true},
			1*s + 100*time.Millisecond, "Hi", "", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := options("openai", "http://provider.invalid")
				o.FirstChunkTimeout, o.IdleTimeout, o.ThinkingTimeout = 60*s, 30*s, 120*s
				u := newUpstream(t, o)
				provider.SetTransport(u, tc.provider)
				began := time.Now()
				got := chattest.Fold(t, u.Stream(t.Context(), question()))
				require.Equal(t, tc.ends, time.Since(began))
				require.Equal(t, tc.text, got.Text)
				if tc.code == "" {
					require.NoError(t, got.Err)
					return
				}
				e := chat.AsError(got.Err)
				require.Equal(t, tc.code, e.Code)
				require.Equal(t, tc.phase, e.Phase)
			})
		})
	}
}

// attempts is an upstream whose n-th attempt is its n-th func, the last of which serves all after it.
type attempts struct {
	each  []func(ctx context.Context, yield func(chat.Chunk, error) bool)
	began []time.Time
}

func (a *attempts) Stream(ctx context.Context, _ *chat.Request) iter.Seq2[chat.Chunk, error] {
	return func(yield func(chat.Chunk, error) bool) {
		n := min(len(a.began), len(a.each)-1)
		a.began = append(a.began, time.Now())
		a.each[n](ctx, yield)
	}
}

func fail(e *chat.Error) func(context.Context, func(chat.Chunk, error) bool) {
	return func(_ context.Context, yield func(chat.Chunk, error) bool) { yield(chat.Chunk{}, e) }
}

func succeed(_ context.Context, yield func(chat.Chunk, error) bool) {
	if yield(chat.Chunk{Type: chat.Content, Text: []byte("Hi")}, nil) {
		yield(chat.Chunk{Type: chat.Done, Done: done("stop")}, nil)
	}
}

var (
	errProvider = &chat.Error{Code: chat.UpstreamError, Message: "the provider failed"}
	errLimited  = &chat.Error{Code: chat.UpstreamRateLimited, Message: "slow down", RetryAfter: 3 * time.Second}
)

func TestRetries(t *testing.T) {
	type provider = func(context.Context, func(chat.Chunk, error) bool)
	const s = time.Second
	never := func(ctx context.Context, yield func(chat.Chunk, error) bool) {
		<-ctx.Done()
		yield(chat.Chunk{}, context.Cause(ctx))
	}
	thinking := func(ctx context.Context, yield func(chat.Chunk, error) bool) {
		if yield(chat.Chunk{Type: chat.Pause}, nil) {
			_ = wait(ctx, 60*s)
			succeed(ctx, yield)
		}
	}
	slowly := func(ctx context.Context, yield func(chat.Chunk, error) bool) {
		if yield(chat.Chunk{Type: chat.Content, Text: []byte("Hi")}, nil) {
			_ = wait(ctx, time.Hour)
			yield(chat.Chunk{Type: chat.Done, Done: done("stop")}, context.Cause(ctx))
		}
	}
	for name, tc := range map[string]struct {
		each     []provider
		retries  int
		attempts int
		min, max time.Duration // from the first attempt to the last
		ends     time.Duration // 0: with the last attempt
		code     chat.Code
		text     string
	}{
		"a failure is tried again after a short wait": {each: []provider{fail(errProvider), succeed}, retries: 2,
			attempts: 2, max: 250 * time.Millisecond, text: "Hi"},
		"the waits grow, but not for ever": {each: []provider{fail(errProvider)}, retries: 8, attempts: 9,
			min: s, max: (250+500+1000+2000+4*4000)*time.Millisecond + s, code: chat.UpstreamError},
		"no retries are no retries": {each: []provider{fail(errProvider)}, attempts: 1,
			code: chat.UpstreamError},
		"what the provider asks for is a minimum": {each: []provider{fail(errLimited), fail(errLimited), succeed},
			retries: 2, attempts: 3, min: 6 * s, max: 6*s + 750*time.Millisecond, text: "Hi"},
		"a wait beyond the budget is not begun": {
			each: []provider{fail(&chat.Error{Code: chat.UpstreamRateLimited, RetryAfter: 31 * s})}, retries: 2,
			attempts: 1, code: chat.UpstreamRateLimited,
		},
		"a rejection is final": {each: []provider{fail(&chat.Error{Code: chat.UpstreamRejected})}, retries: 2,
			attempts: 1, code: chat.UpstreamRejected},
		"after the first chunk nothing is tried again": {
			each: []provider{func(_ context.Context, yield func(chat.Chunk, error) bool) {
				if yield(chat.Chunk{Type: chat.Content, Text: []byte("Hi")}, nil) {
					yield(chat.Chunk{}, errProvider)
				}
			}, succeed}, retries: 2, attempts: 1, code: chat.UpstreamError, text: "Hi",
		},
		"a model that thinks has begun, and the budget is not for it": {each: []provider{thinking}, retries: 2,
			attempts: 1, ends: 60 * s, text: "Hi"},
		"the budget ends an attempt": {each: []provider{fail(errProvider), never}, retries: 2, attempts: 2,
			max: 250 * time.Millisecond, ends: 30 * s, code: chat.UpstreamTimeout},
		"but not an answer": {each: []provider{slowly}, retries: 2, attempts: 1, ends: time.Hour, text: "Hi"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &attempts{each: tc.each}
				began := time.Now()
				chain := &upstream.Fallback{Candidates: []*upstream.Candidate{{Streamer: a, Retries: tc.retries}},
					Budget: 30 * s}
				got := chattest.Fold(t, chain.Stream(t.Context(), question()))
				require.Len(t, a.began, tc.attempts)
				last := a.began[tc.attempts-1].Sub(began)
				require.GreaterOrEqual(t, last, tc.min)
				require.LessOrEqual(t, last, tc.max)
				if tc.ends == 0 {
					tc.ends = last
				}
				require.Equal(t, tc.ends, time.Since(began))
				require.Equal(t, tc.text, got.Text)
				if tc.code != "" {
					require.Equal(t, tc.code, chat.AsError(got.Err).Code)
				} else {
					require.NoError(t, got.Err)
				}
			})
		})
	}
}

func TestWaitsAreJittered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waits := make(map[time.Duration]bool)
		for range 20 {
			a := &attempts{each: []func(context.Context, func(chat.Chunk, error) bool){fail(errProvider), succeed}}
			chain := &upstream.Fallback{Candidates: []*upstream.Candidate{{Streamer: a, Retries: 1}},
				Budget: time.Minute}
			chattest.Fold(t, chain.Stream(t.Context(), question()))
			waits[a.began[1].Sub(a.began[0])] = true
		}
		require.Greater(t, len(waits), 10, "clients that failed together must not come back together")
	})
}

func TestAClientThatLeavesEndsTheWaitForARetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &attempts{each: []func(context.Context, func(chat.Chunk, error) bool){fail(errLimited)}}
		ctx, leave := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		time.AfterFunc(time.Second, func() { leave(gone) })
		began := time.Now()
		chain := &upstream.Fallback{Candidates: []*upstream.Candidate{{Streamer: a, Retries: 2}}, Budget: time.Minute}
		got := chattest.Fold(t, chain.Stream(ctx, question()))
		require.ErrorIs(t, got.Err, gone)
		require.Equal(t, time.Second, time.Since(began))
		require.Len(t, a.began, 1)
	})
}

func TestDemoModels(t *testing.T) {
	const idle = 10 * time.Second
	for model, tc := range map[string]struct {
		first, least, most time.Duration // the first chunk, and the end
		code               chat.Code
		finish             chat.FinishReason
	}{
		"demo": {first: 30 * time.Millisecond, least: time.Second, most: 10 * time.Second,
			finish: chat.FinishStop},
		"gpt-4": {first: 30 * time.Millisecond, least: time.Second, most: 10 * time.Second,
			finish: chat.FinishStop},
		"demo-fast": {finish: chat.FinishStop},
		"demo-slow": {first: 25*time.Second + 30*time.Millisecond, least: 26 * time.Second,
			most: 35 * time.Second, finish: chat.FinishStop},
		"demo-long": {first: 30 * time.Millisecond, least: 30 * time.Second, most: 3 * time.Minute,
			finish: chat.FinishStop},
		"demo-reasoning": {first: 30 * time.Millisecond, least: time.Second, most: 10 * time.Second,
			finish: chat.FinishStop},
		"demo-tools":     {first: 30 * time.Millisecond, most: 2 * time.Second, finish: chat.FinishToolCalls},
		"demo-unicode":   {first: 30 * time.Millisecond, most: 5 * time.Second, finish: chat.FinishStop},
		"demo-error":     {first: 30 * time.Millisecond, most: 5 * time.Second, code: chat.UpstreamError},
		"demo-truncated": {first: 30 * time.Millisecond, most: 5 * time.Second, code: chat.UpstreamTruncated},
		"demo-stall": {first: 30 * time.Millisecond, least: idle + time.Second, most: idle + 5*time.Second,
			code: chat.UpstreamTimeout},
	} {
		t.Run(model, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newUpstream(t, provider.Options{Kind: "demo", IdleTimeout: idle})
				req := &chat.Request{Model: model, Messages: []chat.Message{{Role: chat.RoleUser, Content: "Why?"}}}
				began := time.Now()
				for range s.Stream(t.Context(), req) {
					require.Equal(t, tc.first, time.Since(began))
					break
				}
				began = time.Now()
				got := chattest.Fold(t, s.Stream(t.Context(), req))
				took := time.Since(began)
				require.GreaterOrEqual(t, took, tc.least)
				require.LessOrEqual(t, took, tc.most)
				again := chattest.Fold(t, s.Stream(t.Context(), req))
				require.Equal(t, got, again, "it is deterministic")
				if tc.code != "" {
					require.NotEmpty(t, got.Text)
					require.Equal(t, tc.code, chat.AsError(got.Err).Code)
					return
				}
				require.NoError(t, got.Err)
				require.Equal(t, tc.finish, got.Done.FinishReason)
				require.Positive(t, got.Done.Usage.PromptTokens)
				require.Equal(t, int64(got.Chunks-1-len(got.Tools)), got.Done.Usage.CompletionTokens)
				switch model {
				case "demo", "gpt-4", "demo-fast", "demo-slow", "demo-long", "demo-reasoning":
					require.True(t, strings.HasPrefix(got.Text, "You asked: “Why?”"))
				case "demo-tools":
					require.Len(t, got.Tools, 2)
				}
				require.Equal(t, model == "demo-reasoning", got.Reasoning != "")
			})
		})
	}
}

func TestADemoStreamEndsWithItsClient(t *testing.T) {
	for _, model := range []string{"demo", "demo-slow", "demo-stall", "demo-long"} {
		synctest.Test(t, func(t *testing.T) {
			ctx, leave := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer leave()
			began := time.Now()
			got := chattest.Fold(t, newUpstream(t, provider.Options{Kind: "demo", IdleTimeout: time.Hour}).Stream(ctx,
				&chat.Request{Model: model, Messages: question().Messages}))
			require.ErrorIs(t, got.Err, context.DeadlineExceeded)
			require.Equal(t, 500*time.Millisecond, time.Since(began))
		})
	}
}

// A first chunk may come when its time is over: the response was being read when it ended. What would begin then would
// be cut at once. Nobody has seen anything of it, so another provider can be asked.
func TestAFirstChunkInTheMomentItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newUpstream(t, options("openai", "http://provider.invalid"))
		provider.SetTransport(s, roundTripper(func(req *http.Request) (*http.Response, error) {
			data := sse(`{"choices":[{"index":0,"delta":{"content":"Hi"}}]}`)
			ended := iotest.ErrReader(context.Canceled)
			return &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, Request: req,
				Header: http.Header{"Content-Type": {req.Header.Get("Accept")}},
				Body:   io.NopCloser(io.MultiReader(afterEnd{req.Context()}, strings.NewReader(data), ended))}, nil
		}))
		answer := chattest.Fold(t, s.Stream(t.Context(), question()))
		require.Empty(t, answer.Text)
		require.Equal(t, chat.PhaseFirstChunk, chat.AsError(answer.Err).Phase)
	})
}

// afterEnd has nothing, and says so when its context has ended.
type afterEnd struct{ ctx context.Context }

func (a afterEnd) Read([]byte) (int, error) {
	<-a.ctx.Done()
	return 0, io.EOF
}
