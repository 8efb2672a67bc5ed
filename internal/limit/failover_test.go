package limit_test

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/limit"
	"github.com/websopy/relay/internal/redistest"
)

// A master dies under answers that run, and its replica takes over: what was reserved is settled there, once, and no
// stream stays taken.
func TestAFailoverUnderAnswers(t *testing.T) {
	t.Run("Sentinel", func(t *testing.T) {
		t.Parallel()
		w := redistest.StartWatched(t, 2*time.Second)
		failOver(t, w.URL(), []*redistest.Server{w.Master}, []*redistest.Server{w.Replica})
	})
	t.Run("Cluster", func(t *testing.T) {
		t.Parallel()
		c := redistest.StartCluster(t, 2*time.Second)
		failOver(t, c.URL(), c.Masters[:], c.Replicas[:])
	})
}

func failOver(t *testing.T, url string, masters, replicas []*redistest.Server) {
	const callers, streams = 12, 4
	o := limit.LimiterOptions{Away: limit.AwayLocal, Policy: limit.Policy{Limits: limit.Limits{
		Requests: hourly(1000), Tokens: hourly(100_000), TokensPerDay: 100_000, Streams: streams,
	}}}
	o.Redis = connect(t, url)
	l := newLimiter(t, o)
	var open [callers][]*limit.Reservation
	for i := range open {
		require.Eventually(t, func() bool { // the first one of each node makes the connection to it
			r, err := l.Reserve(strconv.Itoa(i), "", 0)
			r.Cancel()
			return err == nil && limit.IsShared(r)
		}, patience, 10*time.Millisecond)
		for range streams {
			open[i] = append(open[i], admits(t, l, strconv.Itoa(i), 1000))
			require.True(t, limit.IsShared(open[i][len(open[i])-1]))
		}
	}
	require.Eventually(t, func() bool { return limit.Unsaid(l) == 0 }, patience, time.Millisecond)
	for i, m := range masters { // what comes to a replica later than its master dies is lost
		offset := func(s *redistest.Server, name string) string {
			_, rest, _ := strings.Cut(s.Do("INFO", "replication"), name+":")
			at, _, _ := strings.Cut(rest, "\r")
			return at
		}
		require.Eventually(t, func() bool {
			return offset(m, "master_repl_offset") == offset(replicas[i], "slave_repl_offset")
		}, patience, 5*time.Millisecond)
	}
	masters[0].Kill()
	for i := range open {
		caller := strconv.Itoa(i)
		_, err := l.Reserve(caller, "", 0)
		require.Error(t, err, "all of its streams run, wherever they are known")
		for _, r := range open[i][:streams/2] { // while it is away
			r.Settle(10)
		}
	}
	for i := range open {
		caller := strconv.Itoa(i)
		require.Eventually(t, func() bool {
			r, err := l.Reserve(caller, "", 0)
			defer r.Cancel()
			return err == nil && limit.IsShared(r)
		}, patience, 20*time.Millisecond)
		for _, r := range open[i][streams/2:] { // when it is back
			r.Settle(10)
		}
	}
	require.Eventually(t, func() bool { return limit.Unsaid(l) == 0 }, patience, 5*time.Millisecond)
	require.Zero(t, l.Reserved())
	require.Zero(t, l.Lost())
	for i := range open {
		caller := strconv.Itoa(i)
		for n := range streams {
			r := reserve(t, l, caller, 0)
			require.True(t, limit.IsShared(r))
			require.Equal(t, int64(100_000-streams*10), r.Stand()[2].Left, "caller %s, stream %d", caller, n)
			defer r.Cancel()
		}
		exceeded(t, l, caller, 0, limit.StreamsLimit)
	}
}

// A slot of a Cluster goes from one node to another, key by key: what ends meanwhile is settled when it is there.
func TestAnAnswerThatEndsWhileItsSlotMoves(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, time.Minute)
	var refused atomic.Int64
	o := limit.LimiterOptions{Away: limit.AwayLocal,
		Policy:  limit.Policy{Limits: limit.Limits{TokensPerDay: 1000, Streams: 1}},
		Refused: func(error) { refused.Add(1) }}
	o.Redis = connect(t, c.URL())
	l := newLimiter(t, o)
	r := admits(t, l, "a", 500)
	require.Eventually(t, func() bool { // the first one makes the connection, and may not be in Redis
		if limit.IsShared(r) && limit.Unsaid(l) == 0 {
			return true
		}
		r.Cancel()
		r, _ = l.Reserve("a", "", 500)
		return false
	}, patience, 10*time.Millisecond)

	used, streams, own := limit.Keys(r)
	from := slices.IndexFunc(c.Masters[:], func(s *redistest.Server) bool {
		return s.Do("GET", own) != "" &&
			!strings.HasPrefix(s.Do("GET", own), "MOVED")
	})
	require.NotEqual(t, -1, from)
	source, target := c.Masters[from], c.Masters[(from+1)%3]
	slot, sourceID, targetID := source.Do("CLUSTER", "KEYSLOT", own), source.Do("CLUSTER", "MYID"),
		target.Do("CLUSTER", "MYID")
	require.Equal(t, "OK", target.Do("CLUSTER", "SETSLOT", slot, "IMPORTING", sourceID))
	require.Equal(t, "OK", source.Do("CLUSTER", "SETSLOT", slot, "MIGRATING", targetID))
	host, port, _ := net.SplitHostPort(target.Addr)
	move := func(key string) { require.Equal(t, "OK", source.Do("MIGRATE", host, port, key, "0", "5000")) }
	move(own)
	exceeded(t, l, "a", 100, limit.StreamsLimit)
	require.Zero(t, refused.Load(), "nobody has to look after it")

	r.Settle(100)
	tried := func() int {
		_, rest, _ := strings.Cut(source.Do("INFO", "errorstats"), "errorstat_TRYAGAIN:count=")
		n, _ := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "\r", 2)[0]))
		return n
	}
	require.Eventually(t, func() bool { return tried() >= 1 }, patience, 5*time.Millisecond)
	if limit.Unsaid(l) > 0 { // it is asked again, and not only once
		require.Eventually(t, func() bool { return tried() >= 2 }, patience, 5*time.Millisecond)
	}
	move(used)
	move(streams)
	for _, s := range []*redistest.Server{target, source} {
		require.Equal(t, "OK", s.Do("CLUSTER", "SETSLOT", slot, "NODE", targetID))
	}
	require.Eventually(t, func() bool { return limit.Unsaid(l) == 0 }, patience, 5*time.Millisecond)
	last := admits(t, l, "a", 0)
	require.True(t, limit.IsShared(last))
	require.Equal(t, int64(900), last.Stand()[0].Left)
}
