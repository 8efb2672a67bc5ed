package replicas_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/redistest"
)

// Redis stalls until there is more to write than the link takes in several seconds. Everybody gets the rest, it goes
// to Redis once, and the memory is given back.
func TestABacklogThatTheLinkTakesSecondsForDrains(t *testing.T) {
	t.Parallel()
	const answers, words = 10, 600
	p := startProvider(t, words, 20*time.Millisecond)
	redis := redistest.Start(t)
	way := redistest.Through(t, redis.Addr)
	env := []string{"RELAY_STORE=redis", "RELAY_REDIS_URL=redis://" + way.Addr}
	a := startRelay(t, p, env...)
	b := startRelay(t, p, env[0], "RELAY_REDIS_URL="+redis.URL())
	p.topic = strings.Repeat("at length ", 100)
	w := attend(t, p, a, b, answers)
	redis.Hang()
	a.becomes(t, "relay_resume_store_up", "0")
	way.Narrow(1 << 20)
	time.Sleep(8 * time.Second) // 50 words of a KB a second, for each answer
	redis.Wake()
	w.whole()
	unharmed(t, a, b)
	require.Less(t, way.Carried(), answers*words*1500, "hardly anything goes to Redis twice")
	require.Eventually(t, func() bool { return a.Gauge(t, "relay_resume_log_bytes") < answers*words*1000/10 },
		patience, 20*time.Millisecond, "memory is given back")
}

// One address, behind which another server has become the primary: as with most Redis that one can rent. Connections
// that there are lead to the old one, which is a replica now.
func TestAPrimaryThatBecameAReplicaBehindItsAddressIsLeft(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 150, 100*time.Millisecond)
	old, successor := redistest.Start(t), redistest.Start(t)
	follow := func(s, of *redistest.Server) {
		host, port, _ := net.SplitHostPort(of.Addr)
		require.Equal(t, "OK", s.Do("REPLICAOF", host, port))
	}
	follow(successor, old)
	require.Eventually(t, func() bool {
		return strings.Contains(successor.Do("INFO", "replication"), "master_link_status:up")
	}, patience, 20*time.Millisecond)
	way := redistest.Through(t, old.Addr)
	a, b := pairOn(t, p, "redis://"+way.Addr, "RELAY_LOG_FORMAT=json")
	w := attend(t, p, a, b, 10)
	require.Equal(t, "OK", successor.Do("REPLICAOF", "NO", "ONE"))
	follow(old, successor)
	way.Lead(successor.Addr)
	a.becomes(t, "relay_resume_store_up", "0")
	a.becomes(t, "relay_resume_store_up", "1")
	fresh := newClient(t, "after that")
	fresh.words(t, a, 3)
	require.False(t, strings.HasPrefix(fresh.id, "m"), fresh.id)
	require.Eventually(t, func() bool { return successor.Do("EXISTS", "relay:{"+fresh.id+"}") == "1" }, patience,
		20*time.Millisecond)
	w.whole()
	fresh.rest(t, b)
	fresh.whole(t, p)
	unharmed(t, a, b)
	require.Equal(t, 1, a.says("Redis refuses writes", "READONLY"))
	require.Equal(t, 1, a.says("Redis is back"))
}
