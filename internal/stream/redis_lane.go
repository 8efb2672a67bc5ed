package stream

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/websopy/relay/internal/redisconn"
)

// lane is the way to one node: what waits for it, and the one round at a time that goes there. A node that is away
// or slow holds up nobody but those who have to wait for it.
type lane struct {
	node  *redisconn.Node
	busy  bool
	ready []*generation // with something new, or to be told to Redis anew
	beats []*generation // whose leases are to be renewed
	limit int           // bytes of one round
}

// What goes into one round. Its bytes begin with most, and are halved when a round takes too long.
const (
	mostBytes  = 1 << 20
	leastBytes = 16 << 10
	runBytes   = 300 // that one stream takes in a round beside its records
	mostTrips  = 32  // streams of one round for which Redis is asked one by one: see recorded
)

// lane is where g waits. The caller holds mu.
func (s *store) lane(g *generation) *lane {
	n := s.node(g.id)
	l := s.lanes[n]
	if l == nil {
		l = &lane{node: n, limit: mostBytes}
		s.lanes[n] = l
	}
	return l
}

func (l *lane) add(g *generation) {
	if !g.mirror.ready {
		g.mirror.ready = true
		l.ready = append(l.ready, g)
	}
}

// write is the goroutine that keeps Redis up to date, until close.
func (s *store) write() {
	var beat time.Time
	for s.stopping.Err() == nil {
		if s.back.Swap(false) || time.Now().After(beat) {
			s.beat()
			s.keepLate()
			beat = time.Now().Add(s.leases.Renew)
		}
		wait := time.NewTimer(time.Until(s.dispatch(beat)))
		select {
		case <-s.stopping.Done():
		case <-s.kick:
		case <-wait.C:
		}
		wait.Stop()
	}
}

// beat has the leases of all streams renewed that live here, before anything else is written.
func (s *store) beat() {
	for _, g := range s.hub.all() {
		if !g.mirror.begun.Load() || g.mirror.closed.Load() {
			continue
		}
		if g.mirror.watched.Load() && s.node(g.id).State() != redisconn.Up {
			g.seenElsewhere() // nobody can say that they have left
		}
		s.mu.Lock()
		switch l := s.lane(g); {
		case !g.mirror.created.Load():
			l.add(g) // to be published: it has no lease yet
		case !g.mirror.beats:
			g.mirror.beats = true
			l.beats = append(l.beats, g)
		}
		s.mu.Unlock()
	}
	s.sweep()
}

// sweep takes those out of the lanes that Redis will never have: nobody else holds them any more.
func (s *store) sweep() {
	over := func(g *generation) bool { return g.mirror.closed.Load() }
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lanes {
		l.ready, l.beats = slices.DeleteFunc(l.ready, over), slices.DeleteFunc(l.beats, over)
	}
}

// dispatch starts a round in each lane that has something to do and can do it. It says when to look again.
func (s *store) dispatch(latest time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.collect(time.Now())
	current := s.conn.Nodes()
	for n, l := range s.lanes {
		if l.busy {
			continue
		}
		if !slices.Contains(current, n) { // a Cluster has moved its keys
			delete(s.lanes, n)
			s.moved(l)
			continue
		}
		state := n.State()
		if state == redisconn.Up && len(l.ready) > 0 || state != redisconn.Away && len(l.beats) > 0 {
			l.busy = true
			s.running.Go(func() { s.work(l) })
		}
	}
	if next.After(latest) {
		return latest
	}
	return next
}

// moved finds other lanes for what waits in one. The caller holds mu.
func (s *store) moved(l *lane) {
	for _, g := range slices.Concat(l.ready, l.beats) {
		g.mirror.ready, g.mirror.beats = false, false
		s.lane(g).add(g)
	}
	signal(s.kick)
}

// work does rounds in a lane until there is nothing left to do, or it can't be done.
func (s *store) work(l *lane) {
	for s.stopping.Err() == nil && s.round(s.stopping, l) {
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.busy = false
	if len(l.beats) > 0 || len(l.ready) > 0 {
		signal(s.kick)
	}
}

// finish writes what is left when the process ends.
func (s *store) finish() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*redisconn.CallTimeout)
	defer cancel()
	s.mu.Lock()
	s.collect(time.Now().Add(time.Hour))
	var lanes []*lane
	for _, l := range s.lanes {
		lanes = append(lanes, l)
	}
	s.mu.Unlock()
	for _, l := range lanes {
		s.running.Go(func() {
			for ctx.Err() == nil && s.round(ctx, l) {
			}
		})
	}
	s.running.Wait()
}

// handOver writes what others will be asked for when this replica has sent its readers away. It takes a second
// at most.
func (s *store) handOver() {
	s.leaving.Store(true)
	all := s.hub.all()
	want := make([]uint64, len(all))
	for i, g := range all {
		want[i], _ = g.log.end()
		s.queue(g, atOnce)
	}
	ctx, cancel := context.WithTimeout(s.stopping, redisconn.CallTimeout)
	defer cancel()
	for i, g := range all {
		for ctx.Err() == nil && g.mirror.begun.Load() && g.mirror.written.Load() < want[i] &&
			!g.mirror.closed.Load() &&
			s.node(g.id).State() == redisconn.Up {
			s.pause(5 * time.Millisecond)
		}
	}
}

// elsewhere says whether another replica can go on with the followers of g.
func (g *generation) elsewhere() bool {
	return g.mirror.created.Load() && g.hub.store.node(g.id).State() == redisconn.Up
}

// tooSlow says whether err is that a node has not answered in time.
func tooSlow(err error) bool { return errors.Is(err, context.DeadlineExceeded) }
