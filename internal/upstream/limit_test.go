package upstream_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/upstream"
	"github.com/websopy/relay/internal/upstream/trace"
)

func TestALimitQueuesAsManyAsItLetsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{acts: []act{{after: 3 * time.Second, words: []string{"Hi"}}}}
		l := upstream.NewLimit(p, 2, 2, 5*time.Second)
		answers := make(chan chattest.Transcript, 6) // all at once
		begin := time.Now()
		for range 6 {
			go func() { answers <- chattest.Fold(t, l.Stream(t.Context(), question())) }()
		}
		synctest.Wait()
		require.Equal(t, 2, p.running())
		require.Len(t, answers, 2, "two are open and two wait: there is no place for two more")
		for range 2 {
			e := chat.AsError((<-answers).Err)
			require.Equal(t, chat.Overloaded, e.Code)
			require.Equal(t, time.Second, e.RetryAfter)
		}
		for range 4 {
			require.Equal(t, "Hi", (<-answers).Text)
		}
		require.Equal(t, 6*time.Second, time.Since(begin))
		require.Equal(t, "Hi", chattest.Fold(t, l.Stream(t.Context(), question())).Text, "the places are free again")
	})
}

func TestAWaitForAPlaceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{acts: []act{{after: time.Minute}}}
		l := upstream.NewLimit(p, 1, 1, 5*time.Second)
		done := make(chan struct{})
		go func() {
			defer close(done)
			chattest.Fold(t, l.Stream(t.Context(), question()))
		}()
		synctest.Wait()
		begin := time.Now()
		require.Equal(t, chat.Overloaded, chat.AsError(chattest.Fold(t, l.Stream(t.Context(), question())).Err).Code)
		require.Equal(t, 5*time.Second, time.Since(begin), "when nothing becomes free")

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, chattest.Fold(t, l.Stream(ctx, question())).Err, ctx.Err(), "when the client leaves")
		require.Equal(t, 6*time.Second, time.Since(begin))

		<-done
		require.Equal(t, 1, len(p.asked))
	})
}

func TestALineCanBeLongerThanThePlacesAreMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{acts: []act{{after: 3 * time.Second, words: []string{"Hi"}}}}
		l := upstream.NewLimit(p, 2, 8, time.Minute)
		answers := make(chan chattest.Transcript, 10)
		for range 10 {
			go func() { answers <- chattest.Fold(t, l.Stream(t.Context(), question())) }()
		}
		for range 10 {
			require.Equal(t, "Hi", (<-answers).Text)
		}
	})
}

func TestPlacesAtAProviderAreSharedByThoseWhoAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{acts: []act{{after: 3 * time.Second, words: []string{"Hi"}}}}
		l := upstream.NewLimit(p, 1, 4, time.Minute)
		answered := make(chan string, 10)
		ask := func(caller string) {
			go func() {
				ctx := trace.With(t.Context(), &trace.Trace{Caller: caller})
				if chattest.Fold(t, l.Stream(ctx, question())).Err == nil {
					answered <- caller
				}
			}()
			synctest.Wait()
		}
		for _, caller := range []string{"a", "a", "a", "a", "a", "a", "b"} {
			ask(caller)
		}
		var order string
		for range 5 {
			order += <-answered
		}
		require.Equal(t, "aabaa", order, "b came last, to a full line")
	})
}

func TestAPlaceIsGivenBackHoweverAnAnswerEnds(t *testing.T) {
	p := &scripted{acts: []act{says("a", "b"), fails(chat.UpstreamError), says("Hi")}}
	l := upstream.NewLimit(p, 1, 1, 0)
	for range l.Stream(t.Context(), question()) {
		break
	}
	require.Error(t, chattest.Fold(t, l.Stream(t.Context(), question())).Err)
	acts := p.acts
	p.acts = nil
	require.Panics(t, func() { chattest.Fold(t, l.Stream(t.Context(), question())) })
	p.acts = acts
	require.Equal(t, "Hi", chattest.Fold(t, l.Stream(t.Context(), question())).Text)
}
