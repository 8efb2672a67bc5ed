package provider

import (
	"net/url"
	"strings"
)

func chatCompletionsURL(o *Options, model string) string {
	if v1 := o.azureV1(); v1 != "" {
		return v1 + "/chat/completions" + o.azureVersion()
	}
	if o.Kind == "azure" {
		// https://learn.microsoft.com/azure/ai-services/openai/reference: the deployment is in the path.
		return o.BaseURL + "/openai/deployments/" + url.PathEscape(model) + "/chat/completions?api-version=" +
			url.QueryEscape(o.APIVersion)
	}
	return o.BaseURL + "/chat/completions"
}

func responsesURL(o *Options, _ string) string {
	if v1 := o.azureV1(); v1 != "" {
		return v1 + "/responses" + o.azureVersion()
	}
	return o.BaseURL + "/responses"
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
