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
	from recordReader
}

// recordReader is where a Follower reads.
type recordReader interface {
	// next gives the records behind those that it gave before, and waits for them. more says that there are others
	// behind them already.
	next(ctx context.Context) (r records, more bool, err error)
	close()
}

// records are consecutive ones, encoded.
type records struct {
	before uint64 // position of the record before the first of them
	data   []byte
}

func newFollower(h *Hub, head chat.Head, from recordReader) *Follower {
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
// chunks in hand but the last, and on a done chunk. When that last one is of a type which only newer replicas know, a
// Pause takes its place. Text is valid until the next chunk is asked for. Chunks have their positions, and the
// stream's own error has its one.
func (f *Follower) Chunks(ctx context.Context) iter.Seq2[chat.Chunk, error] {
	from := f.from // beside what else a chunk needs, which f is not
	return func(yield func(chat.Chunk, error) bool) {
		for {
			r, more, err := from.next(ctx)
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
				c := chat.Chunk{Seq: seq}
				err = decode(&c, kind, rest)
				c.More = err == nil && (len(data) > 0 || more)
				if c.Type == chat.Pause && c.More {
					continue
				}
				c.More = c.More || c.Type == chat.Done
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
	before uint64 // position of the record before at
	left   bool   // its client has; guarded by the lock of the log
	seen   bool   // it has given the end

	stay func() bool // has left be set no more; nil until it waits for the first time
}

func (l *local) next(ctx context.Context) (r records, more bool, err error) {
	log := &l.g.log
	log.mu.Lock()
	for !log.beyond(l.at) {
		switch {
		case l.released() && !log.ended:
			log.mu.Unlock()
			return r, false, ErrReleased
		case l.left:
			log.mu.Unlock()
			return r, false, context.Cause(ctx)
		case l.stay == nil:
			l.stay = context.AfterFunc(ctx, l.leave)
		}
		log.more.Wait()
	}
	s, more := log.cut(&l.at)
	ended := log.ended
	log.mu.Unlock()
	if !ended && l.released() {
		return r, false, ErrReleased
	}
	l.seen = ended && !more
	r = records{before: l.before, data: s.data}
	l.before = s.last
	return r, more, nil
}

// released says whether another replica goes on with the stream.
func (l *local) released() bool { return l.g.hub.releasing.Load() && l.g.elsewhere() }

// leave is called when the client has gone.
func (l *local) leave() {
	log := &l.g.log
	log.mu.Lock()
	l.left = true
	log.mu.Unlock()
	log.more.Broadcast()
}

func (l *local) close() {
	if l.stay != nil {
		l.stay()
	}
	l.g.detach(l.seen)
}
