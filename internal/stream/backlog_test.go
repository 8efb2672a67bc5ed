package stream_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/redistest"
	"github.com/websopy/relay/internal/stream"
)

// Invariants: one log; a slow node gets no more than it can take.
func TestABacklogOfMoreThanASecondOfTheLinkDrains(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	way := redistest.Through(t, s.Addr)
	o := options()
	o.Leases = stream.DefaultLeases // the backlog is most of what goes to Redis, and not the leases
	a, b := open(t, o, "redis://"+way.Addr), open(t, o, s.URL())
	var all []*both
	for range 20 {
		all = append(all, readBoth(t, a, b))
	}
	s.Hang()
	away(t, a, true)
	const each = 32 << 10
	for _, w := range all {
		for range each / 1024 {
			w.say(strings.Repeat("x", 1023) + " ")
		}
	}
	way.Narrow(100 << 10) // so that a round of the largest kind would take ten seconds
	before := way.Carried()
	time.Sleep(time.Second)
	s.Wake()
	for _, w := range all {
		w.whole(t)
	}
	require.Zero(t, b.Stats().Lost)
	require.Less(t, way.Carried()-before, len(all)*each*3/2, "hardly anything goes to Redis twice")
}
