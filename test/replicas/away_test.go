package replicas_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWhileRedisIsAwayAQuestionIsAskedOncePerReplicaAndItsKeyIsClaimedLater(t *testing.T) {
	t.Parallel()
	const questions = 50
	p := startProvider(t, 100, 100*time.Millisecond)
	redis, a, b := pair(t, p)
	redis.Kill()
	a.becomes(t, "relay_resume_store_up", "0")
	b.becomes(t, "relay_resume_store_up", "0")
	var first, retries []*client
	var ids []string
	for i := range questions {
		c := newClient(t, fmt.Sprintf("asked again while Redis is away, number %d", i))
		c.words(t, a, 1)
		again := newClient(t, c.question)
		again.words(t, a, 1)
		require.Equal(t, c.id, again.id)
		first, retries, ids = append(first, c), append(retries, again), append(ids, c.id)
	}
	rival := newClient(t, first[0].question) // of b, which can't know
	rival.words(t, b, 1)
	rivals := rival.id
	redis.Restart(t)
	a.becomes(t, "relay_resume_published_total", strconv.Itoa(questions))
	b.becomes(t, "relay_resume_published_total", "1")
	lost := a.Metric(t, "relay_resume_keys_lost_total") + b.Metric(t, "relay_resume_keys_lost_total")
	require.Contains(t, []string{"01", "10"}, lost, "one of two has the key")

	var reads sync.WaitGroup
	for i, c := range first {
		reads.Go(func() { c.rest(t, a) })
		reads.Go(func() { retries[i].rest(t, b) })
	}
	reads.Go(func() { rival.rest(t, a) })
	for i, c := range first {
		later := newClient(t, c.question)
		later.words(t, b, 1)
		require.Contains(t, []string{ids[i], rivals}, later.id, "the key is claimed")
	}
	reads.Wait()
	for i, c := range append(append(first, retries...), rival) {
		require.Equal(t, "done", c.end.Type)
		require.Equal(t, p.answer(c.question), c.text)
		asked := 1
		if i%questions == 0 {
			asked = 2
		}
		require.Equal(t, asked, p.asked(c.question))
	}
}

// A reader who comes to a replica that can't ask for his stream is not told that there is none.
func TestAReaderWhoseStreamMayBeFoundYetIsHeldAndThenAskedToComeBack(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 150, 100*time.Millisecond)
	redis, a, b := pair(t, p, "RELAY_RESUME_GRACE=5s")
	known, attached := newClient(t, "known to Redis"), newClient(t, "known to Redis")
	known.words(t, a, 5)
	var reads sync.WaitGroup
	reads.Go(func() { attached.rest(t, a) }) // so that it is generated on
	redis.Kill()
	b.becomes(t, "relay_resume_store_up", "0")

	began := time.Now()
	req, _ := http.NewRequest(http.MethodGet, b.URL+"/api/chat/stream/"+known.id, nil)
	req.Header.Set("Last-Event-ID", known.cursor)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Less(t, time.Since(began), 4*time.Second, "the answer's end, too, comes after 5 s")
	require.Equal(t, "1", b.Metric(t, "relay_resume_held"))
	pings, retry := 0, false
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "data: ") {
			require.Equal(t, `data: {"type":"ping"}`, lines.Text())
			pings++
		}
		retry = retry || strings.HasPrefix(lines.Text(), "retry: ")
	}
	require.InDelta(t, 5, time.Since(began).Seconds(), 2)
	require.GreaterOrEqual(t, pings, 4, "one a second")
	require.True(t, retry)
	require.Equal(t, "0", b.Metric(t, "relay_resume_held"))

	reads.Go(func() { known.rest(t, b) })
	b.becomes(t, "relay_resume_held", "1")
	redis.Restart(t)
	reads.Wait()
	known.whole(t, p)
	attached.whole(t, p)
}

// A thousand are held. Who comes then is told to come later, and no reader of a stream that is there is concerned.
func TestHeldReadersAreBounded(t *testing.T) {
	t.Parallel()
	const most = 1000
	p := startProvider(t, 200, 100*time.Millisecond)
	redis, _, b := pair(t, p, "RELAY_RESUME_GRACE=10m") // until all of them have come
	redis.Kill()
	b.becomes(t, "relay_resume_store_up", "0")
	get := func(i int) *http.Response {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet,
			fmt.Sprintf("%s/api/chat/stream/%032x", b.URL, i), nil)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		t.Cleanup(func() { res.Body.Close() })
		return res
	}
	for i := range most {
		require.Equal(t, http.StatusOK, get(i).StatusCode)
	}
	b.becomes(t, "relay_resume_held", strconv.Itoa(most))
	res := get(most)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.NotEmpty(t, res.Header.Get("Retry-After"))
	require.Contains(t, string(body), `"overloaded"`)
	served := newClient(t, "asked while a thousand wait")
	served.words(t, b, 3)
}

// With no room in memory either, an answer comes without being resumable: better than none.
func TestWithNeitherRedisNorRoomAnAnswerCanNotBeResumed(t *testing.T) {
	t.Parallel()
	p := startProvider(t, 200, 100*time.Millisecond)
	redis, a, _ := pair(t, p, "RELAY_RESUME_BYTES=150KiB")
	redis.Kill()
	a.becomes(t, "relay_resume_store_up", "0")
	for i := range 2 {
		c := newClient(t, fmt.Sprintf("the memory is full with this, number %d", i))
		c.words(t, a, 1)
		require.NotEmpty(t, c.id)
	}
	plain := newClient(t, "plain")
	require.ErrorIs(t, plain.connect(background(t), a.URL, func() bool { return plain.text != "" }), errCut)
	require.Empty(t, plain.id)
	require.Equal(t, "1", a.Metric(t, "relay_resume_unavailable_total"))
	select {
	case <-p.wentAway("plain"):
	case <-time.After(patience):
		require.Fail(t, "an answer that nobody can resume is generated on")
	}
}
