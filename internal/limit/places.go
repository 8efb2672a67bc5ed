package limit

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// PlacesOptions bound the streams that run at once. The zero value of each means that there is no such bound,
// and of the line that nobody waits.
type PlacesOptions struct {
	Places int           // of all callers together
	Line   int           // how many may wait for a place
	Wait   time.Duration // how long each of them may
}

// Places are what streams run in. A caller that is alone may have all of them. When several want one, those who
// hold the fewest come first, and of these who was not served for longest: what becomes free is theirs, whoever
// asks more often. Nothing is taken from who holds it.
//
// Callers that are not known, whose share is empty, are one caller here.
//
// It is safe for concurrent use. A nil *Places bounds nothing.
type Places struct {
	o PlacesOptions

	mu      sync.Mutex // guards the rest
	taken   int
	served  int64 // places that were ever taken
	callers map[string]*holder
	wanting int       // callers with wants
	kept    int       // how many places may stay empty for them: fewer when those before them did not come again
	line    []*waiter // in the order in which they came; only while all places are taken

	held    time.Duration // how long a place is held, a moving average; 0: none was given back yet
	started time.Duration // the sum of the times at which the taken places were taken, each since epoch
}

// holder is one caller. It is in the map while it holds, waits for or wants something.
type holder struct {
	held    int
	waiting int
	last    int64     // of Places.served, when it was served last; who is new counts as just served
	wants   int       // how often it was refused and may come again
	wanted  time.Time // when that began
	until   time.Time // when that is over
}

type waiter struct {
	share   string
	ready   chan struct{} // closed when the wait is over
	granted *Place        // nil: it was sent away
}

// Full is the error of Take when there is no place.
type Full struct {
	After time.Duration // when one may be free, by how long places are held
}

func (f *Full) Error() string { return fmt.Sprintf("no place is free, one may be in %v", f.After) }

// epoch is what times are counted from, so that they can be summed.
var epoch = time.Now()

const (
	shortestWait = time.Second      // that somebody is told to wait
	longestWait  = 30 * time.Second // also what a place may stay empty for who does not come again
	comingBack   = 2 * time.Second  // what who was told to wait may be late
	maxWanting   = 1024             // callers whose wants are remembered
)

// NewPlaces returns places, all of them free.
func NewPlaces(o PlacesOptions) *Places {
	return &Places{o: o, callers: make(map[string]*holder), kept: o.Places}
}

// Place is one place that was taken. The zero value is none.
type Place struct {
	of    *Places
	share string
	since time.Duration // epoch
}

// Taken is how many places are held.
func (p *Places) Taken() int {
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}

// Take takes a place for a caller, waiting for one where there is a line. Give it back.
//
// Errors: *Full; the cause of ctx's end.
func (p *Places) Take(ctx context.Context, share string) (Place, error) {
	if p == nil {
		return Place{}, nil
	}
	place, w, err := p.take(share)
	if w == nil {
		return place, err
	}
	timer := time.NewTimer(p.o.Wait)
	defer timer.Stop()
	select {
	case <-w.ready:
	case <-timer.C:
	case <-ctx.Done():
	}
	return p.leaveLine(ctx, w)
}

// take takes a place at once, or gives the waiter that stands in line for one.
func (p *Places) take(share string) (Place, *waiter, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.callers[share]
	if c == nil {
		c = &holder{last: p.served}
		p.callers[share] = c
	}
	defer p.forget(share, c)
	waits := p.o.Line > 0 && p.o.Wait > 0
	switch {
	case p.o.Places == 0, p.taken+p.owed(c) < p.o.Places:
		return p.grant(share, c), nil, nil
	case waits && (len(p.line) < p.o.Line || p.displace(c)):
		w := &waiter{share: share, ready: make(chan struct{})}
		p.line = append(p.line, w)
		c.waiting++
		return Place{}, w, nil
	}
	full := &Full{After: p.after(p.taken, 1+len(p.line))}
	if !waits {
		p.want(c, full.After)
	}
	return Place{}, nil, full
}

// grant gives c a place.
func (p *Places) grant(share string, c *holder) Place {
	now := time.Since(epoch)
	p.taken++
	p.served++
	p.started += now
	c.held++
	c.last = p.served
	if c.wants > 0 {
		p.kept = min(p.kept+1, p.o.Places)
		if c.wants--; c.wants == 0 {
			p.wanting--
		}
	}
	return Place{of: p, share: share, since: now}
}

// want remembers that c was refused, and comes again.
func (p *Places) want(c *holder, after time.Duration) {
	if c.wants == 0 {
		if p.wanting == maxWanting && p.expire() == 0 {
			return
		}
		p.wanting++
		c.wanted = time.Now()
	}
	c.wants = min(c.wants+1, p.o.Places)
	c.until = time.Now().Add(after + comingBack)
}

// owed is how many of the free places are not for c, because others were refused and come before it. While those who
// are refused do not come again it is few: a stranger with an address for each request would else have all places stay
// empty, and nobody served, for a few requests a second that cost it nothing.
func (p *Places) owed(c *holder) (n int) {
	if p.wanting == 0 || p.taken >= p.o.Places {
		return 0
	}
	p.expire()
	for _, other := range p.callers {
		switch {
		case other == c || other.wants == 0:
		case other.held < c.held:
			n += min(other.wants, c.held-other.held)
		case other.held == c.held && (other.last < c.last || other.last == c.last &&
			(c.wants == 0 || other.wanted.Before(c.wanted))):
			n++
		}
	}
	return min(n, p.kept)
}

// expire forgets the wants of those who did not come again. It gives their number.
func (p *Places) expire() (n int) {
	now := time.Now()
	for share, c := range p.callers {
		if c.wants > 0 && now.After(c.until) {
			c.wants = 0
			p.wanting--
			p.kept = max(p.kept-1, p.o.Places/8)
			p.forget(share, c)
			n++
		}
	}
	return n
}

// displace makes room in a full line for a caller who has less than somebody in it: the last one in line of
// the caller who has most.
func (p *Places) displace(c *holder) bool {
	most, last := c.held+c.waiting+1, -1
	for i, w := range p.line {
		o := p.callers[w.share]
		if has := o.held + o.waiting; o != c && has >= most &&
			(has > most || last >= 0 && p.line[last].share == w.share) {
			most, last = has, i
		}
	}
	if last < 0 {
		return false
	}
	p.dismiss(last)
	return true
}

// dismiss takes one out of the line, who learns it from its channel.
func (p *Places) dismiss(i int) {
	w := p.line[i]
	copy(p.line[i:], p.line[i+1:])
	p.line[len(p.line)-1] = nil
	p.line = p.line[:len(p.line)-1]
	c := p.callers[w.share]
	c.waiting--
	p.forget(w.share, c)
	close(w.ready)
}

// leaveLine says what became of a wait.
func (p *Places) leaveLine(ctx context.Context, w *waiter) (Place, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.granted != nil {
		return *w.granted, nil
	}
	for i := range p.line {
		if p.line[i] == w {
			p.dismiss(i)
			break
		}
	}
	if ctx.Err() != nil {
		return Place{}, context.Cause(ctx)
	}
	return Place{}, &Full{After: p.after(p.taken, 1+len(p.line))}
}

// Give gives the place back, once.
func (l *Place) Give() {
	p := l.of
	if p == nil {
		return
	}
	l.of = nil
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	p.started -= l.since
	p.learn(time.Since(epoch) - l.since)
	c := p.callers[l.share]
	c.held--
	p.forget(l.share, c)
	p.next()
}

// next lets one in line have the place that is free.
func (p *Places) next() {
	if len(p.line) == 0 || p.taken >= p.o.Places {
		return
	}
	first := 0
	for i, w := range p.line {
		a, b := p.callers[w.share], p.callers[p.line[first].share]
		if a.held < b.held || a.held == b.held && a.last < b.last {
			first = i
		}
	}
	w := p.line[first]
	place := p.grant(w.share, p.callers[w.share])
	w.granted = &place
	p.dismiss(first)
}

// learn takes one more time for which a place was held into the average.
func (p *Places) learn(held time.Duration) {
	if p.held == 0 {
		p.held = held
		return
	}
	p.held += (held - p.held) / 8
}

// after estimates when n places become free, of so many that are held.
func (p *Places) after(held, n int) time.Duration {
	if held == 0 {
		return shortestWait
	}
	long := p.held
	if p.taken > 0 { // what runs now may take longer than what has ended
		long = max(long, time.Since(epoch)-p.started/time.Duration(p.taken))
	}
	return min(max(long*time.Duration(n)/time.Duration(held), shortestWait), longestWait)
}

// After estimates when a place becomes free.
func (p *Places) After() time.Duration {
	if p == nil {
		return shortestWait
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.after(p.taken, 1)
}

// forget drops a caller of whom there is nothing to remember.
func (p *Places) forget(share string, c *holder) {
	if c.held == 0 && c.waiting == 0 && c.wants == 0 {
		delete(p.callers, share)
	}
}
