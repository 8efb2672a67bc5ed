package replicas_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/redistest"
)

// pairOn is two relays on a Redis that is there already.
func pairOn(t *testing.T, p *provider, url string, env ...string) (a, b *relay) {
	t.Helper()
	env = append([]string{"RELAY_STORE=redis", "RELAY_REDIS_URL=" + url}, env...)
	return startRelay(t, p, env...), startRelay(t, p, env...)
}

func configure(t *testing.T, s *redistest.Server, name, value string) {
	t.Helper()
	require.Equal(t, "OK", s.Do("CONFIG", "SET", name, value))
}

// Redis is full, as noeviction has it, or has too few replicas. It lasts longer than a lease, and than a reader
// elsewhere takes to declare a producer dead.
func TestARedisThatRefusesWritesEndsNoAnswer(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, k redistest.Kind) {
		for name, reason := range map[string]string{"maxmemory": "OOM", "min-replicas-to-write": "NOREPLICAS"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				p := startProvider(t, 260, 100*time.Millisecond)
				redis := k.Start(t)
				a, b := pairOn(t, p, redis.URL(), "RELAY_LOG_FORMAT=json")
				w := attend(t, p, a, b, 10)
				configure(t, redis, name, "1")
				a.becomes(t, "relay_resume_store_up", "0")
				a.becomes(t, `relay_resume_store_nodes{state="refuses_writes"}`, "1")
				inMemory(t, p, a)
				// a retry on the other replica, which can read whose key it is
				again := newClient(t, w.here[0].question)
				again.words(t, b, 1)
				require.Equal(t, w.ids[0], again.id)
				time.Sleep(18 * time.Second)
				configure(t, redis, name, "0")
				w.whole()
				unharmed(t, a, b)
				a.becomes(t, "relay_resume_store_up", "1")
				require.Equal(t, 1, a.says("Redis refuses writes", reason), "which, why, once")
				require.Equal(t, 1, a.says("Redis is back"))
				require.Zero(t, a.says("Redis is away"), "it can be read")
			})
		}
	})
}

// inMemory asks while Redis takes nothing: the answer begins at once, can be resumed, and a retry does not ask again.
func inMemory(t *testing.T, p *provider, a *relay) {
	t.Helper()
	began := time.Now()
	fresh := newClient(t, "begun in memory, with a key that nobody guesses")
	fresh.words(t, a, 3)
	require.Less(t, time.Since(began), 5*time.Second)
	require.True(t, strings.HasPrefix(fresh.id, "m"), fresh.id)
	retry := newClient(t, fresh.question)
	retry.words(t, a, 3)
	require.Equal(t, fresh.id, retry.id)
	require.Equal(t, 1, p.asked(fresh.question))
}

// Somebody stops an answer, on the other replica, while Redis can't keep that in mind: the producer hears of it all
// the same.
func TestAStopIsHeardWhileRedisTakesNoWrites(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"maxmemory", "min-replicas-to-write"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProvider(t, 300, 100*time.Millisecond)
			redis, a, b := pair(t, p)
			c := newClient(t, "stopped")
			c.words(t, a, 10)
			configure(t, redis, name, "1")
			b.becomes(t, "relay_resume_store_up", "0")
			req, _ := http.NewRequest(http.MethodDelete, b.URL+"/api/chat/stream/"+c.id, nil)
			res, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			res.Body.Close()
			require.Equal(t, http.StatusAccepted, res.StatusCode)
			c.rest(t, a)
			require.Equal(t, "stopped", c.end.FinishReason)
		})
	}
}

// The retention is how long an ended answer is kept. A running one has nothing to do with it.
func TestAStallLongerThanTheRetentionEndsNoAnswer(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 200, 100*time.Millisecond)
	redis, a, b := pair(t, p, "RELAY_RESUME_RETENTION=2s")
	w := attend(t, p, a, b, 10)
	redis.Hang()
	time.Sleep(10 * time.Second)
	redis.Wake()
	w.whole()
	unharmed(t, a, b)
}

// Redis loses all that it had while it goes on. Some read, some come to the other replica just then, when nobody has
// written their streams again, and one whose stream never was is told so as soon as that is sure.
func TestAFlushEndsNoAnswer(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 120, 100*time.Millisecond)
	redis, a, b := pair(t, p)
	w := attend(t, p, a, b, 10)
	var moving []*client
	for i := range 10 {
		c := newClient(t, fmt.Sprintf("moving while Redis is flushed, number %d", i))
		c.words(t, a, 1)
		moving = append(moving, c)
	}
	b.becomes(t, "relay_resume_attached", "10")
	require.Equal(t, "OK", redis.Do("FLUSHALL"))
	for _, c := range moving {
		w.here = append(w.here, c)
		w.reads.Go(func() { c.rest(t, b) })
	}
	never := newClient(t, "never")
	never.id = strings.Repeat("0", 32)
	_ = never.run(background(t), func() string { return b.URL })
	require.Equal(t, "stream_not_found", never.end.Code)
	w.whole()
	unharmed(t, a, b)
	require.ErrorContains(t, never.connect(background(t), b.URL, nil), "404")
}

// Somebody else's key, or one that an older version left. It concerns one stream, and Redis is well.
func TestAKeyOfAWrongTypeConcernsItsOwnStreamOnly(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 60, 100*time.Millisecond)
	redis, a, b := pair(t, p)
	hurt := newClient(t, "hurt")
	hurt.words(t, a, 5)
	log := "relay:{" + hurt.id + "}:log"
	require.Eventually(t, func() bool { return redis.Do("TYPE", log) == "stream" }, patience, 20*time.Millisecond)
	require.Equal(t, "1", redis.Do("DEL", log))
	require.Equal(t, "OK", redis.Do("SET", log, "x"))
	w := attend(t, p, a, b, 10)
	hurt.rest(t, a)
	hurt.whole(t, p)
	w.whole()
	for _, c := range append(w.here, w.there...) {
		require.False(t, strings.HasPrefix(c.id, "m"), "Redis takes the other streams")
		require.Less(t, c.silence, 5*time.Second)
	}
	require.Equal(t, "1", a.Metric(t, "relay_resume_store_up"))
	unharmed(t, a, b)
}

// Somebody changes the rights of the relay's user, and sees his mistake.
func TestAUserWithoutRightsForAWhileEndsNoAnswer(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 150, 100*time.Millisecond)
	redis := redistest.Start(t)
	require.Equal(t, "OK", redis.Do("ACL", "SETUSER", "relay", "on", ">p4ss", "~*", "&*", "+@all"))
	a, b := pairOn(t, p, "redis://relay:p4ss@"+redis.Addr, "RELAY_LOG_FORMAT=json")
	w := attend(t, p, a, b, 10)
	require.Equal(t, "OK", redis.Do("ACL", "SETUSER", "relay", "-@all"))
	inMemory(t, p, a)
	a.becomes(t, "relay_resume_store_up", "0")
	require.Equal(t, "OK", redis.Do("ACL", "SETUSER", "relay", "+@all"))
	w.whole()
	unharmed(t, a, b)
	require.Equal(t, 1, a.says("Redis is away", "NOPERM"))
}
