package replicas_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/redistest"
)

// askers send so many requests of one caller at once, to all replicas in turn, and count the statuses.
func askers(t *testing.T, n int, replicas ...*relay) map[int]int {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 200}}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	statuses := make(map[int]int)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			req, _ := http.NewRequestWithContext(background(t), http.MethodPost,
				"http://"+replicas[i%len(replicas)].Addr+"/api/chat/stream",
				strings.NewReader(`{"messages":[{"role":"user","content":"q`+strconv.Itoa(i)+`"}]}`))
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Authorization", "Bearer k-0123456789abcdef")
			res, err := client.Do(req)
			if !assert.NoError(t, err) {
				return
			}
			defer res.Body.Close()
			_, _ = io.Copy(io.Discard, res.Body)
			mu.Lock()
			defer mu.Unlock()
			statuses[res.StatusCode]++
		})
	}
	all.Wait()
	return statuses
}

// Three replicas are one to a caller's limit, 500 requests at once; while Redis is away each mode does what it says.
func TestALimitHoldsForAllReplicasTogether(t *testing.T) {
	// Not beside other tests: a process that gets no time to run for 250 ms would take Redis for dead.
	const burst, perHour = 50, 60
	for mode, away := range map[string]func(t *testing.T, statuses map[int]int){
		"local": func(t *testing.T, statuses map[int]int) {
			require.Equal(t, map[int]int{http.StatusOK: 3 * burst, http.StatusTooManyRequests: 500 - 3*burst},
				statuses)
		},
		"open": func(t *testing.T, statuses map[int]int) {
			require.Equal(t, map[int]int{http.StatusOK: 500}, statuses)
		},
		"closed": func(t *testing.T, statuses map[int]int) {
			require.Equal(t, map[int]int{http.StatusServiceUnavailable: 500}, statuses)
		},
	} {
		t.Run(mode, func(t *testing.T) {
			server := redistest.Start(t)
			p := startProvider(t, 2, time.Millisecond)
			var all []*relay
			for range 3 {
				all = append(all, startRelay(t, p, "RELAY_REDIS_URL="+server.URL(),
					"RELAY_API_KEYS=me:k-0123456789abcdef",
					"RELAY_LIMIT_REQUESTS="+strconv.Itoa(perHour)+"/h:"+strconv.Itoa(burst),
					"RELAY_LIMIT_FALLBACK="+mode))
			}
			require.Equal(t, map[int]int{http.StatusOK: burst, http.StatusTooManyRequests: 500 - burst}, askers(t, 500, all...))

			server.Kill()
			for _, r := range all { // whoever asks first finds out
				askers(t, 1, r)
			}
			statuses := askers(t, 500, all...)
			if mode == "local" {
				statuses[http.StatusOK] += 3 // those that found out
				statuses[http.StatusTooManyRequests] -= 3
			}
			away(t, statuses)

			server.Restart(t) // empty
			require.Eventually(t, func() bool {
				return strings.Count(server.Do("CLIENT", "LIST"), "cmd=eval") == len(all)
			}, patience, 10*time.Millisecond,
				"each replica has found it")
			require.Equal(t, map[int]int{http.StatusOK: burst, http.StatusTooManyRequests: 500 - burst}, askers(t, 500, all...))
		})
	}
}
