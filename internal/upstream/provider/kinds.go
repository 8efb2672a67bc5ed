package provider

import (
	"cmp"
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
	Settings
	Wire
	Second *Wire // beside Wire, at hosts that are known to have both; nil: there is none

	// Header adds what all requests have beside the format's content types: a key that does not change, for one.
	// Nil: nothing.
	Header func(o *Options, h http.Header)
	// Authorizer returns what signs each request, where a header that is the same for all is not enough. Nil: it is.
	Authorizer func(o *Options) Authorizer

	System string // the provider's name in OpenTelemetry's conventions; empty: Name

	open func(o Options) chat.Streamer // in place of all of it: there is no HTTP
}

// Wire is how a kind is spoken over HTTP.
type Wire struct {
	Format  format.Format
	Framing *framing.Framing
	URL     func(o *Options, model string) string // that requests for a model are posted to
}

// Settings are what is known of a kind before an operator says anything.
type Settings struct {
	Name string // in UPSTREAM_KIND and everywhere

	BaseURL     string   // the provider's own; empty: the operator has to give one
	KeyVariable string   // what providers' SDKs call the key; it chooses the kind, too
	Alone       string   // the kind that KeyVariable chooses without a base URL; empty: this one
	Model       string   // for requests that name none, at BaseURL
	Versioned   bool     // takes an API version
	Local       bool     // asks nobody: there is no address and no key
	Models      []string // that clients may choose from where the operator lists none
	OwnModel    bool     // answers requests that name no model, also without Model
}

// kinds is what every kind is. The first answers where nothing is set, and the others' KeyVariable chooses in this
// order.
var kinds = []Kind{
	{
		Settings: Settings{Name: "demo", Local: true, Models: demoModels, OwnModel: true},
		open:     newDemo,
	}, {
		Settings: Settings{
			Name: "openai", BaseURL: "https://api.openai.com/v1", KeyVariable: "OPENAI_API_KEY", Model: "gpt-6-luna",
			Alone: "openai-responses", // compatible servers may not have it
		},
		Wire: openaiChat, Second: &openaiResponses, Header: bearer,
	}, {
		Settings: Settings{
			Name: "anthropic", BaseURL: "https://api.anthropic.com", KeyVariable: "ANTHROPIC_API_KEY",
			Model: "claude-haiku-5-5",
		},
		Wire: Wire{format.Anthropic{}, framing.EventStream, anthropicURL}, Header: anthropicHeader,
	}, {
		Settings: Settings{
			Name: "gemini", BaseURL: "https://generativelanguage.googleapis.com/v1beta", KeyVariable: "GEMINI_API_KEY",
			Model: "gemini-flash-latest",
		},
		Wire: Wire{format.Gemini{}, framing.EventStream, geminiURL}, Header: keyIn("X-Goog-Api-Key"),
		System: "gcp.gemini",
	}, {
		Settings: Settings{
			Name: "openai-responses", BaseURL: "https://api.openai.com/v1", KeyVariable: "OPENAI_API_KEY",
			Model: "gpt-6-luna",
		},
		Wire: openaiResponses, Second: &openaiChat, Header: bearer, System: "openai",
	}, {
		Settings: Settings{Name: "azure", Versioned: true},
		Wire:     openaiChat, Second: &openaiResponses, Header: keyIn("Api-Key"), System: "azure.ai.openai",
	}, {
		Settings: Settings{Name: "ollama", BaseURL: "http://localhost:11434"},
		Wire:     Wire{format.Ollama{}, framing.NDJSON, at("/api/chat")}, Header: bearer,
	}, {
		Settings: Settings{Name: "cohere", BaseURL: "https://api.cohere.com"},
		Wire:     Wire{format.Cohere{}, framing.EventStream, at("/v2/chat")}, Header: bearer,
	}, {
		Settings: Settings{Name: "bedrock"},
		Wire:     Wire{format.Bedrock{}, framing.AWSEvents, bedrockURL}, Header: bearer, System: "aws.bedrock",
	}, {
		Settings: Settings{Name: "websopy", OwnModel: true},
		Wire:     Wire{format.Websopy{}, framing.EventStream, at("/v1/ai/chat/stream")}, Header: bearer,
	},
}

// Kinds are the settings of all kinds, in the order in which their keys choose one.
func Kinds() []Settings {
	var all []Settings
	for _, k := range kinds {
		all = append(all, k.Settings)
	}
	return all
}

// Fields are the further fields of a request that an upstream of a kind gets: those of the relay's list for the kind's
// format, and those named.
func Fields(kind string, names []string) *format.Fields {
	k := kindNamed(kind)
	if k == nil {
		return format.NewFields(nil, names)
	}
	return format.NewFields(k.Format, names)
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

// system is the provider's name in OpenTelemetry's conventions, which tell Google's two services apart.
func (k *Kind) system(baseURL string) string {
	if k.Name == "gemini" && strings.Contains(baseURL, "aiplatform") {
		return "gcp.vertex_ai"
	}
	return cmp.Or(k.System, k.Name)
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
	return o.BaseURL + "/models/" + url.PathEscape(strings.TrimPrefix(model, "models/")) +
		":streamGenerateContent?alt=sse"
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
