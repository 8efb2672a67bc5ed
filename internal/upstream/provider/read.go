package provider

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/sse"
	"github.com/websopy/relay/internal/upstream/format"
	"github.com/websopy/relay/internal/upstream/framing"
	"github.com/websopy/relay/internal/upstream/report"
)

// After a finish reason usage and the terminator may come, and several providers send no terminator and keep the
// connection open: finishGrace is how long to wait for it. A reason that stands beside a piece of the answer may be
// one of those servers that give it with every piece: then it is doubtGrace, and when the answer has gone on after a
// reason once, the idle time-out.
const (
	finishGrace = 2 * time.Second
	doubtGrace  = 5 * time.Second
)

// exchange is what one request and its answer keep, in one piece of memory: what the next chunk needs of it
// is one cache line.
type exchange struct {
	clock    clock
	ending   bool  // a grace runs
	stopped  bool  // there was a finish reason
	doubtful bool  // and the answer went on after it
	late     error // that the first chunk came when the time for it was over

	out format.Answer
}

// read passes on what the body says, until it is complete or nobody wants it any more.
func (c *client) read(ctx context.Context, x *exchange, events framing.Reader) error {
	dec := c.wire.Format.NewDecoder()
	out := &x.out
	for !out.Complete {
		if out.More = out.More && events.Buffered(); !out.More {
			out.Pause()
		}
		x.clock.passing.Store(false)
		ev, err := events.Next()
		x.clock.passing.Store(true)
		if err != nil {
			return x.endOfBody(ctx, err)
		}
		out.More = events.Buffered()
		if typ, text, ok := out.OnlyText(ev); ok {
			out.Text(typ, text)
		} else {
			err = out.Event(dec, ev)
		}
		if out.Gone { // then nobody wants the error either
			return x.late
		}
		if err != nil {
			if ev.Partial && !report.IsReported(err) {
				// The cut went through the last event. It is not the provider who garbled it.
				return x.endOfBody(ctx, io.ErrUnexpectedEOF)
			}
			return decodeError(err)
		}
		if out.Progress || out.Stopped || out.Waiting {
			x.moved(c)
		}
	}
	return nil
}

// moved sets the clock anew, now that the answer has gone on or is said to be over. Usage and pings do not: they would
// prolong it for ever.
func (x *exchange) moved(c *client) {
	out := &x.out
	x.doubtful = x.doubtful || x.stopped && out.Progress
	x.stopped = out.Finished
	idle := c.IdleTimeout
	if out.Thinking {
		idle = max(idle, c.ThinkingTimeout)
	}
	switch {
	case !out.Finished && out.Progress:
		x.clock.set(idle, errIdle)
	case !out.Finished && out.Waiting:
		x.clock.set(c.FirstChunkTimeout, errFirstChunk)
	case out.Progress && x.doubtful:
		x.clock.set(idle, errGraceOver)
	case out.Progress:
		x.clock.set(doubtGrace, errGraceOver)
	case x.ending:
	case out.Nothing() || !out.Begun && !out.Calling():
		x.clock.set(c.FirstChunkTimeout, errGraceOver) // seen: a reason before the first word
	default:
		x.clock.set(finishGrace, errGraceOver)
	}
	x.ending = out.Finished && !out.Progress
	out.Progress, out.Stopped, out.Waiting = false, false, false
}

// endOfBody decides what the end of the body means: nil when the answer is complete all the same.
func (x *exchange) endOfBody(ctx context.Context, err error) error {
	out := &x.out
	cause := context.Cause(ctx)
	switch {
	case errors.Is(err, sse.ErrTooLong):
		return &chat.Error{Code: chat.UpstreamMalformed, Message: "the provider sent an event over the size limit",
			Err: err}
	case errors.Is(err, framing.ErrGarbled):
		return decodeError(err)
	case cause != nil && cause != errGraceOver:
		return cause
	case out.Finished, out.MayEnd && err == io.EOF:
		return nil
	case err == io.EOF && out.Unread != "" && out.Nothing():
		return &chat.Error{Code: chat.UpstreamMalformed, Message: "the provider did not answer with a stream",
			Err: errors.New(out.Unread)}
	case err == io.EOF:
		return &chat.Error{Code: chat.UpstreamTruncated, Message: "the provider's answer broke off"}
	}
	return &chat.Error{Code: chat.UpstreamTruncated, Message: "the provider's answer broke off", Err: err}
}

func decodeError(err error) error {
	if report.IsReported(err) {
		return err
	}
	return &chat.Error{Code: chat.UpstreamMalformed, Message: "the provider sent something that can't be read",
		Err: err}
}
