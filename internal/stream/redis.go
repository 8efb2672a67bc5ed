package stream

import (
	"cmp"
	"context"

	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/redisconn"
)

// recordFormat is the field under which entries keep records (see record.go). A reader that finds
// another does not understand it.
const recordFormat = "r2"

// Keys in Redis. All those of one stream are in one slot of a Cluster.
func metaKey(id string) string  { return "relay:{" + id + "}" }
func logKey(id string) string   { return "relay:{" + id + "}:log" }
func leaseKey(id string) string { return "relay:{" + id + "}:lease" }
func watchKey(id string) string { return "relay:{" + id + "}:watch" }

// claimKey is where the holder of an idempotency key is.
func claimKey(key string) string { return "relay:key:" + key }

// noticeChannel is where a replica hears what others want of its streams.
func noticeChannel(replica string) string { return "relay:notice:" + replica }

// store is the log in Redis, and the word between replicas. Each producing process writes its own
// streams from memory; followers of streams of other processes read by polling, all over the same
// few connections: a blocking read cannot span the slots of a Cluster, and under load would return
// for each entry. docs/internals/streams.md has the protocols between replicas and what they guarantee.
type store struct {
	hub     *Hub
	conn    *redisconn.Conn
	leases  Leases
	replica string // names this process for its life, and so is the fencing token of what it produces

	held    atomic.Int64 // followers that wait for their stream to be found
	leaving atomic.Bool  // this replica is going away: everything is written at once
	back    atomic.Bool  // a node is up again: leases are renewed at once

	stopping context.Context // ends with close
	shut     context.CancelFunc
	running  sync.WaitGroup

	kick  chan struct{} // room for one: there may be something to do for write
	mu    sync.Mutex    // guards what follows, and what each mirror says
	due   [paces][]due  // streams with new records, in the order in which their time comes
	lanes map[*redisconn.Node]*lane

	lateKeys []redisconn.Run // see expireKeys
}

// Open gives a Hub that keeps its streams in Redis too. Redis need not be there yet. The error is about the URL.
func Open(o Options, redis redisconn.Options) (*Hub, error) {
	h := New(o)
	s := &store{
		hub: h, leases: cmp.Or(o.Leases, DefaultLeases), replica: newID(),
		kick: make(chan struct{}, 1), lanes: map[*redisconn.Node]*lane{},
	}
	redis.Probe, redis.Settle = s.leases.Probe, s.leases.Settle
	redis.Moved = func() {
		s.back.Store(true)
		signal(s.kick)
	}
	var err error
	if s.conn, err = redisconn.Open(redis); err != nil {
		return nil, err
	}
	s.stopping, s.shut = context.WithCancel(context.Background())
	h.store = s
	s.running.Go(s.write)
	s.running.Go(s.listen)
	return h, nil
}

// close writes what is left, if Redis is there, and lets go of it.
func (s *store) close() {
	s.shut()
	s.running.Wait()
	s.finish()
	s.conn.Close()
}

// node is where a stream's keys are.
func (s *store) node(id string) *redisconn.Node { return s.conn.Node(metaKey(id)) }

// mint makes the id of a new stream, and says whether Redis would take the stream. In a Cluster some nodes may,
// and others not. When none does, the id says so.
func (s *store) mint() (id string, ok bool) {
	for range 8 {
		if id = newID(); s.node(id).State() == redisconn.Up {
			return id, true
		}
	}
	return newHereID(), false
}

// unreachable is what Attach and Stop say of err.
func (s *store) unreachable(err error) error {
	if redisconn.Concerns(err) {
		return chat.AsError(fmt.Errorf("redis: %w", err))
	}
	return &chat.Error{
		Code: chat.Overloaded, Message: "the stream store cannot be reached", RetryAfter: time.Second, Err: err,
	}
}

// keep is how long a stream stays in Redis that has ended.
func (s *store) keep() time.Duration { return max(s.hub.o.Retention, time.Second) }

// life is how long the keys of a live stream stay that nobody renews: as long as it may run, and as it is
// kept afterwards. Redis may be out of reach for longer than a stream is kept, and the stream goes on.
func (s *store) life() time.Duration {
	if d := s.hub.o.MaxDuration; d > 0 {
		return d + s.keep()
	}
	return 24*time.Hour + s.keep()
}

// pause waits, but not longer than the store lives.
func (s *store) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.stopping.Done():
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it has an unread signal already
	}
}
