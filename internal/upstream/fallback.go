// Package upstream decides which provider is asked, and how often: fallback, hedge, retries, breaker and limit around
// whatever answers. It knows neither what providers speak nor the relay's own clients.
package upstream

import (
	"context"
	"errors"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/format"
	"github.com/websopy/relay/internal/upstream/trace"
)

// Fallback asks its candidates in order until one begins to answer, some of them more than once. After
// the first chunk it asks nobody: what the client has seen can't be taken back.
//
// When none answers, the error is that of the request if it is the request's fault, and then no further
// candidate was asked. Otherwise it is the first one that is worth another try, so that the client hears
// of the provider's bad day and not of a fallback's wrong key.
type Fallback struct {
	Candidates []*Candidate
	Budget     time.Duration // for all attempts and waits together, up to the first chunk
	HedgeAfter time.Duration // without a first chunk, until a second candidate is asked as well; zero: never
}

// Candidate is an upstream that may be asked.
type Candidate struct {
	Name          string         // of the upstream
	chat.Streamer                // one attempt
	Retries       int            // further attempts
	Breaker       *Breaker       // nil: it is never skipped
	Fields        *format.Fields // of a request that it gets beside the relay's own; nil: all

	// Model gives the name of the model that the request names, or none (""), at this upstream. ok is
	// false when it does not have it; then it is not asked. Nil: all have the same names.
	Model func(asked string) (name string, ok bool)

	// Place tells where the upstream makes the states of a model's answers, as format.PlaceOf does of a state. Nil:
	// nobody knows.
	Place func(model string) string

	Load *Load // nil: it is not counted, and as if it had never answered

	asked atomic.Int64 // how often, lately: see Target.before
}

var (
	errBudget = &chat.Error{Code: chat.UpstreamTimeout, Phase: chat.PhaseTotal,
		Message: "no provider began to answer in time"}
	errLost = errors.New("upstream: another candidate was faster")

	// errNoContent is a complete answer with nothing in it, which another provider may do better.
	errNoContent = errors.New("upstream: an answer without content")
)

// Stream implements chat.Streamer.
func (f *Fallback) Stream(parent context.Context, req *chat.Request) iter.Seq2[chat.Chunk, error] {
	s := &search{Fallback: *f, req: req, caller: trace.Caller(parent)} // which lets go of req in time: see commit
	return func(yield func(chat.Chunk, error) bool) {
		ctx, cancel, done := trace.Cancelable(parent)
		defer done()
		s.giveUp = time.Now().Add(f.Budget)
		s.budget = time.AfterFunc(f.Budget, func() { cancel(errBudget) })
		defer s.budget.Stop()
		ask := s.ask
		if f.HedgeAfter > 0 && len(f.Candidates) > 1 {
			ask = s.race
		}
		if !ask(ctx, yield) {
			s.conclude(ctx, yield)
		}
	}
}

// search is the state of one request.
type search struct {
	Fallback
	caller string // see Trace
	giveUp time.Time
	budget *time.Timer // ends the context at giveUp

	mu        sync.Mutex    // guards the rest, which two lanes share while they race
	req       *chat.Request // nil when somebody answers: a long answer does not keep its question
	next      int           // candidate
	committed bool          // somebody answers
	patient   bool          // somebody is about to: the budget is stopped
	over      bool          // failure is the request's fault
	late      bool          // somebody was about to when the budget had just ended
	failure   *chat.Error
	empty     *chat.Completion // of an answer without content
}

// ask asks the candidates that are left, one after the other. It reports whether one answered, and
// returns when that answer is over.
func (s *search) ask(ctx context.Context, yield func(chat.Chunk, error) bool) bool {
	for c, model := s.nextCandidate(ctx); c != nil; c, model = s.nextCandidate(ctx) {
		if s.try(ctx, c, model, yield) {
			return true
		}
	}
	return false
}

// nextCandidate returns the next candidate and its name of the model, nil when there is none.
func (s *search) nextCandidate(ctx context.Context) (*Candidate, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.next < len(s.Candidates) && !s.over && !s.late && !s.committed && ctx.Err() == nil {
		c := s.Candidates[s.next]
		s.next++
		if model, ok := c.model(s.req.Model); ok {
			return c, model
		}
	}
	return nil, ""
}

// question is what to ask a candidate, which has that model. It is nil when another one has answered.
func (s *search) question(c *Candidate, model string) *chat.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.committed {
		return nil
	}
	return c.translate(s.req, model)
}

// model gives the name at c of a model. ok is false when c does not have it.
func (c *Candidate) model(asked string) (name string, ok bool) {
	if c.Model == nil {
		return asked, true
	}
	return c.Model(asked)
}

// translate returns req with the name of the model at c, and the fields that c gets.
func (c *Candidate) translate(req *chat.Request, model string) *chat.Request {
	extra, changed := c.Fields.Keep(req.Extra)
	if model == req.Model && !changed {
		return req
	}
	translated := *req
	translated.Model, translated.Extra = model, extra
	return &translated
}

// try asks one candidate, by its name of the model, and again as often as it makes sense.
func (s *search) try(ctx context.Context, c *Candidate, model string, yield func(chat.Chunk, error) bool) bool {
	pass, err := c.Breaker.allow(model, s.caller)
	if err != nil {
		s.note(err)
		return false
	}
	c.Load.begin()
	c.asked.Add(oneAsked)
	defer c.leave(pass) // also when the provider's code panics
	for attempt := 0; ; attempt++ {
		err := s.attempt(ctx, c, model, pass, yield)
		c.noteLife(err)
		if err == nil {
			return true
		}
		if wait := startPause(); s.isStarting(c, err) && sleep(ctx, wait) {
			attempt-- // it has not been asked yet
			continue
		}
		wait := backoff(attempt, retryAfterOf(err))
		if attempt >= c.Retries || !s.worthRetry(err, wait) || !sleep(ctx, wait) {
			pass.report(err)
			s.note(err)
			return false
		}
	}
}

// leave ends what try began. The breaker learns nothing from it, unless it has been told before.
func (c *Candidate) leave(pass *pass) {
	c.Load.end()
	pass.report(errLost)
}

// attempt returns nil when the candidate answered, whatever became of that after the first chunk.
func (s *search) attempt(
	ctx context.Context, c *Candidate, model string, pass *pass, yield func(chat.Chunk, error) bool,
) error {
	req := s.question(c, model)
	if req == nil {
		return errLost
	}
	a := &attempt{search: s, pass: pass, yield: yield}
	c.Stream(ctx, req)(a.relay) // without range, because every chunk of every stream comes by here
	return a.failure
}

// attempt is one request to one candidate.
type attempt struct {
	*search
	pass      *pass
	yield     func(chat.Chunk, error) bool
	answering bool  // the first chunk was there
	failure   error // why there is none
}

// relay passes a chunk on, if the answer is to be this candidate's.
func (a *attempt) relay(chunk chat.Chunk, err error) bool {
	if !a.answering {
		if err == nil && chunk.Type == chat.Pause {
			a.alive()
			return true
		}
		if a.failure = err; err == nil {
			a.failure = a.commit(chunk)
		}
		if a.failure != nil {
			return false
		}
		a.answering = true
		a.pass.report(nil)
	}
	return a.yield(chunk, err)
}

// commit decides for the candidate whose first chunk this is.
func (s *search) commit(first chat.Chunk) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.committed:
		return errLost
	case first.Type == chat.Done && first.Done.FinishReason == chat.FinishStop:
		s.empty = first.Done.Clone()
		return errNoContent
	case !s.patient && !s.budget.Stop(): // the context is about to end, and would cut the answer
		s.late = true
		return errBudget
	}
	s.committed, s.req = true, nil
	return nil
}

// alive ends the time that there is for an answer to begin: the model thinks, or the server reads the prompt, and
// says so. From there on the clocks of the attempt are enough.
func (s *search) alive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.patient = s.patient || s.budget.Stop()
}

func (s *search) worthRetry(err error, wait time.Duration) bool {
	e, ok := errors.AsType[*chat.Error](err)
	if !ok {
		return false
	}
	if again, _ := worth(e); !again || time.Until(s.giveUp) < wait {
		return false
	}
	switch {
	case e.Phase == chat.PhaseConnect:
		return !s.hasNext() // it has cost the client its patience once, and need not again
	case e.Code == chat.UpstreamTimeout:
		return false // the request would only stand at the end of the server's queue once more
	case e.RetryAfter > maxPatience:
		return e.RetryAfter <= maxLonePatience && !s.hasNext()
	}
	return true
}

// hasNext reports whether there is another candidate, and a chance that it answers.
func (s *search) hasNext() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.committed || s.over {
		return false
	}
	for _, c := range s.Candidates[s.next:] {
		if model, ok := c.model(s.req.Model); ok && !c.Breaker.open(model, s.caller) {
			return true
		}
	}
	return false
}

// note keeps a candidate's failure if it tells more than those before.
func (s *search) note(err error) {
	e, ok := errors.AsType[*chat.Error](err)
	if !ok || e == errBudget {
		return // an answer without content, or nobody wants one any more
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, another := worth(e)
	switch {
	case s.over:
	case !another || s.failure == nil || weight(e) > weight(s.failure):
		s.failure, s.over = e, !another
	case weight(e) == weightSkipped && weight(s.failure) == weightSkipped && e.RetryAfter < s.failure.RetryAfter:
		s.failure = e
	}
}

// Failures by how much they tell the client.
const (
	weightFinal   = iota // it must not try again, but because of one provider's settings
	weightSkipped        // nobody was asked
	weightFailed
)

func weight(e *chat.Error) int {
	switch {
	case !e.Code.Retryable():
		return weightFinal
	case e.Code == chat.Overloaded || errors.Is(e, errOpen):
		return weightSkipped
	}
	return weightFailed
}

// conclude passes on how the search ended. It is apart from Stream, whose frame is on the stack during the answer.
//
//go:noinline
func (s *search) conclude(ctx context.Context, yield func(chat.Chunk, error) bool) {
	yield(s.unanswered(ctx))
}

// unanswered is what is yielded when nobody answered.
func (s *search) unanswered(ctx context.Context) (chat.Chunk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cause := context.Cause(ctx)
	if cause == nil && s.late { // which the context may learn a moment later
		cause = errBudget
	}
	switch {
	case cause != nil && cause != errBudget:
		return chat.Chunk{}, cause
	case s.empty != nil:
		return chat.Chunk{Type: chat.Done, Done: s.empty}, nil
	case cause == errBudget && s.failure != nil:
		late := *errBudget
		late.Err = s.failure
		return chat.Chunk{}, &late
	case cause != nil:
		return chat.Chunk{}, cause
	case s.failure == nil:
		return chat.Chunk{}, &chat.Error{Code: chat.UpstreamRejected, Message: "no provider has this model"}
	}
	return chat.Chunk{}, s.failure
}

func retryAfterOf(err error) time.Duration {
	if e, ok := errors.AsType[*chat.Error](err); ok {
		return e.RetryAfter
	}
	return 0
}
