package upstream_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/upstream"
	"github.com/websopy/relay/internal/upstream/trace"
)

// openBreaker returns a breaker that has just opened.
func openBreaker(t *testing.T) *upstream.Breaker {
	t.Helper()
	b := upstream.NewBreaker(nil)
	f := chain(&scripted{acts: []act{fails(chat.UpstreamError)}})
	f.Candidates[0].Breaker = b
	for range 10 {
		require.Equal(t, upstream.BreakerClosed, b.State())
		require.Error(t, chattest.Fold(t, f.Stream(t.Context(), question())).Err)
	}
	require.Equal(t, upstream.BreakerOpen, b.State())
	return b
}

func TestAnUpstreamThatFailsAllTheTimeIsSkippedAndProbedWithOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes []string
		bad, good := &scripted{acts: []act{fails(chat.UpstreamError)}}, &scripted{acts: []act{says("Hi")}}
		f := chain(bad, good)
		b := upstream.NewBreaker(func(model string, s upstream.BreakerState, failure error) {
			require.Empty(t, model)
			require.ErrorContains(t, failure, "upstream_error")
			changes = append(changes, s.String())
		})
		f.Candidates[0].Breaker = b
		ask := func() { require.Equal(t, "Hi", chattest.Fold(t, f.Stream(t.Context(), question())).Text) }

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
		probe := make(chan chattest.Transcript, 1) // so that the prober can leave before it is read
		go func() { probe <- chattest.Fold(t, f.Stream(t.Context(), question())) }()
		synctest.Wait()
		begin := time.Now()
		require.Equal(t, "Hi", chattest.Fold(t, f.Stream(t.Context(), question())).Text)
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
		require.Error(t, chattest.Fold(t, f.Stream(ctx, question())).Err)
		require.Equal(t, upstream.BreakerHalfOpen, b.State())
		require.Equal(t, "Hi", chattest.Fold(t, f.Stream(t.Context(), question())).Text, "the next one probes")
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
			require.Panics(t, func() { chattest.Fold(t, f.Stream(t.Context(), question())) },
				"on the caller's goroutine")
			f = chain(&scripted{acts: []act{says("Hi")}})
			f.Candidates[0].Breaker = b
			require.Equal(t, "Hi", chattest.Fold(t, f.Stream(t.Context(), question())).Text)
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
		e := chat.AsError(chattest.Fold(t, f.Stream(t.Context(), question())).Err)
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
		chat.UpstreamAuth: true, chat.UpstreamRejected: false, chat.ContentFiltered: false,
		chat.InvalidRequest: false, chat.Overloaded: false, chat.StreamTooLong: false, chat.ServerShutdown: false,
		chat.Internal: false,
	} {
		f := chain(&scripted{acts: []act{fails(code)}})
		f.Candidates[0].Breaker = upstream.NewBreaker(nil)
		for range 10 {
			require.Error(t, chattest.Fold(t, f.Stream(t.Context(), question())).Err)
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
			chattest.Fold(t, f.Stream(t.Context(), question()))
		}
		want := upstream.BreakerClosed
		if a.err == errUnknown {
			want = upstream.BreakerOpen // it is no sign of health
		}
		require.Equal(t, want, f.Candidates[0].Breaker.State(), name)
	}
}

// as runs a request for a caller.
func as(t *testing.T, caller string, f *upstream.Fallback, req *chat.Request) chattest.Transcript {
	t.Helper()
	return chattest.Fold(t, f.Stream(trace.With(t.Context(), &trace.Trace{Caller: caller}), req))
}

// withBreaker is a chain of one provider with a breaker.
func withBreaker(p *scripted) (*upstream.Fallback, *upstream.Breaker) {
	f := chain(p)
	f.Candidates[0].Breaker = upstream.NewBreaker(nil)
	return f, f.Candidates[0].Breaker
}

var timesOut = fails(chat.UpstreamTimeout)

func TestOneCallersFailuresShutTheProviderForNobodyElse(t *testing.T) {
	for name, poison := range map[string]act{"500": fails(chat.UpstreamError), "time-out": timesOut,
		"429": fails(chat.UpstreamRateLimited), "a break": fails(chat.UpstreamTruncated)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &scripted{acts: []act{says("Hi")}}
				f, b := withBreaker(p)
				answered := 0
				for i := range 400 {
					time.Sleep(20 * time.Millisecond)
					p.acts = []act{poison}
					for range 10 * (1 - min(i%50, 1)) { // ten of them now and then
						require.Error(t, as(t, "attacker", f, question()).Err)
					}
					p.acts = []act{says("Hi")}
					if as(t, "shop", f, question()).Text == "Hi" {
						answered++
					}
					require.Equal(t, upstream.BreakerClosed, b.State())
				}
				require.Equal(t, 400, answered)
			})
		})
	}
}

func TestALoneCallersFailuresKeepThatCallerAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{acts: []act{fails(chat.UpstreamError)}}
		f, b := withBreaker(p)
		for range 15 {
			require.Error(t, as(t, "a", f, question()).Err)
		}
		require.Len(t, p.asked, 10, "nobody else asks, so that it is skipped")
		require.Equal(t, upstream.BreakerOpen, b.State())
		p.acts = []act{says("Hi")}
		require.Equal(t, "Hi", as(t, "b", f, question()).Text, "whoever comes has not seen a failure yet")
		require.Equal(t, upstream.BreakerClosed, b.State())
		require.Equal(t, "Hi", as(t, "a", f, question()).Text)
	})
}

func TestTwoCallersFailuresCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{acts: []act{fails(chat.UpstreamError)}}
		f, b := withBreaker(p)
		for i := range 10 {
			require.Equal(t, upstream.BreakerClosed, b.State())
			require.Error(t, as(t, []string{"a", "b"}[i%2], f, question()).Err)
		}
		require.Equal(t, upstream.BreakerOpen, b.State())
		require.Error(t, as(t, "c", f, question()).Err)
		require.Len(t, p.asked, 10, "it is skipped for everybody")

		p.acts = []act{says("Hi")}
		time.Sleep(15 * time.Second)
		require.Error(t, as(t, "b", f, question()).Err, "b tripped it, and c asks as well")
		require.Len(t, p.asked, 10)
		require.Equal(t, "Hi", as(t, "c", f, question()).Text)
		require.Equal(t, upstream.BreakerClosed, b.State())
	})
}

func TestWhoTrippedItProbesWhenNobodyElseComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{acts: []act{fails(chat.UpstreamError)}}
		f, b := withBreaker(p)
		for i := range 10 {
			require.Error(t, as(t, []string{"a", "b"}[i%2], f, question()).Err)
		}
		p.acts = []act{says("Hi")}
		time.Sleep(31 * time.Second)
		require.Equal(t, "Hi", as(t, "b", f, question()).Text)
		require.Equal(t, upstream.BreakerClosed, b.State())
	})
}

func TestWhatNoRequestBringsAboutCountsFromAnybody(t *testing.T) {
	refused := net.OpError{Op: "dial", Err: errors.New("connection refused")}
	for name, a := range map[string]act{
		"unreachable": {err: &chat.Error{Code: chat.UpstreamUnreachable, Err: &refused}},
		"TLS": {err: &chat.Error{Code: chat.UpstreamUnreachable,
			Err: &tls.CertificateVerificationError{Err: errors.New("unknown authority")}}},
		"connect time-out": {err: &chat.Error{Code: chat.UpstreamTimeout, Phase: chat.PhaseConnect}},
		"401":              fails(chat.UpstreamAuth),
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &scripted{acts: []act{says("Hi")}}
			f, b := withBreaker(p)
			require.NoError(t, as(t, "b", f, question()).Err)
			p.acts = []act{a}
			for range 12 {
				require.Error(t, as(t, "a", f, question()).Err)
			}
			require.Len(t, p.asked, 11, name)
			require.Equal(t, upstream.BreakerOpen, b.State())
			e := chat.AsError(as(t, "b", f, question()).Err)
			require.Len(t, p.asked, 11, name)
			require.Equal(t, a.err.(*chat.Error).Code == chat.UpstreamAuth, e.Code == chat.UpstreamAuth,
				"a wrong key stays one")
			require.Positive(t, e.RetryAfter)
		})
	}
}

func TestStatusesOfARealProviderTripTheBreaker(t *testing.T) {
	for status, anybody := range map[int]bool{401: true, 403: true, 503: true, 500: false, 502: false, 429: false,
		404: false, 400: false} {
		asked := 0
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if asked++; asked == 1 { // another caller's question, which the provider refuses
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			w.WriteHeader(status)
		}))
		b := upstream.NewBreaker(nil)
		f := &upstream.Fallback{Budget: time.Minute,
			Candidates: []*upstream.Candidate{{Streamer: newUpstream(t, options("openai", srv.URL)), Breaker: b}}}
		require.Error(t, as(t, "b", f, question()).Err)
		for range 10 {
			require.Error(t, as(t, "a", f, question()).Err)
		}
		require.Equal(t, anybody, b.State() == upstream.BreakerOpen, status)
		srv.Close()
	}
}

// Providers quote what they refuse, so that a caller can have any sentence said.
func TestASentenceThatACallerMadeUpCountsForItAlone(t *testing.T) {
	for _, said := range []string{"account has been suspended", "credit balance is too low", "Invalid API key"} {
		asked := 0
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			if asked++; asked > 1 {
				_, _ = io.WriteString(w, `{"error":{"message":"Invalid value: '`+said+
					`'. Supported values are: 'low' and 'high'.","type":"invalid_request_error"}}`)
			}
		}))
		b := upstream.NewBreaker(nil)
		f := &upstream.Fallback{Budget: time.Minute,
			Candidates: []*upstream.Candidate{{Streamer: newUpstream(t, options("openai", srv.URL)), Breaker: b}}}
		require.Error(t, as(t, "b", f, question()).Err)
		for range 12 {
			require.Error(t, as(t, "a", f, question()).Err)
		}
		require.Equal(t, upstream.BreakerClosed, b.State(), said)
		srv.Close()
	}
}

func TestEachModelHasABreakerOfItsOwn(t *testing.T) {
	p := &scripted{acts: []act{fails(chat.UpstreamError)}}
	f, b := withBreaker(p)
	broken, other := question(), question()
	broken.Model, other.Model = "broken", "other"
	for range 10 {
		require.Error(t, as(t, "a", f, broken).Err)
	}
	require.Equal(t, upstream.BreakerOpen, b.State())
	p.acts = []act{says("Hi")}
	require.Error(t, as(t, "a", f, broken).Err)
	require.Equal(t, "Hi", as(t, "a", f, other).Text)

	for i := range 5000 { // callers make up names
		made := question()
		made.Model = strconv.Itoa(i)
		require.Equal(t, "Hi", as(t, "a", f, made).Text)
	}
	require.LessOrEqual(t, b.Circuits(), 256)
	require.Error(t, as(t, "a", f, broken).Err, "and don't push out what is open")
}
