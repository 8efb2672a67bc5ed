package upstream_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/upstream"
	"github.com/websopy/relay/internal/upstream/trace"
)

// counted answers after a time, or fails, and counts how often it answered.
type counted struct {
	takes    time.Duration
	fails    func() bool
	answered atomic.Int64
}

func (c *counted) Stream(context.Context, *chat.Request) iter.Seq2[chat.Chunk, error] {
	return func(yield func(chat.Chunk, error) bool) {
		if c.fails != nil && c.fails() {
			yield(chat.Chunk{}, &chat.Error{Code: chat.UpstreamError, Message: "a bad day"})
			return
		}
		c.answered.Add(1)
		if !yield(chat.Chunk{Type: chat.Content, Text: []byte("Hi")}, nil) {
			return
		}
		time.Sleep(c.takes)
		yield(chat.Chunk{Type: chat.Done, Done: &chat.Completion{FinishReason: chat.FinishStop}}, nil)
	}
}

// sharing is a router whose only tier has these, by weight.
func sharing(weights map[*counted]int, order ...*counted) *upstream.Router {
	var tier upstream.Tier
	for i, c := range order {
		tier = append(tier, upstream.Target{Weight: weights[c], Candidate: &upstream.Candidate{
			Name: fmt.Sprint("u", i), Streamer: c, Load: new(upstream.Load), Breaker: upstream.NewBreaker(nil),
		}})
	}
	return &upstream.Router{Budget: time.Minute, Routes: []*upstream.Route{{Tiers: []upstream.Tier{tier}}}}
}

// send has n requests answered, a new one every gap.
func send(t *testing.T, r *upstream.Router, n int, gap time.Duration) (failed int64) {
	var failures atomic.Int64
	for range n {
		go func() {
			for _, err := range r.Stream(t.Context(), question()) {
				if err != nil {
					failures.Add(1)
				}
			}
		}()
		time.Sleep(gap)
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	return failures.Load()
}

func TestRequestsAreDividedByWeight(t *testing.T) {
	// with and without others that are under way
	for _, takes := range []time.Duration{time.Millisecond, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			const n = 10_000
			a, b, c := &counted{takes: takes}, &counted{takes: takes}, &counted{takes: takes}
			weights := map[*counted]int{a: 1, b: 3, c: 6}
			require.Zero(t, send(t, sharing(weights, a, b, c), n, 10*time.Millisecond))
			for one, weight := range weights {
				require.InEpsilon(t, n*weight/10, one.answered.Load(), 0.04, "weight %d, %v", weight, takes)
			}
		})
	}
}

// A new model gets one request of a hundred or a thousand, to see how it does.
func TestASmallWeightGetsItsShareAndNoMore(t *testing.T) {
	for _, weight := range []int{99, 999} {
		synctest.Test(t, func(t *testing.T) {
			small, large := &counted{takes: time.Millisecond}, &counted{takes: time.Millisecond}
			r := sharing(map[*counted]int{small: 1, large: weight}, small, large)
			require.Zero(t, send(t, r, 100*(weight+1), 10*time.Millisecond))
			require.InDelta(t, 100, small.answered.Load(), 5, "1 of %d", weight+1)
		})
	}
}

// Who was not asked for a while, as its breaker was open, gets its share from then on, and not what it has missed.
func TestWhoIsBackGetsItsShareAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ill := true
		a, b := &counted{takes: time.Millisecond}, &counted{takes: time.Millisecond}
		b.fails = func() bool { return ill }
		r := sharing(map[*counted]int{a: 1, b: 1}, a, b)
		require.Zero(t, send(t, r, 5000, 10*time.Millisecond))
		require.Zero(t, b.answered.Load())
		ill = false
		require.Zero(t, send(t, r, 200, time.Second)) // and its breaker closes
		require.NotZero(t, b.answered.Load())
		a.answered.Store(0)
		b.answered.Store(0)
		require.Zero(t, send(t, r, 1000, 10*time.Millisecond))
		require.InDelta(t, 500, b.answered.Load(), 50)
	})
}

func TestASlowTargetGetsFewerRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fast, slow := &counted{takes: time.Second}, &counted{takes: 10 * time.Second}
		require.Zero(t, send(t, sharing(map[*counted]int{fast: 1, slow: 1}, fast, slow), 2000, 20*time.Millisecond))
		require.Less(t, slow.answered.Load(), fast.answered.Load()*2/3)
		require.NotZero(t, slow.answered.Load())
	})
}

// A third of twenty fails, at random or always: nobody is the worse for it, and those that answer share the requests.
func TestNothingIsLostThatAnotherCouldAnswer(t *testing.T) {
	for name, fails := range map[string]func() bool{
		"always": func() bool { return true }, "at random": func() bool { return rand.IntN(2) == 0 },
	} {
		for _, takes := range []time.Duration{time.Millisecond, time.Second} {
			synctest.Test(t, func(t *testing.T) {
				const n = 10_000
				weights := make(map[*counted]int)
				var all []*counted
				for i := range 20 {
					c := &counted{takes: takes}
					if i%3 == 0 {
						c.fails = fails
					}
					all, weights[c] = append(all, c), 1
				}
				require.Zero(t, send(t, sharing(weights, all...), n, 5*time.Millisecond))
				least, most, healthy := int64(n), int64(0), 0
				for _, c := range all {
					if c.fails == nil {
						least, most, healthy = min(least, c.answered.Load()), max(most, c.answered.Load()), healthy+1
					}
				}
				require.Equal(t, 13, healthy)
				require.LessOrEqual(t, float64(most), 1.05*float64(least), "%s, answers of %v", name, takes)
			})
		}
	}
}

func TestWhoFailsAtRandomLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		weights := make(map[*counted]int)
		var all []*counted
		for i := range 20 {
			c := &counted{takes: time.Second}
			if i < 7 {
				c.fails = func() bool { return rand.IntN(2) == 0 }
			}
			all, weights[c] = append(all, c), 1
		}
		require.Zero(t, send(t, sharing(weights, all...), 5000, 5*time.Millisecond))
	})
}

// answers is whose answer a caller gets.
func answers(t *testing.T, r *upstream.Router, caller string, req *chat.Request) string {
	ctx := trace.With(t.Context(), &trace.Trace{Caller: caller})
	return chattest.Fold(t, r.Stream(ctx, req)).Text
}

func TestACallerStaysWithItsTarget(t *testing.T) {
	says3 := func(weights ...int) (*upstream.Router, upstream.Tier) {
		var tier upstream.Tier
		for i, w := range weights {
			c := chain(&scripted{acts: []act{says(fmt.Sprint("u", i))}}).Candidates[0]
			c.Name = fmt.Sprint("u", i)
			tier = append(tier, upstream.Target{Candidate: c, Weight: w})
		}
		return &upstream.Router{Sticky: true, Budget: time.Minute,
			Routes: []*upstream.Route{{Tiers: []upstream.Tier{tier}}}}, tier
	}
	const callers = 3000
	r, tier := says3(1, 1, 1)
	without := &upstream.Router{Sticky: true, Budget: time.Minute,
		Routes: []*upstream.Route{{Tiers: []upstream.Tier{tier[:2]}}}}
	has := make(map[string]int)
	for i := range callers {
		caller := fmt.Sprint("key-", i)
		first := answers(t, r, caller, question())
		require.Equal(t, first, answers(t, r, caller, question()))
		if first != "u2" {
			require.Equal(t, first, answers(t, without, caller, question()), "who goes moves only its own callers")
		}
		has[first]++
	}
	for name, n := range has {
		require.InEpsilon(t, callers/3, n, 0.1, name)
	}
}

func TestAStateGoesFirstToWhoMadeIt(t *testing.T) {
	place := func(name string) func(string) string { return func(string) string { return name } }
	a, b := chain(&scripted{acts: []act{says("A")}}).Candidates[0],
		chain(&scripted{acts: []act{says("B")}}).Candidates[0]
	a.Name, a.Place, b.Name, b.Place = "a", place("at-a"), "b", place("at-b")
	failing := chain(&scripted{acts: []act{fails(chat.UpstreamAuth)}}).Candidates[0]
	failing.Name, failing.Place, failing.Breaker = "failing", place("at-failing"), upstream.NewBreaker(nil)
	r := &upstream.Router{Budget: time.Minute, Routes: []*upstream.Route{{Tiers: tiers(a, b, failing)}}}

	turn := func(made string) *chat.Request {
		req := question()
		state := "1." + base64.RawURLEncoding.EncodeToString([]byte(`{"k":"openai","u":"`+made+`","b":"0","i":[]}`))
		req.Messages = append(req.Messages, chat.Message{Role: chat.RoleAssistant, State: state}, req.Messages[0])
		return req
	}
	require.Equal(t, "A", answers(t, r, "x", question()))
	require.Equal(t, "B", answers(t, r, "x", turn("at-b")))
	require.Equal(t, "A", answers(t, r, "x", turn("elsewhere")))
	for range 10 {
		require.Equal(t, "A", answers(t, r, "x", turn("at-failing")), "who fails is not the only one")
	}
	asked := len(failing.Streamer.(*scripted).asked)
	require.Equal(t, "A", answers(t, r, "y", turn("at-failing")))
	require.Equal(t, asked, len(failing.Streamer.(*scripted).asked), "its breaker is open")
}
