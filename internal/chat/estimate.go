package chat

import (
	"encoding/binary"
	"math/bits"
	"strings"
)

// Estimate counts about how many tokens texts are, whatever the model: four bytes of ASCII are one, and so is each
// other character. It is for what has to be known before a provider says it, and for what no provider says.
type Estimate struct {
	ascii, others int64 // bytes; characters
	images        int64
}

const (
	asciiPerToken  = 4
	tokensPerImage = 1000
)

// Tokens is the number of tokens so far.
func (e *Estimate) Tokens() int64 { return e.ascii/asciiPerToken + e.others + tokensPerImage*e.images }

// Bytes adds text in UTF-8.
func (e *Estimate) Bytes(text []byte) {
	const highBits = 0x8080808080808080
	rest := text
	for ; len(rest) >= 8; rest = rest[8:] {
		word := binary.LittleEndian.Uint64(rest)
		high := word & highBits
		if high == 0 {
			e.ascii += 8
			continue
		}
		e.ascii += int64(8 - bits.OnesCount64(high))
		e.others += int64(bits.OnesCount64(high & (word << 1))) // of several bytes, only the first begins with 11
	}
	for _, b := range rest {
		switch {
		case b < 0x80:
			e.ascii++
		case b >= 0xc0:
			e.others++
		}
	}
}

// Text adds texts.
func (e *Estimate) Text(texts ...string) {
	for _, text := range texts {
		e.Bytes([]byte(text))
	}
}

// Chunk adds what a chunk brings.
func (e *Estimate) Chunk(c *Chunk) {
	if e.Bytes(c.Text); c.Tool != nil {
		e.Text(c.Tool.Name, c.Tool.Arguments)
	}
}

// EstimatePrompt is about how many tokens a request has for its provider to read.
func (r *Request) EstimatePrompt() int64 {
	var e Estimate
	for i := range r.Messages {
		m := &r.Messages[i]
		e.Text(m.Content, m.Reasoning)
		for j := range m.Parts {
			if m.Parts[j].Type == PartImage {
				e.images++
			} else {
				e.Text(m.Parts[j].Text)
			}
		}
		for j := range m.ToolCalls {
			e.Text(m.ToolCalls[j].Name, m.ToolCalls[j].Arguments)
		}
	}
	for i := range r.Tools {
		e.Text(r.Tools[i].Name, r.Tools[i].Description)
		e.Bytes(r.Tools[i].Parameters)
	}
	e.Bytes(r.ResponseFormat)
	return e.Tokens()
}

// likelyAnswer is what an answer is taken for until it is there, in tokens.
const likelyAnswer = 1000

// EstimateAnswer is about how many tokens an answer may have.
func (r *Request) EstimateAnswer() int64 {
	most := strings.TrimLeft(string(r.MaxTokens), "0")
	if len(most) == 0 || len(most) > 3 || strings.Trim(most, "0123456789") != "" {
		return likelyAnswer
	}
	var n int64
	for _, digit := range most {
		n = 10*n + int64(digit-'0')
	}
	return n
}
