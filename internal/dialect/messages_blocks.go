package dialect

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// block is a block of content, whatever its type is.
type block struct {
	typ, text, thinking, data string
	id, name, toolUseID       string
	input, content            []byte // as they stand, nil when absent
	source                    source
	mark                      []byte
	failed                    bool
}

// source is where an image is.
type source struct{ typ, mediaType, data, url string }

func readBlocks(d *jx.Decoder) (blocks []block, err error) {
	switch d.Next() {
	case jx.String:
		text, err := d.Str()
		return []block{{typ: "text", text: text}}, err
	case jx.Array:
		err = array(d, func(d *jx.Decoder, _ int) error {
			b, err := readBlock(d)
			blocks = append(blocks, b)
			return err
		})
		return blocks, err
	}
	return nil, wrongType(d, "a string or an array of blocks")
}

func readBlock(d *jx.Decoder) (b block, err error) {
	texts := map[string]*string{
		"type": &b.typ, "text": &b.text, "thinking": &b.thinking, "data": &b.data, "id": &b.id, "name": &b.name,
		"tool_use_id": &b.toolUseID,
	}
	err = object(d, func(d *jx.Decoder, key []byte) (err error) {
		name := string(key)
		switch into := texts[name]; {
		case into != nil:
			*into, err = str(d)
		case name == "input":
			b.input, err = rawObject(d)
		case name == "content":
			b.content, err = d.Raw()
		case name == "cache_control":
			b.mark, err = rawObject(d)
		case name == "is_error":
			b.failed, err = boolean(d)
		case name == "source" && d.Next() == jx.Object:
			err = b.source.read(d)
		default:
			err = d.Skip()
		}
		return err
	})
	return b, err
}

func (s *source) read(d *jx.Decoder) error {
	texts := map[string]*string{"type": &s.typ, "media_type": &s.mediaType, "data": &s.data, "url": &s.url}
	return object(d, func(d *jx.Decoder, key []byte) (err error) {
		if into := texts[string(key)]; into != nil {
			*into, err = str(d)
			return err
		}
		return d.Skip()
	})
}

func (b *block) part() chat.Part {
	return chat.Part{Type: chat.PartText, Text: b.text, CacheControl: b.mark}
}

func (b *block) image() (chat.Part, error) {
	p := chat.Part{Type: chat.PartImage, CacheControl: b.mark}
	switch b.source.typ {
	case "base64":
		p.ImageURL = "data:" + b.source.mediaType + ";base64," + b.source.data
	case "url":
		p.ImageURL = b.source.url
	default:
		return p, at("source.type", fmt.Errorf("unknown source %.40q; want base64 or url", b.source.typ))
	}
	return p, nil
}

// arguments are those of a call. A model that gives none gives an empty object.
func (b *block) arguments() string {
	if len(b.input) == 0 {
		return "{}"
	}
	return string(bytes.TrimSpace(b.input))
}

// result is the message of a tool.
func (b *block) result() (chat.Message, error) {
	m := chat.Message{Role: chat.RoleTool, ToolCallID: b.toolUseID, CacheControl: b.mark}
	if b.toolUseID == "" {
		return m, at("tool_use_id", errors.New("is required in a tool_result block"))
	}
	if b.content == nil {
		return m, nil
	}
	blocks, err := readBlocks(jx.DecodeBytes(b.content))
	if err != nil {
		return m, at("content", err)
	}
	for i := range blocks {
		inner := &blocks[i]
		switch inner.typ {
		case "text":
			m.Parts = append(m.Parts, inner.part())
		case "image":
			p, err := inner.image()
			if err != nil {
				return m, at("content", at(index(i), err))
			}
			m.Parts = append(m.Parts, p)
		case "tool_reference": // all tools are known here, found or not
		default:
			return m, at("content", at(index(i), unknownBlock(inner.typ, "text or image")))
		}
	}
	simplify(&m)
	return m, nil
}
