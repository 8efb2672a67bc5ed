package stream

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
)

// A record from Redis may be anything: it is decoded or refused, and what decodes is written again
// as the same thing.
func FuzzRecord(f *testing.F) {
	for _, c := range []chat.Chunk{
		{Type: chat.Content, Text: []byte("word")},
		{Type: chat.Tool, Tool: &chat.ToolCall{ID: "i", Name: "n", Arguments: "{}"}},
		{Type: chat.Done, Done: &chat.Completion{FinishReason: chat.FinishStop, Model: "m",
			Usage: &chat.Usage{PromptTokens: 300}}},
	} {
		kind, rest := recordOf(&c)
		record := appendRecord(nil, kind, rest)
		f.Add(record)
		f.Add(record[:len(record)-1])
	}
	late := &chat.Error{Code: chat.UpstreamTimeout, Phase: chat.PhaseIdle, RetryAfter: 1}
	f.Add(appendRecord(nil, kindError, errorFields(late)))
	f.Add([]byte{kindDone, 3, donePrompt, 1, 0xff})
	f.Add([]byte{kindHead + 1, 1, 0})
	f.Add([]byte{kindTool, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, rest, after, err := cutRecord(b)
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(rest)+len(after), len(b))
		var c, c2 chat.Chunk
		err = decode(&c, kind, rest)
		if err == nil && c.Type == chat.Pause {
			return // of a kind that is not known here
		}
		var kind2 byte
		var rest2 []byte
		if e, ok := err.(*chat.Error); !ok {
			kind2, rest2 = recordOf(&c)
		} else if e.Err != nil {
			return // refused
		} else {
			kind2, rest2 = kindError, errorFields(e)
		}
		again := appendRecord(nil, kind2, rest2)
		require.Len(t, again, recordSize(rest2))
		kind2, rest2, _, err2 := cutRecord(again)
		require.NoError(t, err2)
		require.Equal(t, kind, kind2)
		err2 = decode(&c2, kind2, rest2)
		require.Equal(t, c, c2)
		require.Equal(t, err, err2)
	})
}

// A newer replica may write kinds of records, and fields of those that are known, which this one doesn't
// know. It reads everything else, and positions stay what they are.
func TestRecordsAndFieldsThatANewerReplicaAddsAreSkipped(t *testing.T) {
	const unknown = 0x7f
	word := func(s string) []byte { return appendRecord(nil, kindContent, []byte(s)) }
	novelty := appendRecord(nil, unknown, []byte("what this is will be known some day"))
	done := doneFields(&chat.Completion{FinishReason: chat.FinishStop, Model: "m",
		Usage: &chat.Usage{PromptTokens: 1}})
	done = appendText(done, unknown, string(make([]byte, 300<<10)))
	pages := played{pages: [][]byte{
		slices.Concat(novelty, word("a"), novelty, novelty, word("b"), novelty),
		novelty,
		slices.Concat(novelty, appendRecord(nil, kindDone, done)),
	}}
	f := newFollower(New(Options{}), chat.Head{}, &pages)
	var text string
	var seqs []uint64
	var types []chat.Type
	for c, err := range f.Chunks(t.Context()) {
		require.NoError(t, err)
		require.Equal(t, c.Type != chat.Pause, c.More)
		types = append(types, c.Type)
		text += string(c.Text)
		if c.Type != chat.Pause {
			seqs = append(seqs, c.Seq)
		}
		if c.Type == chat.Done {
			require.Equal(t, &chat.Completion{FinishReason: chat.FinishStop, Model: "m",
				Usage: &chat.Usage{PromptTokens: 1}}, c.Done)
		}
	}
	require.Equal(t, "ab", text)
	require.Equal(t, []uint64{2, 5, 9}, seqs)
	require.Equal(t, []chat.Type{chat.Content, chat.Content, chat.Pause, chat.Pause, chat.Done}, types,
		"who was promised more is told that it was nothing")

	e := appendText(errorFields(&chat.Error{Code: chat.UpstreamTimeout, Message: "late"}), unknown, "x")
	err := decode(&chat.Chunk{}, kindError, e)
	require.Equal(t, &chat.Error{Code: chat.UpstreamTimeout, Message: "late"}, err)
}

// played gives pages of records one after the other.
type played struct {
	pages [][]byte
	given uint64 // records in those before
}

func (s *played) next(context.Context) (r records, more bool, err error) {
	r = records{before: s.given, data: s.pages[0]}
	for rest := r.data; len(rest) > 0; s.given++ {
		_, _, rest, _ = cutRecord(rest)
	}
	s.pages = s.pages[1:]
	return r, false, nil
}

func (s *played) close() {}

func TestAHeadComesBackAsItWas(t *testing.T) {
	h := chat.Head{ID: "i", Model: "m", Dialect: "d", Note: "n", Created: time.UnixMilli(1_800_000_000_123)}
	require.Equal(t, h, decodeHead("i", appendHead(nil, &h)))
	require.Equal(t, chat.Head{ID: "i"}, decodeHead("i", nil), "one that can't be read is none")
	require.Equal(t, chat.Head{ID: "i"}, decodeHead("i", appendRecord(nil, kindHead, []byte{headModel, 9})))
}

func TestLogGivesEveryRecordFromEveryPlaceWhateverItsBlocks(t *testing.T) {
	var l log
	var all []byte
	const n = 3000
	starts := []int{0}
	for i := range n {
		text := make([]byte, i%700)
		_, ok := l.append(kindContent, text, i == n-1, true)
		require.True(t, ok)
		all = appendRecord(all, kindContent, text)
		starts = append(starts, len(all))
	}
	_, ok := l.append(kindContent, nil, false, true)
	require.False(t, ok, "nothing comes after the end")
	for after := range uint64(n + 1) {
		if after%97 != 0 && after < n-2 {
			continue
		}
		at := l.seek(after)
		var got []byte
		for {
			s, more, terminal := l.next(&at)
			if len(s.data) == 0 {
				break
			}
			got = append(got, s.data...)
			require.Equal(t, starts[s.last], len(got)+starts[after])
			require.Equal(t, s.last < n, more)
			require.Equal(t, s.last == n, terminal)
		}
		require.Equal(t, string(all[starts[after]:]), string(got))
	}
}
