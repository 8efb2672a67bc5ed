package replicas_test

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/redistest"
)

// calls gives how often a server ran a command, or several.
func calls(t *testing.T, s *redistest.Server, commands ...string) (n int) {
	t.Helper()
	stats := s.Do("INFO", "commandstats")
	for _, name := range commands {
		found := regexp.MustCompile(`cmdstat_` + name + `:calls=(\d+)`).FindStringSubmatch(stats)
		if found == nil {
			continue
		}
		calls, err := strconv.Atoi(found[1])
		require.NoError(t, err)
		n += calls
	}
	return n
}

// An answer that nobody reads on another replica: what it asks of Redis while it runs, and leaves there.
func TestAnAnswerIsCheapForRedis(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, k redistest.Kind) {
		const answers, words = 10, 500
		p := startProvider(t, words, 20*time.Millisecond)
		redis := k.Start(t)
		a, _ := pairOn(t, p, redis.URL())
		warm := newClient(t, "Redis learns the scripts")
		warm.rest(t, a)
		before := calls(t, redis, "evalsha", "eval")
		began := time.Now()
		var reads sync.WaitGroup
		var all []*client
		for i := range answers {
			c := newClient(t, fmt.Sprintf("q%d", i))
			all = append(all, c)
			reads.Go(func() { c.rest(t, a) })
		}
		reads.Wait()
		for _, c := range all {
			c.whole(t, p)
		}
		each := float64(calls(t, redis, "evalsha", "eval")-before) / answers
		require.Less(t, each/time.Since(began).Seconds(), 4.75, "scripts a second: a quarter of 19")
		require.Zero(t, calls(t, redis, "xread"), "nobody reads from Redis")
		for _, c := range all {
			require.Eventually(t, func() bool { return redis.Do("HEXISTS", "relay:{"+c.id+"}", "end") == "1" },
				patience, 20*time.Millisecond)
		}
		bytes := 0
		for _, c := range all {
			for key := range strings.FieldsSeq(redis.Do("EVAL",
				"return table.concat(redis.call('KEYS', ARGV[1]), ' ')", "0", "relay:{"+c.id+"}*")) {
				n, err := strconv.Atoi(redis.Do("MEMORY", "USAGE", key, "SAMPLES", "0"))
				require.NoError(t, err, key)
				bytes += n
			}
		}
		require.NotZero(t, bytes)
		require.LessOrEqual(t, bytes/answers-len(all[0].text), 5<<10, "bytes of an ended answer, beside its text")
	})
}

// The rules stand in docs/resume.md to be copied: they have to be enough for everything that relays do.
func TestTheDocumentedACLIsEnoughForTwoReplicas(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/resume.md")
	require.NoError(t, err)
	rules := strings.Fields(regexp.MustCompile(`(?m)^resetchannels .*$`).FindString(string(doc)))
	require.NotEmpty(t, rules)
	redistest.Each(t, func(t *testing.T, k redistest.Kind) {
		redis := k.Start(t, "--maxmemory-policy", "allkeys-lru")
		require.Equal(t, "OK", redis.Do(append([]string{"ACL", "SETUSER", "relay", "on", ">p4ss"}, rules...)...))
		p := startProvider(t, 50, 20*time.Millisecond)
		a, b := pairOn(t, p, "redis://relay:p4ss@"+redis.Addr)
		require.Eventually(t, func() bool { return a.says("noeviction") == 1 }, patience, 20*time.Millisecond)
		c := newClient(t, "read on elsewhere, and asked again with the same key")
		c.words(t, a, 10)
		again := newClient(t, c.question)
		again.rest(t, b)
		c.rest(t, b)
		again.whole(t, p)
		c.whole(t, p)
		stopped := newClient(t, "stopped")
		stopped.words(t, a, 10)
		req, _ := http.NewRequest(http.MethodDelete, b.URL+"/api/chat/stream/"+stopped.id, nil)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		res.Body.Close()
		stopped.rest(t, a)
		require.Equal(t, "stopped", stopped.end.FinishReason)
		require.NotContains(t, redis.Do("ACL", "LOG"), "reason", "nothing was refused")
	})
}

// Whether it is resumable or not, an answer that was read to its end leaves the connection to the next one.
func TestResumableAnswersShareAConnectionToTheProvider(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 5, time.Millisecond)
	r := startRelay(t, p)
	for i := range 10 {
		c := newClient(t, fmt.Sprintf("q%d", i))
		c.rest(t, r)
		c.whole(t, p)
		require.NotEmpty(t, c.id)
	}
	require.LessOrEqual(t, p.conns.Load(), int32(2),
		"the next question may come a moment before the connection is free")
}
