package report

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxSentence bounds what of a provider's report a user gets to see, in bytes.
const maxSentence = 300

// plainSentence gives what a provider says that may be shown to a user, "" if there is nothing. A sentence may hold
// words, plain numbers, the names of models and of parameters and little else (wordShapes): the relay can't know all
// the forms that an account's id, a key or an address may have, but it knows what a sentence about a request looks
// like. Sentences that hold anything else are left out.
func (t Teller) plainSentence(messages []string) string {
	for _, m := range messages {
		if isGeneric(m) {
			continue
		}
		if s := t.plainPart(m); s != "" {
			return s
		}
	}
	return ""
}

// generic are sentences that say nothing; what the provider behind it says, further inside, is worth more.
var generic = lazily(`(?i)^(the )?(provider returned error|(\w+ )?bad ?request|` +
	`(internal |upstream |unknown |inference |api )?(server )?error|(invalid|failed) request|request failed|` +
	`an? (unknown |unexpected )?error (has )?occurred|validation error|unprocessable entity|not found|` +
	`invalid_request_error|\w+exception|\w+error|(litellm\.\w+[: ]*)?\w+(exception|error)( -)?)\W*$`)

func isGeneric(s string) bool { return generic().MatchString(cutPrefixes(s)) }

// prefixes are what gateways put before a provider's sentence: "<400> ", "Error code: 400 - ",
// "litellm.BadRequestError: OpenAIException - ", "InternalError.Algo.InvalidParameter: ".
var prefixes = lazily(`^(?:<\d{3}>\s*|\[\d{3}\]\s*|Error code: \d{3}\s*[-:]\s*|HTTP \d{3}\s*[-:]\s*|` +
	`(?:[A-Za-z]+\.)+[A-Za-z]+:\s*|[A-Za-z]+(?:Error|Exception)\s*[:-]\s*)+`)

func cutPrefixes(s string) string { return prefixes().ReplaceAllString(strings.TrimSpace(s), "") }

var (
	requestID = lazily(`(?i)[\s,;:(\[-]*\b(request|trace|correlation|log|event|session)[ _-]?id\b` +
		`\s*[:=#]?\s*\S*`)
	parentheses = lazily(`\s*\([^()]*\)`)
	sentenceEnd = lazily(`[.!?;](?:\s+|$)|[。！？；]|[\r\n]+`)
)

// plainPart keeps the plain sentences of a message.
func (t Teller) plainPart(message string) string {
	s := requestID().ReplaceAllString(cutPrefixes(message), "")
	s = parentheses().ReplaceAllStringFunc(s, func(group string) string {
		if t.isPlain(group) {
			return group
		}
		return ""
	})
	var kept strings.Builder
	for s != "" {
		end := len(s)
		if at := sentenceEnd().FindStringIndex(s); at != nil {
			end = at[1]
		}
		sentence := s[:end]
		s = s[end:]
		if kept.Len()+len(sentence) > maxSentence {
			break
		}
		if t.isPlain(sentence) {
			kept.WriteString(strings.Map(func(r rune) rune {
				if unicode.IsSpace(r) { // a tab, or a line break of any kind
					return ' '
				}
				return r
			}, sentence))
		}
	}
	plain := strings.TrimSpace(kept.String())
	if !strings.ContainsFunc(plain, unicode.IsLetter) {
		return ""
	}
	return plain
}

// telling are words of sentences that tell of accounts and keys, whatever else is in them.
var telling = lazily(`(?i)\b(bearer|secrets?|passwords?|credentials?|api[ -]?keys?|key id|` +
	`ending (in|with)|starting with)\b|` +
	"\\b(organi[sz]ations?|accounts?|projects?|teams?|workspaces?|tenants?|subscriptions?|users?|" +
	"owner|customer|resource|deployment)\\b\\s*(id\\b|name\\b|[`'\"“:=#(\\[<])")

// isPlain reports whether a sentence holds nothing but what may be shown.
func (t Teller) isPlain(s string) bool {
	if telling().MatchString(s) || t.holdsSecret(s) {
		return false
	}
	for word := range strings.FieldsFuncSeq(s, func(r rune) bool {
		return unicode.IsSpace(r) || strings.ContainsRune("，、（）「」《》：“”。！？；", r)
	}) {
		if !t.isPlainWord(word) {
			return false
		}
	}
	return true
}

// isPlainWord reports whether a word, perhaps in quotes or with punctuation, has one of the shapes.
func (t Teller) isPlainWord(word string) bool {
	word = strings.Trim(word, "`'\"‘’,.:;!?…()[]")
	if word == "" || t.Model != "" && word == t.Model || symbols().MatchString(word) {
		return true
	}
	if address().MatchString(word) {
		return modelName().MatchString(word) && !idName().MatchString(word)
	}
	for part := range strings.FieldsFuncSeq(word, func(r rune) bool { return strings.ContainsRune("=:,'\"`", r) }) {
		part = strings.Trim(part, "[]()")
		if part != "" && part != t.Model && !hasShape(part) {
			return modelName().MatchString(word) && !idName().MatchString(word)
		}
	}
	return true
}

func hasShape(word string) bool {
	if idName().MatchString(word) {
		return false
	}
	if modelName().MatchString(word) {
		return true
	}
	if utf8.RuneCountInString(word) > 48 {
		return false
	}
	return wordShapes().MatchString(word)
}

const name = `[a-z]{1,20}(?:_[a-z]{1,20}|_\d{1,2})*` // of a parameter: max_tokens, reasoning_effort

var (
	address = lazily(`[\w\]]:\d|::|@`) // host:port, IPv6, mail

	symbols = lazily(`^(?:[-–—+*/%&|~<>=]|[<>=!]=|…)$`)

	// idName are the beginnings of names for things that are somebody's.
	idName = lazily(
		`(?i)^(?:org|req|acct|acc|account|proj|project|team|user|usr|cus|sub|sess|sk|pk|rk|ak|` +
			`gsk|xai|key|arn|tenant|workspace|chatcmpl|resp|msg|asst|thread|run|file|akia|asia)[-_:](?:id$)?`)

	modelName = lazily(`(?i)^(?:[a-z]{2,16}(?:-[a-z]{2,12})?/|` +
		`(?:(?:us|eu|apac|global)\.)?(?:anthropic|meta|amazon|mistral|cohere|deepseek|openai|qwen)\.)?` +
		`(?:gpt|o[1-9]|chatgpt|claude|gemini|gemma|llama|mistral|mixtral|magistral|devstral|codestral|ministral|` +
		`pixtral|qwen|qwq|deepseek|kimi|moonshot|glm|grok|command|aya|phi|nova|minimax|` +
		`text-embedding|sonar|granite|nemotron|hermes|yi|ernie|doubao)` +
		`(?:-?[a-z0-9]{1,12}|\.\d{1,3}){0,10}(?::(?:[a-z][a-z0-9-]{0,15}|\d[bm]?|\d{2,3}[bm]))?$`)

	wordShapes = lazily(`^(?:` + strings.Join([]string{
		`[\p{L}\p{M}]{1,20}(?:['’-][\p{L}\p{M}]{1,15}){0,3}`, // words, also with - and '
		`\p{Han}+`,                                // which have no spaces
		`(?:\p{Lu}\p{Ll}{2,14}){2,5}`,             // BadRequestError
		`\p{Ll}{2,15}(?:\p{Lu}\p{Ll}{1,14}){1,4}`, // maxTokens
		`-?\d{1,9}(?:\.\d{1,6})?(?:[kKmMgG]?i?[bB]?|%|ms|s|min|px|x)`, // numbers, also with a unit
		`\d{1,3}(?:,\d{3}){1,4}`, `\d{1,6}(?:\.\.|[-–/x])\d{1,6}`, // 1,000,000; 0-2
		`[A-Za-z]{1,3}\d{1,2}`, `\d{4}-\d{2}-\d{2}`, `\d{1,4}[kKmM]?-[a-z]{2,12}`, `v\d{1,2}`, // dates; 200k-token; v1
		`base64|b64_json|u?int(?:8|16|32|64)|float(?:16|32|64)|utf-?8|mp[34]|http2|sha256|h26[45]|[2345]xx`,
		name, `[A-Z]{1,16}(?:_[A-Z]{1,16}){1,4}`, // parameters; RESOURCE_EXHAUSTED
		`[a-z]{2,16}(?:/[a-z]{2,16}){1,2}`, `/v\d(?:/[a-z_]{2,20}){1,3}`, // and/or, image/png; the provider's paths
		`\$?(?:messages?|tools?|tool_choice|toolChoice|input|contents?|body|response_format|system|` +
			`generation_?[cC]onfig|thinking|reasoning|output_config|text|metadata|functions?|parameters|properties)` +
			`(?:\.(?:` + name + `|[a-z]{1,15}(?:[A-Z][a-z]{1,14}){1,3}|\d{1,4})|` +
			`\[\d{1,4}\]){1,10}`, // messages[0].content
	}, "|") + `)$`)
)

// without is what a provider said less the relay's own keys, for the log.
func (t Teller) without(said string) string {
	for _, secret := range t.Secrets {
		if len(secret) >= shortestSecret {
			said = strings.ReplaceAll(said, secret, "***")
		}
	}
	return said
}

// shortestSecret is how long a key is at least, in bytes, to be looked for: shorter ones are in many a word.
const shortestSecret = 12

// holdsSecret reports whether a piece of one of the relay's own keys is in a sentence: the beginning or the end of it,
// in whatever case.
func (t Teller) holdsSecret(s string) bool {
	const piece = 6
	lower := strings.ToLower(s)
	for _, secret := range t.Secrets {
		if secret = strings.ToLower(secret); len(secret) < shortestSecret {
			continue
		}
		if strings.Contains(lower, secret[:piece]) || strings.Contains(lower, secret[len(secret)-piece:]) {
			return true
		}
	}
	return false
}
