package dialect

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/websopy/relay/internal/sse"
)

// The answer to the results of tools goes on in the message that called them. A page that is reloaded then takes what
// it is told for all of that message, and would lose the calls. So the stream keeps the earlier steps of the message,
// as frames, for those who follow it from elsewhere than the request: the prelude.

// maxPrelude bounds a prelude, in bytes. What has none is told as a message of its own.
const maxPrelude = 32 << 10

// uiPrelude gives the frames of a message's steps, empty when they can't be told.
func uiPrelude(parts []uiPart) string {
	p := prelude{}
	for i := range parts {
		if !p.add(&parts[i]) || len(p.frames) > maxPrelude {
			return ""
		}
	}
	if p.step {
		p.frame(`{"type":"finish-step"}`)
	}
	return string(p.frames)
}

type prelude struct {
	frames []byte
	texts  int
	step   bool // one is open
}

func (p *prelude) frame(data ...string) {
	p.frames = sse.AppendData(p.frames)
	for _, d := range data {
		p.frames = append(p.frames, d...)
	}
	p.frames = sse.AppendEnd(p.frames)
}

// add appends the frames of a part, and tells whether it can.
func (p *prelude) add(part *uiPart) bool {
	if p.step && part.typ == "step-start" {
		p.frame(`{"type":"finish-step"}`)
		p.step = false
	}
	if !p.step {
		p.frame(`{"type":"start-step"}`)
		p.step = true
	}
	switch part.typ {
	case "step-start":
		return true
	case "text", "reasoning":
		p.texts++
		id := `,"id":"before-` + strconv.Itoa(p.texts) + `"`
		p.frame(`{"type":"`, part.typ, `-start"`, id, `}`)
		p.frame(`{"type":"`, part.typ, `-delta"`, id, `,"delta":`, oneLine(part.text, `""`), `}`)
		p.frame(`{"type":"`, part.typ, `-end"`, id, providerMetadata(part.metadata), `}`)
		return true
	}
	return p.call(part)
}

// call appends a call and its result. The client is told that somebody else has run it: it must not run it again.
func (p *prelude) call(part *uiPart) bool {
	name, isTool := strings.CutPrefix(part.typ, "tool-")
	tool, dynamic := string(appendString(nil, name)), ""
	if part.typ == "dynamic-tool" {
		tool, dynamic, isTool = oneLine(part.toolName, `""`), `,"dynamic":true`, true
	}
	id := `,"toolCallId":` + oneLine(part.toolCallID, `""`)
	input := part.input
	if input == nil {
		input = part.rawInput
	}
	state := strings.Trim(string(part.state), `"`)
	if !isTool || state != "output-available" && state != "output-error" {
		return false
	}
	p.frame(`{"type":"tool-input-available"`, id, `,"toolName":`, tool, `,"input":`, oneLine(input, "{}"),
		`,"providerExecuted":true`, providerMetadata(part.callMetadata), dynamic, `}`)
	if state == "output-error" {
		p.frame(`{"type":"tool-output-error"`, id, `,"errorText":`, oneLine(part.errorText, `""`), `}`)
	} else {
		p.frame(`{"type":"tool-output-available"`, id, `,"output":`, oneLine(part.output, "null"), `}`)
	}
	return true
}

func providerMetadata(raw []byte) string {
	if raw == nil {
		return ""
	}
	return `,"providerMetadata":` + oneLine(raw, "{}")
}

// oneLine is a value without white space, or another one where there is none.
func oneLine(raw []byte, absent string) string {
	var b bytes.Buffer
	if raw == nil || json.Compact(&b, raw) != nil {
		return absent
	}
	return b.String()
}
