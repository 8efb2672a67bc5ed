package provider

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/format"
	"github.com/websopy/relay/internal/upstream/framing"
)

// Kind is a kind of upstream (UPSTREAM_KIND): what it speaks, where, and how a request shows whose it is.
type Kind struct {
	Name string
	Wire
	Second *Wire // beside Wire, at hosts that are known to have both; nil: there is none

	// Header adds what all requests have beside the format's content types: a key that does not change, for one.
	// Nil: nothing.
	Header func(o *Options, h http.Header)
	// Authorizer returns what signs each request, where a header that is the same for all is not enough. Nil: it is.
	Authorizer func(o *Options) Authorizer

	open func(o Options) chat.Streamer // in place of all of it: there is no HTTP
}

// Wire is how a kind is spoken over HTTP.
type Wire struct {
	Format  format.Format
	Framing *framing.Framing
	URL     func(o *Options, model string) string // that requests for a model are posted to
}

// kinds is what every kind is.
var kinds = []Kind{
	{Name: "demo", open: newDemo},
	{Name: "openai", Wire: openaiChat, Second: &openaiResponses, Header: bearer},
	{Name: "openai-responses", Wire: openaiResponses, Second: &openaiChat, Header: bearer},
	{Name: "azure", Wire: openaiChat, Second: &openaiResponses, Header: keyIn("Api-Key")},
	{Name: "anthropic", Wire: Wire{format.Anthropic{}, framing.EventStream, anthropicURL}, Header: anthropicHeader},
	{Name: "gemini", Wire: Wire{format.Gemini{}, framing.EventStream, geminiURL}, Header: keyIn("X-Goog-Api-Key")},
	{Name: "ollama", Wire: Wire{format.Ollama{}, framing.NDJSON, at("/api/chat")}, Header: bearer},
	{Name: "cohere", Wire: Wire{format.Cohere{}, framing.EventStream, at("/v2/chat")}, Header: bearer},
	{Name: "bedrock", Wire: Wire{format.Bedrock{}, framing.AWSEvents, bedrockURL}, Header: bearer},
	{Name: "websopy", Wire: Wire{format.Websopy{}, framing.EventStream, at("/v1/ai/chat/stream")}, Header: bearer},
}

var (
	openaiChat      = Wire{format.OpenAI{}, framing.EventStream, chatCompletionsURL}
	openaiResponses = Wire{format.Responses{}, framing.EventStream, responsesURL}
)

func kindNamed(name string) *Kind {
	i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Name == name })
	if i < 0 {
		return nil
	}
	return &kinds[i]
}

// at is the address of a format that has one for all models.
func at(path string) func(*Options, string) string {
	return func(o *Options, _ string) string { return o.BaseURL + path }
}

// bearer sends the key, if there is one, as most providers want it.
func bearer(o *Options, h http.Header) {
	if o.APIKey != "" {
		h.Set("Authorization", "Bearer "+o.APIKey)
	}
}

// keyIn sends the key, if there is one, in a header of its own.
func keyIn(name string) func(*Options, http.Header) {
	return func(o *Options, h http.Header) {
		if o.APIKey != "" {
			h.Set(name, o.APIKey)
		}
	}
}

// anthropicURL has the model in it at Vertex AI, whose address ends with the publisher's name.
// https://cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude/use-claude
func anthropicURL(o *Options, model string) string {
	if strings.HasSuffix(o.BaseURL, "/publishers/anthropic") {
		return o.BaseURL + "/models/" + url.PathEscape(model) + ":streamRawPredict"
	}
	return o.BaseURL + "/v1/messages"
}

func anthropicHeader(o *Options, h http.Header) {
	h.Set("Anthropic-Version", "2023-06-01")
	keyIn("X-Api-Key")(o, h)
}

func geminiURL(o *Options, model string) string {
	return o.BaseURL + "/models/" + url.PathEscape(strings.TrimPrefix(model, "models/")) + ":streamGenerateContent?alt=sse"
}

// bedrockURL has the model's id in the path, escaped wholly: Amazon's signatures are of paths that are.
func bedrockURL(o *Options, model string) string {
	const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
	var id strings.Builder
	for i := range len(model) {
		if strings.IndexByte(unreserved, model[i]) >= 0 {
			id.WriteByte(model[i])
		} else {
			fmt.Fprintf(&id, "%%%02X", model[i])
		}
	}
	return o.BaseURL + "/model/" + id.String() + "/converse-stream"
}
