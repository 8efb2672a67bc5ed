//go:build unix

package limit_test

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/limit"
	"github.com/websopy/relay/internal/redistest"
)

// everything are all limits that there are, none of which is ever reached.
var everything = limit.Policy{Limits: limit.Limits{
	Requests: limit.Rate{Count: 1e9, Window: time.Second}, Tokens: limit.Rate{Count: 1e12, Window: time.Second},
	TokensPerDay: 1e15, Streams: 1e6,
}}

// startShared gives a limiter with everything, and the way to its Redis.
func startShared(t testing.TB) (*limit.Limiter, rueidis.Client, *redistest.Server) {
	server := redistest.Start(t)
	conn := connect(t, server.URL())
	l := newLimiter(t, limit.LimiterOptions{Policy: everything, Redis: conn})
	client, err := conn.Client()
	require.NoError(t, err)
	pay(t, l, 0) // who has Redis learn the scripts
	require.Eventually(t, func() bool { return limit.Unsaid(l) == 0 }, patience, time.Millisecond)
	return l, client, server
}

// pay reserves and settles for one answer, and tells how long its caller waits for that.
func pay(t testing.TB, l *limit.Limiter, i int) (waited time.Duration) {
	began := time.Now()
	r, err := l.Reserve("caller "+strconv.Itoa(i%1000), "", 1500)
	waited = time.Since(began)
	if err != nil {
		t.Fatal(err)
	}
	r.Settle(900)
	return waited
}

// commands is how often each command was run, by its name.
func commands(server *redistest.Server) map[string]int {
	counts := make(map[string]int)
	for _, found := range regexp.MustCompile(`cmdstat_(\w+):calls=(\d+)`).FindAllStringSubmatch(
		server.Do("INFO", "commandstats"), -1) {
		counts[found[1]], _ = strconv.Atoi(found[2])
	}
	return counts
}

// An answer is two questions to Redis, of which its caller waits for one. What the scripts do there takes most of the
// time.
func TestWhatAnAnswerCostsRedis(t *testing.T) {
	l, _, server := startShared(t)
	const answers = 200
	before := commands(server)
	for i := range answers {
		pay(t, l, i)
	}
	require.Eventually(t, func() bool { return limit.Unsaid(l) == 0 }, patience, time.Millisecond)
	within := 0
	for name, count := range commands(server) {
		switch name {
		case "evalsha":
			require.Equal(t, 2*answers, count-before[name])
		case "get", "set", "del", "getdel", "exists", "time", "zcard", "zadd", "zrem", "zremrangebyscore", "pexpire":
			within += count - before[name]
		// of the connections, and of the probe
		case "info", "ping", "hello", "client", "config", "command", "auth", "eval":
		default:
			require.Equal(t, before[name], count, name)
		}
	}
	require.LessOrEqual(t, within, 12*answers)
}

// The bound is a ratio, because the same machine takes ten times as long when others use it: a caller waits for its
// limits as long as for so many PINGs. On an idle one it is 3, and with the scripts as they first were, 6.
func TestWhatACallerWaitsForItsLimits(t *testing.T) {
	l, client, _ := startShared(t)
	const rounds, each, most = 20, 100, 12
	var pings, waits []time.Duration
	for range rounds { // by turns, so that both have the same neighbours
		for range each {
			began := time.Now()
			require.NoError(t, client.Do(context.Background(), client.B().Ping().Build()).Error())
			pings = append(pings, time.Since(began))
		}
		for i := range each {
			waits = append(waits, pay(t, l, i))
		}
		require.Eventually(t, func() bool { return limit.Unsaid(l) == 0 }, patience, time.Millisecond)
	}
	slices.Sort(pings)
	slices.Sort(waits)
	ping, wait := pings[rounds*each/2], waits[rounds*each/2]
	t.Logf("median wait %v, PING %v: %.1f", wait, ping, float64(wait)/float64(ping))
	require.Less(t, wait, most*ping)
}

// BenchmarkReserveAndSettle says what one answer costs: time, of which waited/op is its caller's, and of the CPU what
// this process and Redis use. PING is what the same connection costs by itself.
func BenchmarkReserveAndSettle(b *testing.B) {
	b.Run("memory", func(b *testing.B) {
		l := newLimiter(b, limit.LimiterOptions{Policy: everything})
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			r, _ := l.Reserve("caller "+strconv.Itoa(i%1000), "", 1500)
			r.Settle(900)
		}
	})
	b.Run("redis", func(b *testing.B) {
		l, _, server := startShared(b)
		var waited time.Duration
		measure(b, server, func(i int) { waited += pay(b, l, i) })
		b.ReportMetric(float64(waited.Nanoseconds())/float64(b.N), "waited-ns/op")
	})
	b.Run("PING", func(b *testing.B) {
		_, client, server := startShared(b)
		measure(b, server, func(int) { client.Do(context.Background(), client.B().Ping().Build()) })
	})
}

// measure reports also the CPU.
func measure(b *testing.B, server *redistest.Server, do func(i int)) {
	b.ReportAllocs()
	here, there := usedHere(), usedThere(server)
	for i := 0; b.Loop(); i++ {
		do(i)
	}
	b.ReportMetric(float64(usedHere()-here)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(usedThere(server)-there)/float64(b.N), "redis-cpu-ns/op")
}

func usedHere() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func usedThere(server *redistest.Server) (used time.Duration) {
	for line := range strings.Lines(server.Do("INFO", "cpu")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_sys" || name == "used_cpu_user" {
			seconds, _ := strconv.ParseFloat(value, 64)
			used += time.Duration(seconds * float64(time.Second))
		}
	}
	return used
}
