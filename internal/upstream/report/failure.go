// Package report reads failures as providers describe them, and makes one of our errors of them.
package report

import (
	"cmp"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/websopy/relay/internal/chat"
)

// failureClass is what failures of one sort have in common. A report is of the first class that it fits.
type failureClass struct {
	code      chat.Code
	message   string // for the user
	tells     bool   // the provider's own sentence is of use to the user
	elsewhere bool   // another provider may do it, though the code says that the request is at fault

	// A report fits if its status is one of these, or its codes or its sentences match, but not if unless does.
	statuses     []int
	kind, says   pattern
	unless       pattern
	at, saysAt   func(status int) bool // at which status codes and sentences count, and sentences alone; nil: at any
	noCredit     bool                  // of the account
	withoutAWait bool                  // the status counts only if the provider does not say how long to wait
}

// What codes and sentences tell beside a status, which is 0 when there is none.
func below500(status int) bool   { return status < 500 }
func atKeys(status int) bool     { return slices.Contains([]int{0, 400, 401, 403}, status) }
func atOverload(status int) bool { return status == 0 || status == 429 || status >= 500 }
func isRedirect(status int) bool { return status >= 300 && status < 400 }

// pattern is an expression that is compiled when it is needed first. Together those of this package take 650 KiB and
// some milliseconds, and most relays see few of the failures that there are.
type pattern func() *regexp.Regexp

func lazily(expression string) pattern {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

func anyOf(words ...string) pattern { return lazily("(?i)" + strings.Join(words, "|")) }

// failureClasses stand in the order in which they count: what is most certain first. Codes are matched in lower case,
// and providers write them in every way: rate_limit_exceeded, RateLimitError, Throttling.RateQuota.
var failureClasses = []failureClass{
	{
		code: chat.UpstreamAuth, message: "the relay's account at the provider is blocked",
		kind: anyOf(`account.?(deactivated|suspended|disabled)`),
		says: anyOf(`\b(account|organi[sz]ation|workspace|project|team|api key)\b.{0,60}\b(has been|is|was)\b.{0,20}` +
			`(suspended|deactivated|disabled|terminated|banned|blocked)`),
	},
	{
		code: chat.ContentFiltered, message: "the provider refused the request on content grounds", tells: true,
		kind: anyOf(`content.?(filter|policy|moderation|block)`, `responsible.?ai`, `data.?inspection`,
			`moderation`, `sensitive`,
			`\bsafety`, `prohibited.?content`, `blocklist`, `invalid_prompt`, `image_safety`, `flagged`,
			`risk.?control`,
			`cyber.?policy`, `guardrail`),
		says: anyOf(`content exists risk`, `usage (guideline|polic)`, `content (management )?(polic|filter)`,
			`safety (system|check|filter|polic)`,
			`safety_check`,
			`\b(prompt|input|request|content|messages?|text)\b.{0,40}\b(was|were|been|is|are) (flagged|blocked)`,
			`(inappropriate|sensitive|harmful|prohibited|unsafe) (content|words?|language)`,
			`violat\w* .{0,40}(polic|guideline|terms)`,
			`requires moderation`, `blocked by .{0,40}(safety|content|guardrail|moderation|filter|polic)`,
			`guardrail`,
			`敏感`, `违规`, `不安全`, `不当内容`),
	},
	{
		code: chat.ContextLengthExceeded, message: "the conversation is too long for the model", tells: true,
		kind: anyOf(`context.?(length|window|size|limit|overflow)`, `exceed.?context`, `prompt.?too.?long`,
			`input.?too.?long`,
			`max.?(context|prompt).?(length|tokens)`, `tokens_limit_reached`, `too_many_input_tokens`),
		says: anyOf(`prompt (is |was )?too long`,
			`(maximum|max|model'?s?|model maximum) (context|prompt|model|input) ?length`,
			`(context|input|prompt) (window|limit|size|length)\b.{0,60}(exceed|too (long|large|small)|overflow|limit)`,
			`(exceed|larger than|longer than|too (long|large) for|over|beyond|fit)\w* .{0,60}`+
				`\b(context|token limit|prompt length|model length)`,
			`(input|prompt|message|request)s?\b.{0,40}\b(is|are|was) too (long|many tokens)`,
			`exceeds? (the )?max(imum)? (prompt )?length`,
			`input (token|length).{0,60}(exceed|greater|more than)`,
			`exceeds? the maximum (number of|allowed) (input )?tokens`,
			`(reduce|shorten) (the length of )?(the |your )?(messages|prompt|input|conversation)`,
			`too many (input |prompt )?tokens`,
			`range of input length`, `context (the )?(overflow|length of only)`, `exceeded model token limit`,
			`tokens? .{0,40}max_new_tokens.{0,20}must be`),
		unless: anyOf(`per (minute|day|second|hour)`, `\b[rt]p[md]\b`, `rate.?limit`, `throttl`,
			`context shift`),
	},
	{
		code: chat.UpstreamRejected, message: "the request is too large for the provider", tells: true,
		elsewhere: true,
		statuses:  []int{413}, kind: anyOf(`request_too_large`, `payload.?too.?large`),
	},
	{
		code: chat.UpstreamAuth, message: "the relay's account at the provider has no credit left",
		statuses: []int{402}, withoutAWait: true, noCredit: true,
		kind: anyOf(`insufficient.?(user.?)?(quota|balance|credit|fund)`, `billing`, `payment.?required`,
			`exceeded_current_quota`, `arrear`,
			`\bout_of_credit`, `no_credit`, `credits?_(exhausted|depleted|required)`, `accountoverdue`,
			`spending.?limit`),
		says: anyOf(`credit balance is too low`, `insufficient (account )?(balance|credit|fund|quota)`,
			`(out of|not enough|no|without) (available |remaining )?credits?\b`,
			`used (up )?all (of )?(your |its |the )?(available |included )?credits?`,
			`credits? (is|are|have|has)( been)? (depleted|exhausted|used up)`,
			`have any credits`, `current quota, please check your plan and billing`, `\b(recharge|top up)\b`,
			`purchase (more )?credits`,
			`requires more credits`, `(overdue|in arrears)\b`, `spend(ing)? limit`, `billing (hard )?limit`,
			`余额不足`, `欠费`),
		unless: anyOf(`throttl`, `resource.?exhausted`),
	},
	{
		code: chat.UpstreamRateLimited, message: "the provider is limiting the relay's requests",
		statuses: []int{429, 402},
		kind: anyOf(`rate.?limit`, `rate.?exceeded`, `throttl`, `too.?many.?requests`,
			`(resource|been).?exhausted`, `quota`, `engine_overloaded`,
			`concurrency`),
		says: anyOf(`rate.?limit(s|ed|ing)?\b`, `too many (concurrent )?requests`,
			`(requests|tokens) per (second|minute|hour|day)`, `throttl`,
			`(again|retry) (in|after) \d`, `concurren(t|cy).{0,30}(limit|exceed)`, `capacity exceeded`,
			`quota (exceeded|reached)`),
		saysAt: below500,
	},
	{
		code: chat.UpstreamRejected, message: "the provider rejected the request", tells: true, elsewhere: true,
		statuses: []int{404},
		kind: anyOf(`model.?not.?(found|exist|supported|available)`,
			`(invalid|unknown|unsupported).?model\b`, `deployment.?not.?found`, `not.?found`),
		says: anyOf(`\bmodel\b.{0,80}\b(does not|doesn't|not) exist`,
			`\bmodel\b.{0,80}\bnot (found|available)`, `not a valid model`,
			`(unknown|invalid|no such|unsupported) model\b`, `no endpoints found`,
			`no available channel for model`, `not have access to (the )?model`),
		at: below500,
	},
	{
		code: chat.UpstreamAuth, message: "the provider does not accept the relay's credentials",
		statuses: []int{401, 403},
		kind: anyOf(`authenticat`, `permission`, `api.?key.?(invalid|expired|not.?valid)`,
			`invalid.?(api.?)?key`, `unauthorized`, `access.?denied`, `\bforbidden`),
		says: anyOf(`api key (not valid|expired|is invalid)`,
			`(invalid|incorrect|missing|expired) api.?key`),
		at: atKeys,
	},
	{
		code: chat.UpstreamError, message: "the provider is overloaded", tells: true,
		statuses: []int{503, 529},
		kind:     anyOf(`overload`, `slow_down`, `unavailable`, `no_capacity`),
		says: anyOf(`overloaded`, `over capacity`, `at capacity`, `high demand`,
			`temporarily unavailable`, `loading model`),
		at: atOverload,
	},
	{code: chat.UpstreamError, message: "the provider failed", tells: true, statuses: []int{408, 409, 424, 425, 499}},
	{
		code: chat.UpstreamRejected, message: "the provider rejected the request", tells: true,
		kind: anyOf(`invalid.?(request|argument|param|value|type|input|image|url|schema|function|tool|json)`,
			`bad.?request`, `validation`,
			`unsupported`, `unprocessable`, `failed.?precondition`, `out.?of.?range`, `extra_forbidden`,
			`missing`),
		at: below500,
	},
}

// hostCodes are codes that mean something at one provider only, by the name that others have for it.
var hostCodes = []struct {
	host  pattern
	codes map[string]string
}{
	{anyOf(`(^|\.)(z\.ai|bigmodel\.cn)$`), named(
		"authentication", "1000 1001 1002 1003 1004", "account_disabled", "1110 1111 1112 1121", "permission", "1220",
		"insufficient_balance", "1113 1309", "model_not_found", "1211 1221 1222", "invalid_parameter",
		"1210 1212 1213 1214 1215",
		"context_length", "1261", "content_filter", "1300 1301", "rate_limit", "1302 1303 1304 1308 1310 1313",
		"overloaded", "1120 1305 1312",
	)},
	{anyOf(`(^|\.)minimaxi?\.(chat|io|com)$`), named(
		"rate_limit", "1002 1041 2056", "authentication", "1004 2049", "insufficient_balance", "1008", "sensitive",
		"1026 1027",
		"context_length", "1039", "invalid_parameter", "2013",
	)},
	{anyOf(`(^|\.)aliyuncs\.com$`), named("throttling", "insufficient_quota")}, // of some seconds
}

// named gives the name of each code, of pairs of a name and codes.
func named(pairs ...string) map[string]string {
	names := make(map[string]string)
	for i := 0; i < len(pairs); i += 2 {
		for code := range strings.FieldsSeq(pairs[i+1]) {
			names[code] = pairs[i]
		}
	}
	return names
}

// Teller is what is known of who reports a failure.
type Teller struct {
	Host    string
	Model   string   // that was asked
	Secrets []string // which the relay shows to the provider
}

// providerFailure is the cause of an error that a provider reported.
type providerFailure struct {
	report    providerReport
	elsewhere bool // another provider may do it
}

func (f *providerFailure) Error() string {
	return "provider: status " + strconv.Itoa(f.report.status) + ": " + f.report.raw
}

// StatusOf is the status with which a provider reported an error, 0 when it did not.
func StatusOf(err error) int {
	if f, ok := errors.AsType[*providerFailure](err); ok {
		return f.report.status
	}
	return 0
}

// RefusesRelay reports whether the status of a failure says that the provider refuses the relay's key or account, or
// the failure is none that a provider reported. A sentence alone does not say it: providers quote the request
// ("Invalid value: '...'"), so that a caller can have any sentence said.
func RefusesRelay(err error) bool {
	f, ok := errors.AsType[*providerFailure](err)
	return !ok || slices.Contains([]int{401, 402, 403}, f.report.status)
}

const unavailable = 503

var loading = anyOf(`\bloading\b`, `not (yet )?(ready|loaded)`, `starting up`, `warming up`, `initializing`)

// IsLoading reports whether a provider says that it will be there soon: llama.cpp's 503 "Loading model" and its like.
func IsLoading(err error) bool {
	f, ok := errors.AsType[*providerFailure](err)
	return ok && f.report.status == unavailable &&
		(slices.ContainsFunc(f.report.messages, loading().MatchString) || loading().MatchString(f.report.kind))
}

// WorthAnother reports whether another provider may do what this one refused.
func WorthAnother(err error) bool {
	f, ok := errors.AsType[*providerFailure](err)
	return ok && f.elsewhere
}

// In reads the failure that data describes.
func In(data []byte) error {
	var r providerReport
	r.parse(data)
	return r.err()
}

// Response is what of a response tells of a failure.
type Response struct {
	Status     int
	Body       []byte
	Kind       string        // the failure's name, if a header has it
	RetryAfter time.Duration // likewise; 0: it does not say
}

// Of returns the error of a response.
func Of(res Response) *chat.Error {
	var r providerReport
	r.parse(res.Body)
	if res.Kind != "" {
		r.kind += " " + strings.ToLower(res.Kind)
	}
	if res.RetryAfter > 0 {
		r.retryAfter = res.RetryAfter
	}
	r.status = res.Status
	return r.err()
}

// IsReported reports whether an error is what a provider said, or what we say of it, and not that of a parser.
func IsReported(err error) bool {
	_, ok := errors.AsType[*chat.Error](err)
	return ok
}

// err maps a report to one of our errors.
func (r *providerReport) err() *chat.Error { return r.errFrom(Teller{}) }

// Explain maps the report behind an error once more, now that it is known who made it.
func (t Teller) Explain(err error) error {
	e, ok := errors.AsType[*chat.Error](err)
	if !ok {
		return err
	}
	f, ok := errors.AsType[*providerFailure](e.Err)
	if !ok {
		return err
	}
	better := f.report.errFrom(t)
	better.RetryAfter = cmp.Or(better.RetryAfter, e.RetryAfter)
	return better
}

func (r *providerReport) errFrom(t Teller) *chat.Error {
	kind := r.kindAt(t.Host)
	said := strings.Join(r.messages, "\n")
	class := classOf(r.status, kind, said, r.retryAfter > 0)
	told := *r
	told.raw = t.without(r.raw)
	f := &providerFailure{report: told, elsewhere: class.elsewhere || r.status == 404 || r.status == 413}
	e := &chat.Error{Code: class.code, Message: class.message, RetryAfter: r.retryAfter, NoCredit: class.noCredit,
		Err: f}
	if e.RetryAfter == 0 && e.Code.Retryable() {
		e.RetryAfter = r.toldWait()
	}
	if class.tells {
		if sentence := t.plainSentence(r.messages); sentence != "" {
			e.Message += ": " + sentence
		}
	}
	return e
}

// kindAt is the report's codes in everybody's words.
func (r *providerReport) kindAt(host string) string {
	kind := r.kind
	for _, h := range hostCodes {
		if host == "" || !h.host().MatchString(host) {
			continue
		}
		words := strings.Fields(kind)
		for i, w := range words {
			words[i] = cmp.Or(h.codes[w], w)
		}
		kind = " " + strings.Join(words, " ")
	}
	return kind
}

func classOf(status int, kind, said string, waits bool) failureClass {
	if isRedirect(status) {
		return failureClass{code: chat.UpstreamMalformed,
			message: "the provider answered with a redirect, which is not followed"}
	}
	for _, c := range failureClasses {
		if c.fits(status, kind, said, waits) {
			return c
		}
	}
	switch {
	case status >= 500:
		return failureClass{code: chat.UpstreamError, message: "the provider failed", tells: true}
	case status >= 400:
		return failureClass{code: chat.UpstreamRejected, message: "the provider rejected the request", tells: true}
	}
	return failureClass{code: chat.UpstreamError, message: "the provider reported an error", tells: true}
}

func (c *failureClass) fits(status int, kind, said string, waits bool) bool {
	switch {
	case c.unless != nil && (c.unless().MatchString(kind) || c.unless().MatchString(said)):
		return false
	case slices.Contains(c.statuses, status) && (!c.withoutAWait || !waits):
		return true
	case c.at != nil && !c.at(status):
		return false
	}
	return c.kind != nil && c.kind().MatchString(kind) ||
		c.says != nil && (c.saysAt == nil || c.saysAt(status)) && c.says().MatchString(said)
}
