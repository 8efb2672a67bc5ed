package cloud

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// issuer gives out tokens that live for an hour, unless it is told to do something else.
type issuer struct {
	mu     sync.Mutex // guards the rest
	issued int
	next   func(ctx context.Context) (fetched[string], error)
	told   []error
}

func (i *issuer) fetch(ctx context.Context) (fetched[string], error) {
	i.mu.Lock()
	i.issued++
	n, next := i.issued, i.next
	i.mu.Unlock()
	if next != nil {
		return next(ctx)
	}
	return fetched[string]{value: string(rune('0' + n)), name: "test", expires: time.Now().Add(time.Hour)}, nil
}

func (i *issuer) tell(_ string, _ time.Time, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.told = append(i.told, err)
}

func (i *issuer) from(next func(ctx context.Context) (fetched[string], error)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.next = next
}

func (i *issuer) asked() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.issued
}

func (i *issuer) heard() []error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.told
}

func authorize(b bearer) (header string, took time.Duration, err error) {
	r := &http.Request{Header: make(http.Header)}
	began := time.Now()
	err = b.Authorize(context.Background(), r, nil)
	return r.Header.Get("Authorization"), time.Since(began), err
}

func failing(context.Context) (fetched[string], error) {
	return fetched[string]{name: "test"}, errors.New("500")
}

func hanging(ctx context.Context) (fetched[string], error) {
	<-ctx.Done()
	return fetched[string]{name: "test"}, ctx.Err()
}

func TestATokenIsReplacedBeforeItExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var i issuer
		b := bearer{keep(i.fetch, i.tell)}
		defer b.Close()
		for _, want := range []string{"Bearer 1", "Bearer 2"} {
			header, took, err := authorize(b)
			require.NoError(t, err)
			require.Equal(t, want, header)
			require.Zero(t, took, "nobody waits for a refresh")
			time.Sleep(49 * time.Minute)
			header, _, _ = authorize(b)
			require.Equal(t, want, header, "it is good for some minutes more")
			time.Sleep(11 * time.Minute)
		}
	})
}

func TestTokensThatLiveShortlyAreReplacedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var i issuer
		i.from(func(context.Context) (fetched[string], error) {
			return fetched[string]{value: "x", name: "test", expires: time.Now().Add(40 * time.Second)}, nil
		})
		b := bearer{keep(i.fetch, i.tell)}
		defer b.Close()
		for range 600 {
			time.Sleep(time.Second)
			_, took, err := authorize(b)
			require.NoError(t, err)
			require.Zero(t, took)
		}
		require.InDelta(t, 20, i.asked(), 2, "every 30 s, and no more often")
	})
}

func TestWhatDoesNotExpireIsLookedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var value atomic.Value
		value.Store("old")
		var i issuer
		i.from(func(context.Context) (fetched[string], error) {
			return fetched[string]{value: value.Load().(string), name: "test"}, nil
		})
		b := bearer{keep(i.fetch, i.tell)}
		defer b.Close()
		synctest.Wait()
		value.Store("new")
		time.Sleep(unexpiring + time.Second)
		header, _, err := authorize(b)
		require.NoError(t, err)
		require.Equal(t, "Bearer new", header)
	})
}

func TestAnIssuerThatFailsIsAskedAgainWhileTheTokenIsGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var i issuer
		b := bearer{keep(i.fetch, i.tell)}
		defer b.Close()
		synctest.Wait()
		i.from(failing)
		time.Sleep(59 * time.Minute)
		require.InDelta(t, 12, i.asked(), 6, "again and again, at growing intervals")
		header, took, err := authorize(b)
		require.NoError(t, err)
		require.Equal(t, "Bearer 1", header)
		require.Zero(t, took)
		time.Sleep(2 * time.Minute)
		_, took, err = authorize(b)
		require.ErrorContains(t, err, "test: 500", "it has expired")
		require.Zero(t, took, "nobody waits for what has just failed")
		i.from(nil)
		time.Sleep(maxBackoff)
		header, _, err = authorize(b)
		require.NoError(t, err)
		require.NotEqual(t, "Bearer 1", header)
		require.NoError(t, i.heard()[len(i.heard())-1])
	})
}

func TestNoRequestWaitsForATokenThatDoesNotCome(t *testing.T) {
	for name, fetch := range map[string]func(context.Context) (fetched[string], error){"failing": failing,
		"hanging": hanging} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := issuer{next: fetch}
				b := bearer{keep(i.fetch, i.tell)}
				defer b.Close()
				for range 1000 {
					_, took, err := authorize(b)
					require.Error(t, err)
					require.LessOrEqual(t, took, firstWait)
					time.Sleep(77 * time.Millisecond)
				}
				require.Less(t, i.asked(), 20, "requests make no more fetches")
			})
		})
	}
}

func TestTheFirstTokenIsWaitedForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := issuer{next: func(context.Context) (fetched[string], error) {
			time.Sleep(90 * time.Millisecond)
			return fetched[string]{value: "x", name: "test", expires: time.Now().Add(time.Hour)}, nil
		}}
		b := bearer{keep(i.fetch, i.tell)}
		defer b.Close()
		header, took, err := authorize(b)
		require.NoError(t, err)
		require.Equal(t, "Bearer x", header)
		require.Equal(t, 90*time.Millisecond, took)
	})
}

func TestAHangThatOutlivesTheTokenIsToldAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var i issuer
		b := bearer{keep(i.fetch, i.tell)}
		defer b.Close()
		synctest.Wait()
		i.from(hanging)
		time.Sleep(time.Hour + time.Second)
		_, took, err := authorize(b)
		require.ErrorContains(t, err, "test")
		require.LessOrEqual(t, took, firstWait)
	})
}

func TestATokenThatHasExpiredIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := issuer{next: func(context.Context) (fetched[string], error) {
			return fetched[string]{value: "old", name: "test", expires: time.Now().Add(-time.Minute)}, nil
		}}
		b := bearer{keep(i.fetch, i.tell)}
		defer b.Close()
		_, _, err := authorize(b)
		require.ErrorContains(t, err, "had expired")
	})
}

func TestAClientThatLeavesWaitsNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := issuer{next: hanging}
		b := bearer{keep(i.fetch, i.tell)}
		defer b.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		require.ErrorIs(t, b.Authorize(ctx, &http.Request{Header: make(http.Header)}, nil), context.DeadlineExceeded)
	})
}

func TestClosingEndsAHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := issuer{next: hanging}
		b := bearer{keep(i.fetch, i.tell)}
		synctest.Wait()
		began := time.Now()
		b.Close()
		require.Zero(t, time.Since(began))
		require.Empty(t, i.heard(), "a relay that stops has nothing to complain of")
	})
}
