package upstream

import (
	"net/http"
	"net/url"
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
