package upstreamtest

import "strings"

// Text is what every format's good answer says.
const Text = "one two three"

// Format is a good answer in a wire format: events as they stand in the body, framing included.
type Format struct {
	Kind        string // as upstream.Options has it
	ContentType string
	Head        []string // up to the first word
	Words       []string // one for each word of Text, which stands in a JSON object
	Tail        []string // from the finish reason to the end
	Error       string   // reports a failure
}

// Formats has an entry for each kind of upstream that is spoken over HTTP.
var Formats = []Format{
	openai("openai"),
	openai("azure"),
	{
		Kind: "openai-responses", ContentType: eventStream,
		Head: []string{data(`{"type":"response.created","response":{"id":"resp_1","model":"m-1",` +
			`"status":"in_progress","error":null,"usage":null}}`)},
		Words: words(func(word string) string {
			return data(`{"type":"response.output_text.delta","item_id":"msg_1","output_index":0,"content_index":0,` +
				`"delta":"` + word + `"}`)
		}),
		Tail: []string{data(`{"type":"response.completed","response":{"id":"resp_1","model":"m-1",` +
			`"status":"completed","error":null,"usage":{"input_tokens":7,"output_tokens":3}}}`)},
		Error: data(`{"type":"response.failed","response":{"model":"m-1","status":"failed",` +
			`"error":{"code":"server_error","message":"the server is overloaded"}}}`),
	},
	{
		Kind: "anthropic", ContentType: eventStream,
		Head: []string{
			event("message_start", `"message":{"id":"msg_1","model":"m-1","role":"assistant","content":[],`+
				`"usage":{"input_tokens":7,"output_tokens":1}}`),
			event("content_block_start", `"index":0,"content_block":{"type":"text","text":""}`),
			event("ping", `"x":0`),
		},
		Words: words(func(word string) string {
			return event("content_block_delta", `"index":0,"delta":{"type":"text_delta","text":"`+word+`"}`)
		}),
		Tail: []string{
			event("content_block_stop", `"index":0`),
			event("message_delta", `"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}`),
			event("message_stop", `"x":0`),
		},
		Error: event("error", `"error":{"type":"overloaded_error","message":"Overloaded"}`),
	},
	{
		Kind: "gemini", ContentType: eventStream,
		Head: []string{data(`{"usageMetadata":{"promptTokenCount":7},"modelVersion":"m-1"}`)},
		Words: words(func(word string) string {
			return data(`{"candidates":[{"content":{"parts":[{"text":"` + word +
				`"}],"role":"model"},"index":0}],"modelVersion":"m-1"}`)
		}),
		Tail: []string{data(`{"candidates":[{"finishReason":"STOP","index":0}],` +
			`"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":3},"modelVersion":"m-1"}`)},
		Error: data(`{"error":{"code":503,"message":"the model is overloaded","status":"UNAVAILABLE"}}`),
	},
	{
		Kind: "ollama", ContentType: "application/x-ndjson",
		Head: []string{`{"model":"m-1","message":{"role":"assistant","content":""},"done":false}` + "\n"},
		Words: words(func(word string) string {
			return `{"model":"m-1","message":{"role":"assistant","content":"` + word + `"},"done":false}` + "\n"
		}),
		Tail: []string{`{"model":"m-1","message":{"role":"assistant","content":""},"done_reason":"stop",` +
			`"done":true,"prompt_eval_count":7,"eval_count":3}` + "\n"},
		Error: `{"error":"llama runner process has terminated"}` + "\n",
	},
	{
		Kind: "cohere", ContentType: eventStream,
		Head: []string{
			data(`{"id":"x","type":"message-start","delta":{"message":{"role":"assistant","content":[]}}}`),
			data(`{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"text","text":""}}}}`),
		},
		Words: words(func(word string) string {
			return data(`{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"` + word + `"}}}}`)
		}),
		Tail: []string{
			data(`{"type":"content-end","index":0}`),
			data(`{"type":"message-end","delta":{"finish_reason":"COMPLETE","usage":{"tokens":{"input_tokens":7,` +
				`"output_tokens":3}}}}`),
			data("[DONE]"),
		},
		Error: data(`{"type":"message-end","delta":{"finish_reason":"ERROR","error":"the server is overloaded"}}`),
	},
	{
		Kind: "bedrock", ContentType: "application/vnd.amazon.eventstream",
		Head: []string{AWSEvent("messageStart", `{"role":"assistant","p":"abc"}`)},
		Words: words(func(word string) string {
			return AWSEvent("contentBlockDelta", `{"contentBlockIndex":0,"delta":{"text":"`+word+`"},"p":"abcdefgh"}`)
		}),
		Tail: []string{
			AWSEvent("contentBlockStop", `{"contentBlockIndex":0}`),
			AWSEvent("messageStop", `{"stopReason":"end_turn"}`),
			AWSEvent("metadata",
				`{"usage":{"inputTokens":7,"outputTokens":3,"totalTokens":10},"metrics":{"latencyMs":5}}`),
		},
		Error: AWSFrame(`{"message":"Bedrock is unable to process your request."}`,
			":message-type", "exception", ":exception-type", "serviceUnavailableException"),
	},
	{
		Kind: "websopy", ContentType: eventStream,
		Head:  []string{data(`{"type":"ping"}`)},
		Words: words(func(word string) string { return data(`{"type":"content","content":"` + word + `"}`) }),
		Tail: []string{data(`{"type":"done","finishReason":"stop","model":"m-1","usage":{"promptTokens":7,` +
			`"completionTokens":3}}`), data("[DONE]")},
		Error: data(`{"type":"error","error":"the provider failed","code":"upstream_error","retryable":true,` +
			`"requestId":"r"}`),
	},
}

const eventStream = "text/event-stream"

// openai is the format of two kinds.
func openai(kind string) Format {
	chunk := func(delta, finish string) string {
		return data(`{"id":"c1","object":"chat.completion.chunk","model":"m-1","choices":[{"index":0,"delta":{` +
			delta + `},"finish_reason":` + finish + `}]}`)
	}
	return Format{
		Kind: kind, ContentType: eventStream,
		Head:  []string{chunk(`"role":"assistant","content":""`, "null")},
		Words: words(func(word string) string { return chunk(`"content":"`+word+`"`, "null") }),
		Tail: []string{chunk("", `"stop"`), data(`{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}`),
			data("[DONE]")},
		Error: data(`{"error":{"message":"the server is overloaded","type":"server_error","code":null}}`),
	}
}

// words makes an event of each word, with the space after it.
func words(frame func(word string) string) []string {
	var events []string
	for _, word := range strings.SplitAfter(Text, " ") {
		events = append(events, frame(word))
	}
	return events
}

// data is an event of an event stream.
func data(s string) string { return "data: " + s + "\n\n" }

// event is one that says its type twice, as Anthropic's do.
func event(typ, fields string) string {
	return "event: " + typ + "\n" + data(`{"type":"`+typ+`",`+fields+`}`)
}
