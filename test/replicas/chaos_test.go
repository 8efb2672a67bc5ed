//go:build chaos

package replicas_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/redistest"
)

// size gives the number of keys in servers.
func size(t *testing.T, servers ...*redistest.Server) func() int {
	return func() (n int) {
		for _, s := range servers {
			keys, err := strconv.Atoi(s.Do("DBSIZE"))
			if err != nil {
				t.Logf("DBSIZE: %v", err)
			}
			n += keys
		}
		return n
	}
}

func one(t *testing.T) (*fleet, *redistest.Server) {
	t.Helper()
	s := redistest.Start(t)
	return startFleet(t, s.URL(), size(t, s)), s
}

func set(t *testing.T, s *redistest.Server, name, value string) {
	t.Helper()
	require.Equal(t, "OK", s.Do("CONFIG", "SET", name, value))
}

func (r *relay) pause(t *testing.T, d time.Duration) {
	t.Helper()
	r.Hang()
	time.Sleep(d)
	r.Wake()
}

func TestChaosRollingRestart(t *testing.T) {
	f, _ := one(t)
	for range 2 {
		for _, r := range f.relays {
			r.Stop(t)
			r.Restart(t)
			time.Sleep(2 * time.Second)
		}
	}
	r := f.finish()
	r.hold(t)
	require.Zero(t, r.refused)
	require.Less(t, r.silence, 6*time.Second)
}

func TestChaosKilledReplica(t *testing.T) {
	f, _ := one(t)
	f.relays[0].Kill()
	time.Sleep(time.Second)
	f.relays[0].Restart(t)
	r := f.finish()
	r.hold(t, "producer_lost")
	require.Less(t, r.lost["producer_lost"], r.answers/2)
	require.Less(t, r.silence, 16*time.Second)
}

func TestChaosPausedReplica4s(t *testing.T) {
	f, _ := one(t)
	f.relays[0].pause(t, 4*time.Second)
	f.finish().hold(t)
}

// In 14 s the others take the paused replica for dead. Its answers end once, in one way for everybody; who comes
// back after the retention finds none.
func TestChaosPausedReplica14s(t *testing.T) {
	f, _ := one(t)
	f.relays[0].pause(t, 14*time.Second)
	f.finish().hold(t, "producer_lost", "404 stream_not_found", "stream_not_found")
}

func TestChaosRedisRestart(t *testing.T) {
	f, s := one(t)
	s.Kill()
	time.Sleep(2 * time.Second)
	s.Restart(t)
	f.finish().hold(t)
}

func TestChaosRedisStall(t *testing.T) {
	f, s := one(t)
	s.Hang()
	time.Sleep(8 * time.Second)
	s.Wake()
	f.finish().hold(t)
}

func TestChaosRedisFlush(t *testing.T) {
	f, s := one(t)
	require.Equal(t, "OK", s.Do("FLUSHALL"))
	f.finish().hold(t)
}

func TestChaosRedisFull(t *testing.T) {
	f, s := one(t)
	set(t, s, "maxmemory", "1")
	time.Sleep(20 * time.Second)
	set(t, s, "maxmemory", "0")
	f.finish().hold(t)
}

func TestChaosRedisReadOnly(t *testing.T) {
	f, s := one(t)
	set(t, s, "min-replicas-to-write", "1")
	time.Sleep(20 * time.Second)
	set(t, s, "min-replicas-to-write", "0")
	f.finish().hold(t)
}

func TestChaosSentinelFailover(t *testing.T) {
	w := redistest.StartWatched(t, 2*time.Second)
	f := startFleet(t, w.URL(), size(t, w.Replica))
	w.Master.Kill()
	time.Sleep(15 * time.Second)
	f.finish().hold(t)
}

func TestChaosClusterShardAway(t *testing.T) {
	c := redistest.StartCluster(t, 20*time.Second) // so nobody takes over
	f := startFleet(t, c.URL(), size(t, c.Masters[:]...))
	c.Masters[0].Hang()
	c.Replicas[0].Hang()
	time.Sleep(10 * time.Second)
	c.Masters[0].Wake()
	c.Replicas[0].Wake()
	f.finish().hold(t)
}

func TestChaosClusterFailover(t *testing.T) {
	c := redistest.StartCluster(t, 2*time.Second)
	f := startFleet(t, c.URL(), size(t, c.Replicas[0], c.Masters[1], c.Masters[2]))
	c.Masters[0].Kill()
	time.Sleep(15 * time.Second)
	f.finish().hold(t)
}

// TestChaosChurn has something of everything happen, every 15 to 30 s for RELAY_CHURN.
func TestChaosChurn(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("RELAY_CHURN"))
	require.NoError(t, err, "RELAY_CHURN says how long it goes on, e.g. 20m")
	f, s := one(t)
	events := map[string]func(){
		"rolling restart": func() {
			for _, r := range f.relays {
				r.Stop(t)
				r.Restart(t)
			}
		},
		"kill -9":    func() { r := f.relays[rand.N(2)]; r.Kill(); r.Restart(t) },
		"pause":      func() { f.relays[rand.N(2)].pause(t, 4*time.Second) },
		"long pause": func() { f.relays[rand.N(2)].pause(t, 14*time.Second) },
		"restart":    func() { s.Kill(); s.Restart(t) },
		"stall":      func() { s.Hang(); time.Sleep(8 * time.Second); s.Wake() },
		"flush":      func() { require.Equal(t, "OK", s.Do("FLUSHALL")) },
		"full":       func() { set(t, s, "maxmemory", "1"); time.Sleep(8 * time.Second); set(t, s, "maxmemory", "0") },
	}
	for until := time.Now().Add(length); time.Now().Before(until); {
		for name, event := range events { // in whatever order
			t.Log(time.Until(until).Round(time.Second), name)
			event()
			time.Sleep(time.Duration(15+rand.N(15)) * time.Second)
			if time.Now().After(until) {
				break
			}
		}
	}
	// Of replicas killed, or paused for long.
	f.finish().hold(t, "producer_lost", "404 stream_not_found", "stream_not_found")
}
