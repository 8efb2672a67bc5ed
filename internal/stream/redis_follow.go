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
	owner  string
	head   chat.Head
	cursor uint64 // position of the last record given

	held  bool      // it has not been found yet
	until time.Time // when that is given up

	page    []rueidis.XRangeEntry // read and not yet given
	checked time.Time             // when the producer was last looked for
	missing time.Time             // since when its lease was not there, as far as that counts; zero: it was
	wait    time.Duration
}

func (r *remote) close() { r.letGo() }

func (r *remote) next(ctx context.Context) (found records, more bool, err error) {
	if r.held {
		if err = r.await(ctx); err != nil {
			return found, false, err
		}
	}
	for {
		for len(r.page) > 0 {
			entry := r.page[0]
			r.page = r.page[1:]
			found, err = r.open(entry)
			if err != nil || len(found.data) > 0 {
				return found, len(r.page) > 0, err
			}
		}
		select {
		case <-r.store.hub.released:
			return found, false, ErrReleased
		default:
		}
		if err = r.read(ctx); err != nil {
			return found, false, err
		}
		if len(r.page) > 0 {
			r.wait = pollEvery
			continue
		}
		r.wait = min(max(r.wait*3/2, pollEvery), pollIdle) // longer the longer nothing comes
		if err = r.sleep(ctx); err != nil {
			return found, false, err
		}
	}
}

// open gives the records of an entry that are behind the cursor, and moves the cursor behind them.
func (r *remote) open(entry rueidis.XRangeEntry) (records, error) {
	data, ok := entry.FieldValues[recordFormat]
	id, _, _ := strings.Cut(entry.ID, "-")
	last, err := strconv.ParseUint(id, 10, 64)
	if !ok || err != nil {
		return records{}, chat.AsError(errRecord) // of a release that knows no such format, or another
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
	return records{before: before, data: b}, nil
}

// read fetches the next entries, if there are any, and now and then looks after the producer. Redis
// being away is no error: the follower waits for it.
func (r *remote) read(ctx context.Context) error {
	s := r.store
	node := s.node(r.id)
	results, err := s.conn.Do(ctx, node, func(b rueidis.Builder) rueidis.Commands {
		// No entry but the head's has another second half than 0.
		from := strconv.FormatUint(r.cursor, 10) + "-1"
		return rueidis.Commands{b.Xread().Count(pollCount).Streams().Key(logKey(r.id)).Id(from).Build()}
	})
	var streams map[string][]rueidis.XRangeEntry
	if err == nil {
		streams, err = results[0].AsXRead()
	}
	switch {
	case err == nil:
		r.page = streams[logKey(r.id)]
	case redisconn.Concerns(err): // somebody else has used its key
		return s.unreachable(err)
	case !rueidis.IsRedisNil(err):
		r.missing = time.Time{} // what was seen before an outage says nothing
		return nil
	}
	if time.Since(r.checked) < s.leases.Check {
		return nil
	}
	r.checked = time.Now()
	answer, err := s.conn.Run(ctx, node, watchScript, redisconn.Run{
		Keys: []string{metaKey(r.id), leaseKey(r.id), watchKey(r.id)}, Args: []string{millis(s.leases.Watch)},
	})[0].AsIntSlice()
	if err != nil || len(answer) != 4 {
		r.missing = time.Time{}
		return nil
	}
	return r.judge(ctx, sight{wrote: answer[0] == 1, lease: answer[1] == 1, last: answer[2], end: answer[3]})
}

// sight is what Redis says of a stream and its producer.
type sight struct {
	wrote bool  // what this replica wrote just now was taken
	lease bool  // the producer has said that it is alive
	last  int64 // position of the last record; -1: there is no such stream
	end   int64 // -1: it has not ended
}

// judge ends a stream whose producer has been dead for long enough. What it writes is read like any
// other end. A missing lease says something only while leases can be written: for as long as it takes to be sure,
// this replica must have written, too.
func (r *remote) judge(ctx context.Context, seen sight) error {
	ended := seen.end >= 0
	switch {
	case ended && len(r.page) == 0 && r.cursor == uint64(seen.end):
		return ErrEnd // the client saw the end from the producer before Redis did
	case ended && len(r.page) == 0 && r.cursor > uint64(seen.end):
		return notReached()
	case ended || seen.lease || !seen.wrote || len(r.page) > 0:
		r.missing = time.Time{}
		return nil
	case r.missing.IsZero():
		r.missing = time.Now()
		return nil
	case time.Since(r.missing) < r.store.leases.Confirm:
		return nil
	}
	lost := &chat.Error{Code: chat.ProducerLost, Message: "the replica that made the answer is gone"}
	if seen.last < 0 { // Redis lost the stream, and nobody brought it back
		return lost
	}
	r.lose(ctx, lost)
	return nil
}

func (r *remote) lose(ctx context.Context, lost *chat.Error) {
	s := r.store
	answer, err := s.conn.Run(ctx, s.node(r.id), loseScript, redisconn.Run{
		Keys: []string{metaKey(r.id), logKey(r.id), leaseKey(r.id)},
		Args: []string{strconv.Itoa(lostGap), string(appendRecord(nil, kindError, errorFields(lost))), recordFormat,
			millis(s.keep())},
	})[0].ToArray()
	if err != nil || len(answer) != 2 {
		return
	}
	if ours, _ := answer[0].AsBool(); !ours {
		return
	}
	s.hub.lost.Add(1)
	if key, _ := answer[1].ToString(); key != "" {
		s.expireKeys(ctx, []redisconn.Run{keepKey(claimKey(key), r.id, s.keep())})
	}
}
