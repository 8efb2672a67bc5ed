package stream_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/stream"
)

// room is a hub with room for so many KiB.
func room(t *testing.T, kib int64) *stream.Hub {
	o := options()
	o.MaxBytes = kib << 10
	h := stream.New(o)
	t.Cleanup(func() {
		if kib > 0 {
			require.LessOrEqual(t, stream.Counted(h), o.MaxBytes)
		}
		closeNow(h)
	})
	return h
}

// says is an answer of some KiB.
func says(kib int) func(context.Context) iter.Seq2[chat.Chunk, error] {
	return func(context.Context) iter.Seq2[chat.Chunk, error] {
		return func(yield func(chat.Chunk, error) bool) {
			for range kib {
				if !yield(text(1), nil) {
					return
				}
			}
			yield(stop, nil)
		}
	}
}

// text is a chunk whose record takes so many KiB.
func text(kib int) chat.Chunk {
	return chat.Chunk{Type: chat.Content, Text: []byte(strings.Repeat("x", kib<<10-3))}
}

// ended starts a stream for a caller, and waits until it has ended. Whether it is read is for the test.
func ended(t *testing.T, h *stream.Hub, share string, kib int, read bool) (id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel() // what it keeps of its readers is not the stream's
	key := share + fmt.Sprint(rand.Int64())
	f, _, err := h.Start(ctx, stream.Request{Owner: "me", Share: share, Key: key, Produce: says(kib)})
	require.NoError(t, err)
	if read {
		readUntil(ctx, f, func(reading) bool { return false })
	} else {
		f.Close()
	}
	eventually(t, "the provider's return", func() bool { return h.Stats().Live == 0 })
	return f.ID()
}

// running starts a stream that a provider speaks into.
func running(t *testing.T, h *stream.Hub, share string) (*stream.Follower, *provider) {
	t.Helper()
	p := newProvider()
	f, _, err := h.Start(background(t), stream.Request{Owner: "me", Share: share, Produce: p.produce})
	require.NoError(t, err)
	return f, p
}

func isThere(h *stream.Hub, id string) bool {
	f, err := h.Attach(context.Background(), "me", id, 0)
	if err == nil {
		f.Close()
	}
	return err == nil
}

func TestEndedStreamsGiveWayToANewOneThoseThatWereReadFirst(t *testing.T) {
	h := room(t, 264)
	unread := ended(t, h, "a", 50, false)
	read := ended(t, h, "a", 50, true)
	other := ended(t, h, "b", 30, true)
	_, first := running(t, h, "c")
	defer close(first.say)
	require.Zero(t, h.Stats().Evicted, "there is room for all")
	running(t, h, "c")
	require.False(t, isThere(h, read), "of the caller with most, and somebody has all of it")
	require.Equal(t, uint64(1), h.Stats().Evicted)
	running(t, h, "c")
	require.False(t, isThere(h, other), "nobody needs it, though its caller has less")
	require.True(t, isThere(h, unread), "its caller has less than the one that wants more")
}

func TestACallerWithMostGivesWayToOthers(t *testing.T) {
	h := room(t, 256)
	var unread []string
	for range 3 {
		unread = append(unread, ended(t, h, "a", 50, false))
	}
	running(t, h, "b")
	require.False(t, isThere(h, unread[0]), "the one that was there longest")
	require.True(t, isThere(h, unread[1]))
	require.Equal(t, uint64(1), h.Stats().Evicted)
}

func TestAGrowingStreamOfTheCallerWithMostEndsWhenNothingElseIsLeft(t *testing.T) {
	h := room(t, 256)
	small, pSmall := running(t, h, "a")
	large, pLarge := running(t, h, "a")
	other, pOther := running(t, h, "b")
	pLarge.say <- text(100)
	readAlong(t, h, large, 1)
	pOther.say <- text(90)
	readAlong(t, h, other, 1)
	r := read(t, large)
	requireCode(t, chat.StreamTooLong, r.err)
	require.ErrorContains(t, r.err, "RELAY_RESUME_BYTES")
	<-pLarge.gone
	for _, p := range []*provider{pSmall, pOther} {
		p.say <- stop
	}
	require.NotNil(t, read(t, small).done)
	require.NotNil(t, read(t, other).done)
}

// readAlong reads so many chunks, on the side of who reads to the end.
func readAlong(t *testing.T, h *stream.Hub, f *stream.Follower, n int) {
	t.Helper()
	again := attach(t, h, f.ID(), 0)
	readUntil(background(t), again, func(reading) bool { n--; return n == 0 })
}

func TestALoneCallerHasAllTheRoomAndThenNoMore(t *testing.T) {
	h := room(t, 256)
	for range 4 {
		running(t, h, "a")
	}
	_, _, err := h.Start(background(t), stream.Request{Share: "a", Produce: words(1)})
	requireCode(t, chat.Overloaded, err)
	require.ErrorContains(t, err, "RELAY_RESUME_BYTES")
	require.Positive(t, chat.AsError(err).RetryAfter)

	f, _, err := h.Start(background(t), stream.Request{Share: "b", Produce: words(1)})
	require.NoError(t, err, "who has less has room made for it")
	require.NotNil(t, read(t, f).done)
}

func TestTheKeyOfAStreamThatGaveWayIsNotAskedAgain(t *testing.T) {
	h := room(t, 140)
	asks := stream.Request{Owner: "me", Share: "a", Key: "k", Body: [32]byte{1}, Produce: says(60)}
	f, _, err := h.Start(background(t), asks)
	require.NoError(t, err)
	read(t, f)
	eventually(t, "the provider's return", func() bool { return h.Stats().Live == 0 })
	running(t, h, "b")
	running(t, h, "b")
	_, _, err = h.Start(background(t), asks)
	requireCode(t, chat.StreamNotFound, err)
	asks.Body = [32]byte{2}
	_, _, err = h.Start(background(t), asks)
	requireCode(t, chat.IdempotencyMismatch, err)
}

func TestAKeyIsFreeAgainOnlyWhenItsStreamFailedBeforeItBegan(t *testing.T) {
	unreachable := &chat.Error{Code: chat.UpstreamUnreachable}
	for name, tc := range map[string]struct {
		says []any
		free bool
	}{
		"a retryable failure before the first chunk": {[]any{unreachable}, true},
		"a final failure": {[]any{&chat.Error{Code: chat.UpstreamAuth}}, false},
		"a retryable failure after the first chunk": {[]any{"text", unreachable}, false},
		"a whole answer":  {[]any{"text", stop}, false},
		"an empty answer": {[]any{stop}, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := room(t, 0)
			p := newProvider()
			for _, s := range tc.says {
				p.say <- s
			}
			asks := stream.Request{Owner: "me", Key: "k", Produce: p.produce}
			f, _, err := h.Start(background(t), asks)
			require.NoError(t, err)
			read(t, f)
			asks.Produce = words(1)
			f, replayed, err := h.Start(background(t), asks)
			require.NoError(t, err)
			require.Equal(t, !tc.free, replayed)
			read(t, f)
			_, replayed, err = h.Start(background(t), asks)
			require.NoError(t, err)
			require.True(t, replayed, "the second answer has the key then")
		})
	}
}

func TestAQuestionCountsUntilTheAnswerBegins(t *testing.T) {
	h := room(t, 1024)
	p := newProvider()
	f, _, err := h.Start(background(t), stream.Request{Owner: "me", Question: 900 << 10, Produce: p.produce})
	require.NoError(t, err)
	require.Greater(t, h.Stats().Bytes, int64(900<<10))
	_, _, err = h.Start(background(t), stream.Request{Question: 900 << 10, Produce: words(1)})
	requireCode(t, chat.Overloaded, err)
	p.say <- "a"
	readAlong(t, h, f, 1)
	require.Equal(t, int64(64<<10), h.Stats().Bytes)
	p.say <- stop
	read(t, f)
	eventually(t, "the provider's return", func() bool { return h.Stats().Live == 0 })
	require.Less(t, h.Stats().Bytes, int64(5<<10))
}

// Whatever callers do, what they hold is within the bound, and comes to nothing at the end.
func TestTheRoomIsNeverExceededAndNothingIsLostFromIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.MaxBytes, o.Retention = 512<<10, time.Second
		h := stream.New(o)
		var all sync.WaitGroup
		for caller := range 6 {
			for worker := range 4 {
				all.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(caller), uint64(worker)))
					for i := range 60 {
						client(t, h, o.MaxBytes, rnd, fmt.Sprint(caller), fmt.Sprint(i%7))
					}
				})
			}
		}
		all.Wait()
		synctest.Wait()
		time.Sleep(2 * o.Retention)
		synctest.Wait()
		s := h.Stats()
		require.Zero(t, s.Bytes)
		require.Zero(t, s.Live)
		require.Positive(t, s.Evicted)
		h.Close(context.Background())
	})
}

// client starts a stream, reads of it what it likes and leaves.
func client(t *testing.T, h *stream.Hub, most int64, rnd *rand.Rand, share, key string) {
	chunks := rnd.IntN(60)
	f, _, err := h.Start(context.Background(),
		stream.Request{Owner: share, Share: share, Key: key, Question: rnd.Int64N(64 << 10),
			Produce: func(ctx context.Context) iter.Seq2[chat.Chunk, error] {
				return func(yield func(chat.Chunk, error) bool) {
					for range chunks {
						if !yield(text(1+rand.IntN(4)), nil) {
							return
						}
						time.Sleep(time.Millisecond)
					}
					yield(stop, nil)
				}
			}})
	if err != nil {
		time.Sleep(time.Millisecond)
		return
	}
	left := rnd.IntN(80)
	readUntil(context.Background(), f, func(reading) bool { left--; return left <= 0 })
	if counted := stream.Counted(h); counted > most {
		t.Errorf("%d bytes are counted", counted)
	}
	// with streams that were cut, and whose providers and readers are about to leave
	if held := h.Stats().Bytes; held > most+most/2 {
		t.Errorf("%d bytes are held", held)
	}
}

// What is counted is what is there, within a few bytes: here of streams that have ended.
func TestAnEndedStreamTakesWhatItCountsFor(t *testing.T) {
	for name, kib := range map[string]int{"short": 1, "long": 100} {
		t.Run(name, func(t *testing.T) {
			h := room(t, 0)
			const n = 300
			used := func() int64 {
				for range 3 {
					runtime.GC()
				}
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return int64(m.HeapAlloc)
			}
			ended(t, h, "a", kib, true)
			before, counted := used(), h.Stats().Bytes
			for i := range n {
				ended(t, h, fmt.Sprint(i), kib, true)
			}
			taken, counted := (used()-before)/n, (h.Stats().Bytes-counted)/n
			require.LessOrEqual(t, taken, counted, "bytes a stream")
			require.Less(t, counted-taken, int64(2<<10))
			runtime.KeepAlive(h)
		})
	}
}
