package format

import (
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
)

// A file that a model writes comes in thousands of pieces. Each must not cost as much as all before it.
func TestAStringInManyPiecesCostsNoMoreThanItsLength(t *testing.T) {
	const pieces, first = 8000, 500000
	var sent []string
	out := &Answer{Yield: func(c chat.Chunk, _ error) bool {
		sent = append(sent, c.Tool.Arguments)
		return true
	}}
	var call partialCall
	require.NoError(t, call.begin(nil, []byte("write"), []byte(`{"text":"<"}`), out))
	require.NoError(t, call.add([]byte(`[{"jsonPath":"$.text","stringValue":"`+strings.Repeat("x", first)+`"}]`)))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range pieces {
		require.NoError(t, call.add([]byte(`[{"jsonPath":"$.text","stringValue":"y"}]`)))
	}
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20))
	require.NoError(t, call.end(out))
	require.Equal(t, []string{`{"text":"<` + strings.Repeat("x", first) + strings.Repeat("y", pieces) + `"}`}, sent)
}
