package chat

import "unsafe"

// Size is what a request takes in memory, in bytes, and how much of that is text. Many small messages take many
// times what they are on the wire.
func (r *Request) Size() (memory, text int64) {
	s := size{memory: int64(unsafe.Sizeof(*r))}
	s.text(r.Model, string(r.Temperature), string(r.TopP), string(r.MaxTokens), string(r.Seed), r.User,
		r.ReasoningEffort,
		r.MaxTokensName, string(r.ToolChoice.Mode), r.ToolChoice.Name)
	s.bytes(r.ResponseFormat)
	s.list(cap(r.Stop), unsafe.Sizeof(""))
	s.text(r.Stop...)
	s.list(cap(r.Messages), unsafe.Sizeof(Message{}))
	for i := range r.Messages {
		s.message(&r.Messages[i])
	}
	s.list(cap(r.Tools), unsafe.Sizeof(ToolSpec{}))
	for i := range r.Tools {
		t := &r.Tools[i]
		s.text(t.Name, t.Description)
		s.bytes(t.Parameters, t.CacheControl)
	}
	s.list(cap(r.Extra), unsafe.Sizeof(Field{}))
	for i := range r.Extra {
		s.text(r.Extra[i].Name)
		s.bytes(r.Extra[i].Value)
	}
	return s.memory, s.content
}

type size struct{ memory, content int64 }

// piece adds n bytes of text in memory of its own. The allocator's smallest pieces are 8 bytes.
func (s *size) piece(n int) {
	s.memory += int64(n+7) &^ 7
	s.content += int64(n)
}

func (s *size) message(m *Message) {
	s.text(string(m.Role), m.Name, m.Content, m.ToolCallID, m.State, m.Reasoning, m.ReasoningName)
	s.bytes(m.CacheControl, m.ReasoningDetails, m.ExtraContent)
	s.list(cap(m.Parts), unsafe.Sizeof(Part{}))
	for i := range m.Parts {
		p := &m.Parts[i]
		s.text(string(p.Type), p.Text, p.ImageURL, p.Detail)
		s.bytes(p.CacheControl)
	}
	s.list(cap(m.ToolCalls), unsafe.Sizeof(ToolCall{}))
	for i := range m.ToolCalls {
		c := &m.ToolCalls[i]
		s.text(c.ID, c.Name, c.Arguments)
		s.bytes(c.ExtraContent)
	}
}

func (s *size) list(n int, each uintptr) { s.memory += int64(n) * int64(each) }

func (s *size) text(all ...string) {
	for _, t := range all {
		s.piece(len(t))
	}
}

func (s *size) bytes(all ...[]byte) {
	for _, b := range all {
		s.piece(cap(b))
	}
}
