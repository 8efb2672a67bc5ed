package dialect

import (
	"errors"
	"maps"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// noteUsage is the note of a Chat Completions request that wants the usage in a chunk of its own.
const noteUsage = "usage"

// chatRoles are names of roles that are the relay's by another name.
var chatRoles = map[string]chat.Role{"developer": chat.RoleSystem}

// chatFields read the fields of a Chat Completions request: the native ones, less what is the relay's alone. What
// would change the answer or the bill, and has no place in the answers of the relay, is refused.
var chatFields = func() fields {
	all := maps.Clone(ownFields)
	maps.Copy(all, fields{
		"messages":       (*Ask).chatMessages,
		"max_tokens":     (*Ask).chatMaxTokens,
		"stream_options": (*Ask).streamOptions,
		"resumable":      func(_ *Ask, d *jx.Decoder) error { return d.Skip() },
		"n":              (*Ask).oneAnswer,
		"logprobs":       (*Ask).noLogProbs,
		"modalities":     (*Ask).textOnly,
		"functions":      notOurs("use tools"),
		"function_call":  notOurs("use tool_choice"),
	})
	return all
}()

func (n *Ask) chatMessages(d *jx.Decoder) error {
	n.Messages = nil // of two members with one name the last counts, as everywhere
	return array(d, func(d *jx.Decoder, _ int) error {
		m, err := message(d, chatRoles)
		n.Messages = append(n.Messages, m)
		return err
	})
}

// chatMaxTokens reads the older name of max_completion_tokens, which wins wherever it stands.
func (n *Ask) chatMaxTokens(d *jx.Decoder) error {
	newer := n.Request
	err := n.maxTokens(d, "")
	if newer.MaxTokensName != "" {
		n.MaxTokens, n.MaxTokensName = newer.MaxTokens, newer.MaxTokensName
	}
	return err
}

func (n *Ask) streamOptions(d *jx.Decoder) error {
	n.Note = ""
	return object(d, func(d *jx.Decoder, key []byte) error {
		if string(key) != "include_usage" {
			return d.Skip()
		}
		include, err := boolean(d)
		if include {
			n.Note = noteUsage
		}
		return err
	})
}

func (n *Ask) oneAnswer(d *jx.Decoder) error {
	count, err := number(d)
	if err == nil && count != "1" {
		err = errors.New("want 1: a request gets one answer here")
	}
	return err
}

func (n *Ask) noLogProbs(d *jx.Decoder) error {
	wanted, err := boolean(d)
	if wanted {
		err = errors.New("want false: answers have no log probabilities here")
	}
	return err
}

func (n *Ask) textOnly(d *jx.Decoder) error {
	return array(d, func(d *jx.Decoder, _ int) error {
		kind, err := str(d)
		if err == nil && kind != "text" {
			err = errors.New("want text: answers are nothing else here")
		}
		return err
	})
}
