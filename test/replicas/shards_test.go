package replicas_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/redistest"
)

// One shard of three, with its replica, answers nothing for longer than a lease, and nobody takes over.
func TestAShardThatIsAwayConcernsItsOwnStreamsOnly(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 180, 100*time.Millisecond)
	c := redistest.StartCluster(t, time.Minute)
	a, b := pairOn(t, p, c.URL())
	inShard := func(id string) bool {
		slot, err := strconv.Atoi(c.Masters[1].Do("CLUSTER", "KEYSLOT", "relay:{"+id+"}"))
		require.NoError(t, err)
		return slot < 16384/3
	}
	w := attend(t, p, a, b, 15)
	c.Masters[0].Hang()
	c.Replicas[0].Hang()
	a.becomes(t, `relay_resume_store_nodes{state="away"}`, "1")
	lacking := 0
	for i := range 15 {
		began := time.Now()
		fresh := newClient(t, fmt.Sprintf("while a shard is away, number %d", i))
		fresh.words(t, a, 1)
		require.Less(t, time.Since(began), 5*time.Second)
		if strings.HasPrefix(fresh.id, "m") {
			lacking++
		}
		w.here = append(w.here, fresh)
		w.reads.Go(func() { fresh.rest(t, b) })
	}
	require.Less(t, lacking, 15, "the other shards take new streams")
	time.Sleep(8 * time.Second)
	c.Masters[0].Wake()
	c.Replicas[0].Wake()
	w.whole()
	elsewhere := 0
	for _, r := range w.there {
		if !inShard(r.id) {
			elsewhere++
			require.Less(t, r.silence, 5*time.Second, "a stream of another shard")
		}
	}
	require.NotZero(t, elsewhere)
	unharmed(t, a, b)
}

// In a Cluster the key of a question is in another shard than the answer. The answer ends while that one is away.
func TestAKeyWhoseShardIsAwayAtTheEndOfItsStreamExpiresWithIt(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 40, 100*time.Millisecond)
	c := redistest.StartCluster(t, time.Minute)
	// a live stream's keys stay for fifteen minutes longer
	a, b := pairOn(t, p, c.URL(), "RELAY_RESUME_RETENTION=100s")
	w := attend(t, p, a, b, 15)
	c.Masters[0].Hang()
	c.Replicas[0].Hang()
	time.Sleep(6 * time.Second)
	c.Masters[0].Wake()
	c.Replicas[0].Wake()
	w.whole()
	const most = `local most = 0
		for _, key in ipairs(redis.call('KEYS', 'relay:key:*')) do most = math.max(most, redis.call('TTL', key)) end
		return most`
	for _, s := range c.Masters {
		require.Eventually(t, func() bool {
			n, err := strconv.Atoi(s.Do("EVAL", most, "0"))
			return err == nil && n > 0 && n <= 100
		}, patience, 50*time.Millisecond, "no key stays longer than its stream")
	}
}

func TestAFailoverEndsNoAnswer(t *testing.T) {
	t.Parallel()
	t.Run("Cluster", func(t *testing.T) {
		t.Parallel()
		c := redistest.StartCluster(t, 2*time.Second)
		survive(t, c.URL(), c.Masters[0].Kill)
	})
	t.Run("Sentinel", func(t *testing.T) {
		t.Parallel()
		w := redistest.StartWatched(t, 2*time.Second)
		survive(t, w.URL(), w.Master.Kill)
	})
}

// survive has the master die under running answers, of which the replica may lack the last words.
func survive(t *testing.T, url string, kill func()) {
	p := startProvider(t, 200, 100*time.Millisecond)
	a, b := pairOn(t, p, url)
	w := attend(t, p, a, b, 10)
	kill()
	time.Sleep(8 * time.Second)
	fresh := newClient(t, "after the failover")
	fresh.words(t, a, 3)
	fresh.rest(t, b)
	fresh.whole(t, p)
	w.whole()
	unharmed(t, a, b)
}
