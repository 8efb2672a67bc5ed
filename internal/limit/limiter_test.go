package limit_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/leaktest"
	"github.com/websopy/relay/internal/limit"
	"github.com/websopy/relay/internal/redisconn"
	"github.com/websopy/relay/internal/redistest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const patience = time.Minute

// hourly is a rate of which nothing that counts comes back while a test runs.
func hourly(count int64) limit.Rate { return limit.Rate{Count: count, Window: time.Hour} }

// connect is the way of one replica to Redis.
func connect(t testing.TB, url string) *redisconn.Conn {
	conn, err := redisconn.Open(redisconn.Options{URL: url, Probe: 50 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	return conn
}

func newLimiter(t testing.TB, o limit.LimiterOptions) *limit.Limiter {
	l := limit.NewLimiter(o)
	t.Cleanup(l.Close)
	return l
}

// each runs a test with the limits of one process, and with those in each kind of Redis. make gives one more replica.
func each(t *testing.T, test func(t *testing.T, make func(o limit.LimiterOptions) *limit.Limiter)) {
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, func(o limit.LimiterOptions) *limit.Limiter { return newLimiter(t, o) })
	})
	redistest.Each(t, func(t *testing.T, k redistest.Kind) {
		server := k.Start(t)
		test(t, func(o limit.LimiterOptions) *limit.Limiter {
			o.Redis = connect(t, server.URL())
			return newLimiter(t, o)
		})
	})
}

// reserve gives the reservation, which has to be made.
func reserve(t *testing.T, l *limit.Limiter, caller string, tokens int64) *limit.Reservation {
	t.Helper()
	r, err := l.Reserve(caller, "", tokens)
	require.NoError(t, err)
	return r
}

// exceeded is the refusal by a limit.
func exceeded(t *testing.T, l *limit.Limiter, caller string, tokens int64, by string) *limit.Exceeded {
	t.Helper()
	_, err := l.Reserve(caller, "", tokens)
	require.Error(t, err)
	require.IsType(t, &limit.Exceeded{}, err)
	e := err.(*limit.Exceeded)
	require.Equal(t, by, e.Limit)
	return e
}

// admits waits until a reservation can be made: with Redis, what has ended is told a moment later.
func admits(t *testing.T, l *limit.Limiter, caller string, tokens int64) (r *limit.Reservation) {
	t.Helper()
	require.Eventually(t, func() bool {
		var err error
		r, err = l.Reserve(caller, "", tokens)
		return err == nil
	}, patience, 5*time.Millisecond)
	return r
}

func TestRequestsOfOneCaller(t *testing.T) {
	each(t, func(t *testing.T, newLimiter func(limit.LimiterOptions) *limit.Limiter) {
		l := newLimiter(limit.LimiterOptions{
			Policy: limit.Policy{Limits: limit.Limits{Requests: limit.Rate{Count: 60, Window: time.Hour, Burst: 5}}}})
		for left := int64(4); left >= 0; left-- {
			stand := reserve(t, l, "a", 0).Stand()
			require.Len(t, stand, 1)
			require.Equal(t, left, stand[0].Left)
			require.Equal(t, int64(60), stand[0].Count)
			require.InDelta(t, float64(5-left)*60, stand[0].Reset.Seconds(), 2)
		}
		e := exceeded(t, l, "a", 0, "requests")
		require.InDelta(t, 60, e.After.Seconds(), 2)
		require.Zero(t, e.Stand[0].Left)
		reserve(t, l, "b", 0)
	})
}

func TestTokensAreReservedAndSettled(t *testing.T) {
	each(t, func(t *testing.T, newLimiter func(limit.LimiterOptions) *limit.Limiter) {
		l := newLimiter(limit.LimiterOptions{
			Policy: limit.Policy{Limits: limit.Limits{Tokens: hourly(1000), Requests: hourly(100)}}})
		first := reserve(t, l, "a", 600)
		require.Equal(t, int64(600), l.Reserved())
		e := exceeded(t, l, "a", 600, "tokens")
		require.InDelta(t, 200*3.6, e.After.Seconds(), 3)
		require.Equal(t, int64(99), e.Stand[0].Left, "who is refused uses nothing")
		require.Equal(t, int64(400), e.Stand[1].Left)

		first.Settle(100)
		require.Zero(t, l.Reserved())
		second := admits(t, l, "a", 600)
		require.Equal(t, int64(300), second.Stand()[1].Left, "what was not used is back")
		first.Settle(1000) // and is not settled again
		first.Cancel()
		second.Settle(1400)
		require.Eventually(t, func() bool {
			_, err := l.Reserve("a", "", 1)
			exceeded, ok := err.(*limit.Exceeded)
			return ok && exceeded.After > 500*3600*time.Millisecond
		}, patience, 5*time.Millisecond, "what was used beyond is a debt")
	})
}

func TestACostAboveTheBurstNeedsAllOfIt(t *testing.T) {
	each(t, func(t *testing.T, newLimiter func(limit.LimiterOptions) *limit.Limiter) {
		l := newLimiter(limit.LimiterOptions{Policy: limit.Policy{
			Limits: limit.Limits{Tokens: limit.Rate{Count: 3600, Window: time.Hour, Burst: 100}}}})
		reserve(t, l, "a", 1000)
		e := exceeded(t, l, "a", 1, "tokens")
		require.InDelta(t, 901, e.After.Seconds(), 2, "and leaves a debt")
		reserve(t, l, "b", 10)
		exceeded(t, l, "b", 1000, "tokens")
	})
}

func TestWhoIsCancelledHasUsedNothing(t *testing.T) {
	each(t, func(t *testing.T, newLimiter func(limit.LimiterOptions) *limit.Limiter) {
		l := newLimiter(limit.LimiterOptions{Policy: limit.Policy{Limits: limit.Limits{
			Requests: hourly(1), Tokens: hourly(100), TokensPerDay: 100, Streams: 1,
		}}})
		reserve(t, l, "a", 100).Cancel()
		r := admits(t, l, "a", 100)
		require.Zero(t, l.Lost())
		r.Settle(100)
		r.Cancel()
		require.Never(t, func() bool {
			_, err := l.Reserve("a", "", 1)
			return err == nil
		}, 100*time.Millisecond, 10*time.Millisecond)
	})
}

func TestTheTokensOfADay(t *testing.T) {
	each(t, func(t *testing.T, newLimiter func(limit.LimiterOptions) *limit.Limiter) {
		l := newLimiter(limit.LimiterOptions{Policy: limit.Policy{Limits: limit.Limits{TokensPerDay: 1000}}})
		r := reserve(t, l, "a", 900)
		require.Equal(t, int64(100), r.Stand()[0].Left)
		e := exceeded(t, l, "a", 101, "tokens_per_day")
		midnight := time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
		require.InDelta(t, time.Until(midnight).Seconds(), e.After.Seconds(), 2)
		r.Settle(950)
		require.Eventually(t, func() bool {
			again, err := l.Reserve("a", "", 51)
			again.Cancel() // the settlement was not there yet
			exceeded, ok := err.(*limit.Exceeded)
			return ok && exceeded.Stand[0].Left == 50
		}, patience, 5*time.Millisecond)
		reserve(t, l, "a", 50)
		reserve(t, l, "b", 5000) // a whole day's for one answer, rather than none ever
	})
}

// An answer over midnight was of the day on which it began: the new day begins whole, and its end changes nothing
// there.
func TestAnAnswerOverMidnight(t *testing.T) {
	policy := limit.Policy{Limits: limit.Limits{TokensPerDay: 1000}}
	left := func(t *testing.T, l *limit.Limiter) int64 {
		t.Helper()
		r := reserve(t, l, "a", 0)
		defer r.Cancel()
		return r.Stand()[0].Left
	}
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(24*time.Hour - time.Minute) // it begins at midnight UTC
			l := limit.NewLimiter(limit.LimiterOptions{Policy: policy})
			for _, last := range []int64{100, 900, 0} {
				r := reserve(t, l, "a", 500)
				require.Equal(t, int64(500), left(t, l))
				require.Less(t, r.Stand()[0].Reset, 61*time.Second)
				time.Sleep(2 * time.Minute)
				require.Equal(t, int64(1000), left(t, l))
				r.Settle(last)
				require.Equal(t, int64(1000), left(t, l))
				time.Sleep(24*time.Hour - 2*time.Minute)
			}
		})
	})
	redistest.Each(t, func(t *testing.T, k redistest.Kind) {
		server := k.Start(t)
		l := newLimiter(t, withRedis(t, limit.LimiterOptions{Policy: policy}, server))
		for _, last := range []int64{100, 900, 0} {
			r := reserve(t, l, "a", 500)
			require.Equal(t, int64(500), left(t, l))
			// Redis' clock can't be set: all that it knows of becomes yesterday's.
			require.Equal(t, "1", server.Do("EVAL", `
				for _, key in ipairs(redis.call('KEYS', 'relay:limit:*')) do
					local value = redis.call('GET', key)
					if string.find(key, ':used$') then
						local a, b, c, d, day, spent = struct.unpack('<dddddd', value)
						redis.call('SET', key, struct.pack('<dddddd', a, b, c, d, day - 1, spent))
					else
						redis.call('SET', key, value - 1)
					end
				end
				return 1`, "0"))
			require.Equal(t, int64(1000), left(t, l))
			r.Settle(last)
			require.Eventually(t, func() bool { return limit.Unsaid(l) == 0 }, patience, time.Millisecond)
			require.Equal(t, int64(1000), left(t, l))
		}
	})
}

// A clock that is set back, or that of another node which takes over and is behind, does not keep callers waiting
// until it is where the other one was: as much is used as was, and it comes back as fast.
func TestRedisClockGoesBack(t *testing.T) {
	redistest.Each(t, func(t *testing.T, k redistest.Kind) {
		server := k.Start(t)
		// Redis' clock can't be set: all that it knows of happened in the future.
		setBack := func(by time.Duration) {
			require.Equal(t, "1", server.Do("EVAL", `
				local back = tonumber(ARGV[1])
				for _, key in ipairs(redis.call('KEYS', 'relay:limit:*')) do
					local ms = redis.call('PTTL', key) + back / 1000
					if string.find(key, ':used$') then
						local value = redis.call('GET', key)
						local a, b, c, d, day, spent = struct.unpack('<dddddd', value)
						local last = #value > 48 and struct.pack('<d', struct.unpack('<d', value, 49) + back) or ''
						day = day + math.floor(back / 86400000000)
						redis.call('SET', key, struct.pack('<dddddd', a + back, b, c + back, d, day, spent) .. last)
					elseif string.find(key, ':streams$') then
						for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do
							redis.call('ZINCRBY', key, back, id)
						end
					else
						redis.call('SET', key, redis.call('GET', key) + math.floor(back / 86400000000))
					end
					redis.call('PEXPIRE', key, ms)
				end
				return 1`, "0", strconv.FormatInt(by.Microseconds(), 10)))
		}
		start := func(limits limit.Limits) *limit.Limiter {
			return limit.NewLimiter(withRedis(t, limit.LimiterOptions{Policy: limit.Policy{Limits: limits}}, server))
		}
		settled := func(l *limit.Limiter, r *limit.Reservation, tokens int64) {
			r.Settle(tokens)
			require.Eventually(t, func() bool { return limit.Unsaid(l) == 0 }, patience, time.Millisecond)
		}

		limits := limit.Limits{
			Requests: limit.Rate{Count: 10, Window: 10 * time.Hour}, Tokens: hourly(1000), TokensPerDay: 1000,
			Streams: 2,
		}
		l, dead := start(limits), start(limits)
		defer l.Close()
		reserve(t, dead, "a", 100)
		limit.Kill(dead)
		r := reserve(t, l, "a", 500)
		setBack(time.Hour)
		_, err := l.Reserve("a", "", 800)
		require.IsType(t, &limit.Exceeded{}, err) // by the tokens of the hour or, but for its last minutes, of the day
		stand := err.(*limit.Exceeded).Stand
		require.Equal(t, int64(8), stand[0].Left)
		require.Equal(t, int64(400), stand[1].Left)
		require.LessOrEqual(t, stand[1].Reset, 36*time.Minute)
		require.Equal(t, int64(400), stand[2].Left)
		setBack(25 * time.Hour)
		settled(l, r, 100) // also where the one that ends is the first to come
		first := reserve(t, l, "a", 100)
		require.Equal(t, int64(7), first.Stand()[0].Left)
		require.Equal(t, int64(700), first.Stand()[1].Left)
		require.Equal(t, int64(700), first.Stand()[2].Left, "the same day comes once more, and no second budget")
		reserve(t, l, "a", 100) // what the dead replica had does not count for an hour more
		exceeded(t, l, "a", 100, "streams")
		setBack(24 * time.Hour)
		last := exceeded(t, l, "a", 0, "streams")
		require.Equal(t, int64(600), last.Stand[2].Left)
		settled(l, first, 0)
		require.Equal(t, int64(700), admits(t, l, "a", 0).Stand()[2].Left)

		quick := start(limit.Limits{Requests: limit.Rate{Count: 1, Window: 200 * time.Millisecond}})
		defer quick.Close()
		reserve(t, quick, "b", 0).Settle(0)
		setBack(time.Hour)
		admits(t, quick, "b", 0) // also who is refused at first, and comes again and again
	})
}

func TestStreamsAtOnce(t *testing.T) {
	each(t, func(t *testing.T, newLimiter func(limit.LimiterOptions) *limit.Limiter) {
		l := newLimiter(limit.LimiterOptions{Policy: limit.Policy{Limits: limit.Limits{Streams: 2}}})
		first := reserve(t, l, "a", 0)
		reserve(t, l, "a", 0)
		require.Equal(t, time.Second, exceeded(t, l, "a", 0, "streams").After)
		reserve(t, l, "b", 0)
		first.Settle(0)
		admits(t, l, "a", 0)
		exceeded(t, l, "a", 0, "streams")
	})
}

// Redis is told of the end of an answer aside. All the same, who asks in the moment in which its answer has ended
// finds its stream and its tokens free.
func TestWhoseAnswerHasEndedMayAskAgainAtOnce(t *testing.T) {
	each(t, func(t *testing.T, newLimiter func(limit.LimiterOptions) *limit.Limiter) {
		l := newLimiter(limit.LimiterOptions{
			Policy: limit.Policy{Limits: limit.Limits{Tokens: hourly(1000), Streams: 1}}})
		for range 200 {
			reserve(t, l, "a", 1000).Settle(0)
		}
		require.Zero(t, l.Reserved())
	})
}

func TestWhoHasLimits(t *testing.T) {
	l := newLimiter(t, limit.LimiterOptions{Policy: limit.Policy{
		Limits: limit.Limits{Requests: hourly(1)},
		Tiers:  map[string]limit.Limits{"gold": {Tokens: hourly(10)}, "free of all": {}},
	}})
	reserve(t, l, "a", 0)
	exceeded(t, l, "a", 0, "requests")
	require.False(t, l.CountsTokens("a", ""))
	require.True(t, l.CountsTokens("a", "gold"))
	require.False(t, l.CountsTokens("", "gold"))
	_, err := l.Reserve("a", "gold", 11)
	require.NoError(t, err)
	_, err = l.Reserve("a", "lead", 0)
	require.Error(t, err, "a tier that is not known is none")
	for range 10 {
		r, err := l.Reserve("", "", 0)
		require.NoError(t, err, "who is not known")
		r.Settle(5)
		r, err = l.Reserve("a", "free of all", 0)
		require.NoError(t, err)
		require.Empty(t, r.Stand())
	}
	l.SetPolicy(limit.Policy{Limits: limit.Limits{Requests: hourly(2)}})
	reserve(t, l, "b", 0)
	_, err = l.Reserve("b", "free of all", 0)
	require.NoError(t, err, "there is no such tier any more, and two an hour for all")
	exceeded(t, l, "b", 0, "requests")
	var none *limit.Limiter
	r, err := none.Reserve("a", "", 5)
	require.NoError(t, err)
	r.Cancel()
	none.Close()
}

// Who gets other limits has used as many requests and tokens as before, and not as much time.
func TestLimitsThatChange(t *testing.T) {
	each(t, func(t *testing.T, newLimiter func(limit.LimiterOptions) *limit.Limiter) {
		l := newLimiter(limit.LimiterOptions{
			Policy: limit.Policy{Limits: limit.Limits{Requests: hourly(3), Tokens: hourly(100)}}})
		var last *limit.Reservation
		for range 3 {
			last = reserve(t, l, "a", 10)
		}
		exceeded(t, l, "a", 10, "requests")
		l.SetPolicy(limit.Policy{Limits: limit.Limits{
			Requests: limit.Rate{Count: 10, Window: 24 * time.Hour},
			Tokens:   limit.Rate{Count: 1000, Window: 24 * time.Hour},
		}})
		stand := reserve(t, l, "a", 10).Stand()
		require.Equal(t, int64(10-4), stand[0].Left)
		require.Equal(t, int64(1000-40), stand[1].Left)
		last.Settle(110) // which was reserved by the limits before
		require.Eventually(t, func() bool {
			probe, err := l.Reserve("a", "", 0)
			require.NoError(t, err)
			defer probe.Cancel()
			return probe.Stand()[1].Left == 1000-140
		}, patience, 5*time.Millisecond)
	})
}

// A caller's replicas are one: of many that ask at once the burst is admitted, and in a while what comes back. It does
// not run beside other tests: a process that gets no time to run for long would take Redis for dead.
func TestManyAtOnceOverThreeReplicas(t *testing.T) {
	const burst, perSecond, askers = 100, 200, 100
	server := redistest.Start(t)
	o := limit.LimiterOptions{Policy: limit.Policy{
		Limits: limit.Limits{Requests: limit.Rate{Count: perSecond, Window: time.Second, Burst: burst}}}}
	var replicas []*limit.Limiter
	for range 3 {
		l := newLimiter(t, withRedis(t, o, server))
		reserve(t, l, "somebody else, who has Redis learn the script", 0)
		replicas = append(replicas, l)
	}
	var mu sync.Mutex
	var admitted, asked, lost int
	var lastAsked, lastAdmitted time.Time
	count := func(began time.Time, err error) {
		mu.Lock()
		defer mu.Unlock()
		_, exceeded := errors.AsType[*limit.Exceeded](err)
		switch asked++; {
		case err == nil:
			admitted++
			lastAsked, lastAdmitted = began, time.Now()
		case !exceeded:
			lost++
		}
	}
	var all sync.WaitGroup
	began := time.Now()
	until := began.Add(2 * time.Second)
	for i := range askers {
		all.Go(func() {
			for time.Now().Before(until) {
				now := time.Now()
				_, err := replicas[i%len(replicas)].Reserve("a", "", 0)
				count(now, err)
				time.Sleep(50 * time.Millisecond) // an asker's own pause
			}
		})
	}
	all.Wait()
	allowed := func(at time.Time) float64 { return burst + at.Sub(began).Seconds()*perSecond }
	require.LessOrEqual(t, float64(admitted), allowed(lastAdmitted)+1, "never above the burst")
	require.GreaterOrEqual(t, float64(admitted), 0.99*allowed(lastAsked)-float64(2+lost),
		"and not less than was allowed, within 1 %%")
	require.LessOrEqual(t, lost, asked/100, "of %d, on a machine that has no time", asked)
}

// schedule ends many answers in all ways that there are, at random, and says what they did use. die kills the replica
// that all of them run in, and gives another one.
func schedule(t *testing.T, random *rand.Rand, l *limit.Limiter, die func() *limit.Limiter) (used int64) {
	t.Helper()
	type answer struct {
		*limit.Reservation
		tokens int64
	}
	var running []answer
	pick := func() answer {
		i := random.IntN(len(running))
		a := running[i]
		running = append(running[:i], running[i+1:]...)
		return a
	}
	for range 200 {
		switch n := random.IntN(40); {
		case n < 20 || len(running) == 0:
			tokens := random.Int64N(500)
			running = append(running, answer{reserve(t, l, "a", tokens), tokens})
		case n < 32: // done or, for who has left, what was sent
			a, actual := pick(), random.Int64N(1000)
			a.Settle(actual)
			a.Settle(1 << 40) // the last word of its handler, when all is said
			a.Cancel()
			used += actual
		case n < 35: // an error before the first chunk
			pick().Settle(0)
		case n < 38: // refused after all
			a := pick()
			a.Cancel()
			a.Settle(1 << 40)
		case n < 39 && die != nil: // what it had reserved stands
			for _, a := range running {
				used += a.tokens
			}
			running, l = nil, die()
		}
	}
	for _, a := range running {
		a.Settle(7)
		used += 7
	}
	require.Zero(t, l.Reserved())
	return used
}

// ahead is what is used at the beginning, so that nothing is ever back in full: then no refund is cut.
const ahead = 100_000

var plenty = limit.Limits{Requests: hourly(1e6), Tokens: hourly(1e6), TokensPerDay: 1e9, Streams: 1000}

// requireUsed checks how a caller stands who has used so many tokens since began, less those that came back.
func requireUsed(t *testing.T, l *limit.Limiter, used int64, began time.Time) {
	t.Helper()
	r := reserve(t, l, "a", 0)
	defer r.Cancel()
	stand := r.Stand()[1]
	require.Equal(t, "tokens", stand.Name)
	spent, back := 1e6-stand.Left-ahead, int64(time.Since(began)/(3600*time.Microsecond))
	require.LessOrEqual(t, spent, used+1)
	require.GreaterOrEqual(t, spent, used-back-1)
}

// Whatever the order of ends: afterwards nothing is reserved, and what was used is what was settled.
func TestWhatIsReservedIsSettled(t *testing.T) {
	for seed := range uint64(20) {
		l := newLimiter(t, limit.LimiterOptions{Policy: limit.Policy{Limits: plenty}})
		began := time.Now()
		reserve(t, l, "a", ahead).Settle(ahead)
		used := schedule(t, rand.New(rand.NewPCG(seed, 1)), l, nil)
		dayTokens, streams := limit.Here(l, "a")
		require.Equal(t, used+ahead, dayTokens, "seed %d", seed)
		require.Zero(t, streams)
		requireUsed(t, l, used, began)
	}
}

func TestWhatIsReservedIsSettledWithRedisAndDeadReplicas(t *testing.T) {
	redistest.Each(t, func(t *testing.T, k redistest.Kind) {
		server := k.Start(t)
		for seed := range uint64(5) {
			server.Do("FLUSHALL")
			o := limit.LimiterOptions{Policy: limit.Policy{Limits: plenty}, Lease: time.Second}
			l := limit.NewLimiter(withRedis(t, o, server))
			said := func() {
				require.Eventually(t, func() bool { return limit.Unsaid(l) == 0 }, patience, time.Millisecond)
			}
			dead := 0
			die := func() *limit.Limiter {
				said()
				limit.Kill(l)
				dead++
				l = limit.NewLimiter(withRedis(t, o, server))
				return l
			}
			began := time.Now()
			reserve(t, l, "a", ahead).Settle(ahead)
			used := schedule(t, rand.New(rand.NewPCG(seed, 2)), l, die)
			said()
			requireUsed(t, l, used, began)
			l.Close()
			keys := strings.Fields(server.Do("EVAL", "return table.concat(redis.call('KEYS', 'relay:limit:*'), ' ')",
				"0"))
			for _, key := range keys {
				switch kind := strings.Split(key, ":")[3]; kind {
				case "day":
					require.Equal(t, strconv.FormatInt(used+ahead, 10), server.Do("GET", key), "seed %d, %d dead",
						seed, dead)
				case "streams":
					require.Eventually(t, func() bool { return server.Do("EXISTS", key) == "0" }, patience,
						10*time.Millisecond, "they expire")
				}
				require.NotEqual(t, "-1", server.Do("PTTL", key), "%s stays for ever", key)
			}
		}
	})
}

func withRedis(t *testing.T, o limit.LimiterOptions, server *redistest.Server) limit.LimiterOptions {
	o.Redis = connect(t, server.URL())
	return o
}

// A stream that runs counts for as long as it does, and that of a dead replica until its lease is over.
func TestStreamsOfADeadReplicaAreForgotten(t *testing.T) {
	server := redistest.Start(t)
	o := limit.LimiterOptions{Policy: limit.Policy{Limits: limit.Limits{Streams: 1}}, Lease: 2 * time.Second}
	l, other := limit.NewLimiter(withRedis(t, o, server)), newLimiter(t, withRedis(t, o, server))
	reserve(t, l, "a", 0)
	require.Never(t, func() bool {
		_, err := other.Reserve("a", "", 0)
		return err == nil
	}, 3*time.Second, 20*time.Millisecond, "it is renewed")
	limit.Kill(l)
	admits(t, other, "a", 0)
}

// While Redis is away nobody waits for it, and each mode does what it says.
func TestRedisIsAway(t *testing.T) {
	const burst, replicas = 10, 3
	limits := limit.Limits{Requests: hourly(burst), TokensPerDay: 1000}
	for mode, admitted := range map[limit.Away]int{limit.AwayLocal: replicas * burst, limit.AwayOpen: 300,
		limit.AwayClosed: 0} {
		for how, leaves := range map[string]func(*redistest.Server){
			"killed": (*redistest.Server).Kill, "hanging": (*redistest.Server).Hang,
		} {
			t.Run(string(mode)+", "+how, func(t *testing.T) {
				t.Parallel()
				server := redistest.Start(t)
				var all []*limit.Limiter
				for range replicas {
					all = append(all, newLimiter(t,
						withRedis(t, limit.LimiterOptions{Policy: limit.Policy{Limits: limits}, Away: mode}, server)))
				}
				early := reserve(t, all[0], "a", 100)
				reserve(t, all[1], "a", 0)

				leaves(server)
				var finding []time.Duration
				for _, l := range all {
					began := time.Now()
					r, _ := l.Reserve("nobody", "", 0)
					r.Cancel()
					finding = append(finding, time.Since(began))
				}
				require.Less(t, slices.Min(finding), redisconn.CallTimeout, "whoever finds out waits for a part of it")
				got, waited := 0, 0
				for i := range 100 * replicas {
					began := time.Now()
					r, err := all[i%replicas].Reserve("a", "", 1)
					switch mode {
					case limit.AwayClosed:
						require.ErrorIs(t, err, limit.ErrAway)
					case limit.AwayOpen:
						require.NoError(t, err)
					}
					if err == nil {
						got++
						r.Settle(3)
					}
					if time.Since(began) > 100*time.Millisecond {
						waited++
					}
				}
				require.Equal(t, admitted, got)
				require.LessOrEqual(t, waited, 10*replicas,
					"of a hundred each: but for who finds out, now and then, nobody waits")
				early.Settle(70)

				if how == "killed" { // and is back, empty
					server.Restart(t)
				} else {
					server.Wake()
				}
				require.Eventually(t, func() bool { return limit.Unsaid(all[0]) == 0 }, patience, 10*time.Millisecond,
					"it is told")
				var probe *limit.Reservation
				require.Eventually(t, func() bool {
					probe, _ = all[2].Reserve("z", "", 0)
					return limit.IsShared(probe)
				}, patience, 10*time.Millisecond, "all replicas are one again")
				require.Equal(t, int64(burst-1), probe.Stand()[0].Left)
				if how == "hanging" {
					require.Eventually(t, func() bool {
						r, err := all[2].Reserve("a", "", 0)
						defer r.Cancel()
						return err == nil && r.Stand()[1].Left == 1000-70
					}, patience, 10*time.Millisecond,
						"what ended meanwhile is settled, and what was asked meanwhile is taken back")
				}
			})
		}
	}
}

// Redis goes and comes back while streams run. They are known to it or to their process, and count at both: no process
// has more than the limit at any time, so that all together have at most as many times the limit as there are of them.
func TestStreamsThatRunWhileRedisGoesAndComesBack(t *testing.T) {
	const most, replicas = 3, 2
	server := redistest.Start(t)
	var all []*limit.Limiter
	for range replicas {
		all = append(all, newLimiter(t, withRedis(t, limit.LimiterOptions{
			Policy: limit.Policy{Limits: limit.Limits{Streams: most}}, Away: limit.AwayLocal,
		}, server)))
	}
	running := make(map[*limit.Reservation]int) // by whom
	fill := func() (began int) {
		for i, l := range all {
			for range 2 * most {
				if r, err := l.Reserve("a", "", 0); err == nil {
					running[r] = i
					began++
				}
			}
			reserve(t, l, "b"+strconv.Itoa(i), 0).Settle(0)
		}
		return began
	}
	end := func(n int, shared bool) {
		for r := range running {
			if n > 0 && limit.IsShared(r) == shared {
				r.Settle(0)
				delete(running, r)
				n--
			}
		}
		require.Zero(t, n)
	}
	require.Equal(t, most, fill(), "the first one has all")
	server.Kill()
	_, err := all[0].Reserve("a", "", 0)
	require.Error(t, err, "it has them still")
	require.Equal(t, most, fill(), "those of the other one")
	end(1, true)
	require.Equal(t, 1, fill())

	server.Restart(t) // empty: of what runs by its leave it knows no more
	require.Eventually(t, func() bool {
		for _, l := range all {
			r, _ := l.Reserve("z", "", 0)
			r.Settle(0)
			if !limit.IsShared(r) {
				return false
			}
		}
		return true
	}, patience, 10*time.Millisecond)
	before := fill()
	require.LessOrEqual(t, len(running), most*replicas)
	require.LessOrEqual(t, before, 1)
	for r := range running {
		r.Settle(0)
	}
	require.Eventually(t, func() bool {
		r, err := all[1].Reserve("a", "", 0)
		defer r.Settle(0)
		return err == nil
	}, patience, 10*time.Millisecond)
}

// Redis hangs with a reservation that it has not answered. Others had answers since, so it would be asked again, but by
// then somebody has found out that it hangs. What was sent first is done when it goes on, and is to be taken back.
func TestAReservationThatWasSentIsTakenBack(t *testing.T) {
	server := redistest.Start(t)
	limits := limit.Limits{TokensPerDay: 1000, Streams: 1}
	o := withRedis(t, limit.LimiterOptions{Policy: limit.Policy{Limits: limits}, Away: limit.AwayLocal}, server)
	l := newLimiter(t, o)
	require.Eventually(t, func() bool {
		r := reserve(t, l, "nobody", 0)
		r.Cancel()
		return limit.IsShared(r)
	}, patience, 10*time.Millisecond)
	server.Hang()
	defer time.AfterFunc(50*time.Millisecond, func() { limit.Answered(l) }).Stop()
	defer time.AfterFunc(200*time.Millisecond, func() { limit.Hangs(l) }).Stop()
	r := reserve(t, l, "a", 900)
	require.False(t, limit.IsShared(r))
	r.Cancel()
	server.Wake()
	require.Eventually(t, func() bool {
		probe, err := l.Reserve("a", "", 0)
		defer probe.Cancel()
		return err == nil && limit.IsShared(probe) && probe.Stand()[0].Left == 1000
	}, patience, 50*time.Millisecond)
}

func TestTheTableIsBounded(t *testing.T) {
	l := newLimiter(t, limit.LimiterOptions{
		Policy: limit.Policy{Limits: limit.Limits{Requests: hourly(1), Streams: 5}}})
	reserve(t, l, "runs", 0)
	for i := range 250_000 {
		reserve(t, l, strconv.Itoa(i), 0).Settle(0)
	}
	require.LessOrEqual(t, limit.Callers(l), 100_000)
	_, streams := limit.Here(l, "runs")
	require.Equal(t, 1, streams, "nobody is forgotten whose answers run")
	l = newLimiter(t, limit.LimiterOptions{Policy: limit.Policy{Limits: limit.Limits{Streams: 5}}})
	for i := range 50_000 {
		reserve(t, l, strconv.Itoa(i), 0).Settle(0)
	}
	require.LessOrEqual(t, limit.Callers(l), 2048, "who has everything again is not remembered")
}

// The rules are those of docs/resume.md, so that they can be copied from there.
func TestLimitsWithTheDocumentedACLAndWithLess(t *testing.T) {
	doc, err := os.ReadFile("../../docs/resume.md")
	require.NoError(t, err)
	rules := strings.Fields(regexp.MustCompile(`(?m)^resetchannels .*$`).FindString(string(doc)))
	require.NotEmpty(t, rules)
	redistest.Each(t, func(t *testing.T, k redistest.Kind) {
		server := k.Start(t)
		require.Equal(t, "OK", server.Do(append([]string{"ACL", "SETUSER", "relay", "on", ">p4ss"}, rules...)...))
		refused := make(chan error, 1)
		l := newLimiter(t, limit.LimiterOptions{
			Policy: limit.Policy{Limits: limit.Limits{Requests: hourly(10), Tokens: hourly(1000), TokensPerDay: 1000,
				Streams: 1}},
			Away: limit.AwayLocal, Lease: 300 * time.Millisecond, Redis: connect(t, "redis://relay:p4ss@"+server.Addr),
			Refused: func(err error) { refused <- err },
		})
		first := reserve(t, l, "a", 100)
		lease := func() float64 {
			until, _ := strconv.ParseFloat(server.Do("EVAL",
				"local streams = redis.call('KEYS', 'relay:limit:*:streams')[1]\n"+
					"return streams and redis.call('ZRANGE', streams, 0, 0, 'WITHSCORES')[2]", "0"), 64)
			return until
		}
		began := lease()
		require.NotZero(t, began)
		require.Eventually(t, func() bool { return lease() > began }, patience, 10*time.Millisecond, "it is renewed")
		first.Settle(50)
		second := admits(t, l, "a", 100)
		require.True(t, limit.IsShared(second))
		require.Equal(t, int64(850), second.Stand()[2].Left)
		require.Empty(t, refused)
		require.True(t, l.Up())

		require.Equal(t, "OK", server.Do("ACL", "SETUSER", "relay", "-time"))
		for range 3 {
			require.False(t, limit.IsShared(reserve(t, l, strconv.Itoa(rand.Int()), 100)), "as while Redis is away")
		}
		require.Contains(t, (<-refused).Error(), "script", "and it is told, once")
		require.Empty(t, refused)
		require.False(t, l.Up())
		require.Equal(t, "OK", server.Do("ACL", "SETUSER", "relay", "+time"))
		require.True(t, limit.IsShared(reserve(t, l, "b", 100)))
		require.True(t, l.Up())
	})
}

// What can't be told is counted, whatever the reason: somebody else has used the key, for one.
func TestASettlementThatRedisDoesNotTakeIsCounted(t *testing.T) {
	server := redistest.Start(t)
	l := newLimiter(t, withRedis(t, limit.LimiterOptions{Policy: limit.Policy{Limits: plenty}}, server))
	r := reserve(t, l, "a", 100)
	_, _, own := limit.Keys(r)
	server.Do("DEL", own)
	require.Equal(t, "1", server.Do("SADD", own, "x"))
	r.Settle(50)
	require.Eventually(t, func() bool { return limit.Unsaid(l) == 0 }, patience, time.Millisecond)
	require.Equal(t, uint64(1), l.Lost())
}

// In a Cluster all that is kept of a caller is on one node, and of many callers on all of them.
func TestLimitsInACluster(t *testing.T) {
	c := redistest.StartCluster(t, 20*time.Second)
	o := limit.LimiterOptions{Policy: limit.Policy{Limits: limit.Limits{
		Requests: hourly(2), Tokens: hourly(1000), TokensPerDay: 1000, Streams: 2,
	}}}
	o.Redis = connect(t, c.URL())
	l := newLimiter(t, o)
	require.Eventually(t, func() bool {
		r, err := l.Reserve("nobody", "", 0)
		r.Cancel()
		return err == nil && len(o.Redis.Nodes()) > 1
	}, patience, 10*time.Millisecond)
	for i := range 50 {
		caller := strconv.Itoa(i)
		first := admits(t, l, caller, 100) // the first one of each node makes the connection to it
		require.True(t, limit.IsShared(first))
		second := reserve(t, l, caller, 100)
		exceeded(t, l, caller, 100, "requests")
		first.Settle(50)
		second.Cancel()
		last := admits(t, l, caller, 500)
		require.Equal(t, int64(1000-50-500), last.Stand()[2].Left)
	}
}
