package stream

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
)

// A record from Redis may be anything: it is decoded or refused, and what decodes is written again
// as the same thing.
func FuzzRecord(f *testing.F) {
	for _, c := range []chat.Chunk{
		{Type: chat.Content, Text: []byte("word")},
		{Type: chat.Tool, Tool: &chat.ToolCall{ID: "i", Name: "n", Arguments: "{}"}},
		{Type: chat.Done, Done: &chat.Completion{FinishReason: chat.FinishStop, Model: "m", Usage: &chat.Usage{PromptTokens: 300}}},
	} {
		record := appendChunk(nil, &c)
		f.Add(record)
		f.Add(record[:len(record)-1])
	}
	f.Add(appendError(nil, &chat.Error{Code: chat.UpstreamTimeout, Phase: chat.PhaseIdle, RetryAfter: 1}))
	f.Add([]byte{kindTool, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, rest, after, err := cutRecord(b)
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(rest)+len(after), len(b))
		c, err := decode(kind, rest)
		again := appendChunk
		if e, ok := err.(*chat.Error); ok {
			if e.Err != nil {
				return // refused
			}
			again = func(dst []byte, _ *chat.Chunk) []byte { return appendError(dst, e) }
		}
		kind2, rest2, _, err2 := cutRecord(again(nil, &c))
		require.NoError(t, err2)
		require.Equal(t, kind, kind2)
		c2, err2 := decode(kind2, rest2)
		require.Equal(t, c, c2)
		require.Equal(t, err, err2)
	})
}

func TestLogGivesEveryRecordFromEveryPlaceWhateverItsBlocks(t *testing.T) {
	var l log
	var all []byte
	const n = 3000
	starts := []int{0}
	for i := range n {
		record := appendRecord(nil, kindContent, make([]byte, i%700))
		_, ok := l.append(record, i == n-1, true)
		require.True(t, ok)
		all = append(all, record...)
		starts = append(starts, len(all))
	}
	_, ok := l.append([]byte{1, 0}, false, true)
	require.False(t, ok, "nothing comes after the end")
	for after := range uint64(n + 1) {
		if after%97 != 0 && after < n-2 {
			continue
		}
		at := l.seek(after)
		var got []byte
		for {
			s := l.next(&at, nil)
			require.True(t, s.ended)
			if len(s.data) == 0 {
				break
			}
			got = append(got, s.data...)
			require.Equal(t, starts[s.last], len(got)+starts[after])
			require.Equal(t, s.last < n, s.more)
		}
		require.Equal(t, string(all[starts[after]:]), string(got))
	}
}
