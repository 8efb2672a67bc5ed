package format

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// refuse is the answer to a request that a provider can't be asked: leaving the field out would change
// the answer.
func refuse(field, format string, args ...any) error {
	return &chat.Error{Code: chat.InvalidRequest, Message: field + ": " + fmt.Sprintf(format, args...)}
}

func imageField(message, part int) string {
	return fmt.Sprintf("messages[%d].content[%d].image_url", message, part)
}

// partsOf gives a message's content as parts, in either of its forms. Empty text says nothing, and
// several providers refuse it.
func partsOf(m *chat.Message) []chat.Part {
	if m.Content != "" {
		return []chat.Part{{Type: chat.PartText, Text: m.Content}}
	}
	var parts []chat.Part
	for _, p := range m.Parts {
		if p.Type != chat.PartText || p.Text != "" {
			parts = append(parts, p)
		}
	}
	return parts
}

// textOf gives the content of a message that can't have images at this provider.
func textOf(i int, m *chat.Message) (string, error) {
	var texts []string
	for j, p := range partsOf(m) {
		if p.Type == chat.PartImage {
			return "", refuse(imageField(i, j), "this provider takes no images in %s messages", m.Role)
		}
		texts = append(texts, p.Text)
	}
	return strings.Join(texts, "\n"), nil
}

// leadingText gives the system messages that the conversation begins with as one, for providers that have one
// place for them.
func (q *Query) leadingText() (string, error) {
	var texts []string
	for i := range q.leading() {
		text, err := textOf(i, &q.Messages[i])
		if err != nil {
			return "", err
		}
		if strings.TrimSpace(text) != "" {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, "\n\n"), nil
}

// arguments gives the arguments of a call as the JSON object that providers other than OpenAI want.
func arguments(message, call int, c *chat.ToolCall) ([]byte, error) {
	args := bytes.TrimSpace([]byte(c.Arguments))
	if len(args) == 0 {
		return []byte("{}"), nil
	}
	if args[0] != '{' || !jx.Valid(args) {
		return nil, refuse(fmt.Sprintf("messages[%d].tool_calls[%d].function.arguments", message, call),
			"want the text of a JSON object")
	}
	return args, nil
}

// call is a call, and the message that it is in.
type call struct {
	message int
	name    string
}

// calledName is the name of the call that a tool's message is the result of: the last one before it with its id.
// Calls are found by an index: a stranger's request may have tens of thousands of either.
func (q *Query) calledName(i int) (string, error) {
	if q.calls == nil {
		q.calls = make(map[string][]call)
		for j := range q.Messages {
			for _, c := range slices.Backward(q.Messages[j].ToolCalls) { // of two in one message the first counts
				q.calls[c.ID] = append(q.calls[c.ID], call{j, c.Name})
			}
		}
	}
	calls := q.calls[q.Messages[i].ToolCallID]
	behind, _ := slices.BinarySearchFunc(calls, i, func(c call, i int) int { return cmp.Compare(c.message, i) })
	if behind == 0 {
		return "", refuse(fmt.Sprintf("messages[%d].tool_call_id", i), "no call before it has this id")
	}
	return calls[behind-1].name, nil
}

// image is a data URL, taken apart, or any other URL.
type image struct {
	mediaType string // empty for a URL
	base64    string
	url       string
}

// imageOf reads the URL of an image part (RFC 2397 for data URLs).
func imageOf(message, part int, p chat.Part) (image, error) {
	data, ok := strings.CutPrefix(p.ImageURL, "data:")
	if !ok {
		return image{url: p.ImageURL}, nil
	}
	head, payload, ok := strings.Cut(data, ",")
	mediaType, isBase64 := strings.CutSuffix(head, ";base64")
	mediaType, _, _ = strings.Cut(mediaType, ";")
	if !ok || mediaType == "" {
		return image{}, refuse(imageField(message, part), "want data:<media type>;base64,<data>")
	}
	if !isBase64 {
		text, err := url.PathUnescape(payload)
		if err != nil {
			return image{}, refuse(imageField(message, part), "want data:<media type>;base64,<data>")
		}
		payload = base64.StdEncoding.EncodeToString([]byte(text))
	}
	return image{mediaType: mediaType, base64: payload}, nil
}

// responseFormat is a request's response_format, taken apart.
type responseFormat struct {
	Type       string `json:"type"` // "text", "json_object" or "json_schema"; empty when absent
	JSONSchema struct {
		Name        string          `json:"name"`
		Description string          `json:"description"`
		Schema      json.RawMessage `json:"schema"`
		Strict      *bool           `json:"strict"`
	} `json:"json_schema"`
}

func responseFormatOf(req *chat.Request) (responseFormat, error) {
	if req.ResponseFormat == nil {
		return responseFormat{}, nil
	}
	return decodeResponseFormat(req.ResponseFormat)
}

func decodeResponseFormat(raw []byte) (f responseFormat, err error) {
	if err := json.Unmarshal(raw, &f); err != nil {
		return f, refuse("response_format", "want {\"type\": …} in OpenAI's terms")
	}
	switch f.Type {
	case "text", "json_object":
	case "json_schema":
		if s := bytes.TrimSpace(f.JSONSchema.Schema); len(s) == 0 || s[0] != '{' {
			return f, refuse("response_format.json_schema.schema", "want a JSON Schema object")
		}
	default:
		return f, refuse("response_format.type", "want text, json_object or json_schema")
	}
	return f, nil
}

// Budgets of thinking, in tokens, for providers that count where OpenAI names an effort.
var thinkingBudgets = map[string]int{"none": 0, "minimal": 1 << 10, "low": 2 << 10, "medium": 8 << 10,
	"high": 16 << 10, "xhigh": 32 << 10, "max": 32 << 10}

// thinkingBudget gives the tokens that stand for an effort; known is false when none is asked for.
func thinkingBudget(effort string) (budget int, known bool, err error) {
	if effort == "" {
		return 0, false, nil
	}
	budget, known = thinkingBudgets[effort]
	if !known {
		return 0, false, refuse("reasoning_effort", "want none, minimal, low, medium, high, xhigh or max")
	}
	return budget, true, nil
}

// fits tells whether a number is a whole one of so many bits. Providers refuse a larger seed, which is
// only a wish.
func fits(n chat.Number, bits int) bool {
	_, err := strconv.ParseInt(string(n), 10, bits)
	return err == nil
}

const alphanumeric = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// shortID makes an id of n letters and digits of another one.
func shortID(id string, n int) string {
	sum := sha256.Sum256([]byte(id))
	short := make([]byte, n)
	for i := range short {
		short[i] = alphanumeric[int(sum[i])%len(alphanumeric)]
	}
	return string(short)
}
