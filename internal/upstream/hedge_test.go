package upstream_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/upstream"
	"github.com/websopy/relay/internal/upstream/provider"
	"github.com/websopy/relay/internal/upstream/trace"
)

func TestHedging(t *testing.T) {
	const after = 2 * time.Second
	slow := func(d time.Duration, words ...string) act { return act{after: d, words: words} }
	bad := func(d time.Duration, code chat.Code) act { return act{after: d, err: fails(code).err} }
	for name, tc := range map[string]struct {
		acts   []act // of one provider each
		text   string
		code   chat.Code
		took   time.Duration
		asked  []int
		hedged bool
	}{
		"a fast first needs no second": {[]act{slow(time.Second, "a"), slow(0, "b")}, "a", "", time.Second,
			[]int{1, 0}, false},
		"the second may be faster": {[]act{slow(time.Minute, "a"), slow(time.Second, "b")}, "b", "",
			3 * time.Second, []int{1, 1}, true},
		"the first may still be": {[]act{slow(3*time.Second, "a"), slow(5*time.Second, "b")}, "a", "",
			3 * time.Second, []int{1, 1}, true},
		"there are two at a time": {[]act{slow(9*time.Second, "a"), slow(9*time.Second, "b"),
			slow(0, "c")}, "a", "", 9 * time.Second, []int{1, 1, 0}, true},
		"one that fails makes place": {[]act{slow(9*time.Second, "a"), bad(time.Second, chat.UpstreamError),
			slow(time.Second, "c")}, "c", "", 4 * time.Second, []int{1, 1, 1}, true},
		"the first fails, the second goes on": {[]act{bad(3*time.Second, chat.UpstreamError),
			slow(4*time.Second, "b")}, "b", "", 6 * time.Second, []int{1, 1}, true},
		"the second fails, the first goes on": {[]act{slow(4*time.Second, "a"),
			bad(time.Second, chat.UpstreamError)}, "a", "", 4 * time.Second, []int{1, 1}, true},
		"the second rejects, the first answers": {[]act{slow(4*time.Second, "a"),
			bad(time.Second, chat.UpstreamRejected)}, "a", "", 4 * time.Second, []int{1, 1}, true},
		"the first rejects, which is that": {[]act{bad(3*time.Second, chat.UpstreamRejected),
			slow(time.Minute, "b")}, "", chat.UpstreamRejected, 3 * time.Second, []int{1, 1}, true},
		"a failure before is a plain fallback": {[]act{bad(time.Second, chat.UpstreamError), slow(time.Second/2, "b")},
			"b", "", 1500 * time.Millisecond, []int{1, 1}, false},
		"both fail": {[]act{bad(4*time.Second, chat.UpstreamRateLimited), bad(time.Second, chat.UpstreamError)}, "",
			chat.UpstreamError, 4 * time.Second, []int{1, 1}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var providers []*scripted
				for _, a := range tc.acts {
					providers = append(providers, &scripted{acts: []act{a}})
				}
				f := chain(providers...)
				f.HedgeAfter = after
				begin := time.Now()
				var took time.Duration
				text, code := "", chat.Code("")
				for c, err := range f.Stream(t.Context(), question()) {
					if took == 0 {
						took = time.Since(begin)
						synctest.Wait()
						open := 0
						for _, p := range providers {
							open += p.running()
						}
						require.LessOrEqual(t, open, 1, "the other is cancelled at once")
					}
					text += string(c.Text)
					if err != nil {
						code = chat.AsError(err).Code
					}
				}
				require.Equal(t, tc.text, text)
				require.Equal(t, tc.code, code)
				require.Equal(t, tc.took, took)
				for i, p := range providers {
					require.Len(t, p.asked, tc.asked[i], "provider %d", i)
					require.Zero(t, p.running())
				}
			})
		})
	}
}

func TestTheAnswerThatWinsIsWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		words := []string{"one ", "two ", "three"}
		f := chain(&scripted{acts: []act{{after: time.Minute, words: []string{"no"}}}},
			&scripted{acts: []act{says(words...)}})
		f.HedgeAfter = time.Second
		got := chattest.Fold(t, f.Stream(t.Context(), question()))
		require.Equal(t, "one two three", got.Text)
		require.Equal(t, chat.FinishStop, got.Done.FinishReason)
	})
}

func TestAReaderThatBreaksOffEndsAHedgedAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &scripted{acts: []act{{after: time.Minute}}}, &scripted{acts: []act{says("a", "b")}}
		f := chain(first, second)
		f.HedgeAfter = time.Second
		for range f.Stream(t.Context(), question()) {
			break
		}
		require.Zero(t, first.running()+second.running())
	})
}

func TestTheTraceTellsOfBothLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		options := func(name string) provider.Options {
			return provider.Options{Name: name, Kind: "demo", IdleTimeout: time.Minute}
		}
		f := &upstream.Fallback{Budget: time.Minute, HedgeAfter: 2 * time.Second, Candidates: []*upstream.Candidate{
			{Streamer: newUpstream(t, options("slow")),
				Model: func(string) (string, bool) { return "demo-slow", true }},
			{Streamer: newUpstream(t, options("fast"))},
		}}
		var tr trace.Trace
		got := chattest.Fold(t, f.Stream(trace.With(t.Context(), &tr), question()))
		require.NoError(t, got.Err)
		require.True(t, tr.Hedged)
		require.Len(t, tr.Attempts, 2)
		require.Equal(t, "slow", tr.Attempts[0].Upstream)
		require.Error(t, tr.Attempts[0].Err)
		require.Equal(t, trace.Attempt{Upstream: "fast"}, tr.Attempts[1])
	})
}
