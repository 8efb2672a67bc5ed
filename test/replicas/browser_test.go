package replicas_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/redistest"
	"github.com/websopy/relay/internal/relaytest"
)

// page reads an answer with nothing but EventSource, and tells the test what it sees. It never closes
// the EventSource: that it stops is the relay's doing.
const page = `<!doctype html><script>
const es = new EventSource(%q)
let text = '', types = {}, ends = 0
const tell = (path) => fetch(path, {method: 'POST', body: JSON.stringify({text, types, ends})})
es.onmessage = (e) => {
	const chunk = JSON.parse(e.data)
	types[chunk.type] = (types[chunk.type] || 0) + 1
	if (chunk.type === 'content') text += chunk.content
	if (chunk.type === 'content' && types.content %% 20 === 0) tell('/progress')
}
es.onerror = () => {
	if (es.readyState === EventSource.CLOSED) tell('/closed')
	else ends++
}
</script>`

// TestABrowsersEventSourceResumesByItselfAndStopsAtTheEnd cuts the browser's connections twice.
func TestABrowsersEventSourceResumesByItselfAndStopsAtTheEnd(t *testing.T) {
	t.Parallel()
	relaytest.Look(t, "chromium") // before anything else is started
	p := startProvider(t, 120, 20*time.Millisecond)
	r := startRelay(t, p, "RELAY_CORS_ORIGINS=*")
	way := redistest.Through(t, r.Addr)

	type sight struct {
		Text  string
		Types map[string]int
		Ends  int
	}
	progress, closed := make(chan sight, 100), make(chan sight, 1)
	take := func(to chan sight) http.HandlerFunc {
		return func(_ http.ResponseWriter, req *http.Request) {
			var s sight
			_ = json.NewDecoder(req.Body).Decode(&s)
			to <- s
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, page, "http://"+way.Addr+"/api/chat/stream?message=q")
	})
	mux.HandleFunc("POST /progress", take(progress))
	mux.HandleFunc("POST /closed", take(closed))
	site := httptest.NewServer(mux)
	defer site.Close()

	browse(t, site.URL+"/")

	wait := func(from chan sight) sight {
		select {
		case s := <-from:
			return s
		case <-time.After(patience):
			require.Fail(t, "the browser does not get on")
			return sight{}
		}
	}
	for range 2 {
		wait(progress)
		way.Cut()
		way.Heal()
	}
	s := wait(closed)
	require.Equal(t, p.answer("q"), s.Text)
	require.Equal(t, 1, s.Types["done"])
	require.Equal(t, 1, s.Types["start"])
	require.GreaterOrEqual(t, s.Ends, 3, "two cuts and the end of the answer")
	require.Equal(t, 1, p.asked("q"))
}
