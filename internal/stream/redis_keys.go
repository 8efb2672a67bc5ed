package stream

import (
	"context"
	"errors"
	"strconv"

	"github.com/redis/rueidis"

	"github.com/websopy/relay/internal/chat"
)

// gone says whether the idempotency key of a stream is free again: the stream can't be read, or its producer never
// got further than to make the record, or it failed before its answer began in a way that is worth another try.
func (s *store) gone(ctx context.Context, id string) (bool, error) {
	if g := s.hub.stream(id); g != nil && g.failedEarly() {
		return true, nil // which Redis will hear in a moment
	}
	results, err := s.conn.Do(ctx, s.node(id), func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{
			b.Hmget().Key(metaKey(id)).Field("last", "end").Build(),
			b.Exists().Key(leaseKey(id)).Build(),
		}
	})
	if err != nil {
		return false, err
	}
	meta, err := results[0].ToArray()
	if err != nil {
		return false, err
	}
	last, err := meta[0].AsUint64()
	if rueidis.IsRedisNil(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	lease, err := results[1].AsBool()
	if last == 0 {
		return !lease, err
	}
	// The end of a stream without a chunk is its first record, or stands where lose.lua puts the end of one that
	// had none.
	if end, err := meta[1].AsUint64(); err == nil && (end == 1 || end == lostGap) {
		return s.failedEarly(ctx, id, end)
	}
	return false, err
}

// failedEarly reads the end of a stream without a chunk.
func (s *store) failedEarly(ctx context.Context, id string, end uint64) (bool, error) {
	position := strconv.FormatUint(end, 10)
	results, err := s.conn.Do(ctx, s.node(id), func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{b.Xrange().Key(logKey(id)).Start(position + "-0").End(position + "-0").Build()}
	})
	if err != nil {
		return false, err
	}
	entries, err := results[0].AsXRange()
	if err != nil || len(entries) == 0 {
		return false, err
	}
	for data := []byte(entries[0].FieldValues[recordFormat]); len(data) > 0; {
		var kind byte
		var rest []byte
		if kind, rest, data, err = cutRecord(data); err != nil {
			return false, nil // a newer replica wrote it
		}
		err := decode(&chat.Chunk{}, kind, rest)
		if e, ok := errors.AsType[*chat.Error](err); ok && kind == kindError {
			return e.Code.Retryable(), nil
		}
	}
	return false, nil
}
