package stream

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/websopy/relay/internal/chat"
)

const (
	pollEvery = 40 * time.Millisecond  // while records come
	pollIdle  = 250 * time.Millisecond // at the longest, while none come
	pollCount = 16                     // entries at once, of some 32 KiB at most each

	// lostGap is how far behind the last record in Redis a dead producer's stream ends: see lose.lua.
	lostGap = 1 << 32
)

// remote reads a stream of another process from Redis.
type remote struct {
	store  *store
	id     string
	head   chat.Head
	cursor uint64 // position of the last record given

	page    []rueidis.XRangeEntry // read and not yet given
	checked time.Time             // when the producer was last looked for
	missing time.Time             // since when its lease was not there; zero: it was
	wait    time.Duration
}

func (r *remote) close() {}

func (r *remote) next(ctx context.Context) (records, error) {
	for {
		for len(r.page) > 0 {
			entry := r.page[0]
			r.page = r.page[1:]
			found, err := r.open(entry)
			if err != nil || len(found.data) > 0 {
				return found, err
			}
		}
		select {
		case <-r.store.hub.released:
			return records{}, ErrReleased
		default:
		}
		if err := r.read(ctx); err != nil {
			return records{}, err
		}
		if len(r.page) > 0 {
			r.wait = pollEvery
			continue
		}
		if err := r.pause(ctx); err != nil {
			return records{}, err
		}
	}
}

// open gives the records of an entry that are behind the cursor, and moves the cursor behind them.
func (r *remote) open(entry rueidis.XRangeEntry) (records, error) {
	data, ok := entry.FieldValues[recordFormat]
	id, _, _ := strings.Cut(entry.ID, "-")
	last, err := strconv.ParseUint(id, 10, 64)
	if !ok || err != nil {
		return records{}, chat.AsError(errRecord) // a newer replica wrote this
	}
	b := []byte(data)
	count := uint64(0)
	for rest := b; len(rest) > 0; count++ {
		if _, _, rest, err = cutRecord(rest); err != nil {
			return records{}, chat.AsError(err)
		}
	}
	before := last - count
	for ; before < r.cursor && len(b) > 0; before++ { // an entry that was there in part
		_, _, b, _ = cutRecord(b)
	}
	r.cursor = max(r.cursor, last)
	return records{before: before, data: b, more: len(r.page) > 0}, nil
}

// read fetches the next entries, if there are any, and now and then looks after the producer. Redis
// being away is no error: the follower waits for it.
func (r *remote) read(ctx context.Context) error {
	c, err := r.store.conn()
	if err != nil {
		return nil
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// No entry but the head's has another second half than 0.
	from := strconv.FormatUint(r.cursor, 10) + "-1"
	commands := rueidis.Commands{c.B().Xread().Count(pollCount).Streams().Key(logKey(r.id)).Id(from).Build()}
	check := time.Since(r.checked) >= r.store.leases.Check
	if check {
		commands = append(commands,
			c.B().Set().Key(watchKey(r.id)).Value("1").Px(r.store.leases.Watch).Build(),
			c.B().Exists().Key(leaseKey(r.id)).Build(),
			c.B().Hmget().Key(metaKey(r.id)).Field("last", "end").Build())
	}
	results := c.DoMulti(call, commands...)
	streams, err := results[0].AsXRead()
	if err != nil && !rueidis.IsRedisNil(err) {
		if ctx.Err() == nil {
			r.store.note(err)
		}
		r.missing = time.Time{} // what was seen before an outage says nothing
		return nil
	}
	r.page = streams[logKey(r.id)]
	if !check {
		return nil
	}
	r.checked = time.Now()
	lease, err1 := results[2].AsBool()
	meta, err2 := results[3].ToArray()
	if err1 != nil || err2 != nil {
		r.missing = time.Time{}
		return nil
	}
	return r.judge(call, c, lease, meta)
}

// judge ends a stream whose producer has been dead for long enough. What it writes is read like any
// other end.
func (r *remote) judge(ctx context.Context, c rueidis.Client, lease bool, meta []rueidis.RedisMessage) error {
	end, err := meta[1].AsUint64()
	switch ended := err == nil; {
	case ended && len(r.page) == 0 && r.cursor == end:
		return ErrEnd // the client saw the end from the producer before Redis did
	case ended && len(r.page) == 0 && r.cursor > end:
		return notReached()
	case ended || lease || len(r.page) > 0:
		r.missing = time.Time{}
		return nil
	case r.missing.IsZero():
		r.missing = time.Now()
		return nil
	case time.Since(r.missing) < r.store.leases.Confirm:
		return nil
	}
	lost := &chat.Error{Code: chat.ProducerLost, Message: "the replica that made the answer is gone"}
	if meta[0].IsNil() { // Redis lost the stream, and nobody brought it back
		return lost
	}
	ours, err := loseScript.do(ctx, c, run{
		keys: []string{metaKey(r.id), logKey(r.id), leaseKey(r.id)},
		args: []string{strconv.Itoa(lostGap), string(appendError(nil, lost)), recordFormat, millis(r.store.keep())},
	})[0].AsBool()
	r.store.note(err)
	if ours {
		r.store.hub.lost.Add(1)
	}
	return nil
}

// pause waits before the next look, longer the longer nothing comes.
func (r *remote) pause(ctx context.Context) error {
	r.wait = min(max(r.wait*3/2, pollEvery), pollIdle)
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
