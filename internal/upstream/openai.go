package upstream

import (
	"net/http"
	"net/url"
	"strings"
)

// openai is the chat completions format of OpenAI and its many relatives.
// https://platform.openai.com/docs/api-reference/chat-streaming
type openai struct{ Options }

func (f *openai) target(model string) string {
	if v1 := f.azureV1(); v1 != "" {
		return v1 + "/chat/completions" + f.azureVersion()
	}
	if f.Kind == "azure" {
		// https://learn.microsoft.com/azure/ai-services/openai/reference: the deployment is in the path.
		return f.BaseURL + "/openai/deployments/" + url.PathEscape(model) + "/chat/completions?api-version=" + url.QueryEscape(f.APIVersion)
	}
	return f.BaseURL + "/chat/completions"
}

func (f *openai) setHeaders(h http.Header) { f.setOpenAIKey(h) }

func (o *Options) setOpenAIKey(h http.Header) {
	if o.Kind == "azure" {
		setKey(h, "Api-Key", o.APIKey)
	} else {
		setBearer(h, o.APIKey)
	}
}

// azureV1 is the address of Azure's newer interface, which is OpenAI's own with the deployment as model; "" for the
// others. https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle
func (o *Options) azureV1() string {
	switch {
	case o.Kind != "azure":
		return ""
	case strings.HasSuffix(o.BaseURL, "/openai/v1"):
		return o.BaseURL
	case o.APIVersion == "v1":
		return o.BaseURL + "/openai/v1"
	}
	return ""
}

// azureVersion is needed there for previews only.
func (o *Options) azureVersion() string {
	if o.APIVersion == "" || o.APIVersion == "v1" {
		return ""
	}
	return "?api-version=" + url.QueryEscape(o.APIVersion)
}
