package upstreamtest

// Text is what every format's good answer says.
const Text = "one two three"

// Format is a good answer in a wire format: events as they stand in the body, framing included.
type Format struct {
	Kind        string // as upstream.Options has it
	ContentType string
	Head        []string // up to the first word
	Words       []string // one for each word of Text, which is the text of a JSON object
	Tail        []string // from the finish reason to the end
	Error       string   // reports a failure
}

// Formats has an entry for each kind of upstream that is spoken over HTTP.
var Formats = []Format{openai("openai"), openai("azure"), websopy}

func openai(kind string) Format {
	chunk := func(delta, finish string) string {
		return data(`{"id":"c1","object":"chat.completion.chunk","model":"m-1","choices":[{"index":0,"delta":{` + delta + `},"finish_reason":` + finish + `}]}`)
	}
	return Format{
		Kind: kind, ContentType: "text/event-stream",
		Head:  []string{chunk(`"role":"assistant","content":""`, "null")},
		Words: []string{chunk(`"content":"one "`, "null"), chunk(`"content":"two "`, "null"), chunk(`"content":"three"`, "null")},
		Tail: []string{chunk("", `"stop"`), data(`{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}`),
			data("[DONE]")},
		Error: data(`{"error":{"message":"the server is overloaded","type":"server_error","code":null}}`),
	}
}

var websopy = Format{
	Kind: "websopy", ContentType: "text/event-stream",
	Head:  []string{data(`{"type":"ping"}`)},
	Words: []string{data(`{"type":"content","content":"one "}`), data(`{"type":"content","content":"two "}`), data(`{"type":"content","content":"three"}`)},
	Tail:  []string{data(`{"type":"done","finishReason":"stop","model":"m-1","usage":{"promptTokens":7,"completionTokens":3}}`), data("[DONE]")},
	Error: data(`{"type":"error","error":"the provider failed","code":"upstream_error","retryable":true,"requestId":"r"}`),
}

// data is an event of an event stream.
func data(s string) string { return "data: " + s + "\n\n" }
