package stream

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/websopy/relay/internal/redisconn"
)

// What write.lua says of a stream.
const (
	stateOK      = 1
	stateGap     = 0
	stateMissing = -1
	stateOver    = -2
)

// chapter is what one round does for one stream.
type chapter struct {
	g        *generation
	next     place  // behind the records that it writes
	last     uint64 // position of the last of them
	terminal bool   // that is the stream's last one
	partial  bool   // it leaves records over that are there already
}

// round brings Redis up to date with what waits in l, as far as its bytes go. It says whether there is something
// left that another round could do now.
func (s *store) round(ctx context.Context, l *lane) bool {
	writable := l.node.State() == redisconn.Up
	beats, ready := s.takeDue(l, writable)
	var chapters []chapter
	var runs []redisconn.Run
	var later []*generation
	size, done, trips := 0, 0, 0
	for _, g := range slices.Concat(beats, ready) {
		if size > 0 && size >= l.limit {
			break
		}
		beat := done < len(beats)
		done++
		asks := s.asks(g)
		if asks {
			trips++
		}
		switch many := asks && trips > mostTrips; {
		case many && !beat:
			later = append(later, g)
			continue
		case !many && !s.recorded(ctx, g, writable):
			continue
		}
		// A lease does not wait for a backlog: behind half a round of records they go without.
		ch, run, ok := s.chapter(g, writable && (!beat || size < l.limit/2), beat)
		if ok {
			chapters, runs = append(chapters, ch), append(runs, run)
			size += runBytes + len(run.Args[3])
		}
	}
	failed := s.perform(ctx, l, chapters, runs, size)
	return s.release(l, beats, ready, done, append(failed, later...))
}

// takeDue gives the streams that wait in l, those first whose leases are to be renewed. While the node refuses
// writes there are only those.
func (s *store) takeDue(l *lane, writable bool) (beats, ready []*generation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// One that is busy is in this round already, or in one of the node that had it before. What such a one may
	// leave over comes with the next beat.
	free := func(all []*generation) (taken []*generation) {
		for _, g := range all {
			if !g.mirror.busy {
				g.mirror.busy = true
				taken = append(taken, g)
			}
		}
		return taken
	}
	for _, g := range l.beats {
		g.mirror.beats = false
	}
	beats, l.beats = free(l.beats), nil
	if !writable {
		return beats, nil
	}
	for _, g := range l.ready {
		g.mirror.ready = false
	}
	ready, l.ready = free(l.ready), nil
	return beats, ready
}

// release has the streams wait again that a round did not come to, or that could not be written.
func (s *store) release(l *lane, beats, ready []*generation, done int, failed []*generation) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range slices.Concat(beats, ready) {
		g.mirror.busy = false
	}
	for i, g := range beats {
		if i >= done && !g.mirror.beats {
			g.mirror.beats = true
			l.beats = append(l.beats, g)
		}
	}
	for i, g := range ready {
		if i+len(beats) >= done {
			l.add(g)
		}
	}
	for _, g := range failed {
		l.add(g)
	}
	state := l.node.State()
	return done > 0 && (state == redisconn.Up && len(l.ready) > 0 || state != redisconn.Away && len(l.beats) > 0)
}

// chapter is what is to be done for g: to write the records that it has, or, when it is not sure what Redis has, to
// ask for that; and perhaps to renew its lease.
func (s *store) chapter(g *generation, writable, beat bool) (ch chapter, run redisconn.Run, ok bool) {
	m := &g.mirror
	if m.closed.Load() {
		return ch, run, false
	}
	m.waiting.Store(0) // before the log is read, so that what comes from now on counts
	ch = chapter{g: g, next: m.at, last: m.sent, partial: true}
	var data []byte
	if writable && !m.unsure {
		var s span
		if s, ch.partial, ch.terminal = g.log.next(&ch.next); len(s.data) > 0 {
			data, ch.last = s.data, s.last
		}
	}
	if len(data) == 0 && !beat && !m.unsure {
		return ch, run, false
	}
	lease, life, end, pack := "", "", "", ""
	if beat {
		lease = millis(s.leases.For)
		if now := time.Now(); now.Sub(m.renewed) > s.life()/24 {
			life = millis(s.life())
		}
	}
	if ch.terminal {
		if end = millis(s.keep()); g.log.size() <= packSize {
			pack = "1"
		}
	}
	if beat && !ch.partial {
		s.unqueue(g) // what it waited for is in this round
	}
	return ch, redisconn.Run{Keys: m.keys, Args: []string{
		s.replica, strconv.FormatUint(m.sent+1, 10), strconv.FormatUint(ch.last, 10),
		rueidis.BinaryString(data), recordFormat, lease, life, end, pack,
	}}, true
}

// perform carries a round of so many bytes out. It gives the streams for which that has to be done again.
func (s *store) perform(
	ctx context.Context, l *lane, chapters []chapter, runs []redisconn.Run, size int,
) (again []*generation) {
	if len(runs) == 0 {
		return nil
	}
	began := time.Now()
	var failed error
	var ended, lasting []*generation
	for i, result := range s.conn.Run(ctx, l.node, writeScript, runs...) {
		g := chapters[i].g
		answer, err := result.AsIntSlice()
		switch {
		case err == nil && len(answer) == 4:
			if s.written(chapters[i], runs[i].Args[6] != "", answer) {
				again = append(again, g)
			}
			switch {
			case g.mirror.closed.Load():
				ended = append(ended, g)
			case runs[i].Args[6] != "":
				lasting = append(lasting, g)
			}
			continue
		case redisconn.Concerns(err): // with the next beat it is tried again
			s.hub.troubled(err)
		default:
			again = append(again, g)
			failed = err
		}
		g.mirror.unsure = true
		if g.mirror.watched.Load() {
			g.seenElsewhere() // nobody can say that they have left
		}
	}
	s.adapt(l, size, time.Since(began), failed)
	if s.hub.o.Appended != nil {
		s.hub.o.Appended(time.Since(began), failed)
	}
	s.expireKeys(ctx, leadingTo(ended, s.keep()))
	s.renewKeys(ctx, lasting)
	return again
}

// adapt makes the rounds in l as large as its node can take in time, by the last one. That they grow only after
// a quick one keeps them from growing until one fails, again and again: a node that did not answer counts as away.
func (s *store) adapt(l *lane, size int, took time.Duration, failed error) {
	switch {
	case tooSlow(failed):
		l.limit = max(min(l.limit, size)/2, leastBytes)
	case failed == nil && took < redisconn.CallTimeout/4:
		l.limit = min(l.limit*2, mostBytes)
	}
}

// written acts on what write.lua said. It says whether there is more to do for the stream now.
func (s *store) written(ch chapter, renewed bool, answer []int64) (again bool) {
	g, m := ch.g, &ch.g.mirror
	last := uint64(max(answer[1], 0))
	if answer[0] == stateMissing {
		m.created.Store(false)
		return true
	}
	if answer[0] == stateOver {
		s.over(g, last)
		return false
	}
	if renewed {
		m.renewed = time.Now()
	}
	if m.watched.Store(answer[3] == 1 || m.tellsOf(s.leases.Check)); m.watched.Load() {
		g.seenElsewhere()
	}
	if answer[2] == 1 {
		g.stop()
	}
	if answer[0] == stateOK && last == ch.last && !m.unsure {
		m.at, m.sent = ch.next, ch.last
	} else { // an answer was lost, or a failover lost what was written
		m.at, m.sent, m.unsure, ch.partial = g.log.seek(last), last, false, true
	}
	m.written.Store(m.sent)
	if ch.terminal && answer[0] == stateOK {
		s.settle(g)
		return false
	}
	newest, _ := g.log.end()
	return ch.partial && newest > m.sent // what has come since waits for others
}

// over acts on a stream that has ended in Redis at position end: by g, whose answer was lost on the way, or, beyond
// all that g has, by somebody who took this replica for dead.
func (s *store) over(g *generation, end uint64) {
	if last, ended := g.log.end(); ended && last == end {
		s.settle(g)
		return
	}
	g.mirror.closed.Store(true)
	g.fence()
}

// settle lets Redis have a stream that is there to its end.
func (s *store) settle(g *generation) {
	g.mirror.closed.Store(true)
	g.discard()
	g.settled()
}
