package format

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// What models and hosts accept stands in the tables of this file and nowhere else: encoders ask, they don't
// know. The sources are the providers' documentation of November 2026; docs/providers.md has it for people.

// modelRule is what is known of the models whose name matches. Its zero value says that all is taken as asked.
type modelRule struct {
	match string // a regular expression on the model's name; the first row that matches counts

	sampling string // temperature and top_p: "" both are taken, oneOf, withNone, never
	efforts  string // the values of reasoning_effort from small to large; "" as asked, notTaken
	unasked  string // the effort that the model has of its own accord; "" not known

	thinks string // "" as asked, unaskedThinking, onBudget, onLevels
	off    string // the thinking.type that stops it; "" when nothing does
	least  int    // of a budget, in tokens; 0 when thinking can be off

	noForced  bool   // a tool can't be forced
	calmly    bool   // a forced tool excludes thinking
	noPrefill bool   // the last message can't be the assistant's
	inPlace   bool   // takes system messages among the others
	noStop    bool   // takes neither stop sequences nor penalties
	ccTools   string // function tools in chat completions: "" taken, withNone, unlessAsked, never
	noIDs     bool   // calls have no ids
	images    bool   // tool results may have images
	shows     bool   // thoughts are shown when asked for
	sealed    bool   // hands its reasoning out encrypted when asked
	backAs    string // a hostRule's back, of this model
	parsed    bool   // has to be asked to tell thinking from text
	ccMost    string // the largest effort in chat completions; "" any
	converse         // Bedrock's
}

// converse is what Bedrock's format does not say in the same way for the models of all makers.
type converse struct {
	thinksAs    string // how an effort is said: "" not at all, or one of those below
	cachePoints bool   // it takes marks for the cache
}

const (
	byThinking        = "Claude's thinking"
	byReasoningConfig = "Nova's reasoningConfig"
	byEffort          = "OpenAI's reasoning_effort"
)

// converseRules go by the families of models.
var converseRules = map[string]converse{
	"claude": {byThinking, true}, "nova": {byReasoningConfig, true}, "openai.gpt-oss": {thinksAs: byEffort},
}

// Values of a modelRule.
const (
	oneOf    = "one of them"
	withNone = "with effort none"
	never    = "never"

	notTaken    = "-"
	unlessAsked = "unless another effort is asked for"

	unaskedThinking = "unasked"
	onBudget        = "on a budget"
	onLevels        = "on levels"
)

// Efforts from small to large.
var allEfforts = []string{"none", "minimal", "low", "medium", "high", "xhigh", "max"}

// A family is the models of one maker that its own format knows rules for. Its last row is for names that are
// not known: they count as the newest.
type modelFamily struct {
	name   string
	member *regexp.Regexp
	rules  []modelRule
}

var modelFamilies = []modelFamily{
	{"claude", regexp.MustCompile(`(^|[./])claude-`), []modelRule{
		{match: `(opus|fable|mythos)-5-[1-9](\D|$)`, sampling: never, efforts: "low medium high xhigh max",
			thinks: unaskedThinking, noForced: true, noPrefill: true, inPlace: true},
		{match: `sonnet-5-5(\D|$)`, sampling: never, efforts: "none low medium high xhigh max",
			thinks: unaskedThinking, off: "between_tools", noForced: true, noPrefill: true, inPlace: true},
		{match: `(fable|mythos)-5`, sampling: never, efforts: "low medium high xhigh max",
			thinks: unaskedThinking, noPrefill: true, inPlace: true},
		{match: `haiku-5|opus-5`, sampling: never, efforts: "none low medium high xhigh max",
			thinks: unaskedThinking, off: "disabled", noPrefill: true, inPlace: true},
		{match: `sonnet-5`, sampling: never, efforts: "none low medium high xhigh max", thinks: unaskedThinking,
			off: "disabled", noPrefill: true, inPlace: true},
		{match: `4[-.]8`, sampling: never, efforts: "none low medium high xhigh max", off: "disabled",
			noPrefill: true, inPlace: true},
		{match: `4[-.]7`, sampling: never, efforts: "none low medium high xhigh max", off: "disabled",
			noPrefill: true},
		{match: `4[-.]6`, sampling: oneOf, efforts: "none low medium high max", off: "disabled", calmly: true,
			noPrefill: true},
		{match: `-4(\D|$)`, sampling: oneOf, thinks: onBudget, least: 1024, calmly: true, off: "disabled"},
		{match: `claude-[23]`, thinks: onBudget, least: 1024, calmly: true, off: "disabled"},
		{match: ``, sampling: never, efforts: "low medium high xhigh max", thinks: unaskedThinking,
			noForced: true, noPrefill: true, inPlace: true},
	}},
	{"gpt", regexp.MustCompile(`^(ft:)?(gpt-|o\d)`), []modelRule{
		{match: `^gpt-oss`},
		{match: `^gpt-(6-astra|6\.1-sol)`, sampling: never, efforts: "low medium high xhigh max", noStop: true,
			ccTools: never, sealed: true, shows: true},
		{match: `^gpt-(6|5\.6)`, sampling: withNone, efforts: "none low medium high xhigh max", ccMost: "xhigh",
			unasked: "medium", noStop: true, ccTools: withNone, sealed: true, shows: true},
		{match: `^gpt-5\.5`, sampling: withNone, efforts: "none low medium high xhigh", unasked: "medium",
			noStop: true, ccTools: withNone, sealed: true, shows: true},
		{match: `^gpt-5\.\d-chat`, sampling: never, efforts: "medium", unasked: "medium", noStop: true,
			sealed: true, shows: true},
		{match: `^gpt-5\.4`, sampling: withNone, efforts: "none low medium high xhigh", unasked: "none",
			noStop: true, ccTools: unlessAsked, sealed: true, shows: true},
		{match: `^gpt-5\.[23]`, sampling: withNone, efforts: "none low medium high xhigh", unasked: "none",
			noStop: true, sealed: true, shows: true},
		{match: `^gpt-5\.1`, sampling: withNone, efforts: "none low medium high", unasked: "none", noStop: true,
			sealed: true, shows: true},
		{match: `^gpt-5-chat`, efforts: notTaken, noStop: true},
		{match: `^gpt-5-pro`, sampling: never, efforts: "high", unasked: "high", noStop: true, sealed: true,
			shows: true},
		{match: `^gpt-5($|-)`, sampling: never, efforts: "minimal low medium high", unasked: "medium",
			noStop: true, sealed: true, shows: true},
		{match: `^o[134]`, sampling: never, efforts: "low medium high", unasked: "medium", noStop: true,
			sealed: true, shows: true},
		{match: `^gpt-[34]`, efforts: notTaken},
		{match: ``, sampling: never, efforts: "low medium high xhigh max", noStop: true, ccTools: never,
			sealed: true, shows: true},
	}},
	{"gemini", regexp.MustCompile(`(^|/)gemini-`), []modelRule{
		{match: `gemini-[12].*(image|tts|audio|live)|gemini-(1|2\.0)`, thinks: onBudget, noIDs: true},
		{match: `image|tts|audio|live`, thinks: onLevels, efforts: "low high", images: true},
		{match: `gemini-2\.5-pro`, thinks: onBudget, least: 128, noIDs: true, shows: true},
		{match: `gemini-2\.5-flash-lite`, thinks: onBudget, noIDs: true},
		{match: `gemini-2`, thinks: onBudget, noIDs: true, shows: true},
		{match: `gemini-3-pro`, thinks: onLevels, efforts: "low high", images: true, shows: true},
		{match: `gemini-3(\.[156])?-flash`, thinks: onLevels, efforts: "minimal low medium high", images: true,
			shows: true},
		{match: ``, thinks: onLevels, efforts: "low medium high", images: true, shows: true},
	}},
	{"nova", regexp.MustCompile(`(^|[./])amazon\.nova-`), []modelRule{
		{match: `nova-(micro|lite|pro|premier)-v1`, efforts: notTaken},
		{match: ``, efforts: "none low medium high"},
	}},
	{"openai.gpt-oss", regexp.MustCompile(`(^|[./])openai\.gpt-oss`), []modelRule{
		{match: ``, efforts: "low medium high"},
	}},
}

// hostRule is what is known of a provider by the name of its host, or of a deployment of its family.
type hostRule struct {
	family string // the operator's word for it (UPSTREAM_FAMILY)
	hosts  string // domains, separated by spaces; * stands for the beginning of a name

	maxTokens string // what the limit of tokens is called; "" as the caller says
	seed      string // what seed is called; "" seed
	ids       int    // letters and digits that an id of a call has; 0 any
	back      string // the name by which thinking goes back; "" as it came, notTaken, or one of those below
	fill      string // stands for thinking beside calls that have none; "" nothing stands for it
	signed    bool   // calls have Google's signatures
	noCallIDs bool   // calls have no ids in Google's own format
	inClaude  string // the version of Claude's interface, where it stands in the body and the model in the address
	thinking  string // how an effort is said: "" reasoning_effort, byType, byEnable, byObject

	noStreamOptions bool
	noNames         bool // messages have no name
	noImageURLs     bool
	noSchema        bool // no json_schema
	noRequired      bool // no tool_choice "required"
	plainNames      bool // names have letters, digits, and little else
	strict          bool // refuses what it does not know in a message: cache_control, extra_content
	bridge          bool // an assistant's turn stands between a tool's result and the user
	prefix          bool // the last message may be the assistant's if it has prefix: true

	models []modelRule // in place of the family's
}

// Values of a hostRule.
const (
	emptyText   = "empty" // fill: "" is written
	inContent   = "think tags"
	inParts     = "content parts"
	inDetails   = "reasoning_details"
	byType      = "thinking.type"
	byEnable    = "enable_thinking"
	byObject    = "reasoning.effort"
	noReasoning = notTaken
)

var hostRules = []hostRule{
	{family: "openai", hosts: "api.openai.com", maxTokens: "max_completion_tokens", back: noReasoning, strict: true,
		plainNames: true},
	{family: "azure", hosts: "openai.azure.com services.ai.azure.com cognitiveservices.azure.com",
		maxTokens: "max_completion_tokens", back: noReasoning, strict: true, plainNames: true},
	{family: "google", hosts: "generativelanguage.googleapis.com", back: noReasoning, signed: true, strict: true},
	{family: "vertex", hosts: "*aiplatform.googleapis.com rep.googleapis.com", back: noReasoning, signed: true,
		strict: true, noCallIDs: true,
		inClaude: "vertex-2023-10-16"},
	{family: "mistral", hosts: "mistral.ai", maxTokens: "max_tokens", seed: "random_seed", ids: 9, back: inParts,
		noStreamOptions: true,
		noNames:         true, strict: true, bridge: true, prefix: true,
		models: []modelRule{{efforts: "none high"}}},
	{family: "deepseek", hosts: "deepseek.com", maxTokens: "max_tokens", back: "reasoning_content", fill: emptyText,
		thinking: byType, noSchema: true, strict: true,
		models: []modelRule{{efforts: "low high max", off: "disabled", calmly: true}}},
	{family: "kimi", hosts: "moonshot.ai moonshot.cn", maxTokens: "max_tokens", back: "reasoning_content", fill: " ",
		thinking:    byType,
		noImageURLs: true, noRequired: true, strict: true,
		models: []modelRule{
			{match: `k2\.[56]`, sampling: never, efforts: notTaken, off: "disabled", calmly: true},
			{match: `k2`, sampling: never, efforts: notTaken, noForced: true},
			{sampling: never, efforts: "low high max", noForced: true}}},
	{family: "glm", hosts: "z.ai bigmodel.cn", maxTokens: "max_tokens", back: "reasoning_content", thinking: byType,
		strict: true,
		models: []modelRule{
			{match: `glm-(4|5(-|$)|5\.[01])`, efforts: notTaken, off: "disabled"},
			{match: `glm-5\.2`, off: "disabled"},
			{efforts: "low high max"}}},
	{family: "qwen", hosts: "aliyuncs.com", maxTokens: "max_tokens", back: "reasoning_content", thinking: byEnable},
	{family: "grok", hosts: "x.ai", back: noReasoning, strict: true, models: []modelRule{
		{match: `non-reasoning`, efforts: notTaken},
		{match: `grok-3-mini`, efforts: "low high", noStop: true},
		{match: `grok-[23]`, efforts: notTaken},
		{match: `grok-4\.3`, efforts: "none low medium high", noStop: true, sealed: true},
		{match: `grok-(4(-|$)|4\.[012]|code)`, efforts: notTaken, noStop: true, sealed: true},
		{efforts: "low medium high", noStop: true, sealed: true}}},
	{family: "groq", hosts: "groq.com", back: "reasoning", strict: true, models: []modelRule{
		{match: `gpt-oss`, efforts: "low medium high"},
		{match: `qwen3`, efforts: "none default", parsed: true},
		{efforts: notTaken}}},
	{family: "cerebras", hosts: "cerebras.ai", back: "reasoning", strict: true, models: []modelRule{
		{match: `gpt-oss`, efforts: "low medium high"},
		{match: `glm-5\.3`, efforts: "low high max", backAs: inContent},
		{match: `glm`, backAs: inContent},
		{match: `k3`, efforts: "low high max"},
		{}}},
	{family: "minimax", hosts: "minimax.io minimaxi.com", back: "", strict: true},
	{family: "openrouter", hosts: "openrouter.ai", maxTokens: "max_tokens", back: inDetails, thinking: byObject},
}

// rules are what is known of a model at an upstream.
type rules struct {
	hostRule
	modelRule
	line string // the family of the model; "" when none is known
}

// Host is whom a format is spoken with, as far as rules depend on it.
type Host struct {
	Kind     string // the upstream's
	BaseURL  string
	Families []Family // what the operator says of models' names; the first that matches counts
}

// Family says what the models are whose names match: a family or a provider of this file, or a model whose rules
// hold for them as well.
type Family struct {
	Match func(model string) bool // nil: all
	Name  string
}

// Target is what is known of a model at a host.
type Target struct {
	Model string
	kind  string // the host's
	place string // see Host.place
	rules *rules
}

// Target finds what is known of a model.
func (h *Host) Target(model string) *Target {
	return &Target{model, h.Kind, h.place(model), h.rulesOf(model)}
}

// rulesOf finds what is known of a model at an upstream. Names of no known family go as they are asked, unless
// the operator says what they are.
func (h *Host) rulesOf(model string) *rules {
	r := &rules{hostRule: h.rule()}
	name := strings.TrimPrefix(strings.TrimPrefix(model, "models/"), "ft:")
	said := h.familyOf(model)
	if said == noFamily {
		return new(rules)
	}
	if said != "" {
		if i := slices.IndexFunc(hostRules, func(h hostRule) bool { return h.family == said }); i >= 0 {
			r.hostRule = hostRules[i]
		}
	}
	if r.models != nil {
		r.line, r.modelRule = r.family, ruleFor(r.models, name)
		return r
	}
	for _, f := range modelFamilies {
		switch {
		case f.name == said:
			r.line, r.modelRule = f.name, f.rules[len(f.rules)-1] // a family, and no more is known
		case f.member.MatchString(said): // the operator names a model of the family
			r.line, r.modelRule = f.name, ruleFor(f.rules, said)
		case said == "" && f.member.MatchString(model) && f.speaks(h.Kind, r.signed):
			r.line, r.modelRule = f.name, ruleFor(f.rules, name)
		}
	}
	if h.Kind == "bedrock" {
		r.converse, r.inPlace = converseRules[r.line], false // its conversations have no messages of the system
	}
	return r
}

// noFamily is the operator's word for models for which no rule holds.
const noFamily = "none"

// KnowsFamily reports whether a name can be a Family's.
func KnowsFamily(name string) bool {
	return name == noFamily ||
		slices.ContainsFunc(hostRules, func(h hostRule) bool { return h.family == name }) ||
		slices.ContainsFunc(modelFamilies, func(f modelFamily) bool {
			return f.name == name || f.member.MatchString(name)
		})
}

// speaks tells whether the family's rules are about a format. Behind another one stands a gateway with rules of
// its own.
func (f *modelFamily) speaks(kind string, signed bool) bool {
	switch kind {
	case "anthropic":
		return f.name == "claude"
	case "gemini":
		return f.name == "gemini"
	case "bedrock":
		return converseRules[f.name] != converse{}
	case "openai", "openai-responses", "azure":
		return f.name == "gpt" || f.name == "gemini" && signed
	}
	return false
}

// familyOf is what the operator says that a model is: a family, a provider or another model's name.
func (h *Host) familyOf(model string) string {
	for _, f := range h.Families {
		if f.Match == nil || f.Match(model) {
			return f.Name
		}
	}
	return ""
}

// hostRule finds what is known of the upstream's host.
func (h *Host) rule() hostRule {
	u, err := url.Parse(h.BaseURL)
	if err != nil {
		return hostRule{}
	}
	for _, known := range hostRules {
		for end := range strings.FieldsSeq(known.hosts) {
			tail, starred := strings.CutPrefix(end, "*")
			name := u.Hostname()
			if name == end || strings.HasSuffix(name, "."+end) || starred && strings.HasSuffix(name, tail) {
				return known
			}
		}
	}
	if h.Kind == "azure" { // a cloud of its own, or a proxy
		return hostRules[slices.IndexFunc(hostRules, func(h hostRule) bool { return h.family == "azure" })]
	}
	return hostRule{}
}

// rowNames are the compiled expressions of all rows.
var rowNames = func() map[string]*regexp.Regexp {
	names := make(map[string]*regexp.Regexp)
	add := func(rows []modelRule) {
		for _, row := range rows {
			names[row.match] = regexp.MustCompile(row.match)
		}
	}
	for _, f := range modelFamilies {
		add(f.rules)
	}
	for _, h := range hostRules {
		add(h.models)
	}
	return names
}()

func ruleFor(rows []modelRule, name string) modelRule {
	for _, row := range rows {
		if rowNames[row.match].MatchString(name) {
			return row
		}
	}
	return modelRule{}
}

// effort is the value that a model takes in place of the one that is asked for: the nearest, of two the smaller,
// and none only for none. It is "" when the model takes no such value.
func (r *modelRule) effort(asked string) string {
	if asked == "" || r.efforts == notTaken {
		return ""
	}
	values := strings.Fields(r.efforts)
	if len(values) == 0 || slices.Contains(values, asked) {
		return asked
	}
	want := slices.Index(allEfforts, asked)
	if want < 0 {
		return asked // a word that only the provider knows
	}
	best, distance := "", len(allEfforts)
	for _, v := range values {
		at := slices.Index(allEfforts, v)
		if v == "none" || at < 0 {
			continue
		}
		if d := max(at-want, want-at); d < distance {
			best, distance = v, d
		}
	}
	return best
}

// samples tells whether temperature and top_p are taken together with an effort.
func (r *modelRule) samples(effort string) bool {
	switch r.sampling {
	case never:
		return false
	case withNone:
		return effort == "none" || effort == "" && r.unasked == "none"
	}
	return true
}
