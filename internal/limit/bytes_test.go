package limit_test

import (
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/limit"
)

func TestACallerLeavesAsMuchAsItTakes(t *testing.T) {
	b := limit.NewBytes(100)
	first, second, third := b.Hold("a"), b.Hold("b"), b.Hold("c")
	require.True(t, first.Grow(50))
	require.False(t, b.Hold("a").Grow(1), "half is the most, over all its requests")
	require.True(t, second.Grow(25))
	require.False(t, second.Grow(1))
	require.True(t, third.Grow(12))
	require.False(t, third.Grow(1))
	require.Equal(t, int64(87), b.Used())

	first.Release()
	first.Release()
	require.Equal(t, int64(37), b.Used(), "given back once")
	require.True(t, second.Grow(10))
	second.Release()
	third.Release()
	require.Zero(t, b.Used())
}

func TestWhoIsNotKnownHasTheLimitOfAll(t *testing.T) {
	b := limit.NewBytes(100)
	require.True(t, b.Hold("").Grow(60))
	require.True(t, b.Hold("").Grow(40))
	require.False(t, b.Hold("").Grow(1))
	require.False(t, b.Hold("a").Grow(1))
}

func TestWithoutALimitAllIsGiven(t *testing.T) {
	b := limit.NewBytes(0)
	require.True(t, b.Hold("a").Grow(1<<40))
	require.Equal(t, int64(1<<40), b.Used())
}

func TestTheLimitHoldsWhoeverComesAtOnce(t *testing.T) {
	b := limit.NewBytes(1000)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for range 1000 {
				h := b.Hold(strconv.Itoa(i % 5))
				h.Grow(100)
				if used := b.Used(); used > 1000 {
					t.Error(used)
				}
				h.Release()
			}
		})
	}
	all.Wait()
	require.Zero(t, b.Used())
}

// While there is no room, whoever asks is refused, and addresses that come once must leave nothing behind.
func TestCallersWhoHoldNothingAreNotRemembered(t *testing.T) {
	b := limit.NewBytes(100)
	require.True(t, b.Hold("").Grow(100))
	for i := range 1000 {
		h := b.Hold("addr " + strconv.Itoa(i))
		require.True(t, h.Grow(0))
		require.False(t, h.Grow(1))
		h.Release()
	}
	require.Zero(t, limit.Holders(b))
}
