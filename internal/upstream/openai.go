package upstream

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// openai is the chat completions format of OpenAI and its many relatives.
// https://platform.openai.com/docs/api-reference/chat-streaming
type openai struct{ Options }

func (f *openai) target(model string) string {
	if f.Kind == "azure" {
		// https://learn.microsoft.com/azure/ai-services/openai/reference: the deployment is in the path.
		return f.BaseURL + "/openai/deployments/" + url.PathEscape(model) + "/chat/completions?api-version=" + url.QueryEscape(f.APIVersion)
	}
	return f.BaseURL + "/chat/completions"
}

func (f *openai) setHeaders(h http.Header) {
	if f.Kind == "azure" {
		setKey(h, "Api-Key", f.APIKey)
	} else {
		setBearer(h, f.APIKey)
	}
}

func (f *openai) encode(e *jx.Encoder, model string, req *chat.Request) error {
	e.ObjStart()
	optionalString(e, "model", model)
	encodeOpenAIRequest(e, req, f.maxTokensField(req))
	e.FieldStart("stream")
	e.Bool(true)
	// Mistral refuses the field, and sends usage without being asked.
	if !strings.Contains(f.BaseURL, "mistral.ai") {
		e.FieldStart("stream_options")
		e.RawStr(`{"include_usage":true}`)
	}
	for _, x := range req.Extra {
		e.FieldStart(x.Name)
		e.Raw(x.Value)
	}
	e.ObjEnd()
	return nil
}

// maxTokensField is OpenAI's new name at OpenAI, whose reasoning models refuse the old one, and elsewhere, where
// the new one may not be known, the caller's.
func (f *openai) maxTokensField(req *chat.Request) string {
	host, _, _ := strings.Cut(strings.TrimPrefix(f.BaseURL, "https://"), "/")
	if host == "api.openai.com" || strings.HasSuffix(host, ".api.openai.com") { // a region, like eu.
		return "max_completion_tokens"
	}
	return cmp.Or(req.MaxTokensName, "max_tokens")
}
