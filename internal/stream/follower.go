package stream

import (
	"context"
	"iter"

	"github.com/websopy/relay/internal/chat"
)

// Follower reads one stream from a cursor to its end. It is for one goroutine.
type Follower struct {
	hub  *Hub
	head chat.Head
	from source
}

// source is where a Follower reads.
type source interface {
	// next gives the records behind those that it gave before, and waits for them.
	next(ctx context.Context) (records, error)
	close()
}

// records are consecutive ones, encoded.
type records struct {
	before uint64 // position of the record before the first of them
	data   []byte
	more   bool // there is more behind them already
}

func newFollower(h *Hub, head chat.Head, from source) *Follower {
	h.attached.Add(1)
	return &Follower{hub: h, head: head, from: from}
}

// ID is that of the stream.
func (f *Follower) ID() string { return f.head.ID }

// Head is what was known of the stream at its start.
func (f *Follower) Head() chat.Head { return f.head }

// Chunks gives the stream from the cursor on, once. It ends with a done chunk or with an error: a
// *chat.Error is the stream's own or says that it can be read no further, ErrReleased that another
// replica goes on with it, ErrEnd that the cursor was at its end; else ctx has ended. More is set on all
// chunks in hand but the last, and on a done chunk. When that last one is of a type which only newer replicas know, a Pause takes its
// place. Text is valid until the next chunk is asked for. Chunks have their positions, and the stream's own
// error has its one.
func (f *Follower) Chunks(ctx context.Context) iter.Seq2[chat.Chunk, error] {
	return func(yield func(chat.Chunk, error) bool) {
		for {
			r, err := f.from.next(ctx)
			if err != nil {
				yield(chat.Chunk{}, err)
				return
			}
			seq := r.before
			for data := r.data; len(data) > 0; {
				var kind byte
				var rest []byte
				if kind, rest, data, err = cutRecord(data); err != nil {
					yield(chat.Chunk{}, chat.AsError(err))
					return
				}
				seq++
				c, err := decode(kind, rest)
				c.Seq = seq
				more := err == nil && (len(data) > 0 || r.more)
				if c.Type == chat.Pause && more {
					continue
				}
				c.More = more || c.Type == chat.Done
				if !yield(c, err) || err != nil || c.Type == chat.Done {
					return
				}
			}
		}
	}
}

// Close lets go of the stream. A stream without a follower is given up after Options.Grace.
func (f *Follower) Close() {
	if f.from == nil {
		return
	}
	f.from.close()
	f.from = nil
	f.hub.attached.Add(-1)
}

// local reads a generation of this process.
type local struct {
	g      *generation
	at     place
	before uint64        // position of the record before at
	wake   chan struct{} // room for one signal: see log.waiting
	seen   bool          // it has given the end
}

func (l *local) next(ctx context.Context) (records, error) {
	released := l.g.hub.released
	for {
		s := l.g.log.next(&l.at, l.wake)
		if !s.ended {
			select {
			case <-released:
				if l.g.elsewhere() {
					l.g.log.forget(l.wake)
					return records{}, ErrReleased
				}
				released = nil // and asked again when there is more
			default:
			}
		}
		if len(s.data) > 0 {
			l.seen = s.ended && !s.more
			r := records{before: l.before, data: s.data, more: s.more}
			l.before = s.last
			return r, nil
		}
		select {
		case <-l.wake:
		case <-released:
			// Once more, for what came in the meantime.
		case <-ctx.Done():
			l.g.log.forget(l.wake)
			return records{}, context.Cause(ctx)
		}
	}
}

func (l *local) close() { l.g.detach(l.seen) }
