package stream

import (
	"context"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/websopy/relay/internal/chat"
)

// create makes the record of g and claims its idempotency key. When another stream holds the key,
// first is that one, and g is none. The record comes before the claim, so that whoever finds the
// claim finds the stream.
func (s *store) create(ctx context.Context, g *generation) (first string, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	c, err := s.conn()
	if err != nil {
		return "", s.unavailable(err)
	}
	if err := s.record(ctx, c, g); err != nil {
		return "", s.unavailable(err)
	}
	g.mirror.seen = time.Now()
	g.mirror.keys = []string{metaKey(g.id), logKey(g.id), leaseKey(g.id), watchKey(g.id)}
	if g.key == "" {
		g.mirror.created.Store(true)
		return "", nil
	}
	id, body, err := s.claim(ctx, c, g)
	if err != nil {
		return "", s.unavailable(err)
	}
	if id == g.id {
		g.mirror.created.Store(true)
		return "", nil
	}
	remove := c.B().Del().Key(metaKey(g.id), logKey(g.id), leaseKey(g.id)).Build()
	s.note(c.Do(ctx, remove).Error())
	if body != g.body {
		return "", mismatch()
	}
	return id, nil
}

// record makes the record of g in Redis, where it is not.
func (s *store) record(ctx context.Context, c rueidis.Client, g *generation) error {
	return createScript.do(ctx, c, run{
		keys: []string{metaKey(g.id), logKey(g.id), leaseKey(g.id)},
		args: []string{
			s.replica, g.owner, millis(s.leases.For), millis(s.keep()),
			recordFormat, string(appendHead(nil, &g.head)),
		},
	})[0].Error()
}

// keep is how long a stream stays that nobody writes any more, in Redis.
func (s *store) keep() time.Duration { return max(s.hub.o.Retention, time.Second) }

// claim gives g its idempotency key, unless another stream has it that can still be read. It says which
// stream holds the key, and for which body.
func (s *store) claim(ctx context.Context, c rueidis.Client, g *generation) (holder string, body [32]byte, err error) {
	keep := s.hub.o.MaxDuration + s.keep()
	if s.hub.o.MaxDuration == 0 {
		keep += 24 * time.Hour
	}
	for stale := ""; ; {
		value, err := claimScript.do(ctx, c, run{
			keys: []string{claimKey(g.key)},
			args: []string{g.id + " " + hex.EncodeToString(g.body[:]), millis(keep), stale},
		})[0].ToString()
		if err != nil {
			return "", body, err
		}
		id, digits, _ := strings.Cut(value, " ")
		if b, err := hex.DecodeString(digits); err != nil || copy(body[:], b) != len(body) {
			return "", body, errRecord
		}
		if id == g.id {
			return id, body, nil
		}
		gone, err := s.gone(ctx, c, id)
		if !gone || err != nil {
			return id, body, err
		}
		stale = value
	}
}

// stopRequested is the last look before g's provider is asked: a stop may have come already.
func (s *store) stopRequested(g *generation) bool {
	c, err := s.conn()
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(g.ctx, callTimeout)
	defer cancel()
	stop, err := c.Do(ctx, c.B().Hexists().Key(metaKey(g.id)).Field("stop").Build()).AsBool()
	s.note(err)
	return stop
}

// stop asks for the end of a stream of another replica: first a mark that lasts, which the producer
// sees at its next write or renewal at the latest, then a notice to be quicker.
func (s *store) stop(ctx context.Context, owner, id string) error {
	c, err := s.conn()
	if err != nil {
		return s.unreachable(err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := stopScript.do(ctx, c, run{keys: []string{metaKey(id)}, args: []string{owner}})[0].ToArray()
	if err != nil {
		return s.unreachable(err)
	}
	if found, _ := answer[0].AsInt64(); found == 0 {
		return notFound()
	}
	if producer, _ := answer[1].ToString(); producer != "" {
		s.note(c.Do(ctx, c.B().Publish().Channel(noticeChannel(producer)).Message(id).Build()).Error())
	}
	return nil
}

// listen stops the streams of this replica that others give notice of.
func (s *store) listen() {
	for s.stopping.Err() == nil {
		if c, err := s.conn(); err == nil {
			err = c.Receive(s.stopping, c.B().Subscribe().Channel(noticeChannel(s.replica)).Build(), func(m rueidis.PubSubMessage) {
				if g := s.hub.stream(m.Message); g != nil {
					g.stop()
				}
			})
			s.note(err)
		}
		s.pause(s.leases.Probe)
	}
}

// attach finds a stream in Redis and follows it.
func (s *store) attach(ctx context.Context, owner, id string, after uint64) (*remote, error) {
	c, err := s.conn()
	if err != nil {
		return nil, s.unreachable(err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	results := c.DoMulti(ctx,
		c.B().Hmget().Key(metaKey(id)).Field("owner", "end").Build(),
		c.B().Xrange().Key(logKey(id)).Start(headEntry).End(headEntry).Build())
	meta, err := results[0].ToArray()
	if err != nil {
		return nil, s.unreachable(err)
	}
	if holder, err := meta[0].ToString(); err != nil || holder != owner {
		return nil, notFound()
	}
	if end, err := meta[1].AsUint64(); err == nil {
		if after == end {
			return nil, ErrEnd
		}
		if after > end {
			return nil, notReached()
		}
	}
	return &remote{store: s, id: id, cursor: after, head: headOf(id, results[1])}, nil
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
