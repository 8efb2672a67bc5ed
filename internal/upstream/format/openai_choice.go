package format

import "github.com/websopy/relay/internal/chat"

// HasBoth reports whether the host is known to have both of OpenAI's formats.
func (h *Host) HasBoth() bool { return h.rule().family == "openai" }

// NeedsChat reports whether a request has to go by chat completions: it has something that Responses does not know,
// and nothing that the model takes in Responses only.
func (t *Target) NeedsChat(req *chat.Request) bool {
	return beyondResponses(req) && !t.rules.needsResponses(req) && (!t.rules.noStop || len(req.Stop) == 0)
}

// NeedsResponses reports whether a request has to go by Responses: the model does not take it in chat completions.
func (t *Target) NeedsResponses(req *chat.Request) bool { return t.rules.needsResponses(req) }

// beyondResponses reports whether a request has something that Responses does not know.
func beyondResponses(req *chat.Request) bool {
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

// ChatRequest is a request without the fields that only Responses is known to have.
func ChatRequest(req *chat.Request) *chat.Request {
	return inFormat(req, func(known *furtherField) bool { return known.chat })
}

// ResponsesRequest is a request without the fields that only chat completions is known to have.
func ResponsesRequest(req *chat.Request) *chat.Request {
	return inFormat(req, func(known *furtherField) bool { return known.responses })
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
