package format

import (
	"cmp"
	"slices"
	"strings"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// turn is neighbouring messages of one side, for the providers whose turns are lists. A message of the system
// that stands where the provider has no place for it is part of the user's turn.
type turn struct {
	role     chat.Role // user, assistant, or system where the model takes that
	messages []int     // indexes
}

// leading is the number of system messages that the conversation begins with. They are apart from it: what stands
// before a message must not change when the conversation goes on, or caches and signatures are worth nothing.
func (q *Query) leading() int {
	for i := range q.Messages {
		if q.Messages[i].Role != chat.RoleSystem {
			return i
		}
	}
	return len(q.Messages)
}

// turns gives the conversation behind the leading system messages. Messages that say nothing are left out.
func (q *Query) turns() ([]turn, error) {
	var turns []turn
	q.alone = make(map[int]bool)
	behind := 0 // a row of system messages: whatever its length, it is gone through once
	for i := q.leading(); i < len(q.Messages); i++ {
		m := &q.Messages[i]
		if m.Role != chat.RoleTool && len(m.ToolCalls) == 0 && len(q.partsOf(m)) == 0 {
			continue
		}
		role := m.Role
		switch {
		case role == chat.RoleSystem && q.standsAlone(turns, i, &behind):
			q.alone[i] = true
		case role != chat.RoleAssistant:
			role = chat.RoleUser
		}
		if n := len(turns); n > 0 && turns[n-1].role == role {
			turns[n-1].messages = append(turns[n-1].messages, i)
		} else {
			turns = append(turns, turn{role, []int{i}})
		}
	}
	if len(turns) == 0 {
		return nil, refuse("messages", "this provider needs a message that is not the system's")
	}
	q.sortResults(turns)
	return turns, nil
}

// standsAlone tells whether a system message can be a turn: it follows the user's, and the assistant's or the end
// follows it; behind is where the last search for that ended.
// https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages
func (q *Query) standsAlone(before []turn, i int, behind *int) bool {
	if !q.inPlace || len(before) == 0 || before[len(before)-1].role == chat.RoleAssistant {
		return false
	}
	for *behind = max(*behind, i); *behind < len(q.Messages); *behind++ {
		if role := q.Messages[*behind].Role; role != chat.RoleSystem {
			return role == chat.RoleAssistant
		}
	}
	return true
}

// sortResults puts the results of calls first in their turn, in the order of the calls.
func (q *Query) sortResults(turns []turn) {
	for n := range turns {
		if turns[n].role != chat.RoleUser {
			continue
		}
		order := make(map[string]int)
		if n > 0 {
			for _, i := range turns[n-1].messages {
				for _, c := range q.Messages[i].ToolCalls {
					order[c.ID] = len(order) - len(q.Messages)*maxToolCalls
				}
			}
		}
		slices.SortStableFunc(turns[n].messages, func(a, b int) int {
			return cmp.Compare(rank(order, &q.Messages[a]), rank(order, &q.Messages[b]))
		})
	}
}

// rank is below zero for results of calls.
func rank(order map[string]int, m *chat.Message) int {
	if m.Role != chat.RoleTool {
		return 0
	}
	if at, ok := order[m.ToolCallID]; ok {
		return at
	}
	return -1
}

// partsOf gives the parts of a message that say something to this provider.
func (q *Query) partsOf(m *chat.Message) []chat.Part {
	parts := partsOf(m)
	if q.kind != "anthropic" && q.kind != "bedrock" {
		return parts
	}
	return slices.DeleteFunc(slices.Clone(parts), isBlank)
}

// isBlank reports whether a part is text without a visible character, which Claude and Bedrock refuse.
func isBlank(p chat.Part) bool { return p.Type == chat.PartText && strings.TrimSpace(p.Text) == "" }

// asUser is what the system says in the user's turn.
func asUser(text string) string { return "<system>\n" + text + "\n</system>" }

// encodeTurns writes turns as objects with a role and a list of content.
func encodeTurns(e *jx.Encoder, turns []turn, assistant, content string, encode func(i int) error) error {
	for _, t := range turns {
		e.ObjStart()
		role := string(t.role)
		if t.role == chat.RoleAssistant {
			role = assistant
		}
		optionalString(e, "role", role)
		e.FieldStart(content)
		e.ArrStart()
		for _, i := range t.messages {
			if err := encode(i); err != nil {
				return err
			}
		}
		e.ArrEnd()
		e.ObjEnd()
	}
	return nil
}

// resultsCome reports whether the last turn brings results of calls.
func (q *Query) resultsCome() bool {
	for i := len(q.Messages) - 1; i >= 0; i-- {
		switch q.Messages[i].Role {
		case chat.RoleTool:
			return true
		case chat.RoleAssistant:
			return false
		}
	}
	return false
}
