package upstream

import (
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// providerReport is a failure as a provider describes it, in an HTTP body or inside a stream.
type providerReport struct {
	status     int // HTTP's, or the code inside the report; 0 when unknown
	kind       string
	message    string
	retryAfter time.Duration
	found      bool   // there is a report at all
	raw        string // for the log
}

// parse reads the shapes that errors come in: {"error": {"message", "type", "code"}}, {"error": "…"},
// {"message": …} beside {"type": …} or {"code": …}, {"detail": …}, and a list with one of these.
func (r *providerReport) parse(body []byte) {
	r.raw = excerpt(body)
	d := jx.DecodeBytes(body)
	if d.Next() == jx.Array {
		_ = d.Arr(func(d *jx.Decoder) error { return r.object(d, 0) })
		return
	}
	_ = r.object(d, 0)
}

func (r *providerReport) object(d *jx.Decoder, depth int) error {
	if d.Next() != jx.Object {
		return d.Skip()
	}
	return d.Obj(func(d *jx.Decoder, key string) error {
		switch key {
		case "error", "detail", "message":
			switch d.Next() {
			case jx.String:
				s, err := d.Str()
				r.found = r.found || s != ""
				if r.message == "" || key == "message" {
					r.message = s
				}
				return err
			case jx.Object:
				r.found = true
				if depth < 3 {
					return r.object(d, depth+1)
				}
			}
			return d.Skip()
		case "details": // Google's: https://google.aip.dev/193
			if d.Next() == jx.Array {
				return d.Arr(r.detail)
			}
		case "type", "code", "status", "reason":
			switch d.Next() {
			case jx.String:
				s, err := d.Str()
				if n, convErr := strconv.Atoi(s); convErr == nil {
					r.status = n
				} else if s != "error" && s != "" {
					r.kind += " " + strings.ToLower(s)
				}
				return err
			case jx.Number:
				if n, err := d.Int(); err == nil && n >= 400 && n < 600 {
					r.status = n
				}
				return nil
			}
		}
		return d.Skip()
	})
}

// detail reads what Google says where others have a header or a status of their own: {"reason":
// "API_KEY_INVALID"} of a 400, and {"retryDelay": "19s"} of a 429.
func (r *providerReport) detail(d *jx.Decoder) error {
	if d.Next() != jx.Object {
		return d.Skip()
	}
	return d.Obj(func(d *jx.Decoder, key string) error {
		if d.Next() != jx.String || key != "reason" && key != "retryDelay" {
			return d.Skip()
		}
		s, err := d.Str()
		if key == "reason" {
			r.kind += " " + strings.ToLower(s)
		} else if wait, err := time.ParseDuration(s); err == nil && wait > 0 && r.retryAfter == 0 {
			r.retryAfter = min(wait, longestRetryAfter)
		}
		return err
	})
}

// providerFailure is the cause of an error that a provider reported.
type providerFailure struct {
	status int    // 0 when unknown
	raw    string // what it said, shortened
}

func (f *providerFailure) Error() string {
	return "provider: status " + strconv.Itoa(f.status) + ": " + f.raw
}

// statusOf is the status with which a provider reported an error, 0 when it did not.
func statusOf(err error) int {
	if f, ok := errors.AsType[*providerFailure](err); ok {
		return f.status
	}
	return 0
}

// err maps a report to one of our errors.
func (r *providerReport) err() *chat.Error {
	e := &chat.Error{RetryAfter: r.retryAfter, Err: &providerFailure{r.status, r.raw}}
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(r.kind, w) {
				return true
			}
		}
		return false
	}
	switch s := r.status; {
	case has("content_filter", "content_policy", "responsibleaipolicy"):
		e.Code, e.Message = chat.ContentFiltered, "the provider refused the request on content grounds"
	case s == 401 || s == 403 || has("api_key_invalid") || s == 0 && has("authentication", "permission", "invalid_api_key", "unauthenticated"):
		e.Code, e.Message = chat.UpstreamAuth, "the provider does not accept the relay's credentials"
	case s == 402: // the operator's matter like a wrong key, and another provider may answer
		e.Code, e.Message = chat.UpstreamAuth, "the relay's account at the provider has no credit left"
	case s == 429 || s == 0 && has("rate_limit", "resource_exhausted", "insufficient_quota", "too_many_requests"):
		e.Code, e.Message = chat.UpstreamRateLimited, "the provider is limiting the relay's requests"
	case s == 408 || s == 409 || s == 425 || s >= 500:
		e.Code, e.Message = chat.UpstreamError, "the provider failed"
	case s >= 300 && s < 400:
		e.Code, e.Message = chat.UpstreamMalformed, "the provider answered with a redirect, which is not followed"
	case s >= 400 || s == 0 && has("invalid_request", "invalid_argument", "bad_request", "not_found"):
		e.Code, e.Message = chat.UpstreamRejected, "the provider rejected the request"
		if plainSentence(r.message) {
			e.Message += ": " + r.message
		}
	default:
		e.Code, e.Message = chat.UpstreamError, "the provider reported an error"
	}
	return e
}

// longestRetryAfter is beyond what a provider may mean: a larger number is a mistake, or would overflow.
const longestRetryAfter = 24 * time.Hour

// retryAfter reads how long to wait: retry-after-ms, or Retry-After in seconds or as a date. Zero means
// that the provider did not say.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms > 0 {
		return time.Duration(min(ms, float64(longestRetryAfter/time.Millisecond)) * float64(time.Millisecond))
	}
	v := h.Get("Retry-After")
	if s, err := strconv.ParseFloat(v, 64); err == nil && s > 0 {
		return time.Duration(min(s, longestRetryAfter.Seconds()) * float64(time.Second))
	}
	if t, err := http.ParseTime(v); err == nil && t.After(now) {
		return min(t.Sub(now), longestRetryAfter)
	}
	return 0
}

// excerpt is what of a body goes into the log. Whoever writes that knows the keys and blots them out, and has
// to be able to find them: so escapes that JSON allows and does not need are undone, and the cut goes through
// no word.
func excerpt(body []byte) string {
	const longest = 500
	s := needlessEscape.ReplaceAllStringFunc(string(body[:min(len(body), 2*longest)]), func(escape string) string {
		if escape == `\/` {
			return "/"
		}
		c, _ := strconv.ParseUint(escape[2:], 16, 8) // two of the digits are 0, the others are hex
		return string(rune(c))
	})
	if len(body) > longest && len(s) > longest {
		s = s[:longest]
	}
	if len(body) > len(s) {
		s = s[:strings.LastIndexFunc(s, func(r rune) bool { return r <= ' ' || r == '"' || r > unicode.MaxASCII })+1] + "…"
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// needlessEscape matches \/ and what is written as \u although it is printable ASCII, but for the quote and
// the backslash.
var needlessEscape = regexp.MustCompile(`\\/|\\u00(?:2[013-9a-fA-F]|[346][0-9a-fA-F]|5[0-9abd-fABD-F]|7[0-9a-eA-E])`)
