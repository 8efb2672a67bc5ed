package stream

import (
	"container/list"
	"context"
	"fmt"
	"iter"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/limit"
)

// generation is one stream whose provider runs, or ran, in this process.
//
// What each chunk needs of it comes first, in two or three cache lines: with many streams none of it is in a cache
// any more when the next chunk comes.
type generation struct {
	hub *Hub
	log log

	// Only the provider's goroutine uses these.
	left   int // bytes in the last block of the log
	chunks uint64
	bytes  int64

	mirror  mirror // its copy in Redis
	id      string
	head    chat.Head
	owner   string
	share   string // see Request
	place   limit.Place
	key     string   // keyName of its idempotency key, or empty
	body    [32]byte // see Request
	chat    string   // keyName of its chat, or empty
	started time.Time

	chatHere atomic.Bool // Redis has not heard that its chat leads to it
	chatRead atomic.Bool // a reader has its end, see Hub.ReadChat

	// The hub's mu guards these.
	live     bool  // the provider has not returned
	question int64 // bytes that the provider holds until it answers
	charged  int64 // what it counts for in Hub.bytes
	lent     int64 // and in Hub.lent
	cut      bool  // it is to go, for others' sake
	shelf    shelf
	stands   *list.Element // on that

	// Only the provider's goroutine uses these, too.
	ctx     context.Context                                    // the provider's, until it returns
	produce func(context.Context) iter.Seq2[chat.Chunk, error] // until it is called
	begun   func()                                             // see Request
	first   time.Duration

	mu         sync.Mutex         // guards what follows
	quit       context.CancelFunc // the provider's, nil when it has returned
	followers  int
	unattended time.Time // since when no replica has a follower, as far as is known
	grace      *time.Timer
	deadline   *time.Timer
	retention  *time.Timer
	ended      bool
	done       *chat.Completion // until the end is told, this or err
	err        *chat.Error
	early      bool // it ended before its answer began, in a way that is worth another try
	seen       bool // somebody has read it to its end
	emptied    bool // it had to give way, and its log is no more
	fenced     bool // others have ended the stream, because they took this replica for dead

	// untold is what has yet to happen before its end is told: that the provider has returned, and that the end
	// is known to be the one that everybody will see.
	untold  atomic.Int32
	certain sync.Once
	report  func(Outcome)
}

// start runs the provider into the log.
func (g *generation) start(r *Request) {
	g.mu.Lock()
	if d := g.hub.o.MaxDuration; d > 0 && !g.over() {
		g.deadline = time.AfterFunc(d, func() {
			g.fail(chat.StreamTooLong, fmt.Sprintf("the answer took longer than %v", d), nil)
		})
	}
	g.mu.Unlock()
	g.produce, g.begun, g.report = r.Produce, r.Begun, r.Ended
	go func() {
		defer g.hub.settle(g)
		g.run()
		g.letGo()
		if g.hub.store == nil || !g.mirror.created.Load() {
			g.settled() // nobody else knows of it
		}
		if g.isFenced() {
			g.discard()
		}
		g.toldOf()
	}()
}

// settled is called when the end of the stream is what everybody will see: Redis has it, or others have ended it, or
// nobody can come for it any more.
func (g *generation) settled() { g.certain.Do(g.toldOf) }

func (g *generation) toldOf() {
	if g.untold.Add(-1) == 0 {
		g.tell()
	}
}

// readOn is how long a provider may take for what it has to do behind its done chunk.
const readOn = 2 * time.Second

func (g *generation) run() {
	defer func() {
		// Without this, one bad event would take every other stream of the process with it.
		if v := recover(); v != nil {
			g.fail(chat.Internal, "internal error", fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
		}
	}()
	if g.hub.store != nil && g.hub.store.stopRequested(g) {
		g.stop()
	}
	if g.ctx.Err() != nil {
		return // it has ended before its provider was asked
	}
	produce := g.produce
	g.produce = nil // it holds the question, which the provider lets go of when it answers
	done := false
	var patience *time.Timer
	defer func() {
		if patience != nil {
			patience.Stop()
		}
	}()
	for c, err := range produce(g.ctx) {
		switch {
		case done: // nothing counts any more
		case err != nil:
			g.end(nil, chat.AsError(err))
			return
		case c.Type == chat.Done:
			if n := len(c.Done.State); n > 0 && !g.reserve(n+endRoom) {
				return
			}
			// The provider is not cancelled but asked for the rest, which is the end of its response:
			// otherwise its connection could not be used again.
			if done = g.conclude(c.Done.Clone(), nil); !done {
				return
			}
			patience = time.AfterFunc(readOn, g.cancel) // a defer here would cost every chunk
		case !g.logChunk(&c):
			return
		}
	}
	if !done {
		g.fail(chat.UpstreamTruncated, "the answer ended before it was complete", nil)
	}
}

// letGo forgets what only a provider needs: its context leads to the first client's request.
func (g *generation) letGo() {
	g.cancel()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ctx, g.quit, g.produce, g.begun = nil, nil, nil, nil
}

// cancel ends the provider's context.
func (g *generation) cancel() {
	g.mu.Lock()
	quit := g.quit
	g.mu.Unlock()
	if quit != nil {
		quit()
	}
}

// tell says how the stream ended.
func (g *generation) tell() {
	report := g.report
	if g.report = nil; report == nil {
		return
	}
	defer func() {
		if v := recover(); v != nil && g.hub.o.Panicked != nil {
			g.hub.o.Panicked(fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
		}
	}()
	report(g.outcome())
	g.mu.Lock()
	defer g.mu.Unlock()
	g.done, g.err = nil, nil // the log has it; the cause of an error may hold much
}

// logChunk logs one chunk of the provider's. It says whether another is wanted.
func (g *generation) logChunk(c *chat.Chunk) bool {
	if c.Type == chat.Pause {
		g.log.wake()
		return true
	}
	kind, rest := recordOf(c)
	n := recordSize(rest)
	if limit := g.hub.o.MaxStreamBytes; limit > 0 && g.bytes+int64(n) > limit {
		g.fail(chat.StreamTooLong, fmt.Sprintf("the answer is longer than %d bytes", limit), nil)
		return false
	}
	if n > g.left && !g.reserve(n) {
		return false
	}
	if g.chunks == 0 && g.begun != nil {
		g.begun()
	}
	var ok bool
	if g.left, ok = g.log.append(kind, rest, false, !c.More); !ok {
		return false
	}
	if g.chunks == 0 {
		g.first = time.Since(g.started)
		g.hub.begun(g)
	}
	g.chunks++
	g.bytes += int64(n)
	if g.hub.store != nil {
		g.hub.store.appended(g, n, false)
	}
	return true
}

// reserve makes room for a record of n bytes that the last block has no place for. Where there is none it ends the
// stream.
func (g *generation) reserve(n int) bool {
	if n <= g.left || g.hub.grow(g, g.log.nextBlock(n)) {
		return true
	}
	endForRoom([]*generation{g})
	return false
}

// stop ends the stream for its user.
func (g *generation) stop() { g.end(&chat.Completion{FinishReason: chat.FinishStopped}, nil) }

func (g *generation) fail(code chat.Code, message string, cause error) {
	g.end(nil, &chat.Error{Code: code, Message: message, Err: cause})
}

// end ends the stream and cancels the provider.
func (g *generation) end(done *chat.Completion, err *chat.Error) {
	g.conclude(done, err)
	g.cancel()
}

// conclude puts the terminal record into the log. The first one counts, and is told so: the provider, the
// user, the clocks and Close do not wait for each other.
func (g *generation) conclude(done *chat.Completion, err *chat.Error) (first bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.concludeNow(done, err)
}

// concludeNow is conclude for a caller that holds mu.
func (g *generation) concludeNow(done *chat.Completion, err *chat.Error) (first bool) {
	var kind byte
	var rest []byte
	if err != nil {
		kind, rest = kindError, errorFields(err)
	} else {
		kind, rest = kindDone, doneFields(done)
	}
	if _, first = g.log.append(kind, rest, true, true); !first {
		return false
	}
	g.done, g.err, g.ended = done, err, true
	g.early = err != nil && err.Code.Retryable() && g.log.empty()
	for _, t := range []**time.Timer{&g.grace, &g.deadline} {
		if *t != nil {
			(*t).Stop()
			*t = nil
		}
	}
	g.retention = time.AfterFunc(g.hub.o.Retention, g.outlive)
	if g.hub.store != nil {
		g.hub.store.appended(g, recordSize(rest), true)
	}
	return true
}

// over says whether the stream has ended. The caller holds mu.
func (g *generation) over() bool { return g.ended }

func (g *generation) outcome() Outcome {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Outcome{
		ID: g.id, Duration: time.Since(g.started), First: g.first,
		Chunks: g.chunks, Bytes: g.bytes, Done: g.done, Err: g.err, Fenced: g.fenced,
	}
}

// attach counts a follower, who reads from behind position after. It gives none when the log is no more.
func (g *generation) attach(after uint64) *local {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.emptied {
		return nil
	}
	g.followers++
	return &local{g: g, at: g.log.seek(after), before: after}
}

// detach counts a follower out, who has perhaps seen the end. When it was the last, the grace time begins.
func (g *generation) detach(seen bool) {
	over, cancel := g.leave(seen)
	if cancel {
		g.cancel()
	}
	if over {
		g.hub.left(g)
	}
}

// leave is detach, and says whether the stream has ended, and whether its provider is to be cancelled.
func (g *generation) leave(seen bool) (over, cancel bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.followers--
	g.seen = g.seen || seen
	if g.followers > 0 || g.over() {
		return g.over(), false
	}
	if g.fenced {
		return true, g.concludeFenced()
	}
	g.unattended = time.Now()
	if g.grace == nil {
		g.grace = time.AfterFunc(g.hub.o.Grace, g.abandon)
	} else {
		g.grace.Reset(g.hub.o.Grace)
	}
	return false, false
}

// seeEnd notes that a client has all of the stream.
func (g *generation) seeEnd() {
	g.mu.Lock()
	g.seen = true
	g.mu.Unlock()
	g.hub.left(g)
}

// standing says whether it has readers, whether it has ended, and whether somebody has read it to its end.
func (g *generation) standing() (readers, ended, seen bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.followers > 0, g.ended, g.seen
}

// failedEarly says whether it ended before its answer began, in a way that is worth another try.
func (g *generation) failedEarly() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.early
}

// empty lets go of the log, unless somebody reads it.
func (g *generation) empty() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.followers > 0 {
		return false
	}
	g.emptied = true
	g.log.drop()
	return true
}

func (g *generation) stopRetention() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.retention != nil {
		g.retention.Stop()
	}
}

// fence is called when others have ended the stream in Redis, because they took this replica for dead. That is the
// truth for whoever comes from now on. Who reads here reads on; when nobody does, nobody ever will.
func (g *generation) fence() {
	g.mu.Lock()
	g.fenced = true
	over := g.over()
	cancel := !over && g.followers == 0 && g.concludeFenced()
	g.mu.Unlock()
	g.hub.fenced.Add(1)
	g.hub.letKeyGo(g)
	if cancel {
		g.cancel()
	}
	if over {
		g.discard()
	}
	g.settled()
}

// concludeFenced ends a fenced stream that nobody reads. The caller holds mu.
func (g *generation) concludeFenced() bool {
	const message = "other replicas took this one for dead, and have ended the answer"
	return g.concludeNow(nil, &chat.Error{Code: chat.ProducerLost, Message: message})
}

func (g *generation) isFenced() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.fenced
}

// seenElsewhere puts the grace time off: another replica has a follower.
func (g *generation) seenElsewhere() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unattended = time.Now()
}

// abandon ends the stream when nobody has followed it for the grace time. Whoever attaches comes before or
// after: a stream that has a follower is not given up.
func (g *generation) abandon() {
	if g.giveUp() {
		g.hub.expired.Add(1)
		g.cancel()
	}
}

func (g *generation) giveUp() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.followers > 0 || g.over() {
		return false
	}
	if left := g.hub.o.Grace - time.Since(g.unattended); left > 0 {
		g.grace.Reset(left)
		return false
	}
	message := fmt.Sprintf("nobody followed the answer for %v, so it was given up", g.hub.o.Grace)
	return g.concludeNow(nil, &chat.Error{Code: chat.ProducerLost, Message: message})
}

// outlive is called when the stream has been kept for long enough. While Redis lacks its end, readers on other
// replicas wait for that, as long as they may hope to find it: see Hub.Keeps.
func (g *generation) outlive() {
	if g.hub.store == nil || g.mirror.closed.Load() {
		g.discard()
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.retention = time.AfterFunc(g.hub.o.Grace, g.discard)
}

// discard forgets an ended stream. If Redis lacks its end still, it will never have it.
func (g *generation) discard() {
	g.mirror.closed.Store(true)
	g.stopRetention()
	g.hub.forget(g)
	g.settled()
}
