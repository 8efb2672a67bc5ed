package report

import (
	"bytes"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-faster/jx"
)

// providerReport is a failure as a provider describes it, in an HTTP body or inside a stream, whatever the format.
type providerReport struct {
	status     int      // HTTP's, or the code inside the report; 0 when unknown
	kind       string   // its codes, types and reasons, in lower case, each after a space
	messages   []string // its sentences, those that are further outside first
	said       int      // bytes of them
	retryAfter time.Duration
	found      bool   // there is a report at all
	raw        string // for the log

	statusDepth int // at which status was found
}

// What is read of a report is bounded: it can be 16 MiB, of which much may be the question of a stranger that the
// provider quotes, and what is kept of it goes through dozens of expressions.
const (
	maxReportDepth    = 8
	maxReportMessages = 16
	maxReportMessage  = 2 << 10
	maxReportText     = 4 << 10 // of all messages
	maxReportPlace    = 128
	maxReportKind     = 2 << 10
	maxReportNested   = 64 << 10 // of a report in a string
)

// reportRole is what the member of a report is for.
type reportRole int

const (
	roleMessage reportRole = iota + 1 // a sentence, or an object or a list that has some
	roleInside                        // an object or a list with more; a string only if it is JSON itself
	roleKind                          // a code, a type, a reason; a status if it is a number like one
	roleWait                          // how long to wait, in seconds if it is a number
	roleWaitMs
	rolePlace // of what the sentence beside it speaks
)

// reportKeys are the names of members, in lower case and without separators.
var reportKeys = map[string]reportRole{
	"error": roleMessage, "errors": roleMessage, "message": roleMessage, "msg": roleMessage, "detail": roleMessage,
	"errormessage": roleMessage, "errormsg": roleMessage, "errordescription": roleMessage, "description": roleMessage,
	"statusmessage": roleMessage, "statusmsg": roleMessage, "title": roleMessage, "raw": roleMessage,

	"details": roleInside, "metadata": roleInside, "innererror": roleInside, "data": roleInside, "body": roleInside,
	"cause": roleInside, "violations": roleInside, "fieldviolations": roleInside, "headers": roleInside,
	"baseresp": roleInside, "exception": roleInside, "contentfilterresult": roleInside,

	"type": roleKind, "code": roleKind, "status": roleKind, "statuscode": roleKind,
	"reason": roleKind, "reasons": roleKind,
	"errortype": roleKind, "errorcode": roleKind, "errcode": roleKind, "kind": roleKind, "blockreason": roleKind,

	"retrydelay": roleWait, "retryafter": roleWait, "retryafterseconds": roleWait, "retryafterms": roleWaitMs,
	"loc": rolePlace, "field": rolePlace,
}

var separators = strings.NewReplacer("_", "", "-", "")

// parse reads the report in body.
func (r *providerReport) parse(body []byte) {
	r.raw = Excerpt(body)
	body = bytes.TrimSpace(body)
	if len(body) == 0 || body[0] == '<' {
		return // a page of some proxy
	}
	if body[0] != '{' && body[0] != '[' && body[0] != '"' {
		r.say(string(body[:min(len(body), maxReportMessage)]), 0)
		return
	}
	_ = r.value(jx.DecodeBytes(body), roleInside, 0) // what could be read counts
}

// value reads a value that is for role.
func (r *providerReport) value(d *jx.Decoder, role reportRole, depth int) error {
	switch d.Next() {
	case jx.String:
		s, err := d.Str()
		r.text(s, role, depth)
		return err
	case jx.Number:
		n, err := d.Num()
		r.text(n.String(), role, depth)
		return err
	case jx.Array:
		if depth < maxReportDepth {
			return d.Arr(func(d *jx.Decoder) error { return r.value(d, role, depth+1) })
		}
	case jx.Object:
		if depth < maxReportDepth {
			return r.object(d, depth+1)
		}
	}
	return d.Skip()
}

func (r *providerReport) object(d *jx.Decoder, depth int) error {
	before, place := len(r.messages), ""
	err := d.Obj(func(d *jx.Decoder, key string) error {
		role := reportKeys[strings.ToLower(separators.Replace(key))]
		switch {
		case role == 0 && key == "__type":
			role = roleKind
		case role == 0:
			if key == "flagged_input" {
				r.kind += " " + key
			}
			return d.Skip()
		case role == rolePlace:
			var loc providerReport // its strings, the last of which says most
			err := loc.value(d, roleMessage, depth)
			if n := len(loc.messages); n > 0 {
				place = loc.messages[n-1]
				place = strings.ToValidUTF8(place[:min(len(place), maxReportPlace)], "")
			}
			return err
		case role == roleMessage && d.Next() == jx.Object:
			r.found = true
		}
		return r.value(d, role, depth)
	})
	for i := before; place != "" && i < len(r.messages); i++ {
		if !strings.Contains(r.messages[i], place) {
			r.messages[i] = place + ": " + r.messages[i]
		}
	}
	return err
}

// text notes a string or a number.
func (r *providerReport) text(s string, role reportRole, depth int) {
	switch role {
	case roleMessage:
		r.say(s, depth)
	case roleInside:
		r.nested(s, depth)
	case roleKind:
		if n, err := strconv.Atoi(s); err == nil && n >= 400 && n < 600 {
			if r.status == 0 || depth < r.statusDepth {
				r.status, r.statusDepth = n, depth
			}
		} else if s != "error" && s != "" && len(r.kind)+len(s) < maxReportKind {
			r.kind += " " + strings.ToLower(s)
		}
	case roleWait, roleWaitMs:
		r.wait(s, role)
	}
}

// say notes a sentence. It may hold another report, of the provider behind the provider.
func (r *providerReport) say(s string, depth int) {
	s = strings.TrimSpace(s)
	if s == "" {
		return
	}
	r.found = true
	if before, ok := r.nested(s, depth); ok {
		s = strings.TrimRight(before, " \t\r\n:-")
	}
	room := min(maxReportMessage, maxReportText-r.said)
	if s != "" && room > 0 && len(r.messages) < maxReportMessages {
		s = strings.ToValidUTF8(s[:min(len(s), room)], "")
		r.messages = append(r.messages, s)
		r.said += len(s)
	}
}

// nested reads a report that a string holds as JSON, or as Python prints it, and returns what is before it.
func (r *providerReport) nested(s string, depth int) (before string, ok bool) {
	i := strings.IndexByte(s, '{')
	if i < 0 || depth >= maxReportDepth || len(s)-i > maxReportNested {
		return s, false
	}
	inner := []byte(s[i:])
	if !startsWithJSON(inner) {
		if inner = fromPython(s[i:]); !startsWithJSON(inner) {
			return s, false
		}
	}
	n := len(r.messages)
	_ = r.value(jx.DecodeBytes(inner), roleInside, depth+1)
	return s[:i], len(r.messages) > n
}

func startsWithJSON(b []byte) bool { return jx.DecodeBytes(b).Skip() == nil }

// pythonText makes of what is between Python's quotes what JSON has between its own.
var pythonText = strings.NewReplacer(`\'`, `'`, `\"`, `\"`, `\\`, `\\`, `"`, `\"`)

// fromPython turns Python's way to write a dict into JSON, as far as reports go: {'error': {'param': None}}.
func fromPython(s string) []byte {
	var out []byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\'' || c == '"':
			j := i + 1
			for j < len(s) && s[j] != c {
				if s[j] == '\\' {
					j++
				}
				j++
			}
			text := pythonText.Replace(s[i+1 : min(j, len(s))])
			out = append(append(append(out, '"'), text...), '"')
			i = j
		case strings.HasPrefix(s[i:], "None"):
			out, i = append(out, "null"...), i+3
		case strings.HasPrefix(s[i:], "True"), strings.HasPrefix(s[i:], "False"):
			out = append(out, c|0x20)
		default:
			out = append(out, c)
		}
	}
	return out
}

// wait notes how long the provider asks to wait: a number, a duration like "19s", or seconds as text.
func (r *providerReport) wait(s string, role reportRole) {
	unit := time.Second
	if role == roleWaitMs {
		unit = time.Millisecond
	}
	wait, err := time.ParseDuration(s)
	if n, numErr := strconv.ParseFloat(s, 64); numErr == nil {
		wait, err = time.Duration(min(n, MaxRetryAfter.Seconds())*float64(unit)), nil
	}
	if err == nil && wait > 0 && r.retryAfter == 0 {
		r.retryAfter = min(wait, MaxRetryAfter)
	}
}

// waitInWords finds how long to wait in a sentence: "try again in 1.2s", "retry after 2 minutes", "in 6m0s".
var waitInWords = lazily(`(?i)\b(?:again|retry|retrying|wait)\b` +
	`(?: your request| at least| for| in| after| about)*\s+` +
	`(?:(\d+)h)?(?:(\d+)m(?:in(?:ute)?s?)?)?\s*` +
	`(?:(\d+(?:\.\d+)?)\s*(ms|milliseconds?|s|secs?|seconds?|minutes?|mins?|hours?))?(?:\W|$)`)

// toldWait is how long the provider's sentences ask to wait, 0 if they do not.
func (r *providerReport) toldWait() time.Duration {
	for _, s := range r.messages {
		m := waitInWords().FindStringSubmatch(s)
		if m == nil {
			continue
		}
		number := func(i int) float64 { f, _ := strconv.ParseFloat(m[i], 64); return f }
		wait := number(1)*3600 + number(2)*60
		switch unit := strings.ToLower(m[4]); {
		case strings.HasPrefix(unit, "milli") || unit == "ms":
			wait += number(3) / 1000
		case strings.HasPrefix(unit, "s"):
			wait += number(3)
		case strings.HasPrefix(unit, "min"):
			wait += number(3) * 60
		case strings.HasPrefix(unit, "hour"):
			wait += number(3) * 3600
		}
		if wait > 0 {
			return time.Duration(min(wait, MaxRetryAfter.Seconds()) * float64(time.Second))
		}
	}
	return 0
}

// MaxRetryAfter is beyond what a provider may mean: a larger number is a mistake, or would overflow.
const MaxRetryAfter = 24 * time.Hour

// Excerpt is what of a body goes into the log. Whoever writes that knows the keys and blots them out, and has
// to be able to find them: so escapes that JSON allows and does not need are undone, and the cut goes through
// no word.
func Excerpt(body []byte) string {
	const longest = 500
	s := needlessEscape().ReplaceAllStringFunc(string(body[:min(len(body), 2*longest)]), func(escape string) string {
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
		s = s[:strings.LastIndexFunc(s, func(r rune) bool { return r <= ' ' || r == '"' || r > unicode.MaxASCII })+1] +
			"…"
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// needlessEscape matches \/ and what is written as \u although it is printable ASCII, but for the quote and
// the backslash.
var needlessEscape = lazily(`\\/|\\u00(?:2[013-9a-fA-F]|[346][0-9a-fA-F]|5[0-9abd-fABD-F]|7[0-9a-eA-E])`)
