package stream_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/leaktest"
	"github.com/websopy/relay/internal/stream"
)

func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "8") // most of them wait; what the command line says holds
	leaktest.Main(m)
}

// patience is how long a test waits for what must happen; it only runs out in a failing test.
const patience = time.Minute

func background(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// provider is a provider under the test's control: it says what say is given, until its context
// ends.
type provider struct {
	asked   atomic.Int32
	say     chan any      // a string, a chat.Chunk or an error; closed: the sequence ends
	running chan struct{} // closed when it is asked
	gone    chan struct{} // closed when its context ended
}

func newProvider() *provider {
	return &provider{say: make(chan any, 100), running: make(chan struct{}), gone: make(chan struct{})}
}

func (p *provider) produce(ctx context.Context) iter.Seq2[chat.Chunk, error] {
	return func(yield func(chat.Chunk, error) bool) {
		if p.asked.Add(1) == 1 {
			close(p.running)
		}
		for {
			select {
			case <-ctx.Done():
				close(p.gone)
				yield(chat.Chunk{}, ctx.Err())
				return
			case v, ok := <-p.say:
				if !ok {
					return
				}
				c, err := step(v)
				if !yield(c, err) || err != nil || c.Type == chat.Done {
					return
				}
			}
		}
	}
}

func step(v any) (chat.Chunk, error) {
	switch v := v.(type) {
	case string:
		return chat.Chunk{Type: chat.Content, Text: []byte(v)}, nil
	case chat.Chunk:
		return v, nil
	default:
		return chat.Chunk{}, v.(error)
	}
}

var stop = chat.Chunk{Type: chat.Done, Done: &chat.Completion{FinishReason: chat.FinishStop, Model: "m"}}

// words says n words at once and is done. It reuses its text, as providers may.
func words(n int) func(context.Context) iter.Seq2[chat.Chunk, error] {
	return func(context.Context) iter.Seq2[chat.Chunk, error] {
		return func(yield func(chat.Chunk, error) bool) {
			var text []byte
			for i := range n {
				text = fmt.Appendf(text[:0], "w%d ", i)
				if !yield(chat.Chunk{Type: chat.Content, Text: text, More: i%3 != 0}, nil) {
					return
				}
				clear(text)
			}
			if yield(chat.Chunk{}, nil) {
				yield(stop, nil)
			}
		}
	}
}

func wordsText(from, n int) string {
	var b strings.Builder
	for i := from; i < n; i++ {
		fmt.Fprintf(&b, "w%d ", i)
	}
	return b.String()
}

// reading is what a follower got.
type reading struct {
	text string
	seqs []uint64
	done *chat.Completion
	err  error
}

// read follows to the end.
func read(t *testing.T, f *stream.Follower) reading {
	t.Helper()
	return readUntil(background(t), f, func(reading) bool { return false })
}

// readUntil follows until enough says so, or to the end, and closes.
func readUntil(ctx context.Context, f *stream.Follower, enough func(reading) bool) (r reading) {
	defer f.Close()
	for c, err := range f.Chunks(ctx) {
		if err != nil {
			r.err = err
			if _, own := errors.AsType[*chat.Error](err); own {
				r.seqs = append(r.seqs, c.Seq)
			}
			return r
		}
		r.text += string(c.Text)
		r.done = c.Done
		r.seqs = append(r.seqs, c.Seq)
		if enough(r) {
			return r
		}
	}
	return r
}

func requireCode(t *testing.T, code chat.Code, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, chat.AsError(err).Code, "%v", err)
}

func await(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		require.Fail(t, "waited in vain for "+what)
	}
}

// eventually is for what shows only by asking again.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patience, 5*time.Millisecond, what)
}

// replicas makes a log's processes: the same hub each time where a log is of one process only.
type replicas func(t *testing.T, o stream.Options) (a, b *stream.Hub)

// leases are a quarter of what they are in earnest, so that the tests need not wait so long for a death to show.
var leases = stream.Leases{
	For:     stream.DefaultLeases.For / 4,
	Renew:   stream.DefaultLeases.Renew / 4,
	Probe:   stream.DefaultLeases.Probe / 4,
	Check:   stream.DefaultLeases.Check / 4,
	Confirm: stream.DefaultLeases.Confirm / 4,
	Watch:   stream.DefaultLeases.Watch / 4,
	Settle:  stream.DefaultLeases.Settle / 10,
}

func options() stream.Options {
	return stream.Options{Grace: time.Minute, Retention: time.Minute, Leases: leases}
}

func start(t *testing.T, h *stream.Hub, produce func(context.Context) iter.Seq2[chat.Chunk, error]) *stream.Follower {
	t.Helper()
	f, replayed, err := h.Start(background(t), stream.Request{Owner: "me", Produce: produce})
	require.NoError(t, err)
	require.False(t, replayed)
	return f
}

func attach(t *testing.T, h *stream.Hub, id string, after uint64) *stream.Follower {
	t.Helper()
	f, err := h.Attach(background(t), "me", id, after)
	require.NoError(t, err)
	return f
}

// conformance is what every log must do.
func conformance(t *testing.T, with replicas) {
	for name, test := range map[string]func(*testing.T, replicas){
		"a follower reads every chunk once, in order, up to done":        readsAll,
		"a stream can be read from every position on, on any replica":    everyPosition,
		"every kind of chunk comes back as it was":                       kinds,
		"what is known at the start is told to whoever attaches":         heads,
		"an error comes back as it was, without its cause":               errorKept,
		"a provider that just stops makes upstream_truncated":            truncated,
		"a provider that panics makes an internal error":                 panics,
		"what came of a generation is told":                              outcome,
		"nobody's, another's and impossible positions are told":          strangers,
		"a follower that does not read holds nobody up":                  slowFollower,
		"a follower waits for what is still to come":                     live,
		"a stop ends the stream everywhere, and again is no error":       stops,
		"a stop before the provider is asked saves the call":             stopsEarly,
		"a chat leads to its newest stream, on any replica":              chats,
		"a chat whose end was read says so until it goes on":             chatsRead,
		"a generation without followers is given up after the grace":     givesUp,
		"a follower on another replica keeps a generation going":         keepsGoing,
		"one key, one call, however many ask at once, and on every side": oneCall,
		"a key is free again when its stream failed before it began":     keyFree,
		"a key used with another body is told":                           otherBody,
		"a key's stream that is gone makes room":                         keyAgain,
		"a stream is gone after its retention":                           retention,
		"a stream that grows too long ends so":                           tooLong,
		"a stream that takes too long ends so":                           tooSlow,
		"closing lets running streams finish, then ends them":            closing,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, with)
		})
	}
}

func readsAll(t *testing.T, with replicas) {
	a, _ := with(t, options())
	r := read(t, start(t, a, words(500)))
	require.NoError(t, r.err)
	require.Equal(t, wordsText(0, 500), r.text)
	require.Len(t, r.seqs, 501)
	for i, seq := range r.seqs {
		require.Equal(t, uint64(i+1), seq)
	}
	require.Equal(t, stop.Done, r.done)
}

func everyPosition(t *testing.T, with replicas) {
	const n = 200
	a, b := with(t, options())
	f := start(t, a, words(n))
	r := read(t, f)
	require.NoError(t, r.err)
	for _, h := range []*stream.Hub{a, b} {
		for after := range uint64(n + 1) {
			r := read(t, attach(t, h, f.ID(), after))
			require.NoError(t, r.err)
			require.Equal(t, wordsText(int(after), n), r.text, "after %d", after)
			require.Equal(t, after+1, r.seqs[0])
			require.NotNil(t, r.done)
		}
		_, err := h.Attach(background(t), "me", f.ID(), n+1)
		require.ErrorIs(t, err, stream.ErrEnd)
	}
}

func kinds(t *testing.T, with replicas) {
	chunks := []chat.Chunk{
		{Type: chat.Content, Text: []byte("结果\n\x00")},
		{Type: chat.Reasoning, Text: []byte(strings.Repeat("why ", 20_000))},
		{Type: chat.Tool, Tool: &chat.ToolCall{ID: "c1", Name: "f",
			Arguments: `{"a":` + strings.Repeat("1", 50_000) + `}`}},
		{Type: chat.Tool, Tool: &chat.ToolCall{}},
		{Type: chat.Done, Done: &chat.Completion{FinishReason: chat.FinishToolCalls, Model: "m",
			Usage: &chat.Usage{PromptTokens: 3, CompletionTokens: 1 << 40, CachedTokens: 2, ReasoningTokens: 1 << 30},
			State: strings.Repeat("s", chat.MaxState)}},
	}
	a, b := with(t, options())
	p := newProvider()
	f := start(t, a, p.produce)
	g := attach(t, b, f.ID(), 0)
	for _, c := range chunks {
		p.say <- c
	}
	for _, f := range []*stream.Follower{f, g} {
		var got []chat.Chunk
		for c, err := range f.Chunks(background(t)) {
			require.NoError(t, err)
			require.EqualValues(t, len(got)+1, c.Seq)
			c.More, c.Seq = false, 0
			c.Text = append([]byte(nil), c.Text...)
			got = append(got, c)
		}
		f.Close()
		require.Equal(t, chunks, got)
	}
}

func heads(t *testing.T, with replicas) {
	a, b := with(t, options())
	began := time.Now()
	f, _, err := a.Start(background(t), stream.Request{Owner: "me", Head: chat.Head{Model: "m", Dialect: "d"},
		Produce: words(3)})
	require.NoError(t, err)
	read(t, f)
	require.Equal(t, f.ID(), f.Head().ID)
	for _, h := range []*stream.Hub{a, b} {
		for after := range uint64(4) {
			again := attach(t, h, f.ID(), after)
			head := again.Head()
			again.Close()
			require.WithinRange(t, head.Created, began.Add(-time.Second), time.Now())
			head.Created = time.Time{}
			require.Equal(t, chat.Head{ID: f.ID(), Model: "m", Dialect: "d"}, head)
		}
	}
}

func errorKept(t *testing.T, with replicas) {
	a, b := with(t, options())
	p := newProvider()
	f := start(t, a, p.produce)
	g := attach(t, b, f.ID(), 0)
	p.say <- "half"
	p.say <- &chat.Error{Code: chat.UpstreamTimeout, Message: "late", Phase: chat.PhaseIdle,
		RetryAfter: 3 * time.Second, Err: errors.New("secret")}
	for _, f := range []*stream.Follower{f, g} {
		r := read(t, f)
		require.Equal(t, &chat.Error{Code: chat.UpstreamTimeout, Message: "late", Phase: chat.PhaseIdle,
			RetryAfter: 3 * time.Second}, r.err)
		require.Equal(t, []uint64{1, 2}, r.seqs)
	}
}

func truncated(t *testing.T, with replicas) {
	a, b := with(t, options())
	p := newProvider()
	f := start(t, a, p.produce)
	g := attach(t, b, f.ID(), 0)
	p.say <- "half"
	close(p.say)
	for _, f := range []*stream.Follower{f, g} {
		r := read(t, f)
		require.Equal(t, "half", r.text)
		requireCode(t, chat.UpstreamTruncated, r.err)
	}
}

func panics(t *testing.T, with replicas) {
	a, _ := with(t, options())
	outcomes := make(chan stream.Outcome, 1)
	f, _, err := a.Start(background(t), stream.Request{
		Produce: func(context.Context) iter.Seq2[chat.Chunk, error] { panic("boom") },
		Ended:   func(o stream.Outcome) { outcomes <- o },
	})
	require.NoError(t, err)
	r := read(t, f)
	requireCode(t, chat.Internal, r.err)
	require.NotContains(t, r.err.Error(), "boom", "that is for the log")
	require.ErrorContains(t, (<-outcomes).Err, "boom")
}

func outcome(t *testing.T, with replicas) {
	a, _ := with(t, options())
	outcomes := make(chan stream.Outcome, 1)
	f, _, err := a.Start(background(t), stream.Request{Produce: words(50),
		Ended: func(o stream.Outcome) { outcomes <- o }})
	require.NoError(t, err)
	read(t, f)
	o := <-outcomes
	require.Equal(t, uint64(50), o.Chunks)
	require.Equal(t, int64(len(wordsText(0, 50))+2*50), o.Bytes)
	require.Equal(t, stop.Done, o.Done)
	require.Nil(t, o.Err)
	require.Positive(t, o.First)
	require.GreaterOrEqual(t, o.Duration, o.First)
}

func strangers(t *testing.T, with replicas) {
	a, b := with(t, options())
	p := newProvider()
	f := start(t, a, p.produce)
	p.say <- "one"
	p.say <- stop
	read(t, f)
	for _, h := range []*stream.Hub{a, b} {
		_, err := h.Attach(background(t), "you", f.ID(), 0)
		requireCode(t, chat.StreamNotFound, err)
		requireCode(t, chat.StreamNotFound, h.Stop(background(t), "you", f.ID()))
		for _, id := range []string{strings.Repeat("0", 32), "", "x", f.ID() + "0", "../" + f.ID()[3:],
			strings.Repeat("x", 1<<20)} {
			_, err = h.Attach(background(t), "me", id, 0)
			requireCode(t, chat.StreamNotFound, err)
			requireCode(t, chat.StreamNotFound, h.Stop(background(t), "me", id))
		}
	}
	_, err := a.Attach(background(t), "me", f.ID(), 1000)
	requireCode(t, chat.CursorExpired, err)
}

func slowFollower(t *testing.T, with replicas) {
	a, b := with(t, options())
	f := start(t, a, words(5000))
	slow := attach(t, b, f.ID(), 0)
	r := read(t, f)
	require.NotNil(t, r.done)
	r = read(t, slow)
	require.Equal(t, wordsText(0, 5000), r.text)
}

func live(t *testing.T, with replicas) {
	a, b := with(t, options())
	p := newProvider()
	f := start(t, a, p.produce)
	g := attach(t, b, f.ID(), 0)
	const n = 20
	for i := range n {
		p.say <- fmt.Sprintf("w%d ", i)
		for _, f := range []*stream.Follower{f, g} {
			for c, err := range f.Chunks(background(t)) {
				require.NoError(t, err)
				require.False(t, c.More)
				require.Equal(t, fmt.Sprintf("w%d ", i), string(c.Text))
				break
			}
		}
	}
	p.say <- stop
	for _, f := range []*stream.Follower{f, g} {
		require.NotNil(t, read(t, f).done)
	}
}

func stops(t *testing.T, with replicas) {
	for _, side := range []int{0, 1} {
		a, b := with(t, options())
		p := newProvider()
		f := start(t, a, p.produce)
		g := attach(t, b, f.ID(), 0)
		p.say <- "half"
		require.Equal(t, "half", readUntilText(t, a, f.ID(), "half"))
		h := []*stream.Hub{a, b}[side]
		require.NoError(t, h.Stop(background(t), "me", f.ID()))
		await(t, p.gone, "the provider's cancellation")
		for _, f := range []*stream.Follower{f, g} {
			r := read(t, f)
			require.NoError(t, r.err)
			require.Equal(t, "half", r.text)
			require.Equal(t, chat.FinishStopped, r.done.FinishReason)
		}
		require.NoError(t, a.Stop(background(t), "me", f.ID()))
		require.NoError(t, b.Stop(background(t), "me", f.ID()))
	}
}

// readUntilText attaches and reads until it has the text.
func readUntilText(t *testing.T, h *stream.Hub, id, text string) string {
	t.Helper()
	r := readUntil(background(t), attach(t, h, id, 0), func(r reading) bool { return len(r.text) >= len(text) })
	return r.text
}

func stopsEarly(t *testing.T, with replicas) {
	a, b := with(t, options())
	p := newProvider() // says nothing: as one that still dials
	f := start(t, a, p.produce)
	require.NoError(t, b.Stop(background(t), "me", f.ID()))
	r := read(t, f)
	require.NoError(t, r.err)
	require.Equal(t, chat.FinishStopped, r.done.FinishReason)
	require.Equal(t, []uint64{1}, r.seqs)
}

func givesUp(t *testing.T, with replicas) {
	o := options()
	o.Grace = 50 * time.Millisecond
	a, b := with(t, o)
	p := newProvider()
	f := start(t, a, p.produce)
	p.say <- "half"
	readUntilText(t, a, f.ID(), "half") // comes and goes
	select {
	case <-p.gone:
		require.Fail(t, "it has a follower")
	case <-time.After(3 * o.Grace):
	}
	f.Close()
	await(t, p.gone, "the provider's cancellation")
	require.Equal(t, uint64(1), a.Stats().Expired)
	r := read(t, attach(t, b, f.ID(), 0))
	require.Equal(t, "half", r.text)
	requireCode(t, chat.ProducerLost, r.err)
}

func keepsGoing(t *testing.T, with replicas) {
	o := options()
	o.Grace = 5 * time.Second / 4 // a follower elsewhere is heard of every half second
	a, b := with(t, o)
	p := newProvider()
	f := start(t, a, p.produce)
	g := attach(t, b, f.ID(), 0)
	f.Close()
	got := aside(func() reading { return read(t, g) })
	select {
	case <-p.gone:
		require.Fail(t, "it has a follower")
	case <-time.After(o.Grace + leases.Renew + leases.Check):
	}
	p.say <- "all"
	p.say <- stop
	r := <-got
	require.NoError(t, r.err)
	require.Equal(t, "all", r.text)
}

// aside runs f on the side.
func aside[T any](f func() T) <-chan T {
	c := make(chan T, 1)
	go func() { c <- f() }()
	return c
}
