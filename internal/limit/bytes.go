// Package limit owns what callers may use at once of what there is only so much of. It knows no HTTP.
package limit

import (
	"sync"
	"sync/atomic"
)

// Bytes is an amount of memory that many callers hold parts of. One caller gets at most as much as it leaves
// to the others: half when it is alone, a third when there are two, and so on. So there is always something
// left for who comes next, whatever the others do.
type Bytes struct {
	max int64

	mu   sync.Mutex // guards the rest
	used int64
	of   map[string]int64 // by share; who holds nothing is not in it
}

// NewBytes returns a budget of max bytes, all free. Without a max, 0, there is no limit.
func NewBytes(max int64) *Bytes { return &Bytes{max: max, of: make(map[string]int64)} }

// Used is how many bytes are held.
func (b *Bytes) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

func (b *Bytes) take(share string, n int64) bool {
	if n == 0 { // nobody would give it back, and who holds nothing is not to be remembered
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	free := b.max - b.used - n
	// All whose share is not known would be one caller: for them there is only the limit of all.
	if b.max > 0 && (free < 0 || share != "" && b.of[share]+n > free) {
		return false
	}
	b.used += n
	if share != "" {
		b.of[share] += n
	}
	return true
}

func (b *Bytes) give(share string, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if share == "" {
		return
	}
	if b.of[share] -= n; b.of[share] == 0 {
		delete(b.of, share)
	}
}

// Held is what one request holds of a budget.
type Held struct {
	of    *Bytes
	share string
	n     atomic.Int64
}

// Hold begins to hold bytes for a caller: none at first. An empty share is a caller that is not known.
func (b *Bytes) Hold(share string) *Held { return &Held{of: b, share: share} }

// Grow takes n bytes more, or none when there is no room for them.
func (h *Held) Grow(n int64) bool {
	if !h.of.take(h.share, n) {
		return false
	}
	h.n.Add(n)
	return true
}

// Release gives back what is held, which is nothing where h is nil. It may be called more than once, from several
// goroutines, but not while Grow runs.
func (h *Held) Release() {
	if h == nil {
		return
	}
	if n := h.n.Swap(0); n > 0 {
		h.of.give(h.share, n)
	}
}
