package stream_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/stream"
)

func TestCursorsAreReadStrictly(t *testing.T) {
	id := strings.Repeat("0a", 16)
	for _, c := range []struct {
		in  string
		seq uint64
		ok  bool
	}{
		{id + ".0", 0, true},
		{id + ".1", 1, true},
		{id + ".4294967396", 4294967396, true},
		{id + ".9007199254740991", 1<<53 - 1, true},
		{id + ".9007199254740992", 0, false},
		{id + ".01", 0, false},
		{id + ".+1", 0, false},
		{id + ".-1", 0, false},
		{id + ".1_0", 0, false},
		{id + ".1.1", 0, false},
		{id + ". 1", 0, false},
		{id + ".", 0, false},
		{id, 0, false},
		{"." + "1", 0, false},
		{"", 0, false},
		{strings.ToUpper(id) + ".1", 0, false},
		{id[1:] + ".1", 0, false},
		{id[2:] + "é.1", 0, false},
		{strings.Repeat(id, 1000) + ".1", 0, false},
	} {
		got, seq, ok := stream.ParseCursor(c.in)
		require.Equal(t, c.ok, ok, c.in)
		if !ok {
			require.Empty(t, got)
		} else {
			require.Equal(t, id, got)
			require.Equal(t, c.seq, seq)
		}
	}
}
