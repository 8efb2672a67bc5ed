package handler

import (
	"errors"
	"iter"
	"net/http"
	"strconv"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/dialect"
	"github.com/websopy/relay/internal/limit"
	"github.com/websopy/relay/internal/telemetry"
)

// charge is what one answer costs its caller: reserved before a provider is asked, and settled once, however the
// answer ends. A nil one costs nothing.
type charge struct {
	reservation *limit.Reservation
	metrics     *telemetry.Metrics
	counts      bool  // tokens matter
	prompt      int64 // tokens, estimated
	begun       bool  // the answer has
	told        bool  // by the provider, what usage is
	sent        chat.Estimate

	settled   bool
	usage     chat.Usage
	estimated bool // usage is, because the provider did not say
}

// reserve makes the charge of an answer, and tells the caller in headers how it stands with its limits. It is nil
// where the caller has none.
func (r *Relay) reserve(w http.ResponseWriter, req *http.Request, ask *chat.Request) (*charge, *chat.Error) {
	if r.limiter == nil {
		return nil, nil
	}
	caller := visitOf(req).caller
	var prompt, tokens int64
	counts := r.limiter.CountsTokens(caller.Share, caller.Tier)
	if counts {
		prompt = ask.EstimatePrompt()
		tokens = prompt + ask.EstimateAnswer()
	}
	reservation, err := r.limiter.Reserve(caller.Share, caller.Tier, tokens)
	if exceeded, ok := errors.AsType[*limit.Exceeded](err); ok {
		tellLimits(w.Header(), exceeded.Stand)
		return nil, &chat.Error{Code: chat.RateLimited, Limit: exceeded.Limit, RetryAfter: exceeded.After,
			Message: exceededMessages[exceeded.Limit]}
	}
	if err != nil {
		return nil, errLimitsAway
	}
	if reservation == nil {
		return nil, nil
	}
	tellLimits(w.Header(), reservation.Stand())
	return &charge{reservation: reservation, metrics: r.metrics, counts: counts, prompt: prompt}, nil
}

// waitsForFormer are how long an answer that was stopped has for its end, before each try to take its place.
var waitsForFormer = []time.Duration{10 * time.Millisecond, 40 * time.Millisecond, 150 * time.Millisecond,
	300 * time.Millisecond}

// reserveForFormer reserves in place of the answer before in the same chat, where that one is in the way. The new one
// stops it when it begins (see stream.Request), and can't begin: somebody who may have one answer at a time opens the
// page again, in which one is written, and asks the next question.
func (r *Relay) reserveForFormer(
	w http.ResponseWriter, req *http.Request, ask *dialect.Ask, refused *chat.Error,
) (*charge, *chat.Error) {
	if refused.Limit != limit.StreamsLimit || !ask.Resumable || r.streams == nil || !r.stopFormer(req, ask) {
		return nil, refused
	}
	for _, wait := range waitsForFormer {
		select {
		case <-time.After(wait):
		case <-req.Context().Done():
			return nil, refused
		}
		charge, err := r.reserve(w, req, &ask.Request)
		if err == nil || err.Limit != limit.StreamsLimit {
			return charge, err
		}
	}
	return nil, refused
}

// stopFormer stops the newest stream of the chat of a question, and tells whether there may have been one that ran.
func (r *Relay) stopFormer(req *http.Request, ask *dialect.Ask) bool {
	name, owner := chatOf(req, ask.Chat), visitOf(req).caller.Owner
	if name == "" {
		return false
	}
	id, read, err := r.streams.Chat(req.Context(), owner, name)
	return err == nil && id != "" && !read && r.streams.Stop(req.Context(), owner, id) == nil
}

var exceededMessages = map[string]string{
	limit.RequestsLimit: "this caller asks too often (RELAY_LIMIT_REQUESTS)",
	limit.TokensLimit:   "this caller uses too many tokens at a time (RELAY_LIMIT_TOKENS)",
	limit.DayLimit: "this caller has used its tokens of the day, which ends at midnight UTC " +
		"(RELAY_BUDGET_TOKENS)",
	limit.StreamsLimit: "too many answers of this caller are being generated (RELAY_LIMIT_STREAMS)",
}

var errLimitsAway = &chat.Error{Code: chat.Overloaded, RetryAfter: time.Second,
	Message: "what callers have used can't be looked up now (see RELAY_LIMIT_FALLBACK)"}

// chunk counts what the provider has sent: a chunk, or its error. The last one settles, before the client has it: who
// then asks at once, while the provider's connection is still read to its end, finds its stream free.
func (c *charge) chunk(of *chat.Chunk, err error) {
	if c == nil || c.settled {
		return
	}
	if c.counts {
		c.count(of)
	}
	if err != nil || of.Type == chat.Done {
		c.settle()
	}
}

// all charges what comes. An answer that is stopped or cut is paid for as soon as its provider is let go: Redis may be
// told of the stream's end much later.
func (c *charge) all(chunks iter.Seq2[chat.Chunk, error]) iter.Seq2[chat.Chunk, error] {
	if c == nil {
		return chunks
	}
	return func(yield func(chat.Chunk, error) bool) {
		defer c.settle()
		for of, err := range chunks {
			c.chunk(&of, err)
			if !yield(of, err) {
				return
			}
		}
	}
}

func (c *charge) count(of *chat.Chunk) {
	switch of.Type {
	case chat.Pause:
		return
	case chat.Done:
		if u := of.Done.Usage; u != nil && u.PromptTokens+u.CompletionTokens > 0 { // some say 0 for "not counted"
			c.usage, c.told = *u, true
		}
	}
	c.begun = true
	c.sent.Chunk(of)
}

// settle ends the answer. Who leaves before the provider has told the usage pays for what was sent; who got nothing at
// all pays no tokens.
func (c *charge) settle() {
	if c == nil || c.settled {
		return
	}
	c.settled = true
	if c.begun {
		c.estimate(&c.usage.PromptTokens, c.prompt)
		c.estimate(&c.usage.CompletionTokens, c.sent.Tokens())
		c.estimated = c.estimated || !c.told
	}
	tokens := c.usage.PromptTokens + c.usage.CompletionTokens
	c.metrics.Charged(tokens, c.estimated) // first: who sees that it is settled finds it counted
	c.reservation.Settle(tokens)
}

// estimate puts a guess in the place of what the provider did not count. Some count only one of question and answer: a
// question that they have in their cache is nothing to Ollama, and what begins the usage of others is all of it.
func (c *charge) estimate(tokens *int64, guess int64) {
	if *tokens == 0 && guess > 0 {
		*tokens, c.estimated = guess, true
	}
}

// cancel is for an answer that no provider is asked for.
func (c *charge) cancel() {
	if c != nil && !c.settled {
		c.settled = true
		c.reservation.Cancel()
	}
}

// tellLimits says how a caller stands: in the words of the IETF's draft (draft-ietf-httpapi-ratelimit-headers-11), and
// in OpenAI's, which many clients read. It is on every response of a caller with limits: all values are parts of one
// text.
func tellLimits(h http.Header, stand []limit.Standing) {
	if len(stand) == 0 {
		return
	}
	values := make([]string, 0, 2+3*len(stand))
	text := make([]byte, 0, 256)
	var ends [2 + 3*4]int
	next := func() {
		ends[len(values)] = len(text)
		values = append(values, "")
	}
	for i := range stand {
		text = appendNamed(text, i, &stand[i], ";q=", stand[i].Count, ";w=", stand[i].Window)
	}
	next()
	for i := range stand {
		text = appendNamed(text, i, &stand[i], ";r=", stand[i].Left, ";t=", stand[i].Reset)
	}
	next()
	for _, s := range stand {
		text = strconv.AppendInt(text, s.Count, 10)
		next()
		text = strconv.AppendInt(text, s.Left, 10)
		next()
		text = append(text, s.Reset.Round(time.Millisecond).String()...)
		next()
	}
	all, begin := string(text), 0
	for i := range values {
		values[i], begin = all[begin:ends[i]], ends[i]
	}
	h["Ratelimit-Policy"], h["Ratelimit"] = values[0:1:1], values[1:2:2]
	for i, s := range stand {
		for j, name := range openaiHeaders[s.Name] {
			at := 2 + 3*i + j
			h[name] = values[at : at+1 : at+1]
		}
	}
}

// openaiHeaders have how much there is of a limit, how much is left, and when all of it is there again.
var openaiHeaders = map[string][]string{
	"requests": {"X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests"},
	"tokens":   {"X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens"},
}

// appendNamed appends the i-th entry of a list: "requests";q=60;w=60.
func appendNamed(b []byte, i int, s *limit.Standing, count string, n int64, span string, d time.Duration) []byte {
	if i > 0 {
		b = append(b, ", "...)
	}
	b = append(append(append(b, '"'), s.Name...), '"')
	b = strconv.AppendInt(append(b, count...), n, 10)
	return strconv.AppendInt(append(b, span...), seconds(d), 10)
}

// seconds are whole ones, up.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// limitHeaders are those of tellLimits, for pages of other origins to read.
var limitHeaders = []string{
	"RateLimit-Policy", "RateLimit",
	"X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests",
	"X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens",
}
