package replicas_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/redistest"
)

// A deploy while Redis is down: nobody else could go on with these answers, so that their readers stay.
func TestARelayThatStopsWhileRedisIsAwayKeepsItsReaders(t *testing.T) {
	t.Parallel()
	for name, out := range map[string]func(t *testing.T, s *redistest.Server){
		"away":           func(_ *testing.T, s *redistest.Server) { s.Kill() },
		"stalled":        func(_ *testing.T, s *redistest.Server) { s.Hang() },
		"refuses writes": func(t *testing.T, s *redistest.Server) { configure(t, s, "maxmemory", "1") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProvider(t, 100, 100*time.Millisecond)
			redis, a, _ := pair(t, p, "RELAY_SHUTDOWN_GRACE=20s")
			old, fresh := newClient(t, "begun before"), newClient(t, "begun in memory")
			old.words(t, a, 1)
			out(t, redis)
			a.becomes(t, "relay_resume_store_up", "0")
			fresh.words(t, a, 1)
			var reads sync.WaitGroup
			reads.Go(func() { old.rest(t, a) })
			reads.Go(func() { fresh.rest(t, a) })
			a.becomes(t, "relay_resume_attached", "2")
			a.Stop(t)
			reads.Wait()
			old.whole(t, p)
			fresh.whole(t, p)
		})
	}
}

// Redis is back before the last answer has ended: whoever reads it goes elsewhere, or stays, and loses nothing.
func TestARedisThatComesBackWhileARelayStopsHasItsAnswers(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 100, 100*time.Millisecond)
	redis, a, b := pair(t, p, "RELAY_SHUTDOWN_GRACE=20s")
	redis.Kill()
	a.becomes(t, "relay_resume_store_up", "0")
	left, stays := newClient(t, "its reader has left"), newClient(t, "its reader stays")
	left.words(t, a, 5)
	stays.words(t, a, 5)
	var reads sync.WaitGroup
	urls := []string{a.URL, b.URL}
	turns := func() string {
		urls[0], urls[1] = urls[1], urls[0]
		return urls[1]
	}
	reads.Go(func() { require.NoError(t, stays.run(background(t), turns)) })
	a.becomes(t, "relay_resume_attached", "1")
	reads.Go(func() { a.Stop(t) })
	reads.Go(func() { left.rest(t, b) })
	b.becomes(t, "relay_resume_held", "1")
	redis.Restart(t)
	reads.Wait()
	left.whole(t, p)
	stays.whole(t, p)
}
