package stream_test

import (
	"context"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/redistest"
	"github.com/websopy/relay/internal/stream"
)

// paced says n words, one every so often, as providers do.
func paced(n int, every time.Duration) func(context.Context) iter.Seq2[chat.Chunk, error] {
	return func(ctx context.Context) iter.Seq2[chat.Chunk, error] {
		return func(yield func(chat.Chunk, error) bool) {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for i := range n {
				if !yield(chat.Chunk{Type: chat.Content, Text: fmt.Appendf(nil, "word%d ", i)}, nil) {
					return
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
					yield(chat.Chunk{}, ctx.Err())
					return
				}
			}
			yield(stop, nil)
		}
	}
}

// calls is how often a server has run a command.
func calls(t *testing.T, s *redistest.Server, command string) int {
	t.Helper()
	found := regexp.MustCompile(`cmdstat_` + command + `:calls=(\d+)`).FindStringSubmatch(s.Do("INFO", "commandstats"))
	if found == nil {
		return 0
	}
	n, err := strconv.Atoi(found[1])
	require.NoError(t, err)
	return n
}

// A stream that nobody reads elsewhere is written twice a second, and its lease is renewed with that.
func TestAStreamThatNobodyReadsElsewhereCostsRedisLittle(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	o := options()
	o.Leases = stream.DefaultLeases
	way := redistest.Through(t, s.Addr)
	way.Narrow(64 << 10) // so that words come while a round is under way
	h := open(t, o, "redis://"+way.Addr)
	away(t, h, false)
	before := calls(t, s, "evalsha")
	const streams, words, every = 5, 200, 20 * time.Millisecond
	var got []<-chan reading
	began := time.Now()
	for range streams {
		f := start(t, h, paced(words, every))
		got = append(got, aside(func() reading { return read(t, f) }))
	}
	for _, r := range got {
		require.NotNil(t, (<-r).done)
	}
	seconds := time.Since(began).Seconds()
	perSecond := float64(calls(t, s, "evalsha")-before) / streams / seconds
	require.Less(t, perSecond, 3.0, "of 19 when each flush waited 25 ms")
	require.Zero(t, calls(t, s, "xread"))
}

// It is written at once when somebody comes to read it elsewhere, and soon from then on.
func TestAStreamThatSomebodyReadsElsewhereIsWrittenSoon(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	o := options()
	o.Leases = stream.DefaultLeases
	a, b := open(t, o, s.URL()), open(t, o, s.URL())
	away(t, b, false)
	// A machine without time may be late, but not each time. Who waits for the next flush always does.
	var first, next []time.Duration
	for range 4 {
		p := newProvider()
		f := start(t, a, p.produce)
		defer f.Close()
		p.say <- "first "
		began := time.Now()
		elsewhere := attach(t, b, f.ID(), 0)
		defer elsewhere.Close()
		read, end := iter.Pull2(elsewhere.Chunks(background(t)))
		defer end()
		_, err, _ := read()
		require.NoError(t, err)
		first = append(first, time.Since(began))
		for range 5 {
			began = time.Now()
			p.say <- "next "
			_, err, ok := read()
			require.NoError(t, err)
			require.True(t, ok)
			next = append(next, time.Since(began))
		}
	}
	slices.Sort(next)
	t.Log(first, next)
	require.Less(t, slices.Min(first), 400*time.Millisecond, "who comes does not wait for the next flush")
	require.Less(t, next[len(next)/2], 700*time.Millisecond, "unread it is a second")
}

// A replica that is going away writes everything before its readers come to others. Invariant: nobody is sent where
// there is nothing.
func TestEverythingIsInRedisBeforeReadersAreSentAway(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	h := open(t, options(), s.URL())
	p := newProvider()
	f := start(t, h, p.produce)
	p.say <- "one "
	p.say <- "two "
	require.Equal(t, "one two ", readUntilText(t, h, f.ID(), "one two "))
	h.Release()
	require.Equal(t, "2", s.Do("HGET", "relay:{"+f.ID()+"}", "last"))
	require.ErrorIs(t, read(t, f).err, stream.ErrReleased)
}

// Invariant: every position reads the same. And an ended stream of five hundred words takes little in Redis.
func TestAnEndedStreamIsSmallInRedisAndReadsTheSameFromEveryPosition(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	a, b := open(t, options(), s.URL()), open(t, options(), s.URL())
	const words = 500
	for name, watched := range map[string]bool{"unread elsewhere": false, "read elsewhere": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, a, paced(words, 10*time.Millisecond))
			var other <-chan reading
			if watched {
				elsewhere := attach(t, b, f.ID(), 0)
				other = aside(func() reading { return read(t, elsewhere) })
			}
			whole := read(t, f)
			require.NotNil(t, whole.done)
			if watched {
				require.Equal(t, whole.text, (<-other).text)
			}
			key := "relay:{" + f.ID() + "}"
			eventually(t, "its end in Redis", func() bool { return s.Do("HGET", key, "end") == strconv.Itoa(words+1) })
			size := 0
			for _, k := range []string{key, key + ":log"} {
				n, err := strconv.Atoi(s.Do("MEMORY", "USAGE", k, "SAMPLES", "0"))
				require.NoError(t, err)
				size += n
			}
			t.Logf("%d bytes in %s entries", size, s.Do("XLEN", key+":log"))
			require.LessOrEqual(t, size, 8<<10)
			text := ""
			for i := words; i >= 0; i-- {
				r := read(t, attach(t, b, f.ID(), uint64(i)))
				require.Equal(t, text, r.text)
				require.Equal(t, whole.seqs[i:], r.seqs)
				require.Equal(t, whole.done, r.done)
				text = fmt.Sprintf("word%d ", i-1) + text
			}
		})
	}
}
