package stream

import (
	"sync/atomic"
	"time"
)

// mirror is how far a generation's log has come in Redis.
type mirror struct {
	waiting atomic.Int64 // bytes logged since the last round, about
	begun   atomic.Bool  // the stream has its id for good; before that, only who makes it uses the mirror
	watched atomic.Bool  // another replica has followers, when last asked
	noticed atomic.Int64 // when one last said so itself, in Unix nanoseconds
	created atomic.Bool  // Redis has a record of the stream, when last asked
	closed  atomic.Bool  // nothing more is to be written
	written atomic.Uint64
	owed    atomic.Bool // its idempotency key is still to be claimed

	// store.mu guards these.
	pace   pace
	queued bool // it is in store.due, with this ticket
	ready  bool // it is in lane.ready
	beats  bool // it is in lane.beats
	busy   bool // a round has it; only that one uses what follows ticket
	ticket uint64

	keys    []string  // meta, log, lease, watch
	at      place     // what comes next
	sent    uint64    // position of the record before at
	unsure  bool      // Redis may have more than that, or less
	former  string    // an id under which Redis may know it too, or empty
	renewed time.Time // when its keys were last given their life
}

// tellsOf says whether another replica has said within d that it has followers. What it writes into Redis comes a
// little later.
func (m *mirror) tellsOf(d time.Duration) bool {
	return time.Now().UnixNano()-m.noticed.Load() < int64(d)
}

// pace is how soon the new records of a stream are written.
type pace uint8

const (
	atOnce pace = iota
	quick       // another replica reads them
	lazy        // nobody elsewhere does, so they are only for the case that this replica dies
	paces  = iota
)

// What the records of a stream wait for others. They are written together with what other streams have by then.
const (
	grid      = 25 * time.Millisecond
	quickWait = grid
	lazyWait  = time.Second
	flushSize = 16 << 10 // bytes of one stream that are worth a round by themselves
	packSize  = 32 << 10 // bytes of a log that becomes one entry when it ends
)

func (p pace) wait() time.Duration { return [paces]time.Duration{0, quickWait, lazyWait}[p] }

// due is a stream whose records are to be written at a certain time. It counts only with its stream's last ticket.
type due struct {
	g      *generation
	ticket uint64
	at     time.Time
}

// appended has the new records of g written. It never waits.
func (s *store) appended(g *generation, bytes int, end bool) {
	w := g.mirror.waiting.Add(int64(bytes))
	switch {
	case end || w >= flushSize && w-int64(bytes) < flushSize:
		s.queue(g, atOnce)
	case w == int64(bytes):
		s.queue(g, s.paceOf(g))
	}
}

func (s *store) paceOf(g *generation) pace {
	if s.leaving.Load() || g.mirror.watched.Load() {
		return quick
	}
	return lazy
}

// adopt has the rounds take g. From now on it is theirs. It has a record perhaps: a stop may have come at once.
func (s *store) adopt(g *generation) {
	g.mirror.begun.Store(true)
	if last, _ := g.log.end(); last > 0 || !g.mirror.created.Load() {
		s.queue(g, atOnce)
	}
}

// queue has the records of g written at a pace, or sooner if they were to be already.
func (s *store) queue(g *generation, p pace) {
	m := &g.mirror
	if !m.begun.Load() {
		return // adopt does that
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.closed.Load() || m.ready || m.queued && m.pace <= p {
		return
	}
	at := time.Now()
	if p != atOnce {
		at = at.Add(p.wait()).Truncate(grid)
	}
	m.queued, m.pace, m.ticket = true, p, m.ticket+1
	s.due[p] = append(s.due[p], due{g, m.ticket, at})
	if p == atOnce || len(s.due[p]) == 1 {
		signal(s.kick)
	}
}

// unqueue undoes queue.
func (s *store) unqueue(g *generation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.mirror.queued = false
}

// collect has the streams whose time has come wait in their lanes, and says when the next one's comes. The
// caller holds mu.
func (s *store) collect(now time.Time) (next time.Time) {
	next = now.Add(time.Hour)
	for p := range s.due {
		list := s.due[p]
		n := 0
		for ; n < len(list) && !list[n].at.After(now); n++ {
			if m := &list[n].g.mirror; m.queued && m.ticket == list[n].ticket {
				m.queued = false
				s.lane(list[n].g).add(list[n].g)
			}
		}
		clear(list[:n])
		if s.due[p] = list[n:]; n == len(list) {
			s.due[p] = list[:0]
		} else if list[n].at.Before(next) {
			next = list[n].at
		}
	}
	return next
}
