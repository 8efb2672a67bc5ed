package stream_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/redisconn"
	"github.com/websopy/relay/internal/redistest"
	"github.com/websopy/relay/internal/stream"
)

func open(t *testing.T, o stream.Options, url string) *stream.Hub {
	t.Helper()
	return openWith(t, o, redisconn.Options{URL: url})
}

func openWith(t *testing.T, o stream.Options, redis redisconn.Options) *stream.Hub {
	t.Helper()
	h, err := stream.Open(o, redis)
	require.NoError(t, err)
	t.Cleanup(func() { closeNow(h) })
	return h
}

func TestRedisLog(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, k redistest.Kind) {
		s := k.Start(t)
		conformance(t, func(t *testing.T, o stream.Options) (a, b *stream.Hub) {
			return open(t, o, s.URL()), open(t, o, s.URL())
		})
	})
}

func TestRedisLogInACluster(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--cluster-enabled", "yes")
	require.Equal(t, "OK", s.Do("CLUSTER", "ADDSLOTSRANGE", "0", "16383"))
	require.Eventually(t, func() bool { return s.Do("SET", "k", "v") == "OK" }, patience, 20*time.Millisecond,
		"the cluster is up")
	conformance(t, func(t *testing.T, o stream.Options) (a, b *stream.Hub) {
		return open(t, o, s.URL()), open(t, o, s.URL())
	})
}

// away starts streams until one begins in memory, because Redis is not to be had, or, when it is back, until one
// does not.
func away(t *testing.T, h *stream.Hub, want bool) {
	t.Helper()
	eventually(t, fmt.Sprintf("away: %v", want), func() bool {
		f, _, err := h.Start(background(t), stream.Request{Owner: "me", Produce: words(1)})
		require.NoError(t, err)
		f.Close()
		return strings.HasPrefix(f.ID(), "m") == want
	})
}

// found is how long it takes to find out that a producer is dead, and slack what the calls to Redis add at most.
func found(l stream.Leases) time.Duration { return l.For + l.Check + l.Confirm }

const slack = 3 * time.Second

// Invariants: a dead producer's stream ends once; the end is new to everybody; who reads on has a whole answer.
func TestAStreamWhoseProducerDiesEndsOnceForAllAndWithinFifteenSeconds(t *testing.T) {
	t.Parallel()
	require.Less(t, found(stream.DefaultLeases)+slack, 15*time.Second)
	s := redistest.Start(t)
	way := redistest.Through(t, s.Addr)
	a := open(t, options(), "redis://"+way.Addr)
	b, c := open(t, options(), s.URL()), open(t, options(), s.URL())
	p := newProvider()
	f := start(t, a, p.produce)
	p.say <- "half"
	for _, h := range []*stream.Hub{b, c} {
		require.Equal(t, "half", readUntilText(t, h, f.ID(), "half"))
	}

	evicted := start(t, a, newProvider().produce) // whose log Redis then drops, as a policy may have it

	way.Cut()
	cut := time.Now()
	require.Equal(t, "1", s.Do("DEL", "relay:{"+evicted.ID()+"}:log"))
	gone := aside(func() reading { return read(t, attach(t, c, evicted.ID(), 0)) })
	p.say <- " more" // which never comes to Redis
	var got []<-chan reading
	for _, h := range []*stream.Hub{b, b, c} {
		f := attach(t, h, f.ID(), 0)
		got = append(got, aside(func() reading { return read(t, f) }))
	}
	for _, r := range got {
		r := <-r
		require.Equal(t, "half", r.text)
		requireCode(t, chat.ProducerLost, r.err)
		require.Less(t, time.Since(cut), found(leases)+slack)
		require.Greater(t, r.seqs[1], uint64(1<<32), "it must be new to who read more than came to Redis")
	}
	require.Equal(t, uint64(1), b.Stats().Lost+c.Stats().Lost)
	requireCode(t, chat.ProducerLost, (<-gone).err)
	evicted.Close()

	// Who was attached to the producer and saw more gets the end, and then no more.
	r := read(t, attach(t, b, f.ID(), 2))
	require.Empty(t, r.text)
	requireCode(t, chat.ProducerLost, r.err)
	_, err := b.Attach(background(t), "me", f.ID(), r.seqs[0])
	require.ErrorIs(t, err, stream.ErrEnd)

	// The producer was not dead but cut off. It cannot write behind the end; who is attached to it
	// reads on.
	way.Heal()
	away(t, a, false)
	p.say <- " all"
	p.say <- stop
	require.Equal(t, "half more all", read(t, f).text)
	away(t, a, false)
	r = read(t, attach(t, b, f.ID(), 0))
	require.Equal(t, "half", r.text)
	requireCode(t, chat.ProducerLost, r.err)
}

func TestAClientThatSawTheEndBeforeRedisDidIsNotToldOfAnError(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	way := redistest.Through(t, s.Addr)
	a, b := open(t, options(), "redis://"+way.Addr), open(t, options(), s.URL())
	p := newProvider()
	f := start(t, a, p.produce)
	p.say <- "all"
	require.Equal(t, "all", readUntilText(t, b, f.ID(), "all"))
	way.Cut()
	p.say <- stop
	r := read(t, f)
	require.NotNil(t, r.done)
	again := attach(t, b, f.ID(), r.seqs[1])
	got := aside(func() reading { return read(t, again) })
	way.Heal()
	r = <-got
	require.ErrorIs(t, r.err, stream.ErrEnd)
	require.Empty(t, r.seqs)
}

func TestRedisIsKilledAndComesBackEmpty(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	states := make(chan redisconn.State, 10)
	a := openWith(t, options(), redisconn.Options{URL: s.URL(), Changed: func(_ string, to redisconn.State, _ error) {
		states <- to
	}})
	b := open(t, options(), s.URL())
	p := newProvider()
	asks := stream.Request{Owner: "me", Key: "k", Produce: p.produce}
	f, _, err := a.Start(background(t), asks)
	require.NoError(t, err)
	again := func(h *stream.Hub) {
		again, replayed, err := h.Start(background(t), asks)
		require.NoError(t, err)
		require.True(t, replayed)
		require.Equal(t, f.ID(), again.ID())
		again.Close()
	}
	p.say <- "one "
	elsewhere := attach(t, b, f.ID(), 0)
	require.Equal(t, "one ", readUntilText(t, b, f.ID(), "one "))
	got := aside(func() reading { return read(t, elsewhere) })

	s.Kill()
	away(t, a, true)
	require.Equal(t, redisconn.Away, <-states)
	p.say <- "two "
	require.Equal(t, "one two ", readUntilText(t, a, f.ID(), "one two "), "on the producing replica it goes on")
	again(a)
	held := attach(t, b, f.ID(), 0) // which Redis can't be asked for
	heldGot := aside(func() reading { return read(t, held) })
	require.Equal(t, 1, b.Stats().Held)

	s.Restart(t)
	require.Equal(t, redisconn.Up, <-states)
	away(t, a, false)
	away(t, b, false)
	eventually(t, "the stream being in Redis again", func() bool {
		f, err := b.Attach(background(t), "me", f.ID(), 2)
		if err == nil {
			f.Close()
		}
		return err == nil && s.Do("XLEN", "relay:{"+f.ID()+"}:log") == "2"
	})
	again(b)
	p.say <- "three"
	p.say <- stop
	for _, r := range []reading{read(t, f), <-got, <-heldGot} {
		require.NoError(t, r.err)
		require.Equal(t, "one two three", r.text)
		require.NotNil(t, r.done)
		require.Equal(t, []uint64{1, 2, 3, 4}, r.seqs)
	}
	require.Equal(t, "one two three", read(t, attach(t, b, f.ID(), 0)).text)
}

func TestRedisHangsForLongerThanALeaseAndNothingIsLost(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	a, b := open(t, options(), s.URL()), open(t, options(), s.URL())
	p := newProvider()
	f := start(t, a, p.produce)
	p.say <- "one "
	elsewhere := attach(t, b, f.ID(), 0)
	require.Equal(t, "one ", readUntilText(t, b, f.ID(), "one "))
	got := aside(func() reading { return read(t, elsewhere) })

	s.Hang()
	began := time.Now()
	away(t, a, true)
	require.Less(t, time.Since(began), 5*time.Second)
	began = time.Now()
	for range 5 {
		away(t, a, true)
	}
	require.Less(t, time.Since(began), 5*redisconn.CallTimeout, "those that follow do not wait for Redis")
	p.say <- "two "
	time.Sleep(leases.For * 4 / 3) // the lease is over
	s.Wake()
	away(t, a, false)
	p.say <- stop
	for _, r := range []reading{read(t, f), <-got} {
		require.NoError(t, r.err)
		require.Equal(t, "one two ", r.text)
		require.NotNil(t, r.done)
	}
}

func TestAHubStartsWithoutRedisAndFindsItLater(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Kill()
	a := open(t, options(), s.URL())
	away(t, a, true)
	s.Restart(t)
	away(t, a, false)
}

func TestReleaseHandsFollowersOverWhileTheGenerationGoesOn(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	a, b := open(t, options(), s.URL()), open(t, options(), s.URL())
	p := newProvider()
	f := start(t, a, p.produce)
	p.say <- "one "
	had := make(chan struct{})
	ctx := background(t)
	first := aside(func() reading {
		return readUntil(ctx, f, func(reading) bool { close(had); return false })
	})
	await(t, had, "the first word") // from now on the reader waits, while what it has is written
	a.Release()
	r := <-first
	require.ErrorIs(t, r.err, stream.ErrReleased)
	require.NoError(t, ctx.Err(), "it was woken for that")

	next := attach(t, b, f.ID(), uint64(len(r.seqs)))
	closed := aside(func() bool { a.Close(background(t)); return true })
	p.say <- "two"
	p.say <- stop
	require.True(t, <-closed)
	r2 := read(t, next)
	require.NoError(t, r2.err)
	require.Equal(t, "one two", r.text+r2.text)
	require.NotNil(t, r2.done)
}

func TestAURLThatIsNoneIsToldWithoutItsPassword(t *testing.T) {
	_, err := stream.Open(options(), redisconn.Options{URL: "redis://user:s3cret@host:port/0"})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "s3cret")
}
