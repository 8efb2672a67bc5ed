package handler

import (
	"context"
	"sync"
)

// running are the answers that end with their connections, and so with this process. Its life is a context too, but to
// have each of them watch it costs three allocations.
type running struct {
	mu      sync.Mutex
	answers map[*record]context.CancelCauseFunc
	over    error // why there are no more
}

// add has an answer's cancel called when all are ended, which may be at once.
func (r *running) add(rec *record, cancel context.CancelCauseFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over != nil {
		cancel(r.over)
		return
	}
	if r.answers == nil {
		r.answers = make(map[*record]context.CancelCauseFunc)
	}
	r.answers[rec] = cancel
}

// remove forgets an answer, which is over.
func (r *running) remove(rec *record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.answers, rec)
}

// end ends all that are there or will be.
func (r *running) end(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = cause
	for _, cancel := range r.answers {
		cancel(cause)
	}
}
