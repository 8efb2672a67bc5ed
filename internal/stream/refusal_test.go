package stream_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/redisconn"
	"github.com/websopy/relay/internal/redistest"
	"github.com/websopy/relay/internal/stream"
)

// set changes a setting of a server.
func set(t *testing.T, s *redistest.Server, name, value string) {
	t.Helper()
	require.Equal(t, "OK", s.Do("CONFIG", "SET", name, value))
}

// both is one running answer, with a reader on its replica and one on another.
type both struct {
	p    *provider
	id   string
	text string
	got  []<-chan reading
}

// readBoth begins an answer on a, and reads it there and on b.
func readBoth(t *testing.T, a, b *stream.Hub) *both {
	t.Helper()
	p := newProvider()
	f := start(t, a, p.produce)
	w := &both{p: p, id: f.ID()}
	w.say("one ")
	require.Equal(t, "one ", readUntilText(t, b, w.id, "one "))
	elsewhere := attach(t, b, w.id, 0)
	for _, f := range []*stream.Follower{f, elsewhere} {
		w.got = append(w.got, aside(func() reading { return read(t, f) }))
	}
	return w
}

func (w *both) say(text string) {
	w.text += text
	w.p.say <- text
}

// whole ends the answer, and checks that all its readers have it.
func (w *both) whole(t *testing.T) {
	t.Helper()
	w.say("last")
	w.p.say <- stop
	for _, got := range w.got {
		r := <-got
		require.NoError(t, r.err)
		require.Equal(t, w.text, r.text)
		require.NotNil(t, r.done)
	}
}

// Invariant: a living producer is not declared dead.
func TestALivingProducerIsNotDeclaredDeadWhileRedisRefusesWrites(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, k redistest.Kind) {
		for name, value := range map[string]string{"maxmemory": "1", "min-replicas-to-write": "1"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := k.Start(t)
				states := newStates()
				a, b := openWith(t, options(), states.of(s.URL())), open(t, options(), s.URL())
				var all []*both // whose readers look after them at different times
				for range 12 {
					all = append(all, readBoth(t, a, b))
				}
				set(t, s, name, value)
				for _, w := range all {
					w.say("two ")
				}
				states.come(t, redisconn.Refusing)
				require.Equal(t, "one ", readUntilText(t, b, all[0].id, "one "), "what is there can be read")
				// a lease that nobody could renew is over, and that is confirmed
				time.Sleep(found(leases) + leases.Check)
				set(t, s, name, "0")
				// the readers have looked, most of them before the producer could write
				time.Sleep(leases.Check * 5 / 4)
				for _, w := range all {
					w.whole(t)
				}
				require.Zero(t, a.Stats().Lost+b.Stats().Lost)
				require.Zero(t, a.Stats().Fenced)
			})
		}
	})
}

// Invariant: a living producer is not declared dead. Who was cut off itself, and comes back first, waits for the
// others.
func TestWhoWasCutOffItselfDoesNotTakeAProducerForDead(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	ways := []*redistest.Proxy{redistest.Through(t, s.Addr), redistest.Through(t, s.Addr)}
	a, b := open(t, options(), "redis://"+ways[0].Addr), open(t, options(), "redis://"+ways[1].Addr)
	w := readBoth(t, a, b)
	ways[0].Cut()
	eventually(t, "the lease's end", func() bool { return s.Do("EXISTS", "relay:{"+w.id+"}:lease") == "0" })
	time.Sleep(leases.Check * 5 / 4) // the reader has seen that
	ways[1].Cut()
	time.Sleep(leases.Confirm)
	ways[1].Heal()
	away(t, b, false)
	time.Sleep(leases.Check * 5 / 4) // it has looked again
	ways[0].Heal()
	w.whole(t)
	require.Zero(t, b.Stats().Lost)
}

// states is what a Hub tells of Redis.
type states struct {
	all   chan redisconn.State
	count [3]atomic.Int32
}

func newStates() *states { return &states{all: make(chan redisconn.State, 100)} }

func (s *states) of(url string) redisconn.Options {
	return redisconn.Options{URL: url, Changed: func(_ string, to redisconn.State, _ error) {
		s.count[to].Add(1)
		s.all <- to
	}}
}

// come waits until want is told.
func (s *states) come(t *testing.T, want redisconn.State) {
	t.Helper()
	for limit := time.After(patience); ; {
		select {
		case got := <-s.all:
			if got == want {
				return
			}
		case <-limit:
			require.Fail(t, "it is never told that Redis is "+want.String())
		}
	}
}

// Invariant: one stream's trouble is its own.
func TestAKeyOfAnotherTypeHurtsOnlyItsOwnStream(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, k redistest.Kind) {
		s := k.Start(t)
		var troubles atomic.Int32
		o := options()
		o.Trouble = func(error) { troubles.Add(1) }
		states := newStates()
		a, b := openWith(t, o, states.of(s.URL())), open(t, options(), s.URL())
		for _, part := range []string{"", ":log", ":lease"} {
			bad, good := readBoth(t, a, b), readBoth(t, a, b)
			key := "relay:{" + bad.id + "}" + part
			replaced := s.Do("EVAL", "redis.call('DEL', KEYS[1]) return redis.call('SADD', KEYS[1], 'x')", "1", key)
			require.Equal(t, "1", replaced, "in one step: the stream writes meanwhile")
			bad.say("two ")
			for range 10 {
				good.say("two ")
				time.Sleep(leases.Renew / 5) // so that leases come between
			}
			fresh := start(t, a, words(3))
			require.False(t, strings.HasPrefix(fresh.ID(), "m"), "a new stream is in Redis")
			fresh.Close()
			require.Equal(t, wordsText(0, 3), read(t, attach(t, b, fresh.ID(), 0)).text)
			good.whole(t)
			bad.say("last")
			bad.p.say <- stop
			require.Equal(t, bad.text, (<-bad.got[0]).text, "on its replica it is whole")
			s.Do("DEL", key) // and then it comes back
		}
		require.NotZero(t, troubles.Load())
		require.Zero(t, states.count[redisconn.Refusing].Load()+states.count[redisconn.Away].Load())
	})
}

// keyOf is where Redis has the idempotency key of a caller.
func keyOf(owner, key string) string {
	sum := sha256.Sum256([]byte(strconv.Itoa(len(owner)) + ":" + owner + key))
	return "relay:key:" + hex.EncodeToString(sum[:])
}

// Invariant: one stream's trouble is its own.
func TestAnIdempotencyKeyOfAnotherTypeHurtsOnlyItsOwnStream(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	a := open(t, options(), s.URL())
	require.Equal(t, "1", s.Do("SADD", keyOf("me", "k"), "x"))
	var got []<-chan reading
	p := newProvider()
	for i := range 2 {
		f, replayed, err := a.Start(background(t), stream.Request{Owner: "me", Key: "k", Produce: p.produce})
		require.NoError(t, err)
		require.Equal(t, i > 0, replayed, "here the key is known all the same")
		got = append(got, aside(func() reading { return read(t, f) }))
		p.say <- "word "
		time.Sleep(leases.Renew) // so that Redis was asked for the key again
	}
	p.say <- stop
	for _, r := range got {
		require.Equal(t, "word word ", (<-r).text)
	}
	other := start(t, a, words(3))
	require.False(t, strings.HasPrefix(other.ID(), "m"))
	require.Equal(t, wordsText(0, 3), read(t, other).text)
}

// Invariant: one stream's trouble is its own. A node's concerns the streams that it has.
func TestAShardThatIsAwayHurtsOnlyItsOwnStreams(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, time.Minute) // so nobody takes over
	a, b := open(t, options(), c.URL()), open(t, options(), c.URL())
	away(t, a, false)
	away(t, b, false)
	on := map[bool][]*both{}
	for len(on[true]) < 2 || len(on[false]) < 2 {
		w := readBoth(t, a, b)
		slot, err := strconv.Atoi(c.Masters[0].Do("CLUSTER", "KEYSLOT", "{"+w.id+"}"))
		require.NoError(t, err)
		first := slot < 16384/3
		on[first] = append(on[first], w)
	}
	c.Masters[0].Hang()
	for _, w := range on[true] {
		w.say("two ")
	}
	here, slow := 0, 0
	for range 20 { // a second for the call that finds out, and then nobody waits
		began := time.Now()
		fresh := start(t, a, words(3))
		if time.Since(began) > redisconn.CallTimeout*9/10 {
			slow++
		}
		if strings.HasPrefix(fresh.ID(), "m") {
			here++
		}
		require.Equal(t, wordsText(0, 3), read(t, fresh).text)
	}
	require.LessOrEqual(t, here, 1, "the other shards take new streams")
	require.LessOrEqual(t, slow, 1)
	began := time.Now()
	for _, w := range on[false] {
		w.whole(t)
	}
	each := time.Since(began) / time.Duration(len(on[false]))
	require.Less(t, each, redisconn.CallTimeout, "the other shards' streams don't wait")
	c.Masters[0].Wake()
	for _, w := range on[true] {
		w.whole(t)
	}
	require.Zero(t, b.Stats().Lost)
}

// Retention is for what has ended. Keys of a live stream stay as long as it may run, however long Redis is away.
func TestAStallLongerThanTheRetentionLosesNoLiveStream(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	o := options()
	o.Retention, o.MaxDuration = time.Second, time.Hour
	a, b := open(t, o, s.URL()), open(t, o, s.URL())
	w, ends := readBoth(t, a, b), readBoth(t, a, b)
	ttl := func(key string) time.Duration {
		ms, err := strconv.Atoi(s.Do("PTTL", key))
		require.NoError(t, err)
		return time.Duration(ms) * time.Millisecond
	}
	for _, part := range []string{"", ":log"} {
		key := "relay:{" + w.id + "}" + part
		eventually(t, "a life for "+key, func() bool { return ttl(key) > o.MaxDuration })
	}
	s.Hang()
	away(t, a, true)
	w.say("two ")
	ends.say("last")
	ends.p.say <- stop // whose end is older than the retention when Redis is back
	require.NotNil(t, (<-ends.got[0]).done)
	time.Sleep(o.Retention * 5 / 2)
	s.Wake()
	r := <-ends.got[1]
	require.NoError(t, r.err)
	require.Equal(t, ends.text, r.text)
	w.whole(t)
	require.Zero(t, a.Stats().Lost+b.Stats().Lost)
	eventually(t, "the keys' end", func() bool {
		return s.Do("EXISTS", "relay:{"+w.id+"}", "relay:{"+w.id+"}:log") == "0"
	})
}

// What leads to a stream lives as long as that, and not longer.
func TestAnIdempotencyKeyAndAChatLiveAsLongAsTheirStream(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	o := options()
	o.Retention = 2 * time.Second
	a := open(t, o, s.URL())
	p := newProvider()
	f, _, err := a.Start(background(t), stream.Request{Owner: "me", Key: "k", Chat: "c", Produce: p.produce})
	require.NoError(t, err)
	keys := []string{keyOf("me", "k"), strings.Replace(keyOf("me", "c"), ":key:", ":chat:", 1)}
	for _, key := range keys {
		require.GreaterOrEqual(t, len(s.Do("PTTL", key)), len("86400000"), key)
	}
	p.say <- stop
	require.NoError(t, read(t, f).err)
	for _, key := range keys {
		eventually(t, "an end of the life of "+key, func() bool { return len(s.Do("PTTL", key)) <= len("2000") })
	}
}

// A stream that ends while its keys are renewed has them expire all the same, whichever of the two Redis hears first.
func TestKeysExpireAlsoWhereTheirStreamEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	o := options()
	o.Retention = 2 * time.Second
	a := open(t, o, s.URL())
	const streams = 300
	for i := range streams {
		chat := fmt.Sprint("c", i)
		f, _, err := a.Start(background(t), stream.Request{Owner: "me", Key: chat, Chat: chat, Produce: words(1)})
		require.NoError(t, err)
		require.NoError(t, read(t, f).err)
		f.Close()
	}
	const left = "return #redis.call('KEYS', 'relay:key:*') + #redis.call('KEYS', 'relay:chat:*')"
	eventually(t, "no key", func() bool { return s.Do("EVAL", left, "0") == "0" })
}
