package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/websopy/relay/internal/chat"
)

// callTimeout bounds any call to Redis.
const callTimeout = time.Second

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

// noticeChannel is where a replica hears that one of its streams is to be stopped.
func noticeChannel(replica string) string { return "relay:stop:" + replica }

// store is the log in Redis, and the word between replicas. Each producing process writes its own
// streams from memory; followers of streams of other processes read by polling, all over the same
// few connections: a blocking read cannot span the slots of a Cluster, and under load would return
// for each entry.
type store struct {
	hub     *Hub
	option  rueidis.ClientOption
	leases  Leases
	replica string // names this process for its life, and so is the fencing token of what it produces

	client atomic.Pointer[rueidis.Client] // nil until Redis was reached for the first time
	away   atomic.Bool

	stopping context.Context // ends with close
	shut     context.CancelFunc
	running  sync.WaitGroup

	kick   chan struct{} // room for one: there are dirty generations
	urgent chan struct{} // room for one: there is enough to write for not waiting
	mu     sync.Mutex    // guards dirty and mirror.dirty of each generation
	dirty  []*generation
}

// Open gives a Hub that keeps its streams in Redis too, at a URL of the redis, rediss or unix
// scheme; further nodes as `addr` and a Sentinel's `master_set` are parameters of it. Redis need not
// be there yet. The error is about the URL.
func Open(o Options, url string) (*Hub, error) {
	opt, err := connection(o, url)
	if err != nil {
		return nil, err
	}
	h := New(o)
	s := &store{
		hub: h, option: opt, leases: cmp.Or(o.Leases, DefaultLeases), replica: newID(),
		kick: make(chan struct{}, 1), urgent: make(chan struct{}, 1),
	}
	s.stopping, s.shut = context.WithCancel(context.Background())
	h.store = s
	s.probe()
	s.running.Go(s.write)
	s.running.Go(s.listen)
	if o.Evicts != nil {
		s.running.Go(s.askPolicy)
	}
	return h, nil
}

// close writes what is left, if Redis is there, and lets go of it.
func (s *store) close() {
	s.shut()
	s.running.Wait()
	if c := s.client.Load(); c != nil {
		(*c).Close()
	}
}

// conn gives the client, or an error at once while Redis is away.
func (s *store) conn() (rueidis.Client, error) {
	c := s.client.Load()
	if c == nil || s.away.Load() {
		return nil, errAway
	}
	return *c, nil
}

var errAway = errors.New("redis is away")

// note remembers whether Redis answered.
func (s *store) note(err error) {
	if err == nil || errors.Is(err, errAway) || errors.Is(err, context.Canceled) {
		return
	}
	if !s.away.Swap(true) && s.hub.o.Availability != nil {
		s.hub.o.Availability(err)
	}
}

// probe finds out whether Redis is back.
func (s *store) probe() {
	c := s.client.Load()
	var err error
	if c == nil {
		var made rueidis.Client
		if made, err = rueidis.NewClient(s.option); err == nil {
			s.client.Store(&made)
			c = &made
		}
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(s.stopping, callTimeout)
		defer cancel()
		err = (*c).Do(ctx, (*c).B().Ping().Build()).Error()
	}
	if err != nil {
		s.note(err)
		return
	}
	if s.away.Swap(false) && s.hub.o.Availability != nil {
		s.hub.o.Availability(nil)
	}
}

// unavailable is what Start says of err.
func (s *store) unavailable(err error) error {
	s.note(err)
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// unreachable is what Attach and Stop say of err.
func (s *store) unreachable(err error) error {
	s.note(err)
	return &chat.Error{Code: chat.Overloaded, Message: "the stream store cannot be reached", RetryAfter: time.Second, Err: err}
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
