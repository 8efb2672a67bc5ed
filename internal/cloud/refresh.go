// Package cloud shows requests to be the relay's by the identity that it has in a cloud, in place of a key that lives
// long. Credentials are fetched in the background: a request never waits for one that does not come.
package cloud

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// A Credential authorizes requests until it is closed. It is safe for concurrent use.
type Credential interface {
	// Authorize changes the header of r, whose body is given. It waits at most firstWait, and for the first credential
	// only. The error names the credential.
	Authorize(ctx context.Context, r *http.Request, body []byte) error
	// Close ends the refreshing, and waits for its end.
	Close()
}

// Tell is told of each attempt to fetch a credential: its name, when it expires, and why there is none (nil: there
// is).
type Tell func(name string, expires time.Time, err error)

const (
	firstWait = 100 * time.Millisecond // of a request, for a credential that is being fetched

	fetchTimeout = 10 * time.Second
	// before a credential expires the next one is fetched; less if it lives for less than 20
	earliness  = 5 * time.Minute
	unexpiring = 5 * time.Minute // what does not expire may be replaced all the same

	firstBackoff = time.Second
	maxBackoff   = 30 * time.Second
)

// kept is a value that expires and is fetched anew in time.
type kept[T any] struct {
	fetch func(ctx context.Context) (fetched[T], error)
	tell  Tell
	stop  context.CancelFunc
	done  chan struct{}

	mu      sync.Mutex // guards the rest
	value   fetched[T]
	have    bool
	err     error         // of the last attempt
	changed chan struct{} // closed at the end of the next attempt
}

// fetched is a value with what is known of it.
type fetched[T any] struct {
	value   T
	name    string    // where it came from, or was to come from
	expires time.Time // zero: not known to
}

// keep fetches a value from now on until close.
func keep[T any](fetch func(ctx context.Context) (fetched[T], error), tell Tell) *kept[T] {
	ctx, stop := context.WithCancel(context.Background())
	k := &kept[T]{fetch: fetch, tell: tell, stop: stop, done: make(chan struct{}), changed: make(chan struct{})}
	go k.run(ctx)
	return k
}

// Close ends the refreshing, and waits for its end.
func (k *kept[T]) Close() {
	k.stop()
	<-k.done
}

func (k *kept[T]) run(ctx context.Context) {
	defer close(k.done)
	failures := 0
	for {
		next, err := k.refresh(ctx)
		if failures++; err == nil {
			failures = 0
		} else {
			limit := min(firstBackoff<<min(failures-1, 10), maxBackoff)
			next = limit/2 + rand.N(limit/2)
		}
		t := time.NewTimer(next)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// refresh fetches the value once, and says when to do it again.
func (k *kept[T]) refresh(parent context.Context) (next time.Duration, err error) {
	ctx, cancel := context.WithTimeout(parent, fetchTimeout)
	defer cancel()
	v, err := k.fetch(ctx)
	if parent.Err() != nil {
		return 0, parent.Err()
	}
	if err == nil && !v.expires.IsZero() && !time.Now().Before(v.expires) {
		err = fmt.Errorf("what came had expired at %s", v.expires.UTC().Format(time.RFC3339))
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", v.name, err)
	}
	k.mu.Lock()
	if k.err = err; err == nil {
		k.value, k.have = v, true
	}
	close(k.changed)
	k.changed = make(chan struct{})
	k.mu.Unlock()
	k.tell(v.name, v.expires, err)
	if v.expires.IsZero() {
		return unexpiring, err
	}
	life := time.Until(v.expires)
	return max(life-min(earliness, life/4), time.Second), err
}

// get returns the value. The first one is waited for, for a moment; one whose fetching has failed is not.
func (k *kept[T]) get(ctx context.Context) (T, error) {
	v, changed, err := k.look()
	if changed == nil {
		return v, err
	}
	t := time.NewTimer(firstWait)
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	case <-ctx.Done():
		return v, context.Cause(ctx)
	}
	if v, changed, err = k.look(); changed != nil {
		return v, fmt.Errorf("the credentials have not come yet, or not again in time")
	}
	return v, err
}

// look returns what is there. changed is not nil when it is worth waiting for.
func (k *kept[T]) look() (v T, changed chan struct{}, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.have && (k.value.expires.IsZero() || time.Now().Before(k.value.expires)):
		return k.value.value, nil, nil
	case k.err != nil:
		return v, nil, k.err
	}
	return v, k.changed, nil
}

// bearer is a credential that is a token.
type bearer struct{ *kept[string] }

// Authorize implements Credential.
func (b bearer) Authorize(ctx context.Context, r *http.Request, _ []byte) error {
	token, err := b.get(ctx)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	return nil
}
