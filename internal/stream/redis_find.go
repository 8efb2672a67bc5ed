package stream

import (
	"context"
	"errors"
	"time"

	"github.com/redis/rueidis"

	"github.com/websopy/relay/internal/redisconn"
)

// maxHeld bounds the readers that wait here for a stream that may be found yet. Each holds its connection, and asks
// Redis once a second.
const maxHeld = 1000

var (
	errNotThere   = errors.New("redis has no such stream")
	errNotBack    = errors.New("redis has no such stream any more, or not yet again")
	errNotYours   = errors.New("the stream is another caller's")
	errNotReached = errors.New("the stream has no such position")
)

// find looks the stream up, and tells its producer that somebody here reads it.
func (r *remote) find(ctx context.Context) error {
	s := r.store
	results, err := s.conn.Do(ctx, s.node(r.id), func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{
			b.Hmget().Key(metaKey(r.id)).Field("owner", "end", "producer").Build(),
			b.Xrange().Key(logKey(r.id)).Start(headEntry).End(headEntry).Build(),
		}
	})
	if err != nil {
		return err
	}
	meta, err := results[0].ToArray()
	if err != nil {
		return err
	}
	if meta[0].IsNil() {
		if s.conn.Emptied(ctx, s.node(r.id)) {
			return errNotBack
		}
		return errNotThere
	}
	if owner, _ := meta[0].ToString(); owner != r.owner {
		return errNotYours
	}
	r.head = headOf(r.id, results[1])
	end, err := meta[1].AsUint64()
	switch ended := err == nil; {
	case ended && r.cursor == end:
		return ErrEnd
	case ended && r.cursor > end:
		return errNotReached
	case !ended:
		if producer, _ := meta[2].ToString(); producer != s.replica {
			s.notify(ctx, producer, noticeWatch, r.id)
		}
	}
	return nil
}

// mayCome says whether a stream that was not found, or not looked for, may be found later: while Redis can't be
// asked, when it was back only just now, or has just lost its data, and the producer has still to write the stream
// again, and when the stream began in the memory of its producer because Redis was not to be had.
func (r *remote) mayCome(err error) bool {
	if !errors.Is(err, errNotThere) {
		_, reply := rueidis.IsRedisErr(err)
		return !errors.Is(err, ErrEnd) && err != errNotYours && err != errNotReached &&
			(!reply || !redisconn.Concerns(err))
	}
	back, ok := r.store.node(r.id).BackFor()
	return bornHere(r.id) || ok && back < r.store.leases.Confirm
}

// hold has the reader wait for its stream, unless too many do. close undoes it.
func (r *remote) hold() bool {
	if r.store.held.Add(1) > maxHeld {
		r.store.held.Add(-1)
		return false
	}
	r.held = true
	r.until = time.Now().Add(r.store.hub.o.Grace)
	return true
}

func (r *remote) letGo() {
	if r.held {
		r.held = false
		r.store.held.Add(-1)
	}
}

// await waits for a stream that may be found yet. It gives up after the grace time: by then its producer would not
// generate it any more.
func (r *remote) await(ctx context.Context) error {
	for r.wait = pollIdle; ; r.wait = min(2*r.wait, time.Second) {
		err := r.find(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			r.letGo()
			return nil
		case !r.mayCome(err):
			return asReply(r.store, err)
		case time.Now().After(r.until):
			return ErrHeld
		}
		if err := r.sleep(ctx); err != nil {
			return err
		}
		select {
		case <-r.store.hub.released:
			return ErrReleased
		default:
		}
	}
}

// sleep waits for r.wait, or until this replica sends its readers away.
func (r *remote) sleep(ctx context.Context) error {
	t := time.NewTimer(r.wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-r.store.hub.released:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
