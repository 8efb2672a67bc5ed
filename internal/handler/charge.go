package handler

import (
	"errors"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/limit"
	"github.com/websopy/relay/internal/telemetry"
)

// charge is what one answer costs its caller: reserved before a provider is asked, and settled once, however the answer
// ends. A nil one costs nothing.
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

// reserve makes the charge of an answer, and tells the caller in headers how it stands with its limits. It is nil where
// the caller has none.
func (r *Relay) reserve(w http.ResponseWriter, req *http.Request, ask *chat.Request) (*charge, *chat.Error) {
	if r.Limiter == nil {
		return nil, nil
	}
	caller := visitOf(req).caller
	var prompt, tokens int64
	counts := r.Limiter.CountsTokens(caller.Share, caller.Tier)
	if counts {
		prompt = ask.EstimatePrompt()
		tokens = prompt + ask.EstimateAnswer()
	}
	reservation, err := r.Limiter.Reserve(caller.Share, caller.Tier, tokens)
	if exceeded, ok := errors.AsType[*limit.Exceeded](err); ok {
		r.Metrics.Limited(exceeded.Limit)
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
	return &charge{reservation: reservation, metrics: r.Metrics, counts: counts, prompt: prompt}, nil
}

var exceededMessages = map[string]string{
	"requests":       "this caller asks too often (RELAY_LIMIT_REQUESTS)",
	"tokens":         "this caller uses too many tokens at a time (RELAY_LIMIT_TOKENS)",
	"tokens_per_day": "this caller has used its tokens of the day, which ends at midnight UTC (RELAY_BUDGET_TOKENS)",
	"streams":        "too many answers of this caller are being generated (RELAY_LIMIT_STREAMS)",
}

var errLimitsAway = &chat.Error{Code: chat.Overloaded, RetryAfter: time.Second,
	Message: "what callers have used can't be looked up now (see RELAY_LIMIT_FALLBACK)"}

// chunk counts what the provider has sent: a chunk, or its error. The last one settles, before the client has it: who then
// asks at once, while the provider's connection is still read to its end, finds its stream free.
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
	if c.begun && !c.told {
		c.estimated = true
		c.usage = chat.Usage{PromptTokens: c.prompt, CompletionTokens: c.sent.Tokens()}
	}
	tokens := c.usage.PromptTokens + c.usage.CompletionTokens
	c.metrics.Charged(tokens, c.estimated) // first: who sees that it is settled finds it counted
	c.reservation.Settle(tokens)
}

// cancel is for an answer that no provider is asked for.
func (c *charge) cancel() {
	if c != nil && !c.settled {
		c.settled = true
		c.reservation.Cancel()
	}
}

// tellLimits says how a caller stands: in the words of the IETF's draft (draft-ietf-httpapi-ratelimit-headers-11), and in
// OpenAI's, which many clients read.
func tellLimits(h http.Header, stand []limit.Standing) {
	if len(stand) == 0 {
		return
	}
	var policy, left []string
	for _, s := range stand {
		name := `"` + s.Name + `"`
		policy = append(policy, name+";q="+strconv.FormatInt(s.Count, 10)+";w="+seconds(s.Window))
		left = append(left, name+";r="+strconv.FormatInt(s.Left, 10)+";t="+seconds(s.Reset))
		if s.Name == "requests" || s.Name == "tokens" {
			h.Set("X-Ratelimit-Limit-"+s.Name, strconv.FormatInt(s.Count, 10))
			h.Set("X-Ratelimit-Remaining-"+s.Name, strconv.FormatInt(s.Left, 10))
			h.Set("X-Ratelimit-Reset-"+s.Name, s.Reset.Round(time.Millisecond).String())
		}
	}
	h.Set("RateLimit-Policy", strings.Join(policy, ", "))
	h.Set("RateLimit", strings.Join(left, ", "))
}

// seconds are whole ones, up.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// limitHeaders are those of tellLimits, for pages of other origins to read.
var limitHeaders = []string{
	"RateLimit-Policy", "RateLimit",
	"X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests",
	"X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens",
}
