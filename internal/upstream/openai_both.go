package upstream

import (
	"cmp"
	"context"
	"iter"

	"github.com/websopy/relay/internal/chat"
)

// newOpenAI returns an upstream of one of OpenAI's two formats. Where the server is known to have both, a request
// that only the other one can carry goes there: with newer models tools need Responses, which has no stop
// sequences and no seed.
func newOpenAI(o Options) Streamer {
	chatFormat, responses := newClient(o, &openai{o}, eventStream), newClient(o, &openaiResponses{o}, eventStream)
	preferred, other := chatFormat, responses
	if o.Kind == "openai-responses" {
		preferred, other = responses, chatFormat
	}
	if o.hostRule().family != "openai" && o.azureV1() == "" {
		return preferred
	}
	other.transport = preferred.transport
	return &openaiBoth{preferred: preferred, other: other}
}

type openaiBoth struct{ preferred, other *client }

// Stream implements Streamer.
func (b *openaiBoth) Stream(ctx context.Context, req *chat.Request) iter.Seq2[chat.Chunk, error] {
	r := b.preferred.rulesOf(cmp.Or(req.Model, b.preferred.Model))
	toChat := b.preferred.Kind == "openai-responses"
	switch {
	case toChat && needsChat(req) && !r.needsResponses(req) && (!r.noStop || len(req.Stop) == 0):
		return b.other.Stream(ctx, inFormat(req, func(known *furtherField) bool { return known.chat }))
	case !toChat && r.needsResponses(req):
		return b.other.Stream(ctx, inFormat(req, func(known *furtherField) bool { return known.responses }))
	}
	return b.preferred.Stream(ctx, req)
}

// needsChat reports whether a request has something that Responses does not know.
func needsChat(req *chat.Request) bool {
	return len(req.Stop) > 0 || req.Seed != "" || extraField(req, "n") != nil || extraField(req, "logprobs") != nil
}

// needsResponses reports whether a model does not take a request in chat completions, and would in Responses.
func (r *modelRule) needsResponses(req *chat.Request) bool {
	if len(req.Tools) == 0 {
		return req.ReasoningEffort == "max" && r.ccMost != ""
	}
	switch r.ccTools {
	case never:
		return true
	case withNone:
		return req.ReasoningEffort != "none"
	case unlessAsked:
		return req.ReasoningEffort != "none" && req.ReasoningEffort != ""
	}
	return false
}

// inFormat leaves out further fields that the one format is known to have and the other is not.
func inFormat(req *chat.Request, has func(*furtherField) bool) *chat.Request {
	same := *req
	same.Extra = nil
	for _, x := range req.Extra {
		if known := knownFields[x.Name]; known == nil || has(known) || known.instead != "" && known.members == "" {
			same.Extra = append(same.Extra, x)
		}
	}
	return &same
}
