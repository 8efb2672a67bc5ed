package limit_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/limit"
)

// take takes a place that must be free.
func take(t *testing.T, p *limit.Places, share string) *limit.Place {
	t.Helper()
	place, err := p.Take(t.Context(), share)
	require.NoError(t, err)
	return &place
}

// refused takes none, and gives what was said.
func refused(t *testing.T, p *limit.Places, share string) *limit.Full {
	t.Helper()
	_, err := p.Take(t.Context(), share)
	full, ok := errors.AsType[*limit.Full](err)
	require.True(t, ok, "%v", err)
	return full
}

func TestALoneCallerHasAllPlaces(t *testing.T) {
	p := limit.NewPlaces(limit.PlacesOptions{Places: 3})
	for range 3 {
		take(t, p, "a")
	}
	refused(t, p, "a")
	require.Equal(t, 3, p.Taken())
}

func TestWhatBecomesFreeIsForWhoHoldsFewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := limit.NewPlaces(limit.PlacesOptions{Places: 4})
		var a []*limit.Place
		for range 4 {
			a = append(a, take(t, p, "a"))
		}
		refused(t, p, "b")
		refused(t, p, "b")
		a[0].Give()
		for range 100 {
			refused(t, p, "a") // however often it asks
		}
		b := take(t, p, "b")
		a[1].Give()
		refused(t, p, "a")
		take(t, p, "b")
		refused(t, p, "b")

		// They are even, and each may have again what it gives.
		a[2].Give()
		take(t, p, "a")
		b.Give()
		take(t, p, "b")
	})
}

// A single place can't be shared but in turns. One caller asks again and again, the other comes back when it was told
// to.
func TestASinglePlaceIsHadInTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := limit.NewPlaces(limit.PlacesOptions{Places: 1})
		served, begin := map[string]int{}, time.Now()
		ask := func(share string, pause func(*limit.Full) time.Duration) {
			for t.Context().Err() == nil && time.Since(begin) < 10*time.Minute {
				place, err := p.Take(t.Context(), share)
				if full, ok := errors.AsType[*limit.Full](err); ok {
					time.Sleep(pause(full))
					continue
				}
				served[share]++
				time.Sleep(time.Second)
				place.Give()
			}
		}
		var both sync.WaitGroup
		both.Go(func() { ask("a", func(*limit.Full) time.Duration { return time.Millisecond }) })
		both.Go(func() { ask("b", func(full *limit.Full) time.Duration { return full.After }) })
		both.Wait()
		require.InDelta(t, served["a"], served["b"], 5, "%v", served)
		require.Greater(t, served["a"], 150)
	})
}

func TestAPlaceIsKeptForWhoMayComeAgainButNotForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := limit.NewPlaces(limit.PlacesOptions{Places: 2})
		first := take(t, p, "a")
		take(t, p, "a")
		wait := refused(t, p, "b").After
		first.Give()
		refused(t, p, "a")
		time.Sleep(wait + 2*time.Second)
		refused(t, p, "a")
		time.Sleep(time.Millisecond)
		take(t, p, "a")
	})
}

func TestWhoIsRefusedIsToldHowLongPlacesAreHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := limit.NewPlaces(limit.PlacesOptions{Places: 2})
		for range 20 {
			one, two := take(t, p, "a"), take(t, p, "a")
			time.Sleep(8 * time.Second)
			one.Give()
			two.Give()
		}
		take(t, p, "a")
		take(t, p, "a")
		require.Equal(t, 4*time.Second, refused(t, p, "a").After, "one of two ends every 4 s")
		time.Sleep(time.Hour)
		require.Equal(t, 30*time.Second, refused(t, p, "a").After, "nobody is sent away for longer")
	})
}

func TestTheLineIsServedByWhoHoldsFewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := limit.NewPlaces(limit.PlacesOptions{Places: 2, Line: 4, Wait: time.Minute})
		a, a2 := take(t, p, "a"), take(t, p, "a")
		served := make(chan string, 4)
		wait := func(share string) {
			go func() {
				place, err := p.Take(t.Context(), share)
				if err != nil {
					return
				}
				served <- share
				time.Sleep(time.Second)
				place.Give()
			}()
			synctest.Wait()
		}
		for _, share := range []string{"a", "a", "a", "b"} {
			wait(share)
		}
		a.Give()
		synctest.Wait()
		require.Equal(t, "b", <-served, "who holds none, though last in line")
		require.Empty(t, served)
		a2.Give()
		synctest.Wait()
		require.Equal(t, "a", <-served)
		time.Sleep(time.Minute)
		require.Len(t, served, 2)
		require.Zero(t, p.Taken())
	})
}

func TestAFullLineHasRoomForWhoHasLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := limit.NewPlaces(limit.PlacesOptions{Places: 1, Line: 3, Wait: time.Minute})
		running := take(t, p, "a")
		results := make(chan string, 10)
		wait := func(name, share string) {
			go func() {
				place, err := p.Take(t.Context(), share)
				if err != nil {
					results <- name + " refused"
					return
				}
				results <- name
				place.Give()
			}()
			synctest.Wait()
		}
		wait("a1", "a")
		wait("a2", "a")
		wait("a3", "a")
		wait("a4", "a")
		require.Equal(t, "a4 refused", <-results)
		wait("b1", "b")
		require.Equal(t, "a3 refused", <-results, "the last of the caller with most")
		wait("b2", "b")
		require.Equal(t, "a2 refused", <-results)
		wait("b3", "b")
		require.Equal(t, "b3 refused", <-results, "a has not more than b would have")
		running.Give()
		synctest.Wait()
		require.Len(t, results, 3)
		require.Zero(t, p.Taken())
	})
}

func TestAWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := limit.NewPlaces(limit.PlacesOptions{Places: 1, Line: 1, Wait: 5 * time.Second})
		one := take(t, p, "a")
		begin := time.Now()
		refused(t, p, "b")
		require.Equal(t, 5*time.Second, time.Since(begin))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := p.Take(ctx, "b")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		one.Give()
		one.Give() // once is what counts
		take(t, p, "b")
		require.Equal(t, 1, p.Taken())
	})
}

func TestPlacesAreNeitherLostNorMade(t *testing.T) {
	for _, line := range []int{0, 5} {
		synctest.Test(t, func(t *testing.T) {
			p := limit.NewPlaces(limit.PlacesOptions{Places: 7, Line: line, Wait: 50 * time.Millisecond})
			var all sync.WaitGroup
			for i := range 50 {
				all.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(i), 0))
					for range 200 {
						ctx, cancel := context.WithTimeout(t.Context(), rand.N(100*time.Millisecond)+1)
						place, err := p.Take(ctx, strconv.Itoa(i%5))
						if taken := p.Taken(); taken > 7 {
							t.Error(taken)
						}
						time.Sleep(time.Duration(rnd.IntN(10)) * time.Millisecond)
						if err == nil {
							place.Give()
						}
						cancel()
					}
				})
			}
			all.Wait()
			require.Zero(t, p.Taken())
			time.Sleep(time.Minute)
			for range 7 {
				take(t, p, strconv.Itoa(rand.IntN(1000)))
			}
		})
	}
}

func TestNoPlacesAtAllBoundNothing(t *testing.T) {
	var p *limit.Places
	place := take(t, p, "a")
	place.Give()
	require.Zero(t, p.Taken())
}

func BenchmarkAPlaceAmongThousandCallers(b *testing.B) {
	p := limit.NewPlaces(limit.PlacesOptions{Places: 1000})
	for i := range 1000 {
		_, _ = p.Take(b.Context(), strconv.Itoa(i))
	}
	for i := range 1000 {
		_, _ = p.Take(b.Context(), "x"+strconv.Itoa(i)) // each of them wants one
	}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = p.Take(b.Context(), "another")
	}
}

// A stranger has an address for each of its requests, as whoever has an IPv6 network does. Refused once, none of them
// comes again.
func TestPlacesDoNotStayEmptyForThoseWhoNeverComeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const places = 10
		p := limit.NewPlaces(limit.PlacesOptions{Places: places})
		var held []*limit.Place
		for range places {
			held = append(held, take(t, p, "a"))
		}
		strangers := 0
		come := func(n int) {
			for range n {
				strangers++
				if place, err := p.Take(t.Context(), "stranger "+strconv.Itoa(strangers)); err == nil {
					held = append(held, &place)
				}
			}
		}
		leave := func() {
			for _, place := range held {
				place.Give()
			}
			held = nil
		}
		come(2000)
		leave()
		time.Sleep(40 * time.Second) // longer than a place is kept
		served := 0
		for range 60 {
			for range 10 {
				come(40)
				leave() // they were only asking
				time.Sleep(100 * time.Millisecond)
			}
			if place, err := p.Take(t.Context(), "b"); err == nil {
				served++
				place.Give()
			}
		}
		require.Greater(t, served, 50, "of 60, with no place taken")
	})
}
