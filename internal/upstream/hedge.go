package upstream

import (
	"context"
	"iter"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/trace"
)

// lane is one of the two that run while it is open who answers first. A goroutine pulls its sequence up
// to the first chunk. From there on the caller pulls it, so that no chunk changes goroutines.
type lane struct {
	cancel context.CancelCauseFunc
	next   func() (chat.Chunk, error, bool)
	stop   func()
	trace  trace.Trace

	first    chat.Chunk
	ok       bool // there is a first chunk
	panicked any
}

// start runs a lane, which is sent to ready when it has its first chunk or will have none.
func (s *search) start(ctx context.Context, ready chan<- *lane) *lane {
	l := &lane{trace: trace.Lane(ctx)}
	ctx, l.cancel = context.WithCancelCause(trace.With(ctx, &l.trace))
	l.next, l.stop = iter.Pull2(func(yield func(chat.Chunk, error) bool) { s.ask(ctx, yield) })
	go func() {
		defer func() {
			l.panicked = recover() // it is the caller's, who knows what to do about it
			ready <- l
		}()
		l.first, _, l.ok = l.next()
	}()
	return l
}

// race is ask, but when there is no first chunk after HedgeAfter the next candidate is asked beside the
// one that is so slow. The first to have a chunk answers, the other is cancelled.
func (s *search) race(ctx context.Context, yield func(chat.Chunk, error) bool) bool {
	ready := make(chan *lane, 2) // a place for each lane: neither waits for the reader to come back
	lanes := []*lane{s.start(ctx, ready)}
	running := 1
	var won *lane
	defer func() {
		if won != nil {
			won.stop()
		}
		for _, l := range lanes {
			l.cancel(errLost)
		}
		for ; running > 0; running-- {
			<-ready
		}
		mergeTraces(ctx, lanes, won)
	}()

	hedge := time.NewTimer(s.HedgeAfter)
	defer hedge.Stop()
	for won == nil && running > 0 {
		select {
		case <-hedge.C:
			if s.hasNext() {
				lanes = append(lanes, s.start(ctx, ready))
				running++
			}
		case l := <-ready:
			running--
			switch {
			case l.panicked != nil:
				panic(l.panicked)
			case l.ok:
				won = l
			case l == lanes[0] && s.isOver():
				return false // as it would have been without the other
			}
		}
	}
	if won == nil {
		return false
	}
	for _, l := range lanes {
		if l != won {
			l.cancel(errLost)
		}
	}
	chunk, err, ok := won.first, error(nil), true
	for ok && yield(chunk, err) {
		chunk, err, ok = won.next()
	}
	return true
}

// hasFailed reports whether a candidate has failed before.
func (s *search) hasFailed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure != nil
}

func (s *search) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over
}

// mergeTraces notes the attempts of all lanes, the winner's last. The lanes must have ended.
func mergeTraces(ctx context.Context, lanes []*lane, won *lane) {
	t := trace.Of(ctx)
	if t == nil {
		return
	}
	t.Hedged = len(lanes) > 1 && len(lanes[1].trace.Attempts) > 0
	for _, l := range lanes {
		if l != won {
			t.Attempts = append(t.Attempts, l.trace.Attempts...)
		}
	}
	if won != nil {
		t.Attempts = append(t.Attempts, won.trace.Attempts...)
		t.TooMuch = won.trace.TooMuch
	}
}
