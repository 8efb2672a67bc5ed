package upstream

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/sse"
)

// After a finish reason usage and the terminator may come, and several providers send no terminator and keep the
// connection open: finishGrace is how long to wait for it. A reason that stands beside a piece of the answer may be one
// of those servers that give it with every piece: then it is doubtGrace, and when the answer has gone on after a reason
// once, the idle time-out.
const (
	finishGrace = 2 * time.Second
	doubtGrace  = 5 * time.Second
)

// exchange is what one request and its answer keep, in one piece of memory: what the next chunk needs of it
// is one cache line.
type exchange struct {
	clock    clock
	ending   bool // a grace runs
	stopped  bool // there was a finish reason
	doubtful bool // and the answer went on after it

	out output
}

// read passes on what the body says, until it is complete or nobody wants it any more.
func (c *client) read(ctx context.Context, x *exchange, events reader) error {
	dec := c.wire.Format.newDecoder()
	out := &x.out
	for !out.complete {
		if out.more = out.more && events.Buffered(); !out.more {
			out.pause()
		}
		x.clock.passing.Store(false)
		ev, err := events.Next()
		x.clock.passing.Store(true)
		if err != nil {
			return x.endOfBody(ctx, err)
		}
		out.more = events.Buffered()
		if typ, text, ok := out.onlyText(ev); ok {
			out.text(typ, text)
		} else {
			err = out.event(dec, ev)
		}
		if out.gone { // then nobody wants the error either
			return nil
		}
		if err != nil {
			if ev.Partial && !isReported(err) {
				// The cut went through the last event. It is not the provider who garbled it.
				return x.endOfBody(ctx, io.ErrUnexpectedEOF)
			}
			return decodeError(err)
		}
		if out.progress || out.stopped || out.waiting {
			x.moved(c)
		}
	}
	return nil
}

// moved sets the clock anew, now that the answer has gone on or is said to be over. Usage and pings do not: they would
// prolong it for ever.
func (x *exchange) moved(c *client) {
	out := &x.out
	x.doubtful = x.doubtful || x.stopped && out.progress
	x.stopped = out.finished
	idle := c.IdleTimeout
	if out.thinking {
		idle = max(idle, c.ThinkingTimeout)
	}
	switch {
	case !out.finished && out.progress:
		x.clock.set(idle, errIdle)
	case !out.finished && out.waiting:
		x.clock.set(c.FirstChunkTimeout, errFirstChunk)
	case out.progress && x.doubtful:
		x.clock.set(idle, errGraceOver)
	case out.progress:
		x.clock.set(doubtGrace, errGraceOver)
	case x.ending:
	case out.nothing() || !out.begun && !out.calling():
		x.clock.set(c.FirstChunkTimeout, errGraceOver) // seen: a reason before the first word
	default:
		x.clock.set(finishGrace, errGraceOver)
	}
	x.ending = out.finished && !out.progress
	out.progress, out.stopped, out.waiting = false, false, false
}

// endOfBody decides what the end of the body means: nil when the answer is complete all the same.
func (x *exchange) endOfBody(ctx context.Context, err error) error {
	out := &x.out
	cause := context.Cause(ctx)
	switch {
	case errors.Is(err, sse.ErrTooLong):
		return &chat.Error{Code: chat.UpstreamMalformed, Message: "the provider sent an event over the size limit", Err: err}
	case cause != nil && cause != errGraceOver:
		return cause
	case out.finished, out.mayEnd && err == io.EOF:
		return nil
	case err == io.EOF && out.unread != "" && out.nothing():
		return &chat.Error{Code: chat.UpstreamMalformed, Message: "the provider did not answer with a stream", Err: errors.New(out.unread)}
	case err == io.EOF:
		return &chat.Error{Code: chat.UpstreamTruncated, Message: "the provider's answer broke off"}
	}
	return &chat.Error{Code: chat.UpstreamTruncated, Message: "the provider's answer broke off", Err: err}
}

func decodeError(err error) error {
	if isReported(err) {
		return err
	}
	return &chat.Error{Code: chat.UpstreamMalformed, Message: "the provider sent something that can't be read", Err: err}
}
