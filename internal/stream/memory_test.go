package stream_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/limit"
	"github.com/websopy/relay/internal/stream"
)

func TestMemoryLog(t *testing.T) {
	conformance(t, func(t *testing.T, o stream.Options) (a, b *stream.Hub) {
		h := stream.New(o)
		t.Cleanup(func() { closeNow(h) })
		return h, h
	})
}

// closeNow closes without waiting for running streams.
func closeNow(h *stream.Hub) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	h.Close(ctx)
}

func TestAGenerationHoldsItsPlaceUntilItEndsWhoeverReadsIt(t *testing.T) {
	o := options()
	o.Generations = limit.NewPlaces(limit.PlacesOptions{Places: 2})
	h := stream.New(o)
	defer closeNow(h)
	p := newProvider()
	asks := stream.Request{Owner: "me", Share: "me", Key: "k", Produce: p.produce}
	f, _, err := h.Start(background(t), asks)
	require.NoError(t, err)
	f.Close()
	refused := func(share string) {
		t.Helper()
		_, _, err := h.Start(background(t), stream.Request{Share: share, Produce: words(1)})
		_, full := errors.AsType[*limit.Full](err)
		require.True(t, full, "%v", err)
	}
	again, replayed, err := h.Start(background(t), asks)
	require.NoError(t, err, "who follows needs no place")
	require.True(t, replayed)
	other := newProvider()
	g, _, err := h.Start(background(t), stream.Request{Share: "you", Produce: other.produce})
	require.NoError(t, err)
	refused("them")

	p.say <- stop
	read(t, again)
	other.say <- stop
	read(t, g)
	eventually(t, "the providers' return", func() bool { return o.Generations.Taken() == 0 })
	f, _, err = h.Start(background(t), stream.Request{Share: "me", Produce: words(1)})
	require.NoError(t, err)
	read(t, f)
}

func TestThousandsComeAndGoAndLeaveNothing(t *testing.T) {
	o := options()
	o.Retention = 10 * time.Second
	synctest.Test(t, func(t *testing.T) {
		h := stream.New(o)
		var all sync.WaitGroup
		for range 3000 {
			all.Go(func() {
				f, _, err := h.Start(context.Background(), stream.Request{Key: "", Produce: words(20)})
				if err != nil {
					t.Error(err)
					return
				}
				readUntil(context.Background(), f, func(r reading) bool { return len(r.text) > 20 })
			})
		}
		all.Wait()
		synctest.Wait()
		require.Positive(t, h.Stats().Bytes)
		time.Sleep(o.Retention)
		synctest.Wait()
		require.Equal(t, stream.Stats{}, h.Stats())
		h.Close(context.Background())
	})
}

func TestGraceIsCountedFromTheLastFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := stream.New(options())
		p := newProvider()
		f, _, err := h.Start(context.Background(), stream.Request{Owner: "me", Produce: p.produce})
		require.NoError(t, err)
		gone := func() bool {
			synctest.Wait()
			select {
			case <-p.gone:
				return true
			default:
				return false
			}
		}
		time.Sleep(time.Hour)
		require.False(t, gone(), "it has a follower")
		f.Close()
		time.Sleep(59 * time.Second)
		require.False(t, gone())
		f, err = h.Attach(context.Background(), "me", f.ID(), 0)
		require.NoError(t, err)
		time.Sleep(time.Hour)
		require.False(t, gone())
		f.Close()
		f.Close()
		time.Sleep(59 * time.Second)
		require.False(t, gone())
		time.Sleep(2 * time.Second)
		require.True(t, gone())
		closeNow(h)
	})
}

func TestAFollowerWhoseClientLeavesReturnsAtOnce(t *testing.T) {
	h := stream.New(options())
	defer closeNow(h)
	f := start(t, h, newProvider().produce)
	defer f.Close()
	ctx, cancel := context.WithCancel(context.Background())
	got := aside(func() error {
		for _, err := range f.Chunks(ctx) {
			return err
		}
		return nil
	})
	cancel()
	require.ErrorIs(t, <-got, context.Canceled)
}

func TestReleaseLeavesTheFollowersOfAMemoryLogAlone(t *testing.T) {
	h := stream.New(options())
	defer closeNow(h)
	p := newProvider()
	f := start(t, h, p.produce)
	h.Release()
	p.say <- "all"
	p.say <- stop
	require.NotNil(t, read(t, f).done)
}
