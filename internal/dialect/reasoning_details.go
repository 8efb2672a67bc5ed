package dialect

import (
	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// detailsFormat marks the entry of a message's reasoning_details that is the relay's. Clients that append an answer's
// message to the conversation as it is bring the state back with it, without knowing of it.
const detailsFormat = "websopy-v1"

// appendDetails appends the member reasoning_details with a state, if there is one.
func appendDetails(dst []byte, state string) []byte {
	if state == "" {
		return dst
	}
	dst = append(member(dst, "reasoning_details"), `[{"type":"reasoning.encrypted","format":"`...)
	dst = append(append(dst, detailsFormat...), `","data":`...)
	return append(appendString(dst, state), `}]`...)
}

// takeState moves a state from a message's reasoning_details to where it belongs. What else is in there stays, and a
// state of the message's own counts more.
func takeState(m *chat.Message) error {
	var rest jx.Encoder
	others := 0
	rest.ArrStart()
	err := array(jx.DecodeBytes(m.ReasoningDetails), func(d *jx.Decoder, _ int) error {
		raw, err := d.Raw()
		if err != nil {
			return err
		}
		if state, ours := detailsState(raw); !ours {
			others++
			rest.Raw(raw)
		} else if m.State == "" {
			m.State = state
		}
		return nil
	})
	rest.ArrEnd()
	if m.ReasoningDetails = rest.Bytes(); others == 0 {
		m.ReasoningDetails = nil
	}
	return err
}

// detailsState is the state in an entry of reasoning_details, if it is the relay's.
func detailsState(entry []byte) (state string, ours bool) {
	d := jx.DecodeBytes(entry)
	if d.Next() != jx.Object {
		return "", false
	}
	_ = d.ObjBytes(func(d *jx.Decoder, key []byte) error {
		if d.Next() != jx.String {
			return d.Skip()
		}
		value, err := d.Str()
		switch string(key) {
		case "format":
			ours = value == detailsFormat
		case "data":
			state = value
		}
		return err
	})
	return state, ours
}
