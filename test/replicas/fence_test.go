package replicas_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A producer stands still for so long that the others take it for dead, and goes on then.
func TestAProducerThatWasTakenForDeadNotices(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 240, 100*time.Millisecond)
	_, a, b := pair(t, p, "RELAY_LOG_FORMAT=json")
	left, watched := newClient(t, "nobody reads it on its own replica"), newClient(t,
		"somebody reads it on its own replica")
	left.words(t, a, 3)
	watched.words(t, a, 3)
	elsewhere := newClient(t, watched.question)
	elsewhere.id = watched.id
	var local, others sync.WaitGroup
	local.Go(func() { watched.rest(t, a) })
	others.Go(func() { left.rest(t, b) })
	others.Go(func() { elsewhere.rest(t, b) })
	b.becomes(t, "relay_resume_attached", "2")

	a.Hang()
	others.Wait()
	for _, c := range []*client{left, elsewhere} {
		require.Equal(t, "producer_lost", c.end.Code)
		require.True(t, strings.HasPrefix(p.answer(c.question), c.text))
		require.Less(t, c.silence, 15*time.Second)
	}
	a.Wake()
	select {
	case <-p.wentAway(left.question):
	case <-time.After(patience):
		require.Fail(t, "it is generated on for nobody")
	}
	a.becomes(t, "relay_resume_fenced_total", "2")
	late := newClient(t, watched.question) // it comes to the producer, and is told what the others were
	late.id = elsewhere.id
	late.rest(t, a)
	require.Equal(t, "producer_lost", late.end.Code)
	local.Wait()
	watched.whole(t, p)
	a.becomes(t, `relay_generations_ended_total{reason="fenced"}`, "2")
	require.Zero(t, a.says(`"message":"generation"`, "completed"), "lost there, so never completed here")
	require.Equal(t, 2, a.says(`"message":"generation"`, "fenced"))
	require.Equal(t, "2", b.Metric(t, "relay_resume_lost_total"))
	require.Equal(t, 1, p.asked(left.question))
}

// The text goes to Redis twice a second while nobody reads it elsewhere, so that what was read last is not there.
func TestAReaderWhoSawMoreThanADeadProducerCouldWriteIsToldOfItsEnd(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 10_000, 2*time.Millisecond)
	_, a, b := pair(t, p)
	c := newClient(t, "q")
	c.words(t, a, 1500)
	a.Kill()
	seen := c.text
	c.rest(t, b)
	require.Equal(t, "producer_lost", c.end.Code)
	require.Equal(t, seen, c.text)
	require.Less(t, c.silence, 15*time.Second)
	require.Equal(t, 1, p.asked("q"))
}
