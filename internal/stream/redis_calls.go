package stream

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/redisconn"
)

// create makes the record of g and claims its idempotency key. When another stream holds the key,
// first is that one, and g is none. The record comes before the claim, so that whoever finds the
// claim finds the stream. When the key could not be asked for, g has its record all the same, and the key is
// claimed later. The error is IdempotencyMismatch, or that there is no record now.
func (s *store) create(ctx context.Context, g *generation) (first string, err error) {
	ctx = context.WithoutCancel(ctx) // once begun, it is done: a client that leaves may come back
	if _, err := s.createKeys(ctx, g); err != nil {
		return "", err
	}
	m := &g.mirror
	m.keys = keysOf(g.id)
	if g.key == "" {
		m.created.Store(true)
		return "", nil
	}
	id, body, err := s.claim(ctx, g, "")
	m.owed.Store(err != nil)
	if err != nil || id == g.id {
		m.created.Store(true)
		return "", nil
	}
	_, _ = s.conn.Do(ctx, s.node(g.id), func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{b.Del().Key(m.keys[:3]...).Build()}
	})
	if body != g.body {
		return "", mismatch()
	}
	return id, nil
}

// stopRequested is the last look before g's provider is asked: a stop may have come already.
func (s *store) stopRequested(g *generation) bool {
	if !g.mirror.created.Load() {
		return false
	}
	results, err := s.conn.Do(g.ctx, s.node(g.id), func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{b.Hexists().Key(metaKey(g.id)).Field("stop").Build()}
	})
	if err != nil {
		return false
	}
	stop, _ := results[0].AsBool()
	return stop
}

// stop asks for the end of a stream of another replica: first a mark that lasts, which the producer
// sees at its next write or renewal at the latest, then a notice to be quicker.
func (s *store) stop(ctx context.Context, owner, id string) error {
	result := s.conn.Run(ctx, s.node(id), stopScript,
		redisconn.Run{Keys: []string{metaKey(id)}, Args: []string{owner}})[0]
	answer, err := result.ToArray()
	if err != nil {
		return s.unreachable(err)
	}
	if found, _ := answer[0].AsInt64(); found == 0 {
		return notFound()
	}
	if producer, _ := answer[1].ToString(); producer != "" {
		s.notify(ctx, producer, noticeStop, id)
	}
	return nil
}

// What replicas tell each other about a stream, before its id.
const (
	noticeStop  = "stop"  // somebody wants it to end
	noticeWatch = "watch" // somebody elsewhere reads it
)

// notify tells another replica about one of its streams. That may fail: it is to be quicker only.
func (s *store) notify(ctx context.Context, replica, what, id string) {
	c, err := s.conn.Client()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, redisconn.CallTimeout)
	defer cancel()
	_ = c.Do(ctx, c.B().Publish().Channel(noticeChannel(replica)).Message(what+" "+id).Build()).Error()
}

// listen takes the notices that others give of streams here.
func (s *store) listen() {
	for s.stopping.Err() == nil {
		if c, err := s.conn.Client(); err == nil {
			subscribe := c.B().Subscribe().Channel(noticeChannel(s.replica)).Build()
			_ = c.Receive(s.stopping, subscribe, func(m rueidis.PubSubMessage) { s.noticed(m.Message) })
		}
		s.pause(s.leases.Probe)
	}
}

func (s *store) noticed(message string) {
	what, id, _ := strings.Cut(message, " ")
	g := s.hub.stream(id)
	switch {
	case g == nil:
	case what == noticeStop:
		g.stop()
	case what == noticeWatch:
		g.mirror.noticed.Store(time.Now().UnixNano())
		g.mirror.watched.Store(true)
		g.seenElsewhere()
		s.queue(g, atOnce)
	}
}

// attach follows a stream that another replica has, or had.
func (s *store) attach(ctx context.Context, owner, id string, after uint64) (*remote, error) {
	r := &remote{store: s, id: id, owner: owner, head: chat.Head{ID: id}, cursor: after}
	err := r.find(ctx)
	if err == nil || !r.mayCome(err) {
		return r, asReply(s, err)
	}
	if !r.hold() {
		return nil, s.unreachable(err) // and comes again
	}
	return r, nil
}

// asReply is what a client is told of an error of find.
func asReply(s *store, err error) error {
	switch err {
	case nil, ErrEnd:
		return err
	case errNotThere, errNotYours:
		return notFound()
	case errNotReached:
		return notReached()
	}
	return s.unreachable(err)
}

// headEntry is the id of a log's first entry, which has the head and no other record.
const headEntry = "0-1"

func headOf(id string, result rueidis.RedisResult) chat.Head {
	entries, err := result.AsXRange()
	if err != nil || len(entries) == 0 {
		return chat.Head{ID: id}
	}
	return decodeHead(id, []byte(entries[0].FieldValues[recordFormat]))
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
