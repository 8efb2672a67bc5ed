package replicas_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// audience is answers that are generated on one relay and read on two, by clients who have seen their first word
// there.
type audience struct {
	t     *testing.T
	p     *provider
	reads sync.WaitGroup
	here  []*client // who read on the relay that generates
	there []*client // who read the same answers on the other one
	ids   []string  // of the answers
}

// attend has n answers begin on a. When it returns, everybody reads.
func attend(t *testing.T, p *provider, a, b *relay, n int) *audience {
	t.Helper()
	w := &audience{t: t, p: p}
	for i := range n {
		here := newClient(t, fmt.Sprintf("%sattended by two, asked of %s, number %d", p.topic, a.Addr, i))
		here.words(t, a, 1)
		there := newClient(t, here.question)
		there.id = here.id
		there.words(t, b, 1)
		w.here, w.there, w.ids = append(w.here, here), append(w.there, there), append(w.ids, here.id)
		w.reads.Go(func() { here.rest(t, a) })
		w.reads.Go(func() { there.rest(t, b) })
	}
	return w
}

// whole waits for the ends of all answers, and checks that everybody has all of his, and that nothing was asked twice.
func (w *audience) whole() {
	w.t.Helper()
	w.reads.Wait()
	for _, c := range append(w.here, w.there...) {
		c.whole(w.t, w.p)
	}
}

func (c *client) whole(t *testing.T, p *provider) {
	t.Helper()
	require.Equal(t, "done", c.end.Type, "%s: %s %s", c.question, c.end.Code, c.end.Error)
	require.Equal(t, p.answer(c.question), c.text)
	require.Equal(t, 1, p.asked(c.question), c.question)
}

// becomes waits until a metric has a value.
func (r *relay) becomes(t *testing.T, metric, value string) {
	t.Helper()
	require.Eventually(t, func() bool { return r.Metric(t, metric) == value }, patience, 20*time.Millisecond,
		"%s becomes %s", metric, value)
}

// says counts the log lines with all of words.
func (r *relay) says(words ...string) (n int) {
	for line := range strings.Lines(r.Log()) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			n++
		}
	}
	return n
}

// unharmed checks that no replica took another one for dead.
func unharmed(t *testing.T, relays ...*relay) {
	t.Helper()
	for _, r := range relays {
		require.Equal(t, "0", r.Metric(t, "relay_resume_lost_total"))
		require.Equal(t, "0", r.Metric(t, "relay_resume_fenced_total"))
	}
}
