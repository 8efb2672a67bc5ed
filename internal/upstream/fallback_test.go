package upstream_test

import (
	"context"
	"errors"
	"iter"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/upstream"
	"github.com/websopy/relay/internal/upstream/report"
	"github.com/websopy/relay/internal/upstream/trace"
)

// scripted is a provider that plays one act for each request, and the last one again.
type scripted struct {
	mu    sync.Mutex // guards the rest while requests run
	acts  []act
	asked []string // models
	open  int
	see   func(*chat.Request) // nil: nobody looks
	actAt func() act          // in the place of acts
}

// act is what a provider does with a request: wait, then say the words and end with err or done.
type act struct {
	after time.Duration
	words []string
	err   error
	done  *chat.Completion // nil: stop
}

func (p *scripted) Stream(ctx context.Context, req *chat.Request) iter.Seq2[chat.Chunk, error] {
	return func(yield func(chat.Chunk, error) bool) {
		a := p.begin(req)
		defer p.end()
		select {
		case <-time.After(a.after):
		case <-ctx.Done():
			yield(chat.Chunk{}, context.Cause(ctx))
			return
		}
		text := make([]byte, 0, 64) // one for all, as decoders have
		for _, w := range a.words {
			text = append(text[:0], w...)
			if !yield(chat.Chunk{Type: chat.Content, Text: text}, nil) {
				return
			}
		}
		switch {
		case a.err != nil:
			yield(chat.Chunk{}, a.err)
		case a.done != nil:
			yield(chat.Chunk{Type: chat.Done, Done: a.done}, nil)
		default:
			yield(chat.Chunk{Type: chat.Done, Done: &chat.Completion{FinishReason: chat.FinishStop}}, nil)
		}
	}
}

func (p *scripted) begin(req *chat.Request) act {
	p.mu.Lock()
	defer p.mu.Unlock()
	var a act
	if p.actAt != nil {
		a = p.actAt()
	} else {
		a = p.acts[min(len(p.asked), len(p.acts)-1)]
	}
	p.asked = append(p.asked, req.Model)
	if p.see != nil {
		p.see(req)
	}
	p.open++
	return a
}

// running is how many requests are.
func (p *scripted) running() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
}

func (p *scripted) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
}

func fails(code chat.Code) act { return act{err: &chat.Error{Code: code, Message: string(code)}} }

func says(words ...string) act { return act{words: words} }

// chain makes a Fallback of providers without retries.
func chain(providers ...*scripted) *upstream.Fallback {
	f := &upstream.Fallback{Budget: 90 * time.Second}
	for _, p := range providers {
		f.Candidates = append(f.Candidates, &upstream.Candidate{Streamer: p, Load: new(upstream.Load)})
	}
	return f
}

func TestAnotherProviderIsAskedForWhatIsNotTheRequestsFault(t *testing.T) {
	for code, another := range map[chat.Code]bool{
		chat.UpstreamUnreachable: true, chat.UpstreamTimeout: true, chat.UpstreamRateLimited: true,
		chat.UpstreamError:     true,
		chat.UpstreamTruncated: true, chat.UpstreamAuth: true, chat.UpstreamMalformed: true, chat.Overloaded: true,
		chat.UpstreamRejected: false, chat.ContentFiltered: false, chat.InvalidRequest: false, chat.Internal: false,
	} {
		t.Run(string(code), func(t *testing.T) {
			first, second := &scripted{acts: []act{fails(code)}}, &scripted{acts: []act{says("Hi")}}
			got := chattest.Fold(t, chain(first, second).Stream(t.Context(), question()))
			if another {
				require.NoError(t, got.Err)
				require.Equal(t, "Hi", got.Text)
			} else {
				require.Equal(t, code, chat.AsError(got.Err).Code)
				require.Empty(t, second.asked)
			}
		})
	}
}

func TestNobodyElseIsAskedAfterTheFirstChunk(t *testing.T) {
	first, second := &scripted{acts: []act{{words: []string{"Hel"}, err: fails(chat.UpstreamError).err}}}, &scripted{
		acts: []act{says("Hello")}}
	f := chain(first, second)
	f.Candidates[0].Retries = 2
	got := chattest.Fold(t, f.Stream(t.Context(), question()))
	require.Equal(t, chat.UpstreamError, chat.AsError(got.Err).Code)
	require.Equal(t, "Hel", got.Text)
	require.Len(t, first.asked, 1)
	require.Empty(t, second.asked)
}

func TestACompletionWithoutContentIsWorthAnotherProvider(t *testing.T) {
	empty := act{}
	for name, tc := range map[string]struct {
		acts  []act // of one provider each
		text  string
		asked int // of the last provider
	}{
		"another one says something": {[]act{empty, says("Hi")}, "Hi", 1},
		"nobody has more to say":     {[]act{empty, empty}, "", 1},
		"the others fail":            {[]act{empty, fails(chat.UpstreamError)}, "", 1},
		"there is no other":          {[]act{empty}, "", 1},
		"the provider filtered the answer": {[]act{{done: &chat.Completion{FinishReason: chat.FinishContentFilter}},
			says("Hi")}, "", 0},
		"the user stopped it": {[]act{{done: &chat.Completion{FinishReason: chat.FinishStopped}},
			says("Hi")}, "", 0},
		"its tokens were used up in thought": {[]act{{done: &chat.Completion{FinishReason: chat.FinishLength}},
			says("Hi")}, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			var providers []*scripted
			for _, a := range tc.acts {
				providers = append(providers, &scripted{acts: []act{a}})
			}
			got := chattest.Fold(t, chain(providers...).Stream(t.Context(), question()))
			require.NoError(t, got.Err)
			require.Equal(t, tc.text, got.Text)
			require.Len(t, providers[len(providers)-1].asked, tc.asked)
		})
	}
}

func TestRetriesComeBeforeTheNextProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &scripted{acts: []act{fails(chat.UpstreamError)}}, &scripted{
			acts: []act{fails(chat.UpstreamError), says("Hi")}}
		f := chain(first, second)
		f.Candidates[0].Retries, f.Candidates[1].Retries = 2, 1
		got := chattest.Fold(t, f.Stream(t.Context(), question()))
		require.NoError(t, got.Err)
		require.Len(t, first.asked, 3)
		require.Len(t, second.asked, 2)
	})
}

func TestWhatCantChangeIsNotRetriedAtTheSameProvider(t *testing.T) {
	for _, code := range []chat.Code{chat.UpstreamAuth, chat.UpstreamMalformed, chat.Overloaded, chat.UpstreamRejected,
		chat.ContentFiltered} {
		only := &scripted{acts: []act{fails(code)}}
		f := chain(only)
		f.Candidates[0].Retries = 2
		require.Equal(t, code, chat.AsError(chattest.Fold(t, f.Stream(t.Context(), question())).Err).Code)
		require.Len(t, only.asked, 1)
	}
}

func TestALongWaitIsSpentOnTheNextProviderIfThereIsOne(t *testing.T) {
	limited := act{err: &chat.Error{Code: chat.UpstreamRateLimited, RetryAfter: 20 * time.Second}}
	synctest.Test(t, func(t *testing.T) {
		f := chain(&scripted{acts: []act{limited}}, &scripted{acts: []act{says("Hi")}})
		f.Candidates[0].Retries = 2
		begin := time.Now()
		require.Equal(t, "Hi", chattest.Fold(t, f.Stream(t.Context(), question())).Text)
		require.Zero(t, time.Since(begin))
	})
	synctest.Test(t, func(t *testing.T) {
		f := chain(&scripted{acts: []act{limited, says("Hi")}})
		f.Candidates[0].Retries = 2
		begin := time.Now()
		require.Equal(t, "Hi", chattest.Fold(t, f.Stream(t.Context(), question())).Text)
		require.GreaterOrEqual(t, time.Since(begin), 20*time.Second)
	})
	synctest.Test(t, func(t *testing.T) { // one that is skipped is no help
		f := chain(&scripted{acts: []act{limited, says("Hi")}}, &scripted{acts: []act{says("no")}})
		f.Candidates[0].Retries = 2
		f.Candidates[1].Breaker = openBreaker(t)
		require.Equal(t, "Hi", chattest.Fold(t, f.Stream(t.Context(), question())).Text)
	})
}

func TestATimeoutIsNotSufferedTwiceWhereThereIsAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := act{after: 30 * time.Second, err: &chat.Error{Code: chat.UpstreamTimeout, Phase: chat.PhaseFirstChunk}}
		f := chain(&scripted{acts: []act{slow}}, &scripted{acts: []act{says("Hi")}})
		f.Candidates[0].Retries = 2
		begin := time.Now()
		require.Equal(t, "Hi", chattest.Fold(t, f.Stream(t.Context(), question())).Text)
		require.Equal(t, 30*time.Second, time.Since(begin))
	})
}

func TestOneBudgetHoldsForAllProvidersAndEndsWithTheFirstChunk(t *testing.T) {
	t.Run("in a context of its own", func(t *testing.T) {
		holdsTheBudget(t, func(t *testing.T) context.Context { return t.Context() })
	})
	t.Run("in the request's", func(t *testing.T) {
		holdsTheBudget(t, func(t *testing.T) context.Context {
			ctx, cancel := context.WithCancelCause(t.Context())
			return trace.With(ctx, &trace.Trace{Cancel: cancel})
		})
	})
}

func holdsTheBudget(t *testing.T, request func(*testing.T) context.Context) {
	synctest.Test(t, func(t *testing.T) {
		slow := act{after: 50 * time.Second, err: &chat.Error{Code: chat.UpstreamTimeout, Phase: chat.PhaseFirstChunk}}
		first, second, third := &scripted{acts: []act{slow}}, &scripted{acts: []act{slow}}, &scripted{
			acts: []act{says("late")}}
		begin := time.Now()
		got := chattest.Fold(t, chain(first, second, third).Stream(request(t), question()))
		e := chat.AsError(got.Err)
		require.Equal(t, chat.UpstreamTimeout, e.Code)
		require.Equal(t, chat.PhaseTotal, e.Phase)
		require.ErrorContains(t, e.Err, "first_chunk", "the log gets the cause")
		require.Equal(t, 90*time.Second, time.Since(begin))
		require.Empty(t, third.asked)
	})
	synctest.Test(t, func(t *testing.T) {
		f := chain(&scripted{acts: []act{says("a", "b", "c")}})
		text := ""
		ctx := request(t)
		for c, err := range f.Stream(ctx, question()) {
			require.NoError(t, err)
			text += string(c.Text)
			time.Sleep(time.Minute)
		}
		require.Equal(t, "abc", text)
		require.NoError(t, context.Cause(ctx), "what the request does besides goes on")
	})
}

var (
	refused503 = act{err: report.Of(report.Response{Status: 503,
		Body: []byte(`{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}`)})}
	refusedTCP = act{err: &chat.Error{Code: chat.UpstreamUnreachable, Err: syscall.ECONNREFUSED}}
)

func TestAServerThatStartsAgainIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{acts: []act{says("Hi")}}
		f, b := withBreaker(p)
		require.NoError(t, chattest.Fold(t, f.Stream(t.Context(), question())).Err)

		begin := time.Now()
		p.actAt = func() act {
			switch since := time.Since(begin); {
			case since < 30*time.Second:
				return refusedTCP
			case since < 60*time.Second:
				return refused503
			}
			return says("Hi again")
		}
		require.Equal(t, "Hi again", chattest.Fold(t, f.Stream(t.Context(), question())).Text, "without any retry")
		require.Less(t, time.Since(begin), 61*time.Second)
		require.Equal(t, upstream.BreakerClosed, b.State())
	})
}

// The settings are read again, or a request is for another model of the upstream: it is there all the same.
func TestAServerThatWasSeenByAnotherOfItsCandidatesIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{acts: []act{says("Hi")}}
		before, after := chain(p), chain(p)
		after.Candidates[0].Load = before.Candidates[0].Load
		require.NoError(t, chattest.Fold(t, before.Stream(t.Context(), question())).Err)

		begin := time.Now()
		p.actAt = func() act {
			if time.Since(begin) < 30*time.Second {
				return refusedTCP
			}
			return says("Hi again")
		}
		require.Equal(t, "Hi again", chattest.Fold(t, after.Stream(t.Context(), question())).Text)
	})
}

func TestAServerThatDoesNotStartIsGivenUpWithinTheBudget(t *testing.T) {
	for name, tc := range map[string]struct {
		seen bool
		act  act
		code chat.Code
		wait time.Duration
	}{
		"it was there, and refuses":   {true, refusedTCP, chat.UpstreamUnreachable, 90 * time.Second},
		"it was never there":          {false, refusedTCP, chat.UpstreamUnreachable, 11 * time.Second},
		"it loads its model for ever": {false, refused503, chat.UpstreamError, 90 * time.Second},
		"it is overloaded": {true,
			act{err: report.Of(report.Response{Status: 503, Body: []byte(`{"error":"overloaded"}`)})},
			chat.UpstreamError, 0},
		"it has no address": {true, act{err: &chat.Error{Code: chat.UpstreamUnreachable, Err: syscall.EHOSTUNREACH}},
			chat.UpstreamUnreachable, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &scripted{acts: []act{says("Hi")}}
			f, b := withBreaker(p)
			if tc.seen {
				require.NoError(t, chattest.Fold(t, f.Stream(t.Context(), question())).Err)
			}
			p.acts = []act{tc.act}
			begin := time.Now()
			require.Equal(t, tc.code, chat.AsError(chattest.Fold(t, f.Stream(t.Context(), question())).Err).Code, name)
			require.InDelta(t, tc.wait.Seconds(), time.Since(begin).Seconds(), 2, name)
			require.Equal(t, upstream.BreakerClosed, b.State(), "it was one request")
		})
	}
}

func TestAServerThatStartsIsNotWaitedForWhereThereIsAnother(t *testing.T) {
	for _, a := range []act{refusedTCP, refused503} {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			require.Equal(t, "Hi", chattest.Fold(t,
				chain(&scripted{acts: []act{a}}, &scripted{acts: []act{says("Hi")}}).Stream(t.Context(),
					question())).Text)
			require.Zero(t, time.Since(begin))
			last := chain(&scripted{acts: []act{fails(chat.UpstreamError)}}, &scripted{acts: []act{a}})
			require.Equal(t, chat.UpstreamError,
				chat.AsError(chattest.Fold(t, last.Stream(t.Context(), question())).Err).Code)
			require.Zero(t, time.Since(begin), "nor when another one has failed")
		})
	}
}

func TestATimeOutIsNotWaitedForTwice(t *testing.T) {
	p := &scripted{acts: []act{{err: &chat.Error{Code: chat.UpstreamTimeout, Phase: chat.PhaseFirstChunk}}}}
	f := chain(p)
	f.Candidates[0].Retries = 5
	require.Error(t, chattest.Fold(t, f.Stream(t.Context(), question())).Err)
	require.Len(t, p.asked, 1, "it would stand in the server's queue once more")
}

func TestAWaitThatNobodySitsThroughIsNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := chain(
			&scripted{acts: []act{{err: &chat.Error{Code: chat.UpstreamRateLimited, RetryAfter: 31 * time.Second}}}})
		f.Candidates[0].Retries = 2
		begin := time.Now()
		require.Equal(t, 31*time.Second,
			chat.AsError(chattest.Fold(t, f.Stream(t.Context(), question())).Err).RetryAfter)
		require.Zero(t, time.Since(begin))
	})
}

func TestAWaitThatDoesNotFitIntoTheBudgetIsNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := chain(
			&scripted{acts: []act{{err: &chat.Error{Code: chat.UpstreamRateLimited, RetryAfter: 2 * time.Minute}}}})
		f.Candidates[0].Retries = 2
		begin := time.Now()
		got := chattest.Fold(t, f.Stream(t.Context(), question()))
		require.Equal(t, 2*time.Minute, chat.AsError(got.Err).RetryAfter)
		require.Zero(t, time.Since(begin))
	})
}

func TestTheErrorIsTheMostTellingOne(t *testing.T) {
	for name, tc := range map[string]struct {
		codes []chat.Code
		want  chat.Code
	}{
		"the first of two": {[]chat.Code{chat.UpstreamRateLimited, chat.UpstreamError},
			chat.UpstreamRateLimited},
		"not a fallback's wrong key": {[]chat.Code{chat.UpstreamError, chat.UpstreamAuth},
			chat.UpstreamError},
		"not the first one's, if another may recover": {[]chat.Code{chat.UpstreamAuth, chat.UpstreamError},
			chat.UpstreamError},
		"not that of one that was not asked": {[]chat.Code{chat.Overloaded, chat.UpstreamTimeout},
			chat.UpstreamTimeout},
		"the request's fault": {[]chat.Code{chat.UpstreamError, chat.UpstreamRejected, chat.UpstreamError},
			chat.UpstreamRejected},
	} {
		t.Run(name, func(t *testing.T) {
			var providers []*scripted
			for _, c := range tc.codes {
				providers = append(providers, &scripted{acts: []act{fails(c)}})
			}
			require.Equal(t, tc.want,
				chat.AsError(chattest.Fold(t, chain(providers...).Stream(t.Context(), question())).Err).Code)
		})
	}
}

func TestEachCandidateIsAskedForItsOwnModel(t *testing.T) {
	first, second, third := &scripted{acts: []act{fails(chat.UpstreamError)}}, &scripted{acts: []act{says("no")}},
		&scripted{acts: []act{says("Hi")}}
	f := chain(first, second, third)
	f.Candidates[1].Model = func(string) (string, bool) { return "", false }
	f.Candidates[2].Model = func(asked string) (string, bool) { return "my-" + asked, true }
	req := question()
	req.Model = "m"
	require.Equal(t, "Hi", chattest.Fold(t, f.Stream(t.Context(), req)).Text)
	require.Equal(t, []string{"m"}, first.asked)
	require.Empty(t, second.asked)
	require.Equal(t, []string{"my-m"}, third.asked)
	require.Equal(t, "m", req.Model, "the request is shared")
}

func TestAClientThatLeavesEndsTheSearch(t *testing.T) {
	gone := errors.New("gone")
	for _, hedge := range []time.Duration{0, 10 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			first, second := &scripted{acts: []act{fails(chat.UpstreamError), {after: time.Minute}}}, &scripted{
				acts: []act{{after: time.Minute}}}
			f := chain(first, second)
			f.HedgeAfter, f.Candidates[0].Retries = hedge, 5
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(5*time.Second, func() { cancel(gone) })
			begin := time.Now()
			got := chattest.Fold(t, f.Stream(ctx, question()))
			require.Equal(t, gone, got.Err)
			require.Equal(t, 5*time.Second, time.Since(begin))
			require.Zero(t, first.running()+second.running())
		})
	}
}

// TestChunksCostTheChainNothing holds the wrappers to the rule of the hot path.
func TestChunksCostTheChainNothing(t *testing.T) {
	for name, hedge := range map[string]time.Duration{"plain": 0, "hedged": time.Hour} {
		t.Run(name, func(t *testing.T) {
			run := func(chunks int) float64 {
				words := make([]string, chunks)
				for i := range words {
					words[i] = "word"
				}
				p := &scripted{acts: []act{says(words...)}}
				f := chain(p, p)
				f.Candidates[0].Streamer = upstream.NewLimit(p, 1, 1, time.Second)
				f.Candidates[0].Breaker = upstream.NewBreaker(nil)
				f.HedgeAfter = hedge
				req := question()
				return testing.AllocsPerRun(20, func() {
					p.asked = p.asked[:0]
					for _, err := range f.Stream(t.Context(), req) {
						if err != nil {
							t.Fatal(err)
						}
					}
				})
			}
			require.InDelta(t, run(10), run(1000), 1, "990 more chunks cost no more allocations")
		})
	}
}

func BenchmarkChain(b *testing.B) {
	const chunks = 1000
	for name, hedge := range map[string]time.Duration{"plain": 0, "hedged": time.Hour} {
		b.Run(name, func(b *testing.B) {
			p := &scripted{acts: []act{says(make([]string, chunks)...)}}
			f := chain(p, p)
			f.Candidates[0].Streamer = upstream.NewLimit(p, 1, 1, time.Second)
			f.Candidates[0].Breaker = upstream.NewBreaker(nil)
			f.HedgeAfter = hedge
			req := question()
			b.ReportAllocs()
			for b.Loop() {
				p.asked = p.asked[:0]
				for range f.Stream(b.Context(), req) {
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/chunks, "ns/chunk")
		})
	}
}

// A first chunk may come when the budget has ended and the context has not heard of it yet. That is a time-out, which
// is worth another try, and not a model that nobody has. Nobody else is asked then.
func TestAFirstChunkInTheMomentTheBudgetEnds(t *testing.T) {
	ended, heard := make(chan struct{}), make(chan struct{})
	defer close(heard)
	late := &scripted{actAt: func() act {
		<-ended
		return says("Hi")
	}}
	other := &scripted{acts: []act{says("Hi")}}
	ctx, cancel := context.WithCancelCause(t.Context())
	ctx = trace.With(ctx, &trace.Trace{Cancel: func(cause error) {
		close(ended)
		<-heard
		cancel(cause)
	}})
	f := chain(late, other)
	f.Budget = 10 * time.Millisecond
	err := chattest.Fold(t, f.Stream(ctx, question())).Err
	require.ErrorContains(t, err, "no provider began to answer in time")
	require.Empty(t, other.asked)
}
