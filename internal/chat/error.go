package chat

import (
	"errors"
	"time"
)

// Code names a kind of failure on the wire (docs/protocol.md, 2 and 4).
type Code string

// Refusals: the request never reached a provider.
const (
	InvalidRequest       Code = "invalid_request"
	Unauthorized         Code = "unauthorized"
	Forbidden            Code = "forbidden"
	NotFound             Code = "not_found"
	ModelNotFound        Code = "model_not_found"
	MethodNotAllowed     Code = "method_not_allowed"
	BodyTooLarge         Code = "body_too_large"
	UnsupportedMediaType Code = "unsupported_media_type"
	IdempotencyMismatch  Code = "idempotency_mismatch"
	RateLimited          Code = "rate_limited"
	Overloaded           Code = "overloaded"
	Draining             Code = "draining"
)

// Failures of the provider or of the stream.
const (
	UpstreamUnreachable Code = "upstream_unreachable"
	UpstreamTimeout     Code = "upstream_timeout"
	UpstreamAuth        Code = "upstream_auth"
	UpstreamRateLimited Code = "upstream_rate_limited"
	UpstreamRejected    Code = "upstream_rejected"
	UpstreamError       Code = "upstream_error"
	UpstreamTruncated   Code = "upstream_truncated"
	UpstreamMalformed   Code = "upstream_malformed"
	ContentFiltered     Code = "content_filtered"

	// ContextLengthExceeded is apart from UpstreamRejected because clients can do something about it: compact
	// the conversation.
	ContextLengthExceeded Code = "context_length_exceeded"

	ServerShutdown Code = "server_shutdown"
	StreamTooLong  Code = "stream_too_long"
	StreamNotFound Code = "stream_not_found"
	CursorExpired  Code = "cursor_expired"
	ProducerLost   Code = "producer_lost"
	Internal       Code = "internal"
)

// codes is the one table behind Code's methods. status is used where the answer is not a stream.
var codes = map[Code]struct {
	status    int
	retryable bool
}{
	InvalidRequest:       {400, false},
	Unauthorized:         {401, false},
	Forbidden:            {403, false},
	NotFound:             {404, false},
	ModelNotFound:        {404, false},
	MethodNotAllowed:     {405, false},
	BodyTooLarge:         {413, false},
	UnsupportedMediaType: {415, false},
	IdempotencyMismatch:  {422, false},
	RateLimited:          {429, true},
	Overloaded:           {503, true},
	Draining:             {503, true},

	UpstreamUnreachable: {502, true},
	UpstreamTimeout:     {504, true},
	UpstreamAuth:        {502, false},
	UpstreamRateLimited: {429, true},
	UpstreamRejected:    {400, false},
	UpstreamError:       {502, true},
	UpstreamTruncated:   {502, true},
	UpstreamMalformed:   {502, false},
	ContentFiltered:     {400, false},

	ContextLengthExceeded: {400, false},

	ServerShutdown: {503, true},
	StreamTooLong:  {502, false},
	StreamNotFound: {404, false},
	CursorExpired:  {410, false},
	ProducerLost:   {502, true},
	Internal:       {500, true},
}

// Status is the HTTP status of an answer that is refused or fails before it became a stream.
func (c Code) Status() int {
	if row, ok := codes[c]; ok {
		return row.status
	}
	return codes[Internal].status
}

// Retryable says whether the same request may succeed later or elsewhere.
func (c Code) Retryable() bool { return codes[c].retryable }

// Phase says which clock ran out in an UpstreamTimeout.
type Phase string

// The phases of an upstream time-out.
const (
	PhaseConnect    Phase = "connect"
	PhaseFirstChunk Phase = "first_chunk"
	PhaseIdle       Phase = "idle"
	PhaseTotal      Phase = "total" // all attempts together
)

// Error is a failure with a code for programs, a message for people and a cause for the log.
// Message never holds keys, addresses or a provider's raw body; Err may hold all but keys.
type Error struct {
	Code       Code
	Message    string
	Phase      Phase         // UpstreamTimeout only
	RetryAfter time.Duration // zero when unknown
	Limit      string        // RateLimited only: what there is only so much of
	NoCredit   bool          // UpstreamAuth only: the account has no credit left
	Err        error         // cause, may be nil
}

// Error gives the code, the message and the cause, for logs.
func (e *Error) Error() string {
	s := string(e.Code)
	if e.Phase != "" {
		s += " (" + string(e.Phase) + ")"
	}
	s += ": " + e.Message
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// AsError finds the Error in err's chain, or wraps err as Internal: an error that nobody gave a
// code is a bug here.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: Internal, Message: "internal error", Err: err}
}
