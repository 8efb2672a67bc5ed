package telemetry

import (
	"errors"
	"net/netip"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/trace"
)

// Stream is what happened to one stream, or to the generation of a resumable one.
type Stream struct {
	RequestID string
	Client    netip.Addr
	Caller    string // who that is; may be empty

	ID      string // of a resumable stream
	Model   string // that was asked for; empty: none was named
	Label   string // of the model in metrics, of which there are few
	Ignored string // the fields of the request that did not reach the provider

	Trace *trace.Trace
	Span  *Span            // nil: there is none
	Done  *chat.Completion // nil when it did not come so far

	Estimated *chat.Usage // what its caller's limits are charged, where the provider did not say; nil: nothing

	Start         time.Time
	First         time.Duration // from there to the first chunk
	Chunks, Bytes int64         // that were sent

	Reason  string      // how it ended
	Failure *chat.Error // what the client was told, nil when there was nothing to tell
	Cause   error       // for the log, where the client was told nothing and there is something to say
}

// StreamEnded counts a stream, and makes its log line.
func (t *Telemetry) StreamEnded(s *Stream) {
	t.ended.with(labels{s.Reason}).Inc()
	t.chunks.Add(float64(s.Chunks))
	t.bytes.Add(float64(s.Bytes))
	t.tell(s, "stream")
}

// GenerationEnded does the same for the generation of a resumable stream, whoever reads it.
func (t *Telemetry) GenerationEnded(s *Stream) {
	t.generations.with(labels{s.Reason}).Inc()
	t.tell(s, "generation")
}

func (t *Telemetry) tell(s *Stream, what string) {
	t.countAttempts(s)
	t.byModel.count(s)
	s.Span.end(s)
	level := zerolog.InfoLevel
	if s.Failure != nil {
		level = zerolog.WarnLevel
	}
	e := t.log.WithLevel(level)
	if !e.Enabled() {
		return
	}
	t.lineOfRequest(e, s, what)
	lineOfAttempts(e, s.Trace)
	if s.Chunks > 0 {
		e.Dur("first_chunk_ms", s.First)
	}
	e.Dur("duration_ms", time.Since(s.Start)).Int64("chunks", s.Chunks).Int64("bytes", s.Bytes)
	lineOfCompletion(e, s.Done, s.Estimated)
	if s.Failure != nil {
		e.Str("error", t.long(s.Failure.Error()))
	} else if s.Cause != nil {
		e.Str("error", s.Cause.Error())
	}
	e.Msg(what)
}

// countAttempts counts the requests to providers.
func (t *Telemetry) countAttempts(s *Stream) {
	for _, a := range s.Trace.Attempts {
		t.attempts.with(labels{a.Upstream, outcome(a.Err)}).Inc()
		t.warnOfKey(s.RequestID, a)
	}
	if s.Trace.Hedged {
		t.hedges.Inc()
	}
	if s.Trace.TooMuch {
		t.noState.Inc()
	}
}

func (t *Telemetry) lineOfRequest(e *zerolog.Event, s *Stream, what string) {
	e.Str("request_id", s.RequestID).Str("reason", s.Reason).Stringer("client", s.Client)
	if s.Caller != "" {
		e.Str("caller", s.Caller)
	}
	if s.Span != nil {
		e.Str("trace_id", s.Span.traceID())
	}
	if s.ID != "" {
		e.Str("stream", s.ID[:8]) // whole, it would let a reader of the log attach
	}
	if model := s.model(); model != "" {
		e.Str("model", t.short(model))
	}
	if s.Ignored != "" && what == "stream" {
		e.Str("ignored", t.long(s.Ignored))
	}
}

func lineOfAttempts(e *zerolog.Event, tr *trace.Trace) {
	n := len(tr.Attempts)
	if n == 0 {
		return
	}
	e.Str("upstream", tr.Attempts[n-1].Upstream).Int("attempts", n)
	if n > 1 {
		e.Strs("tried", tried(tr.Attempts)).Bool("hedged", tr.Hedged)
	}
}

func lineOfCompletion(e *zerolog.Event, done *chat.Completion, u *chat.Usage) {
	if u != nil {
		e.Bool("tokens_estimated", true)
	}
	if done != nil {
		e.Str("finish_reason", string(done.FinishReason))
		if u == nil {
			u = done.Usage
		}
	}
	if u == nil {
		return
	}
	e.Int64("prompt_tokens", u.PromptTokens).Int64("completion_tokens", u.CompletionTokens)
	if u.CachedTokens > 0 {
		e.Int64("cached_tokens", u.CachedTokens)
	}
	if u.ReasoningTokens > 0 {
		e.Int64("reasoning_tokens", u.ReasoningTokens)
	}
}

// model is the one that was asked for or, where that is the provider's or the relay's choice, the one that
// answered.
func (s *Stream) model() string {
	if s.Model == "" && s.Done != nil {
		return s.Done.Model
	}
	return s.Model
}

// tried is what every attempt came to, in order. Those that came to the same are one entry: a server that starts is
// asked many times.
func tried(attempts []trace.Attempt) []string {
	var all []string
	for i := 0; i < len(attempts); {
		a, same := attempts[i], 1
		for i+same < len(attempts) && attempts[i+same].Upstream == a.Upstream &&
			outcome(attempts[i+same].Err) == outcome(a.Err) {
			same++
		}
		entry := a.Upstream + " " + outcome(a.Err)
		if same > 2 {
			entry += " ×" + strconv.Itoa(same)
		} else if same == 2 {
			all = append(all, entry)
		}
		all = append(all, entry)
		i += same
	}
	return all
}

// warnOfKey says aloud that a provider refuses the relay's key or account: while another one answers, nobody
// else would tell.
func (t *Telemetry) warnOfKey(requestID string, a trace.Attempt) {
	if isChatError(a.Err) && chat.AsError(a.Err).Code == chat.UpstreamAuth {
		t.log.Error().Str("request_id", requestID).Str("upstream", a.Upstream).Str("error", t.long(a.Err.Error())).
			Msg("the provider refuses the relay's key or account")
	}
}

// outcome is a bounded set of labels for an attempt.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case isChatError(err):
		return string(chat.AsError(err).Code)
	}
	return "cancelled"
}

func isChatError(err error) bool {
	_, ok := errors.AsType[*chat.Error](err)
	return ok
}
