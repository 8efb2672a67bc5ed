package stream

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// A generation's records go to Redis together with those of all others, when the first of them has
// waited for flushEvery or one stream has flushSize bytes to write.
const (
	flushEvery = 25 * time.Millisecond
	flushSize  = 4 << 10
)

// What append.lua and renew.lua say of a stream.
const (
	stateOK      = 1
	stateGap     = 0
	stateMissing = -1
)

// mirror is how far a generation's log has come in Redis. Only the writing goroutine uses what has
// no other guard.
type mirror struct {
	dirty   bool         // it is in store.dirty; store.mu guards it
	waiting atomic.Int64 // bytes logged since the last round, about

	created atomic.Bool // keys and seen are set, and there is something to renew

	keys   []string  // meta, log, lease, watch
	at     place     // what comes next
	sent   uint64    // position of the record before at
	seen   time.Time // when Redis last had the stream
	remote bool      // another replica had followers, when last asked
	closed bool      // nothing more is to be written
}

// appended has the new records of g written. It never waits.
func (s *store) appended(g *generation, bytes int) {
	if w := g.mirror.waiting.Add(int64(bytes)); w >= flushSize {
		signal(s.urgent)
		s.mark(g)
	} else if w == int64(bytes) {
		s.mark(g)
	}
}

// mark puts g on the list of the next round.
func (s *store) mark(g *generation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !g.mirror.dirty {
		g.mirror.dirty = true
		s.dirty = append(s.dirty, g)
		signal(s.kick)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it has an unread signal already
	}
}

// write is the goroutine that keeps Redis up to date, until close.
func (s *store) write() {
	tick := time.NewTicker(s.leases.Probe)
	defer tick.Stop()
	var renewed time.Time
	for {
		select {
		case <-s.stopping.Done():
			s.finish()
			return
		case <-s.kick:
			s.collect()
			s.flush(s.stopping)
		case <-tick.C:
			if s.away.Load() {
				s.probe()
				renewed = time.Time{} // leases first, before a follower elsewhere misses them
				signal(s.kick)
			}
			if time.Since(renewed) > s.leases.Renew-s.leases.Probe/2 { // whatever tick is nearest
				renewed = time.Now()
				s.renew()
			}
		}
	}
}

// collect waits until a round is worth its while.
func (s *store) collect() {
	t := time.NewTimer(flushEvery)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.urgent:
	case <-s.stopping.Done():
	}
}

// finish writes what is left when the process ends.
func (s *store) finish() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*callTimeout)
	defer cancel()
	for ctx.Err() == nil && !s.away.Load() && s.flush(ctx) {
	}
}

// chapter is what one round writes of one stream.
type chapter struct {
	g        *generation
	next     place  // behind it
	last     uint64 // position of its last record
	terminal bool   // that is the stream's last one
}

// flush writes one entry for each stream that has new records. It says whether there were any.
func (s *store) flush(ctx context.Context) bool {
	c, err := s.conn()
	if err != nil {
		return false // the list stays for when Redis is back
	}
	var chapters []chapter
	var runs []run
	for _, g := range s.take() {
		m := &g.mirror
		at := m.at
		span := g.log.next(&at, nil)
		if m.closed || len(span.data) == 0 {
			continue
		}
		ch := chapter{g: g, next: at, last: span.last, terminal: span.ended && !span.more}
		keep := ""
		if ch.terminal {
			keep = millis(s.keep())
		}
		chapters = append(chapters, ch)
		runs = append(runs, run{keys: m.keys[:3], args: []string{
			s.replica, strconv.FormatUint(m.sent+1, 10), strconv.FormatUint(ch.last, 10),
			rueidis.BinaryString(span.data), recordFormat, keep,
		}})
	}
	if len(runs) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	began := time.Now()
	var failed error
	for i, result := range appendScript.do(ctx, c, runs...) {
		answer, err := result.AsIntSlice()
		if err != nil {
			failed = err
			s.mark(chapters[i].g)
			continue
		}
		s.written(ctx, c, chapters[i], answer)
	}
	s.note(failed)
	if s.hub.o.Appended != nil {
		s.hub.o.Appended(time.Since(began), failed)
	}
	return true
}

// take empties the list.
func (s *store) take() []*generation {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.dirty
	s.dirty = nil
	for _, g := range all {
		g.mirror.dirty = false
		g.mirror.waiting.Store(0) // before the log is read, so that what comes from now on counts
	}
	return all
}

// written acts on what append.lua said.
func (s *store) written(ctx context.Context, c rueidis.Client, ch chapter, answer []int64) {
	m := &ch.g.mirror
	switch answer[0] {
	case stateOK:
		m.at, m.sent, m.seen = ch.next, ch.last, time.Now()
		if ch.terminal {
			m.closed = true
			ch.g.discard() // Redis keeps it from here on
			return
		}
		if last, _ := ch.g.log.end(); last > m.sent {
			s.mark(ch.g)
		}
	case stateGap: // an answer was lost, or a failover lost what was written
		m.sent = uint64(answer[1])
		m.at = ch.g.log.seek(m.sent)
		s.mark(ch.g)
	case stateMissing:
		s.restore(ctx, c, ch.g)
	default:
		m.closed = true // another replica has ended it; who is attached here reads on from memory
	}
	if answer[2] == 1 {
		ch.g.stop()
	}
}

// restore writes a stream anew that Redis has lost, as after a restart without its data. But a
// stream whose record may have gone because it was ended and kept long enough does not come back.
func (s *store) restore(ctx context.Context, c rueidis.Client, g *generation) {
	m := &g.mirror
	if time.Since(m.seen) > s.keep() {
		m.closed = true
		return
	}
	err := s.record(ctx, c, g)
	if err == nil && g.key != "" {
		_, _, err = s.claim(ctx, c, g) // whoever has it now asked while nobody could know of g
	}
	if err == nil {
		m.at, m.sent = place{}, 0
	}
	s.note(err)
	s.mark(g)
}

// renew renews the leases of all live streams, and learns what other replicas have to say of them.
func (s *store) renew() {
	var live []*generation
	var runs []run
	for _, g := range s.hub.all() {
		if !g.mirror.created.Load() || g.mirror.closed {
			continue
		}
		live = append(live, g)
		runs = append(runs, run{keys: g.mirror.keys, args: []string{s.replica, millis(s.leases.For), millis(s.keep())}})
	}
	ctx, cancel := context.WithTimeout(s.stopping, callTimeout)
	defer cancel()
	var results []rueidis.RedisResult
	c, err := s.conn()
	if err == nil {
		results = renewScript.do(ctx, c, runs...)
	}
	for i, g := range live {
		var answer []int64
		if err == nil {
			answer, err = results[i].AsIntSlice()
		}
		if err == nil {
			s.renewed(ctx, c, g, answer)
		} else if g.mirror.remote { // nobody can say that they have left
			g.seenElsewhere()
		}
	}
	s.note(err)
}

// renewed acts on what renew.lua said.
func (s *store) renewed(ctx context.Context, c rueidis.Client, g *generation, answer []int64) {
	m := &g.mirror
	switch answer[0] {
	case stateOK:
		m.seen = time.Now()
	case stateMissing:
		s.restore(ctx, c, g)
	default:
		m.closed = true
	}
	if m.remote = answer[2] == 1; m.remote {
		g.seenElsewhere()
	}
	if answer[1] == 1 {
		g.stop()
	}
}
