package dialect

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// uiPart is a part of a message: its type, and those of its fields that may mean something, as they are in the body.
type uiPart struct {
	typ string

	text, mediaType, url                                                      []byte
	toolName, toolCallID, state, input, rawInput, output, errorText, approval []byte
	metadata, callMetadata                                                    []byte
}

func readUIPart(d *jx.Decoder) (p uiPart, err error) {
	err = object(d, func(d *jx.Decoder, key []byte) (err error) {
		if string(key) == "type" {
			p.typ, err = str(d)
			return err
		}
		into := p.member(string(key))
		if into == nil {
			return d.Skip()
		}
		*into, err = d.Raw()
		return err
	})
	if err == nil && p.typ == "" {
		err = at("type", errors.New("is required"))
	}
	return p, err
}

func (p *uiPart) member(name string) *[]byte {
	switch name {
	case "text":
		return &p.text
	case "mediaType":
		return &p.mediaType
	case "url":
		return &p.url
	case "toolName":
		return &p.toolName
	case "toolCallId":
		return &p.toolCallID
	case "state":
		return &p.state
	case "input":
		return &p.input
	case "rawInput":
		return &p.rawInput
	case "output":
		return &p.output
	case "errorText":
		return &p.errorText
	case "approval":
		return &p.approval
	case "providerMetadata":
		return &p.metadata
	case "callProviderMetadata":
		return &p.callMetadata
	}
	return nil
}

// string reads a field that must be a string.
func (p *uiPart) string(name string, raw []byte) (string, error) {
	if raw == nil {
		return "", at(name, errors.New("is required in a part of the type "+shorten(p.typ)))
	}
	s, err := str(jx.DecodeBytes(raw))
	if err != nil {
		err = at(name, err)
	}
	return s, err
}

// part gives a part of a user's or a system's message. One that is for the app alone has no type.
func (p *uiPart) part() (c chat.Part, err error) {
	switch {
	case p.typ == "text":
		c.Text, err = p.string("text", p.text)
		if c.Text != "" {
			c.Type = chat.PartText
		}
		return c, err
	case p.typ == "file":
		return p.file()
	case strings.HasPrefix(p.typ, "data-"), strings.HasPrefix(p.typ, "source-"), p.typ == "reasoning",
		p.typ == "step-start":
		return c, nil
	}
	return c, at("type", fmt.Errorf("unknown part type %.40q; want text or file", p.typ))
}

func (p *uiPart) file() (c chat.Part, err error) {
	media, err := p.string("mediaType", p.mediaType)
	if err != nil {
		return c, err
	}
	if !strings.HasPrefix(media, "image/") {
		return c, at("mediaType", fmt.Errorf("want an image, got %.80q", media))
	}
	if c.ImageURL, err = p.string("url", p.url); err != nil {
		return c, err
	}
	c.Type = chat.PartImage
	return c, checkImageURL(c.ImageURL)
}

// result gives the result of a call for the model, if there is one.
func (p *uiPart) result() (text string, ok bool, err error) {
	state, _ := str(jx.DecodeBytes(p.state))
	switch state {
	case "output-available":
		return textOf(p.output), true, nil
	case "output-error":
		text, err = p.string("errorText", p.errorText)
		return text, true, err
	case "output-denied":
		return "The user did not allow this call.", true, nil
	case "approval-responded":
		if denies(p.approval) {
			return "The user did not allow this call.", true, nil
		}
	}
	return "", false, nil
}

func denies(approval []byte) (denied bool) {
	if approval == nil {
		return false
	}
	_ = object(jx.DecodeBytes(approval), func(d *jx.Decoder, key []byte) error {
		if string(key) == "approved" && d.Next() == jx.Bool {
			approved, err := d.Bool()
			denied = !approved
			return err
		}
		return d.Skip()
	})
	return denied
}

// arguments of a call, as JSON text. A text is what the model wrote instead.
func (p *uiPart) arguments() string {
	for _, raw := range [][]byte{p.input, p.rawInput} {
		if raw != nil {
			return textOf(raw)
		}
	}
	return "{}"
}

// textOf is a string as it is, and another value as JSON. What a tool gives without a value is null.
func textOf(raw []byte) string {
	if raw == nil {
		return "null"
	}
	if s, err := str(jx.DecodeBytes(raw)); err == nil {
		return s
	}
	return string(bytes.TrimSpace(raw))
}

// metadataState is the state that an answer's last part came with.
func (p *uiPart) metadataState() (state string) {
	for _, raw := range [][]byte{p.metadata, p.callMetadata} {
		if raw == nil {
			continue
		}
		_ = object(jx.DecodeBytes(raw), func(d *jx.Decoder, key []byte) error {
			if string(key) != stateKey || d.Next() != jx.Object {
				return d.Skip()
			}
			return object(d, func(d *jx.Decoder, key []byte) (err error) {
				if string(key) != "state" || d.Next() != jx.String {
					return d.Skip()
				}
				state, err = d.Str()
				return err
			})
		})
	}
	return state
}
