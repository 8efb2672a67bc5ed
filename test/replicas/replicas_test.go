package replicas_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/redistest"
)

// pair is two relays on one Redis.
func pair(t *testing.T, p *provider, env ...string) (redis *redistest.Server, a, b *relay) {
	t.Helper()
	redis = redistest.Start(t)
	env = append([]string{"RELAY_STORE=redis", "RELAY_REDIS_URL=" + redis.URL()}, env...)
	return redis, startRelay(t, p, env...), startRelay(t, p, env...)
}

func background(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	return ctx
}

// words reads n words from r and then leaves.
func (c *client) words(t *testing.T, r *relay, n int) {
	t.Helper()
	err := c.connect(background(t), r.URL, func() bool { return strings.Count(c.text, "词") >= n })
	require.ErrorIs(t, err, errCut)
}

func (c *client) rest(t *testing.T, r *relay) {
	t.Helper()
	require.NoError(t, c.run(background(t), func() string { return r.URL }))
}

func TestAnAnswerIsReadOnWhereverTheClientComesBack(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 100, 10*time.Millisecond)
	_, a, b := pair(t, p)
	c := newClient(t, "q")
	for i := range 9 {
		c.words(t, []*relay{a, b}[i%2], 10*(i+1))
	}
	c.rest(t, b)
	require.Equal(t, "done", c.end.Type)
	require.Equal(t, p.answer("q"), c.text)
	require.Equal(t, 1, p.asked("q"))
}

func TestAFinishedAnswerIsTheSameFromEveryPosition(t *testing.T) {
	t.Parallel()
	const n = 40
	p := startProvider(t, n, time.Millisecond)
	_, a, b := pair(t, p)
	c := newClient(t, "q")
	c.rest(t, a)
	for _, r := range []*relay{a, b} {
		text := p.answer("q")
		for after := range n + 2 {
			again := newClient(t, "q")
			again.id, again.seq, again.cursor = c.id, uint64(after), fmt.Sprintf("%s.%d", c.id, after)
			if after == n+1 {
				require.ErrorContains(t, again.connect(background(t), r.URL, nil), "204")
				continue
			}
			again.rest(t, r)
			require.Equal(t, text, again.text)
			require.Equal(t, "done", again.end.Type)
			if after < n {
				text = text[len(word("q", after)):]
			}
		}
	}
	require.Equal(t, 1, p.asked("q"))
}

func TestAnAnswerWhoseReplicaIsKilledEndsInTimeAndKeepsItsText(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 1000, 20*time.Millisecond)
	_, a, b := pair(t, p)
	moved, elsewhere := newClient(t, "q"), newClient(t, "q")
	moved.words(t, a, 20)
	elsewhere.id = moved.id
	var reads sync.WaitGroup
	reads.Go(func() { elsewhere.rest(t, b) })
	moved.words(t, a, 60)
	a.Kill()
	killed := time.Now()
	moved.rest(t, b)
	require.Less(t, time.Since(killed), 15*time.Second)
	reads.Wait()
	for _, c := range []*client{moved, elsewhere} {
		require.Equal(t, "producer_lost", c.end.Code)
		require.True(t, strings.HasPrefix(p.answer("q"), c.text))
		require.GreaterOrEqual(t, strings.Count(c.text, "词"), 55)
	}
	require.Equal(t, "1", b.Metric(t, "relay_resume_lost_total"))
	require.Equal(t, 1, p.asked("q"))
	require.NotContains(t, b.Log(), moved.id, "ids are not to be read in the log")
}

func TestWithoutRedisAnswersGoOnAndNewOnesAreKeptInMemoryUntilItIsBack(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 250, 20*time.Millisecond)
	redis, a, b := pair(t, p)
	attached, moving := newClient(t, "attached"), newClient(t, "moving")
	moving.words(t, a, 10)
	var reads sync.WaitGroup
	reads.Go(func() { attached.rest(t, a) })
	require.Eventually(t, func() bool { return p.asked("attached") == 1 }, patience, 5*time.Millisecond)

	redis.Kill()
	require.Eventually(t, func() bool { return a.Metric(t, "relay_resume_store_up") == "0" }, patience,
		20*time.Millisecond)
	began := time.Now()
	fresh := newClient(t, "fresh")
	fresh.words(t, a, 5)
	require.Less(t, time.Since(began), 5*time.Second)
	require.True(t, strings.HasPrefix(fresh.id, "m"), fresh.id)
	again := newClient(t, "fresh") // the same key on the same replica
	again.words(t, a, 5)
	require.Equal(t, fresh.id, again.id)

	reads.Go(func() { fresh.rest(t, b) })  // which can't know it yet
	reads.Go(func() { moving.rest(t, b) }) // which can't find it yet
	redis.Restart(t)
	reads.Wait()
	for _, c := range []*client{attached, moving, fresh} {
		require.Equal(t, "done", c.end.Type)
		require.Equal(t, p.answer(c.question), c.text)
		require.Equal(t, 1, p.asked(c.question))
	}
	require.Eventually(t, func() bool { return a.Metric(t, "relay_resume_store_up") == "1" }, patience,
		20*time.Millisecond)
	require.Equal(t, "1", a.Metric(t, "relay_resume_published_total"))
	require.Equal(t, "0", a.Metric(t, "relay_resume_unavailable_total"))
	after := newClient(t, "after")
	after.words(t, a, 3)
	require.False(t, strings.HasPrefix(after.id, "m"), after.id)
}

func TestAStopReachesTheProviderFromTheOtherReplicaInEveryPhase(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 200, 10*time.Millisecond)
	_, a, b := pair(t, p)
	stop := func(method, path string) {
		req, _ := http.NewRequest(method, b.URL+"/api/chat/stream/"+path, nil)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, http.StatusAccepted, res.StatusCode)
	}
	stopped := func(c *client) {
		c.rest(t, a)
		require.Equal(t, "stopped", c.end.FinishReason)
		require.True(t, strings.HasPrefix(p.answer(c.question), c.text))
		select {
		case <-p.wentAway(c.question):
		case <-time.After(patience):
			require.Fail(t, "the provider goes on")
		}
	}

	during := newClient(t, "during")
	during.words(t, a, 10)
	stop(http.MethodDelete, during.id)
	stop(http.MethodPost, during.id+"/stop")
	stopped(during)
	stop(http.MethodDelete, during.id)

	p.mu.Lock()
	p.silent = true
	p.mu.Unlock()
	before := newClient(t, "before")
	require.ErrorIs(t, before.connect(background(t), a.URL, func() bool { return before.id != "" }), errCut)
	<-p.began("before")
	stop(http.MethodDelete, before.id)
	stopped(before)
	require.Empty(t, before.text)
	p.mu.Lock()
	p.silent = false
	p.mu.Unlock()

	after := newClient(t, "after")
	after.rest(t, a)
	stop(http.MethodDelete, after.id)
	again := newClient(t, "after")
	again.id = after.id
	again.rest(t, b)
	require.Equal(t, "stop", again.end.FinishReason)
	require.Equal(t, p.answer("after"), again.text)
}

// The clients are as hasty as the SDK once was and other clients still are: after three refusals in a row
// they are lost. The second restart is what they come to grief on where a balancer takes a relay that is back
// for one that is not.
func TestARollingRestartLosesNothingAndDoublesNothing(t *testing.T) {
	t.Parallel()
	const clients = 200
	p := startProvider(t, 120, 50*time.Millisecond)
	_, a, b := pair(t, p)
	front := startNginx(t, a, b)
	ctx := background(t)
	var reads sync.WaitGroup
	var all []*client
	for _, r := range []*relay{a, b} {
		began := len(all)
		for i := range clients {
			c := newClient(t, fmt.Sprintf("q%d", began+i))
			c.hasty = true
			all = append(all, c)
			reads.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Millisecond) // they come over two seconds
				if err := c.run(ctx, func() string { return front }); err != nil {
					t.Errorf("%s: %v", c.question, err)
				}
			})
		}
		require.Eventually(t, func() bool { return p.asked(all[len(all)-1].question) == 1 }, patience,
			10*time.Millisecond)
		r.Stop(t) // with all of them running
		r.Restart(t)
	}
	reads.Wait()
	for wave := range 2 {
		moved := 0
		for _, c := range all[wave*clients:][:clients] {
			require.Equal(t, "done", c.end.Type, c.question)
			require.Equal(t, p.answer(c.question), c.text)
			require.Equal(t, 1, p.asked(c.question), c.question)
			require.Zero(t, c.refused, "%s: nginx found no relay", c.question)
			if c.conns > 1 {
				moved++
			}
		}
		require.Greater(t, moved, clients/4, "the restart met running streams")
	}
}

func TestWithTheLogInMemoryAShutdownEndsWhatDoesNotFinishInTime(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 100, 20*time.Millisecond)
	r := startRelay(t, p, "RELAY_SHUTDOWN_GRACE=20s")
	slow := startProvider(t, 10_000, 20*time.Millisecond)
	cut := startRelay(t, slow, "RELAY_SHUTDOWN_GRACE=1s")
	finished, ended := newClient(t, "finished"), newClient(t, "ended")
	var reads sync.WaitGroup
	reads.Go(func() { finished.rest(t, r) })
	reads.Go(func() { ended.rest(t, cut) })
	<-p.began("finished")
	<-slow.began("ended")
	r.Stop(t)
	cut.Stop(t)
	reads.Wait()
	require.Equal(t, "done", finished.end.Type)
	require.Equal(t, p.answer("finished"), finished.text)
	require.Equal(t, "server_shutdown", ended.end.Code)
	require.True(t, strings.HasPrefix(slow.answer("ended"), ended.text))
	select {
	case <-slow.wentAway("ended"):
	case <-time.After(patience):
		require.Fail(t, "the provider goes on")
	}
}
