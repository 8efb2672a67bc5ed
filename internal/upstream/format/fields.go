package format

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// furtherField is what the relay knows of fields that are none of its own (chat.Request.Extra).
type furtherField struct {
	names           string // separated by spaces
	chat, responses bool   // whether they reach these formats. Others have no place for them
	anthropic       bool   // but for these

	// members are the only ones of an object that reach the Responses format; the relay writes the others.
	members string

	// instead is told to who asks for such a field: the answer, or the bill, would be another one without it.
	// Without the text the field is left out.
	instead string
	unasked string // JSON: the value that asks for what the relay does anyway, beside null, false, 0 and what is empty
}

// furtherFields decide what of a stranger's request reaches a provider beside what the relay writes itself. What
// is not listed here is left out: it may choose another model, more answers, or tools that are paid for.
var furtherFields = []furtherField{
	{names: "frequency_penalty presence_penalty repetition_penalty logit_bias", chat: true},
	{names: "top_k min_p top_a typical_p min_tokens stop_token_ids do_sample", chat: true},
	{names: "mirostat mirostat_tau mirostat_eta dynatemp_range dynatemp_exponent", chat: true},
	{names: "xtc_probability xtc_threshold", chat: true},
	{names: "repeat_penalty repeat_last_n dry_multiplier dry_base dry_allowed_length samplers", chat: true},
	{names: "guided_json guided_choice grammar json_schema", chat: true},
	{names: "thinking enable_thinking preserve_thinking clear_thinking thinking_budget reasoning_budget", chat: true},
	{names: "chat_template_kwargs reasoning_format reasoning_split include_reasoning prompt_mode", chat: true},
	{names: "add_generation_prompt continue_final_message cache_prompt return_progress", chat: true},
	{names: "tool_stream safe_prompt", chat: true},
	{names: "verbosity", chat: true, responses: true},
	{names: "reasoning metadata", chat: true, responses: true},
	{names: "parallel_tool_calls", chat: true, responses: true, anthropic: true},
	{names: "prompt_cache_key prompt_cache_options prompt_cache_retention", chat: true, responses: true},
	{names: "safety_identifier", chat: true, responses: true},
	{names: "include", responses: true},
	{names: "text", responses: true, members: "verbosity", instead: "use response_format"},

	{names: "n best_of", unasked: "1", instead: "a request gets one answer here"},
	{names: "background", instead: "the answer is streamed here, and nowhere else"},
	{names: "store", instead: "answers are not stored at the provider"},
	{names: "previous_response_id conversation", instead: "send the whole conversation in messages"},
	{names: "prompt", instead: "send what it says in messages"},
	{names: "system", instead: "send it as a message of the role system"},
	{names: "functions", instead: "use tools"},
	{names: "function_call", instead: "use tool_choice"},
	{names: "modalities", unasked: `["text"]`, instead: "answers are text here"},
	{names: "audio", instead: "answers are text here"},
}

// Fields says which of a request's further fields an upstream gets.
type Fields struct {
	format Format // nil: none of the relay's list
	names  []string
}

// NewFields returns the fields that an upstream gets by a format: those of the relay's list, and those named; "*"
// are all that have a plain name.
func NewFields(format Format, names []string) *Fields { return &Fields{format, names} }

// passes reports whether a field reaches the upstream.
func (f *Fields) passes(name string) bool {
	switch {
	case f == nil || slices.Contains(f.names, name):
		return true
	case slices.Contains(f.names, "*"):
		return isPlainName(name)
	}
	known := knownFields[name]
	return known != nil && f.listed(known)
}

// listed reports whether a field is on the list of the upstream's format.
func (f *Fields) listed(known *furtherField) bool {
	switch f.format.(type) {
	case OpenAI, Websopy:
		return known.chat
	case Responses:
		return known.responses
	case Anthropic:
		return known.anthropic
	}
	return false
}

// knownFields finds a field's row.
var knownFields = func() map[string]*furtherField {
	rows := make(map[string]*furtherField)
	for i := range furtherFields {
		for name := range strings.FieldsSeq(furtherFields[i].names) {
			rows[name] = &furtherFields[i]
		}
	}
	return rows
}()

// isPlainName keeps from a provider what another reader of JSON could take for another name: one that ends at a
// zero byte or at a space, for example.
func isPlainName(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool {
		letter := r|0x20 >= 'a' && r|0x20 <= 'z'
		return !letter && (r < '0' || r > '9') && r != '_' && r != '-' && r != '.'
	})
}

// Screen gives the names of the fields that are left out. The error, a *chat.Error, names one without which the
// answer would not be what was asked for.
func (f *Fields) Screen(extra []chat.Field) (leftOut []string, err error) {
	for _, x := range extra {
		known := knownFields[x.Name]
		switch {
		case f.onlyMembers(x.Name):
			if _, stray := trim(x.Value, known.members); stray != "" {
				return nil, refuse(x.Name+"."+stray, "%s", known.instead)
			}
		case f.passes(x.Name):
		case known == nil || known.instead == "" || known.members != "":
			leftOut = append(leftOut, x.Name)
		case !known.saysNothing(x.Value):
			return nil, refuse(x.Name, "%s (UPSTREAM_PASS would let it through)", known.instead)
		}
	}
	return leftOut, nil
}

// Keep returns the fields that reach the upstream, and whether they are others than those given.
func (f *Fields) Keep(extra []chat.Field) (kept []chat.Field, changed bool) {
	if f == nil || len(extra) == 0 {
		return extra, false
	}
	for _, x := range extra {
		if !f.passes(x.Name) {
			continue
		}
		if f.onlyMembers(x.Name) {
			x.Value, _ = trim(x.Value, knownFields[x.Name].members)
			changed = true
		}
		kept = append(kept, x)
	}
	return kept, changed || len(kept) < len(extra)
}

// onlyMembers reports whether only some members of a field reach the upstream.
func (f *Fields) onlyMembers(name string) bool {
	if f == nil || slices.Contains(f.names, name) || slices.Contains(f.names, "*") {
		return false
	}
	known := knownFields[name]
	return known != nil && known.members != "" && f.listed(known)
}

// trim leaves the members of an object that are allowed, and names one that is not.
func trim(value []byte, allowed string) (trimmed []byte, stray string) {
	var e jx.Encoder
	e.ObjStart()
	_ = eachMember(jx.DecodeBytes(value), func(d *jx.Decoder, key []byte) error {
		if slices.Contains(strings.Fields(allowed), string(key)) {
			e.FieldStart(string(key))
			raw, err := d.Raw()
			e.Raw(raw)
			return err
		}
		if d.Next() != jx.Null {
			stray = string(key[:min(len(key), 64)])
		}
		return d.Skip()
	})
	e.ObjEnd()
	return e.Bytes(), stray
}

// saysNothing reports whether a value asks for what is done anyway.
func (k *furtherField) saysNothing(value []byte) bool {
	var got, same any
	if json.Unmarshal(value, &got) != nil {
		return false
	}
	switch v := got.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == "" || v == "none" || v == "auto"
	case []any:
		if len(v) == 0 {
			return true
		}
	case map[string]any:
		return len(v) == 0
	case float64:
		if v == 0 {
			return true
		}
	}
	return k.unasked != "" && json.Unmarshal([]byte(k.unasked), &same) == nil && reflect.DeepEqual(got, same)
}
