package replicas_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// hasty is the same proxy with two seconds of patience, so that a test need not wait for a minute.
func (f front) hasty() front {
	change := f.change
	f.change = func(swap func(old, new string), addr, dir string) {
		change(swap, addr, dir)
		swap(f.waits, strings.Replace(f.waits, "60s", "2s", 1))
	}
	return f
}

// A whole answer is silent until it is complete. The proxy gives up before, several times, and the client asks again
// with its key, of whichever relay the proxy takes.
func TestAWholeAnswerThatTakesLongerThanTheProxyWaitsIsAskedForOnce(t *testing.T) {
	t.Parallel()
	for _, f := range fronts {
		if f.waits == "" {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			p := startProvider(t, 70, 100*time.Millisecond)
			_, a, b := pair(t, p)
			url := f.hasty().start(t, a, b)
			const question = "whole"
			attempts := 0
			for {
				attempts++
				res := askWhole(t, url, question)
				if res.StatusCode != http.StatusOK {
					require.Less(t, attempts, 10)
					require.GreaterOrEqual(t, res.StatusCode, 500)
					require.NoError(t, res.Body.Close())
					continue
				}
				var answer struct{ Content string }
				require.NoError(t, json.NewDecoder(res.Body).Decode(&answer))
				require.NoError(t, res.Body.Close())
				require.Equal(t, p.answer(question), answer.Content)
				break
			}
			require.Greater(t, attempts, 2, "the proxy gave up")
			require.Equal(t, 1, p.asked(question))
		})
	}
}

func askWhole(t *testing.T, url, question string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(background(t), http.MethodPost, url+"/api/chat/stream", strings.NewReader(
		`{"stream":false,"messages":[{"role":"user","content":"`+question+`"}]}`))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", "9f1c2f43-8f0e-4a55-b1c5-0d8a5c1f7a20")
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	return res
}
