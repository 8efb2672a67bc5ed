package dialect

import (
	"strconv"
	"time"

	"github.com/websopy/relay/internal/chat"
)

// Responses is OpenAI's Responses API, of which nothing is stored (docs/dialects/responses.md).
// https://developers.openai.com/api/reference/resources/responses
type Responses struct{}

// Name implements Dialect.
func (Responses) Name() string { return "responses" }

// Decode implements Dialect.
func (Responses) Decode(body []byte) (*Ask, error) { return decodeResponses(body) }

// Encoder implements Dialect.
func (Responses) Encoder(r Response) Encoder { return newResponsesEncoder(r) }

// AppendAnswer implements Dialect, with the response that the end of a stream would have had.
func (Responses) AppendAnswer(dst []byte, a *Answer) []byte {
	e := newResponsesEncoder(Response{Head: a.Head})
	var frames []byte // which nobody reads
	for _, c := range a.chunks() {
		frames = e.Chunk(frames[:0], c)
	}
	return e.appendResponse(dst, responsesStatus(&a.done), &a.done, nil)
}

// AppendRefusal implements Dialect.
func (Responses) AppendRefusal(dst []byte, e *chat.Error, _ string) []byte {
	return appendOpenAIError(dst, e)
}

// responsesEncoder writes the events of a response. They tell each item three times: in pieces, whole at its end, and
// once more at the end of all, because every client looks at another one.
type responsesEncoder struct {
	seq    int64     // of the next event
	items  int64     // that are done: the index of the one that is open or comes next
	open   chat.Type // Content or Reasoning while such an item is open
	begun  bool
	text   []byte // of the open item, so far
	output []byte // the items that are done, as JSON
	id     string
	namedFrames
}

func newResponsesEncoder(r Response) *responsesEncoder {
	return &responsesEncoder{namedFrames: namedFrames{Response: r}, id: idOf(&r.Head)}
}

func (e *responsesEncoder) Start(dst []byte) []byte { return dst }

func (e *responsesEncoder) Chunk(dst []byte, c chat.Chunk) []byte {
	if !hasFrames(c.Type) {
		return dst
	}
	had := len(dst)
	dst = e.begin(dst)
	switch c.Type {
	case chat.Content, chat.Reasoning:
		dst = e.delta(e.openItem(dst, c.Type), c.Text)
	case chat.Tool:
		dst = e.call(e.closeItem(dst), c.Tool)
	case chat.Done:
		dst = e.done(e.closeItem(dst), c.Done)
	}
	dst = e.end(dst, c.Seq)
	if e.has(c.Seq) {
		dst = dst[:had]
	}
	return dst
}

// event is namedFrames', with the number that each event has.
func (e *responsesEncoder) event(dst []byte, typ string) []byte {
	dst = strconv.AppendInt(append(e.namedFrames.event(dst, typ), `,"sequence_number":`...), e.seq, 10)
	e.seq++
	return dst
}

func (e *responsesEncoder) begin(dst []byte) []byte {
	if e.begun {
		return dst
	}
	e.begun = true
	for _, typ := range []string{"response.created", "response.in_progress"} {
		dst = append(e.event(dst, typ), `,"response":`...)
		dst = append(e.appendResponse(dst, "in_progress", nil, nil), '}')
	}
	return dst
}

// appendItemID appends the id of the open item, or of the next one.
func (e *responsesEncoder) appendItemID(dst []byte, prefix string) []byte {
	dst = append(append(append(append(dst, '"'), prefix...), e.id...), '_')
	return append(strconv.AppendInt(dst, e.items, 10), '"')
}

// item appends the members that say which item an event is of.
func (e *responsesEncoder) item(dst []byte, prefix string) []byte {
	dst = e.appendItemID(append(dst, `,"item_id":`...), prefix)
	return strconv.AppendInt(append(dst, `,"output_index":`...), e.items, 10)
}

// whole begins an event that has a whole item, up to the item.
func (e *responsesEncoder) whole(dst []byte, typ string) []byte {
	dst = strconv.AppendInt(append(e.event(dst, typ), `,"output_index":`...), e.items, 10)
	return append(dst, `,"item":`...)
}

// finish appends the event that an item is done, and keeps the item for the end.
func (e *responsesEncoder) finish(dst []byte, appendItem func(dst []byte) []byte) []byte {
	dst = append(appendItem(e.whole(dst, "response.output_item.done")), '}')
	if e.items > 0 {
		e.output = append(e.output, ',')
	}
	e.output = appendItem(e.output)
	e.items++
	return dst
}

const (
	messageID   = "msg_"
	reasoningID = "rs_"
	callID      = "fc_"
)

// openItem opens an item for text or thinking, unless it is open.
func (e *responsesEncoder) openItem(dst []byte, typ chat.Type) []byte {
	if e.open == typ {
		return dst
	}
	dst = e.closeItem(dst)
	e.open = typ
	dst = e.whole(dst, "response.output_item.added")
	if typ == chat.Content {
		dst = e.appendItemID(append(dst, `{"id":`...), messageID)
		dst = append(dst, `,"type":"message","status":"in_progress","role":"assistant","content":[]}}`...)
		dst = e.item(e.event(dst, "response.content_part.added"), messageID)
		return append(appendTextPart(append(dst, `,"content_index":0,"part":`...), nil), '}')
	}
	dst = e.appendItemID(append(dst, `{"id":`...), reasoningID)
	dst = append(dst, `,"type":"reasoning","summary":[]}}`...)
	dst = e.item(e.event(dst, "response.reasoning_summary_part.added"), reasoningID)
	return append(appendSummaryPart(append(dst, `,"summary_index":0,"part":`...), nil), '}')
}

// delta appends a piece of the open item.
func (e *responsesEncoder) delta(dst, text []byte) []byte {
	e.text = append(e.text, text...)
	if e.open == chat.Content {
		dst = e.item(e.event(dst, "response.output_text.delta"), messageID)
		dst = appendString(append(dst, `,"content_index":0,"delta":`...), text)
		return append(dst, `,"logprobs":[]}`...)
	}
	dst = e.item(e.event(dst, "response.reasoning_summary_text.delta"), reasoningID)
	return append(appendString(append(dst, `,"summary_index":0,"delta":`...), text), '}')
}

// closeItem ends the open item, if there is one.
func (e *responsesEncoder) closeItem(dst []byte) []byte {
	switch e.open {
	case chat.Content:
		dst = e.closeText(dst)
	case chat.Reasoning:
		dst = e.closeReasoning(dst)
	}
	e.open, e.text = chat.Pause, e.text[:0]
	return dst
}

func (e *responsesEncoder) closeText(dst []byte) []byte {
	dst = e.item(e.event(dst, "response.output_text.done"), messageID)
	dst = appendString(append(dst, `,"content_index":0,"text":`...), e.text)
	dst = append(dst, `,"logprobs":[]}`...)
	dst = e.item(e.event(dst, "response.content_part.done"), messageID)
	dst = append(appendTextPart(append(dst, `,"content_index":0,"part":`...), e.text), '}')
	return e.finish(dst, func(dst []byte) []byte {
		dst = e.appendItemID(append(dst, `{"id":`...), messageID)
		dst = append(dst, `,"type":"message","status":"completed","role":"assistant","content":[`...)
		return append(appendTextPart(dst, e.text), `]}`...)
	})
}

func (e *responsesEncoder) closeReasoning(dst []byte) []byte {
	dst = e.item(e.event(dst, "response.reasoning_summary_text.done"), reasoningID)
	dst = append(appendString(append(dst, `,"summary_index":0,"text":`...), e.text), '}')
	dst = e.item(e.event(dst, "response.reasoning_summary_part.done"), reasoningID)
	dst = append(appendSummaryPart(append(dst, `,"summary_index":0,"part":`...), e.text), '}')
	return e.finish(dst, func(dst []byte) []byte {
		dst = e.appendItemID(append(dst, `{"id":`...), reasoningID)
		dst = append(dst, `,"type":"reasoning","summary":[`...)
		return append(appendSummaryPart(dst, e.text), `]}`...)
	})
}

func appendTextPart(dst, text []byte) []byte {
	dst = append(dst, `{"type":"output_text","annotations":[],"logprobs":[],"text":`...)
	return append(appendString(dst, text), '}')
}

func appendSummaryPart(dst, text []byte) []byte {
	return append(appendString(append(dst, `{"type":"summary_text","text":`...), text), '}')
}

func (e *responsesEncoder) call(dst []byte, t *chat.ToolCall) []byte {
	item := func(dst []byte, status, arguments string) []byte {
		dst = e.appendItemID(append(dst, `{"id":`...), callID)
		dst = append(append(append(dst, `,"type":"function_call","status":"`...), status...), `","call_id":`...)
		dst = appendString(append(appendString(dst, t.ID), `,"name":`...), t.Name)
		return append(appendString(append(dst, `,"arguments":`...), arguments), '}')
	}
	dst = append(item(e.whole(dst, "response.output_item.added"), "in_progress", ""), '}')
	dst = e.item(e.event(dst, "response.function_call_arguments.delta"), callID)
	dst = append(appendString(append(dst, `,"delta":`...), t.Arguments), '}')
	dst = e.item(e.event(dst, "response.function_call_arguments.done"), callID)
	dst = appendString(append(dst, `,"name":`...), t.Name)
	dst = append(appendString(append(dst, `,"arguments":`...), t.Arguments), '}')
	return e.finish(dst, func(dst []byte) []byte { return item(dst, "completed", t.Arguments) })
}

// state appends an item of its own for what the provider wants back: it comes last, when all other items are done.
func (e *responsesEncoder) state(dst []byte, state string) []byte {
	item := func(dst []byte) []byte {
		dst = e.appendItemID(append(dst, `{"id":`...), reasoningID)
		dst = append(dst, `,"type":"reasoning","summary":[],"encrypted_content":`...)
		return append(appendString(dst, state), '}')
	}
	return e.finish(append(item(e.whole(dst, "response.output_item.added")), '}'), item)
}

func (e *responsesEncoder) done(dst []byte, c *chat.Completion) []byte {
	if c.State != "" {
		dst = e.state(dst, c.State)
	}
	status := responsesStatus(c)
	dst = append(e.event(dst, "response."+status), `,"response":`...)
	return append(e.appendResponse(dst, status, c, nil), '}')
}

func responsesStatus(c *chat.Completion) string {
	switch c.FinishReason {
	case chat.FinishLength, chat.FinishContentFilter:
		return "incomplete"
	}
	return "completed"
}

// appendResponse appends the response as it stands. It has a usage once it is done, because some clients fail
// without; an unknown one is of zeros.
func (e *responsesEncoder) appendResponse(dst []byte, status string, c *chat.Completion, failure *chat.Error) []byte {
	dst = append(append(append(dst, `{"id":"resp_`...), e.id...), `","object":"response","created_at":`...)
	dst = strconv.AppendInt(dst, e.Head.Created.Unix(), 10)
	dst = append(append(append(dst, `,"status":"`...), status...), `","error":`...)
	if failure == nil {
		dst = append(dst, `null`...)
	} else {
		dst = append(append(append(dst, `{"code":"`...), openAICode(failure)...), `","message":`...)
		dst = append(appendString(dst, failure.Message), '}')
	}
	dst = append(dst, `,"incomplete_details":`...)
	switch {
	case status != "incomplete":
		dst = append(dst, `null`...)
	case c.FinishReason == chat.FinishLength:
		dst = append(dst, `{"reason":"max_output_tokens"}`...)
	default:
		dst = append(dst, `{"reason":"content_filter"}`...)
	}
	dst = appendString(append(dst, `,"model":`...), e.Head.Model)
	dst = append(append(append(dst, `,"output":[`...), e.output...), `],"tools":[],"tool_choice":"auto",`...)
	dst = append(dst, `"parallel_tool_calls":true,"store":false,"metadata":{},"usage":`...)
	if c == nil {
		return append(dst, `null}`...)
	}
	return append(appendResponsesUsage(dst, c.Usage), '}')
}

func appendResponsesUsage(dst []byte, u *chat.Usage) []byte {
	if u == nil {
		u = &chat.Usage{}
	}
	dst = strconv.AppendInt(append(dst, `{"input_tokens":`...), u.PromptTokens, 10)
	dst = strconv.AppendInt(append(dst, `,"input_tokens_details":{"cached_tokens":`...), u.CachedTokens, 10)
	dst = strconv.AppendInt(append(dst, `},"output_tokens":`...), u.CompletionTokens, 10)
	dst = strconv.AppendInt(append(dst, `,"output_tokens_details":{"reasoning_tokens":`...), u.ReasoningTokens, 10)
	dst = strconv.AppendInt(append(dst, `},"total_tokens":`...), u.PromptTokens+u.CompletionTokens, 10)
	return append(dst, '}')
}

func (e *responsesEncoder) Ping(dst []byte) []byte { return append(dst, heartbeat...) }

// Reconnect appends nothing: clients of the API never come back.
func (e *responsesEncoder) Reconnect(dst []byte, _ time.Duration) []byte { return dst }

// Fail appends two events: Codex understands only the first, and many SDKs only the second, some by what it has at the
// top and some by the object in it.
func (e *responsesEncoder) Fail(dst []byte, err *chat.Error, seq uint64) []byte {
	dst = append(e.event(e.begin(dst), "response.failed"), `,"response":`...)
	dst = append(e.appendResponse(dst, "failed", nil, err), '}')
	dst = append(append(append(e.event(dst, "error"), `,"code":"`...), openAICode(err)...), `","message":`...)
	dst = append(appendString(dst, err.Message), `,"param":null,"error":`...)
	return e.end(append(appendOpenAIErrorObject(dst, err), '}'), seq)
}

// Close appends nothing: the last event was the end.
func (e *responsesEncoder) Close(dst []byte) []byte { return dst }
