package format

import (
	"encoding/json"
	"errors"
	"regexp"

	"github.com/websopy/relay/internal/chat"
)

// Query is a request as one upstream is asked it, once or twice: what it refuses of that which nobody asked for is
// left out of a second try.
type Query struct {
	*chat.Request
	*rules
	Model string
	place string // see Host.place
	kind  string

	bare          bool     // no state goes back; fillers stand in for what is missed
	fill          string   // stands for thinking beside calls, where no rule knows that it is missed; "" nothing
	fillSignature bool     // Google's sentinel likewise
	folded        bool     // system messages behind the first are the user's
	without       Addition // what is not added

	alone map[int]bool      // set by turns: system messages that are turns
	calls map[string][]call // by their ids, in their order; see calledName

	used  bool     // set by the encoder: something sealed goes back
	added Addition // set by the encoder

	items  int      // of states that went into the request
	blamed Addition // what a refusal seems to be for, that nobody would get; see Proven
}

// Addition is what the relay asks for of its own accord, or what the answer is as good without.
type Addition uint16

// What is added, in the order of additions.
const (
	AddUsage    Addition = 1 << iota // stream_options
	addSummary                       // of OpenAI's reasoning: not every account gets one
	addSealed                        // include: reasoning.encrypted_content
	addThoughts                      // Gemini's includeThoughts
	addDisplay                       // Claude's thinking.display
	addFormat                        // Groq's reasoning_format
	addIDs                           // of calls, in Gemini's format
	addSampling                      // temperature and top_p of a model whose name says nothing
	addOldLimit                      // max_tokens by that name, likewise
)

// additions are found in what providers say of them. What is an account's matter, and not a model's, is not tried
// again with the next request.
var additions = []struct {
	Addition
	refusal *regexp.Regexp
	forever bool
}{
	{AddUsage, regexp.MustCompile(`stream_options`), true},
	{addSummary, regexp.MustCompile(`(?i)summar(y|ies)`), true},
	{addSealed, regexp.MustCompile(`(?i)encrypted|\binclude\b`), false},
	{addThoughts, regexp.MustCompile(`(?i)include_?thoughts|thinking`), false},
	{addDisplay, regexp.MustCompile(`(?i)display|thinking`), false},
	{addFormat, regexp.MustCompile(`reasoning_format`), false},
	{addIDs, regexp.MustCompile(`Unknown name \\*"id\\*"`), false},
	{addSampling, regexp.MustCompile(`(?i)\b(temperature|top_p)\b.{0,60}(support|deprecated|allowed)`), false},
	{addOldLimit, regexp.MustCompile(`max_tokens.{0,80}max_completion_tokens`), false},
}

var (
	stateRefused = regexp.MustCompile(
		`(?i)invalid_encrypted_content|could not be verified|thought.?signature|signature.{0,40}thinking|` +
			`bound to a different conversation|must contain thinking|reasoning_content.{0,60}(missing|passed ` +
			`back)|reasoning.details.{0,40}preserved`)
	// What providers say of items that are in the wrong place, or were never theirs: a state is what its client makes
	// of it.
	stateBlamed = regexp.MustCompile("(?i)redacted|reasoning.{0,3} (item|content|details)|of type .reasoning|" +
		"thinking`? blocks?|cannot be `?(redacted_)?thinking|input\\[\\d+\\]\\.(id|summary|encrypted_content)|" +
		"duplicate item")
	signatureWanted = regexp.MustCompile(`(?i)thought.?signature`)
	thinkingWanted  = regexp.MustCompile(`(?i)reasoning_content.{0,60}(missing|passed back)`)

	// Chat templates of models at vLLM and llama.cpp raise this.
	systemMisplaced = regexp.MustCompile(
		`(?i)system (message|role).{0,40}(beginning|first|start)|only one system message`)
)

// adds reports whether something is to be asked for of the relay's own accord, and notes it.
func (q *Query) adds(a Addition) bool {
	if q.without&a != 0 {
		return false
	}
	q.added |= a
	return true
}

// sampled reports whether temperature and top_p are sent together with an effort.
func (q *Query) sampled(effort string) bool {
	return q.Temperature+q.TopP != "" && q.samples(effort) && q.adds(addSampling)
}

// LetGo forgets the request, which may be megabytes and is of no use while the answer is read.
func (q *Query) LetGo() { q.Request, q.calls = nil, nil }

// NewQuery returns the query that asks a target for req.
func NewQuery(req *chat.Request, at *Target, without Addition) *Query {
	return &Query{Request: req, rules: at.rules, Model: at.Model, place: at.place, kind: at.kind, without: without}
}

// Proven is what the provider takes from nobody, once it has begun to answer. Before that it is only what its refusal
// says, which may quote a stranger: of a function stream_options that has a bad schema, say.
func (q *Query) Proven() Addition { return q.blamed }

// Reconsider changes the query so that it has a chance after a refusal, and reports whether it has one. The provider
// has not begun to answer.
func (q *Query) Reconsider(err error) (again bool) {
	e, ok := errors.AsType[*chat.Error](err)
	if !ok || e.Err == nil || q.Request == nil {
		return false
	}
	q.items = 0 // it is encoded anew
	said := e.Message + " " + e.Err.Error()
	switch {
	case stateRefused.MatchString(said) && !q.bare &&
		(q.used || signatureWanted.MatchString(said) || thinkingWanted.MatchString(said)):
		q.bare = true
		if q.fillSignature = signatureWanted.MatchString(said); !q.fillSignature && thinkingWanted.MatchString(said) {
			q.fill = " "
		}
		return true
	case e.Code != chat.UpstreamRejected:
		return false
	case q.used && !q.bare && stateBlamed.MatchString(said):
		q.bare = true
		return true
	case systemMisplaced.MatchString(said) && !q.folded:
		q.folded = true
		return true
	}
	for _, a := range additions {
		// once: a refusal that is the same without it was for something else, and would be the same for ever
		if q.added&^q.without&a.Addition != 0 && a.refusal.MatchString(said) {
			q.without |= a.Addition
			if a.forever {
				q.blamed |= a.Addition
			}
			return true
		}
	}
	return false
}

// stateOf is what goes back with an assistant's message: what its state says, or else what the caller kept in
// OpenAI's style. It is nil when there is nothing. What was read is not kept: the items of a stranger's state take
// many times its size, and would wait with the request until the answer begins.
func (q *Query) stateOf(m *chat.Message) *parsedState {
	if q.bare || m.Role != chat.RoleAssistant {
		return nil
	}
	s := q.readState(m)
	if s == nil {
		return nil
	}
	if m.State != "" {
		if q.items += len(s.items); q.items > maxItems {
			return nil
		}
	}
	q.used = q.used || s.sealed()
	return s
}

func (q *Query) readState(m *chat.Message) *parsedState {
	if s := openState(m, q.kind, q.place); s != nil {
		return s
	}
	return q.keptBy(m)
}

// keptBy is what the caller of a message kept in OpenAI's style: thinking by its name, and Google's signatures.
// OpenRouter's details go back as they are, see encodeKept.
func (q *Query) keptBy(m *chat.Message) *parsedState {
	s := stateReader{content: contentOf(m), calls: len(m.ToolCalls), called: map[int]bool{}}
	if m.Reasoning != "" {
		s.items = append(s.items, item{kind: itemField, name: m.ReasoningName, text: m.Reasoning})
	}
	if seal := googleSignature(m.ExtraContent); seal != "" {
		s.items = append(s.items, item{kind: itemText, n: len(s.content), seal: seal})
		s.at = len(s.content)
	}
	seals := make(map[int]string) // of the calls, of which a stranger's message may have any number
	for i := range m.ToolCalls {
		if seal := googleSignature(m.ToolCalls[i].ExtraContent); seal != "" {
			seals[i] = seal
		}
	}
	if len(s.items)+len(seals) == 0 {
		return nil
	}
	s.items = s.completed() // the text, and then all calls
	for i := range s.items {
		if it := &s.items[i]; it.kind == itemCall {
			it.seal = seals[it.n]
		}
	}
	return &parsedState{items: s.items}
}

// googleSignature reads {"google": {"thought_signature": "..."}}.
// https://ai.google.dev/gemini-api/docs/thought-signatures
func googleSignature(extra []byte) string {
	var x struct {
		Google struct {
			Signature string `json:"thought_signature"`
		} `json:"google"`
	}
	if extra == nil || json.Unmarshal(extra, &x) != nil {
		return ""
	}
	return x.Google.Signature
}
