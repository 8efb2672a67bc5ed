package upstream_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream"
)

// openBreaker returns a breaker that has just opened.
func openBreaker(t *testing.T) *upstream.Breaker {
	t.Helper()
	b := upstream.NewBreaker(nil)
	f := chain(&scripted{acts: []act{fails(chat.UpstreamError)}})
	f.Candidates[0].Breaker = b
	for range 10 {
		require.Equal(t, upstream.BreakerClosed, b.State())
		require.Error(t, fold(t, f, t.Context(), question()).err)
	}
	require.Equal(t, upstream.BreakerOpen, b.State())
	return b
}

func TestAnUpstreamThatFailsAllTheTimeIsSkippedAndProbedWithOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes []string
		bad, good := &scripted{acts: []act{fails(chat.UpstreamError)}}, &scripted{acts: []act{says("Hi")}}
		f := chain(bad, good)
		b := upstream.NewBreaker(func(s upstream.BreakerState, failure error) {
			require.ErrorContains(t, failure, "upstream_error")
			changes = append(changes, s.String())
		})
		f.Candidates[0].Breaker = b
		ask := func() { require.Equal(t, "Hi", fold(t, f, t.Context(), question()).text) }

		for range 15 {
			ask()
		}
		require.Len(t, bad.asked, 10, "then it is skipped")
		time.Sleep(15*time.Second + 1)
		require.Equal(t, upstream.BreakerHalfOpen, b.State())
		ask()
		ask()
		require.Len(t, bad.asked, 11, "one request tries, and fails")
		require.Equal(t, upstream.BreakerOpen, b.State())

		bad.acts = []act{says("Hi")}
		time.Sleep(15*time.Second + 1)
		ask()
		require.Equal(t, upstream.BreakerClosed, b.State())
		ask()
		require.Len(t, bad.asked, 13)
		require.Equal(t, []string{"open", "half-open", "open", "half-open", "closed"}, changes)
	})
}

func TestWhileAProbeIsOutTheOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := openBreaker(t)
		time.Sleep(15*time.Second + 1)
		slow, good := &scripted{acts: []act{{after: time.Minute}}}, &scripted{acts: []act{says("Hi")}}
		f := chain(slow, good)
		f.Candidates[0].Breaker = b
		probe := make(chan answer, 1) // so that the prober can leave before it is read
		go func() { probe <- fold(t, f, t.Context(), question()) }()
		synctest.Wait()
		begin := time.Now()
		require.Equal(t, "Hi", fold(t, f, t.Context(), question()).text)
		require.Zero(t, time.Since(begin))
		require.Len(t, slow.asked, 1)
		<-probe
	})
}

func TestAProbeWhoseClientLeavesDecidesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := openBreaker(t)
		time.Sleep(15*time.Second + 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		f := chain(&scripted{acts: []act{{after: time.Minute}, says("Hi")}})
		f.Candidates[0].Breaker = b
		require.Error(t, fold(t, f, ctx, question()).err)
		require.Equal(t, upstream.BreakerHalfOpen, b.State())
		require.Equal(t, "Hi", fold(t, f, t.Context(), question()).text, "the next one probes")
		require.Equal(t, upstream.BreakerClosed, b.State())
	})
}

func TestAProbeThatPanicsDecidesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, hedge := range []time.Duration{0, time.Minute} {
			b := openBreaker(t)
			time.Sleep(15*time.Second + 1)
			f := chain(&scripted{}, &scripted{}) // without an act it panics
			f.Candidates[0].Breaker, f.HedgeAfter = b, hedge
			require.Panics(t, func() { fold(t, f, t.Context(), question()) }, "on the caller's goroutine")
			f = chain(&scripted{acts: []act{says("Hi")}})
			f.Candidates[0].Breaker = b
			require.Equal(t, "Hi", fold(t, f, t.Context(), question()).text)
		}
	})
}

func TestWhenAllAreSkippedTheAnswerIsImmediateAndSaysWhenToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &scripted{acts: []act{says("no")}}, &scripted{acts: []act{says("no")}}
		f := chain(first, second)
		f.Candidates[0].Breaker = openBreaker(t)
		time.Sleep(10 * time.Second)
		f.Candidates[1].Breaker = openBreaker(t)
		begin := time.Now()
		e := chat.AsError(fold(t, f, t.Context(), question()).err)
		require.Zero(t, time.Since(begin))
		require.Equal(t, chat.UpstreamUnreachable, e.Code)
		require.True(t, e.Code.Retryable())
		require.Equal(t, 5*time.Second, e.RetryAfter, "the first one is probed next")
		require.ErrorContains(t, e.Err, "upstream_error", "the log gets the last failure")
		require.Empty(t, first.asked)
		require.Empty(t, second.asked)
	})
}

func TestWhatSpeaksAgainstAProvider(t *testing.T) {
	for code, against := range map[chat.Code]bool{
		chat.UpstreamUnreachable: true, chat.UpstreamTimeout: true, chat.UpstreamRateLimited: true,
		chat.UpstreamError: true, chat.UpstreamTruncated: true, chat.UpstreamMalformed: true,
		chat.UpstreamAuth: false, chat.UpstreamRejected: false, chat.ContentFiltered: false,
		chat.InvalidRequest: false, chat.Overloaded: false, chat.StreamTooLong: false, chat.ServerShutdown: false, chat.Internal: false,
	} {
		f := chain(&scripted{acts: []act{fails(code)}})
		f.Candidates[0].Breaker = upstream.NewBreaker(nil)
		for range 10 {
			require.Error(t, fold(t, f, t.Context(), question()).err)
		}
		require.Equal(t, against, f.Candidates[0].Breaker.State() == upstream.BreakerOpen, code)
	}
	errUnknown := errors.New("unknown")
	for name, a := range map[string]act{
		"an answer":                         says("Hi"),
		"an answer without content":         {},
		"an answer that breaks off":         {words: []string{"Hi"}, err: fails(chat.UpstreamTruncated).err},
		"something that nobody gave a code": {err: errUnknown},
		"a rejection among failures resets": fails(chat.UpstreamRejected),
	} {
		p := &scripted{acts: []act{fails(chat.UpstreamError)}}
		f := chain(p)
		f.Candidates[0].Breaker = upstream.NewBreaker(nil)
		for i := range 30 {
			p.acts = []act{fails(chat.UpstreamError)}
			if i%9 == 8 {
				p.acts = []act{a}
			}
			fold(t, f, t.Context(), question())
		}
		want := upstream.BreakerClosed
		if a.err == errUnknown {
			want = upstream.BreakerOpen // it is no sign of health
		}
		require.Equal(t, want, f.Candidates[0].Breaker.State(), name)
	}
}
