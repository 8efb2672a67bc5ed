package provider_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/upstream/provider"
	"github.com/websopy/relay/internal/upstream/report"
)

// reported is the error that becomes of a provider's answer with a status and a body. A status of 200 is that of a
// stream, whose only event is the body.
func reported(t testing.TB, host string, status int, header http.Header, body string) *chat.Error {
	t.Helper()
	o := options("openai", "https://"+host+"/v1")
	o.APIKey, o.Model = "sk-proj-Abc123Def456Ghi789", "tiny-7b-chat-x1"
	s := newUpstream(t, o)
	provider.SetTransport(s, roundTripper(func(req *http.Request) (*http.Response, error) {
		h := header.Clone()
		if h == nil {
			h = make(http.Header)
		}
		h.Set("Content-Type", "application/json")
		if status == http.StatusOK {
			h.Set("Content-Type", "text/event-stream")
			body = "data: " + body + "\n\n"
		}
		return &http.Response{StatusCode: status, ProtoMajor: 1, Request: req, Header: h,
			Body: io.NopCloser(strings.NewReader(body))}, nil
	}))
	got := chattest.Fold(t, s.Stream(t.Context(), question()))
	require.Error(t, got.Err)
	return chat.AsError(got.Err)
}

const (
	rejected  = chat.UpstreamRejected
	tooLong   = chat.ContextLengthExceeded
	filtered  = chat.ContentFiltered
	noAccount = chat.UpstreamAuth
	limited   = chat.UpstreamRateLimited
	failed    = chat.UpstreamError
)

// failures are what providers were reported, or document, to say, and what it means.
var failures = []struct {
	host   string // any when empty
	status int    // 200: in a stream
	body   string
	code   chat.Code
	says   string // in the message
}{
	// The conversation is too long.
	{"", 400, `{"error":{"message":"This model's maximum context length is 128000 tokens. However,` +
		` your messages resulted in 140001 tokens. Please reduce the length of the messages.",` +
		`"type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}`, tooLong,
		"maximum context length is 128000 tokens"},
	{"", 400, `{"type":"error","error":{"type":"invalid_request_error",` +
		`"message":"prompt is too long: 204011 tokens > 200000 maximum"}}`, tooLong, "204011 tokens > 200000 maximum"},
	{"", 400, `{"type":"error","error":{"type":"invalid_request_error","message":"input length and ` + "`max_tokens`" +
		` exceed context limit: 190000 + 20000 > 200000, decrease input length or ` + "`max_tokens`" +
		` and try again"}}`, tooLong, "exceed context limit"},
	{"", 400, `{"error":{"code":400,"message":"The input token count (1196265) exceeds the maximum number of tokens ` +
		`allowed (1048576).","status":"INVALID_ARGUMENT"}}`, tooLong, "exceeds the maximum number of tokens"},
	{"api.z.ai", 400, `{"error":{"code":"1261","message":"Prompt exceeds max length"}}`, tooLong,
		"Prompt exceeds max length"},
	{"api.z.ai", 200, `{"error":{"code":1261,"message":"Too much."}}`, tooLong, "Too much."},
	{"", 400, `{"error":{"message":"Invalid request: Your request exceeded model token limit: 262144 (requested: ` +
		`300001)","type":"invalid_request_error"}}`, tooLong, "exceeded model token limit"},
	{"", 400, `{"code":"Client specified an invalid argument","error":"This model's maximum prompt length is 131072 ` +
		`but the request contains 537812 tokens."}`, tooLong, "maximum prompt length is 131072"},
	{"", 400, `{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it",` +
		`"type":"exceed_context_size_error","n_prompt_tokens":9000,"n_ctx":4096}}`, tooLong, "available context size"},
	{"", 400, `{"object":"error","message":"The decoder prompt (length 5000) is longer than the maximum model ` +
		`length of 4096. Make sure that max_model_len is no smaller.","type":"BadRequestError","param":null,` +
		`"code":400}`, tooLong, "longer than the maximum model length of 4096"},
	{"", 400, `{"object":"error","message":"Prompt contains 40000 tokens and 0 draft tokens,` +
		` too large for model with 32768 maximum context length","type":"invalid_request_prompt","code":"3051"}`,
		tooLong, "too large for model"},
	{"", 400, `{"message":"Input is too long for requested model.","__type":"ValidationException"}`, tooLong,
		"Input is too long"},
	{"", 400, `{"message":"too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 6000"}`,
		tooLong, "too many tokens"},
	{"dashscope.aliyuncs.com", 400,
		`{"error":{"message":"<400> InternalError.Algo.InvalidParameter: Range of input length should be [1,` +
			` 129024]","type":"invalid_request_error","code":"invalid_parameter_error"}}`, tooLong,
		"Range of input length should be [1, 129024]"},
	{"", 400, `{"error":"Trying to keep the first 9000 tokens when context the overflows. However,` +
		` the model is loaded with context length of only 4096 tokens"}`, tooLong,
		"context length of only 4096 tokens"},
	{"", 500, `{"error":"prompt too long; exceeded max context length by 312 tokens"}`, tooLong, "prompt too long"},
	{"", 422, "{\"error\":\"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 " +
		"`inputs` tokens and 100 `max_new_tokens`\",\"error_type\":\"validation\"}", tooLong, "must be <= 4096"},
	{"", 400, `{"error":{"message":"Please reduce the length of the messages or completion. Current length is 8193 ` +
		`while limit is 8192","type":"invalid_request_error","code":"context_length_exceeded"}}`, tooLong,
		"reduce the length"},
	{"", 400, `{"error":{"message":"litellm.ContextWindowExceededError: litellm.BadRequestError: AnthropicException ` +
		`- {\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"prompt is too long: ` +
		`210000 tokens > 200000 maximum\"}}","type":null,"param":null,"code":"400"}}`, tooLong,
		"prompt is too long: 210000 tokens > 200000 maximum"},
	{"", 200, `{"error":{"type":"invalid_request_error","code":"context_length_exceeded",` +
		`"message":"Your input exceeds the context window of this model. Please adjust your input and try again."}}`,
		tooLong, "exceeds the context window"},

	// The account is empty, or closed.
	{"", 429, `{"error":{"message":"You exceeded your current quota,` +
		` please check your plan and billing details. For more information on this error, read the docs: ` +
		`https://platform.openai.com/docs/guides/error-codes/api-errors.","type":"insufficient_quota","param":null,` +
		`"code":"insufficient_quota"}}`, noAccount, "no credit"},
	{"", 400, `{"type":"error","error":{"type":"invalid_request_error",` +
		`"message":"Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to ` +
		`upgrade or purchase credits."}}`, noAccount, "no credit"},
	{"", 402, `{"type":"error","error":{"type":"billing_error","message":"Your organization has been limited."}}`,
		noAccount, "no credit"},
	{"", 402, `{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,` +
		`"code":"invalid_request_error"}}`, noAccount, "no credit"},
	{"", 402, `{"error":{"message":"This request requires more credits, or fewer max_tokens.","code":402}}`, noAccount,
		"no credit"},
	{"", 429, `{"error":{"message":"Your account is suspended, please check your plan and billing details",` +
		`"type":"exceeded_current_quota_error"}}`, noAccount, ""},
	{"api.z.ai", 429, `{"error":{"code":"1113","message":"Insufficient balance or no resource package. Please ` +
		`recharge."}}`, noAccount, "no credit"},
	{"open.bigmodel.cn", 429, `{"error":{"code":"1113","message":"您的账户已欠费，请充值后重试。"}}`, noAccount, "no credit"},
	{"api.z.ai", 200, `{"error":{"code":1113,"message":"x"}}`, noAccount, "no credit"},
	{"", 403, `{"code":"The caller does not have permission to execute the specified operation",` +
		`"error":"Your team 0000-1 has either used all available credits or reached its monthly spending limit."}`,
		noAccount, "no credit"},
	{"", 400, `{"error":{"message":"Access denied, please make sure your account is in good standing.",` +
		`"type":"Arrearage","code":"Arrearage"}}`, noAccount, "no credit"},
	{"", 403, `{"error":{"message":"user quota is not enough","type":"new_api_error",` +
		`"code":"insufficient_user_quota"}}`, noAccount, "no credit"},
	{"api.minimax.io", 200, `{"error":{"message":"insufficient balance","code":1008}}`, noAccount, "no credit"},
	{"", 400, `{"type":"error","error":{"type":"invalid_request_error",` +
		`"message":"This organization has been disabled."}}`, noAccount, "blocked"},
	{"", 401, `{"error":{"message":"The OpenAI account associated with this API key has been deactivated.",` +
		`"code":"account_deactivated"}}`, noAccount, "blocked"},

	// The key.
	{"", 401, `{"error":{"message":"Incorrect API key provided: sk-proj-********i789. You can find your API key at ` +
		`https://platform.openai.com/account/api-keys.","type":"invalid_request_error","param":null,` +
		`"code":"invalid_api_key"}}`, noAccount, "credentials"},
	{"", 400, `{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.",` +
		`"status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo",` +
		`"reason":"API_KEY_INVALID"}]}}`, noAccount, "credentials"},
	{"", 200, `{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}`, noAccount,
		"credentials"},
	{"", 403, `{"message":"Forbidden"}`, noAccount, "credentials"},
	{"api.z.ai", 200, `{"error":{"code":"1002","message":"x"}}`, noAccount, "credentials"},

	// The prompt is blocked.
	{"", 400, `{"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI's content ` +
		`management policy. Please modify your prompt and retry.","type":null,"param":"prompt",` +
		`"code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation",` +
		`"content_filter_result":{"hate":{"filtered":true,"severity":"high"}}}}}`, filtered, ""},
	{"", 400, `{"error":{"code":"content_policy_violation",` +
		`"message":"Your request was rejected as a result of our safety system."}}`, filtered, "safety system"},
	{"", 200, `{"error":{"code":"invalid_prompt","message":"Invalid prompt: your prompt was flagged as potentially ` +
		`violating our usage policy."}}`, filtered, "flagged"},
	{"", 400, `{"error":{"message":"<400> InternalError.Algo.DataInspectionFailed: Input text data may contain ` +
		`inappropriate content.","type":"data_inspection_failed","code":"data_inspection_failed"}}`, filtered,
		"may contain inappropriate content."},
	{"", 400, `{"error":{"message":"Content Exists Risk","type":"invalid_request_error",` +
		`"code":"invalid_request_error"}}`, filtered, "Content Exists Risk"},
	{"", 403, `{"code":"The caller does not have permission to execute the specified operation",` +
		`"error":"Content violates usage guidelines. Team: 00000000-0000-4000-8000-000000000001, API key ID: ` +
		`00000000-0000-4000-8000-000000000002, Model: grok-4, Failed check: SAFETY_CHECK_TYPE_BIO"}`, filtered,
		"Content violates usage guidelines."},
	{"", 403, `{"error":{"code":403,"message":"openai/gpt-x requires moderation on OpenAI. Your input was flagged.",` +
		`"metadata":{"reasons":["violence"],"flagged_input":"how to","provider_name":"OpenAI"}}}`, filtered, ""},
	{"", 400, `{"error":{"message":"The request was rejected because it was considered high risk",` +
		`"type":"content_filter"}}`, filtered, ""},
	{"api.z.ai", 400, `{"contentFilter":[{"level":1,"role":"user"}],"error":{"code":"1301",` +
		`"message":"系统检测到输入或生成内容可能包含不安全或敏感内容。"}}`, filtered, ""},
	{"api.minimax.io", 200, `{"error":{"message":"x","code":"1026"}}`, filtered, ""},
	{"", 400, `{"error":{"message":"litellm.ContentPolicyViolationError: AzureException - {'error': {` +
		`'message': \"It's blocked\", 'code': 'content_filter', 'param': None}}","code":"400"}}`, filtered, ""},
	{"", 400, `{"message":"The request was blocked by our guardrail."}`, filtered, ""},

	// Too fast.
	{"", 429, `{"error":{"message":"Rate limit reached for gpt-x in organization org-AbCdEf on requests per min ` +
		`(RPM): Limit 3, Used 3, Requested 1. Please try again in 20s.","type":"requests","param":null,` +
		`"code":"rate_limit_exceeded"}}`, limited, ""},
	{"", 200, `{"error":{"message":"slow down","type":"rate_limit_error"}}`, limited, ""},
	{"", 429, `{"error":{"code":429,"message":"You exceeded your current quota,` +
		` please check your plan and billing details.","status":"RESOURCE_EXHAUSTED"}}`, limited, ""},
	{"dashscope.aliyuncs.com", 429,
		`{"error":{"message":"You exceeded your current quota, please check your plan and billing details.",` +
			`"type":"insufficient_quota","code":"insufficient_quota"}}`, limited, ""},
	{"dashscope-intl.aliyuncs.com", 200,
		`{"code":"Throttling.RateQuota","message":"Requests rate limit exceeded, please try again later.",` +
			`"error":{"code":"Throttling.RateQuota","message":"x"}}`, limited, ""},
	{"", 400, `{"message":"Too many requests, please wait before trying again.","__type":"ThrottlingException"}`,
		limited, ""},
	{"", 429, `{"message":"Service tier capacity exceeded for this model."}`, limited, ""},
	{"", 429, `{"error":{"message":"The engine is currently overloaded, please try again later",` +
		`"type":"engine_overloaded_error"}}`, limited, ""},
	{"api.z.ai", 200, `{"error":{"code":"1302","message":"Rate limit reached for requests"}}`, limited, ""},
	{"api.z.ai", 200, `{"error":{"code":"1303","message":"x"}}`, limited, ""},
	{"", 200, `{"error":"Rate limit exceeded"}`, limited, ""},
	{"", 200, `{"error":{"code":"429","message":"x"}}`, limited, ""},
	{"", 429, `[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"x"}}]`, limited, ""},

	// The provider.
	{"", 503, `{"error":{"message":"That model is currently overloaded.","type":"server_error"}}`, failed,
		"the provider is overloaded: That model is currently overloaded."},
	{"", 529, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`, failed, "overloaded"},
	{"", 200, `{"error":{"type":"service_unavailable_error","code":"server_is_overloaded",` +
		`"message":"Our servers are currently overloaded. Please try again later."}}`, failed,
		"Our servers are currently overloaded."},
	{"", 500, `{"error":"model requires more system memory (12.0 GiB) than is available (8.0 GiB)"}`, failed,
		"model requires more system memory"},
	{"", 200, `{"error":{"code":500,"message":"context shift is disabled","type":"server_error"}}`, failed,
		"context shift is disabled"},
	{"", 200, `{"error":{"message":"The model is not loaded","type":"model_not_loaded"}}`, failed,
		"The model is not loaded"},
	{"", 200, `{"error":"ENGINE_GONE"}`, failed, ""},
	{"", 424, `{"message":"The model has timed out.","__type":"ModelErrorException"}`, failed, ""},
	{"", 502, `<html><body>Bad gateway at 10.0.0.1</body></html>`, failed, ""},
	{"", 500, ``, failed, ""},
	{"", 502, `{"error":{"message":"Provider returned error","code":502,` +
		`"metadata":{"raw":"upstream connect error at 10.2.3.4:8080","provider_name":"X"}}}`, failed, ""},
	{"", 500, `{"error":{"message":"Error code: 429 - {'error': {'message': 'x', 'type': 'y',` +
		` 'code': 'rate_limit_exceeded'}}"}}`, limited, ""},

	// The request.
	{"", 404, `{"error":{"message":"The model ` + "`m1`" +
		` does not exist or you do not have access to it.","type":"invalid_request_error","param":null,` +
		`"code":"model_not_found"}}`, rejected, "does not exist"},
	{"", 400, `{"error":{"message":"Model Not Exist","type":"invalid_request_error","code":"invalid_request_error"}}`,
		rejected, "Model Not Exist"},
	{"", 404, `{"error":"model 'nope' not found"}`, rejected, "model 'nope' not found"},
	{"", 400, `{"error":{"message":"foo/bar is not a valid model ID","code":400}}`, rejected,
		"is not a valid model ID"},
	{"", 404, `{"error":{"message":"No endpoints found for foo/bar.","code":404}}`, rejected, "No endpoints found"},
	{"", 400, `{"error":{"message":"Unsupported value: 'temperature' does not support 0.2 with this model. Only the ` +
		`default (1) value is supported.","type":"invalid_request_error","param":"temperature",` +
		`"code":"unsupported_value"}}`, rejected, "'temperature' does not support 0.2"},
	{"", 400, `{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: 900000 exceeds the ` +
		`limit of 128000 for this model"}}`, rejected, "max_tokens: 900000 exceeds the limit of 128000"},
	{"", 400, `{"type":"error","error":{"type":"invalid_request_error",` +
		`"message":"messages.1.content.0.type: Expected ` + "`thinking`" + ` or ` + "`redacted_thinking`" +
		`, but found ` + "`text`" + `."}}`, rejected, "messages.1.content.0.type: Expected"},
	{"", 422, `{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","frequency_penalty"],` +
		`"msg":"Extra inputs are not permitted","input":1}]},"type":"invalid_request_error"}`, rejected,
		"frequency_penalty: Extra inputs are not permitted"},
	{"", 422, `{"detail":[{"loc":["body","messages",0,"role"],"msg":"field required","type":"value_error.missing"}]}`,
		rejected, "role: field required"},
	{"", 422, `{"detail":"The field temperature must be at most 2."}`, rejected,
		"The field temperature must be at most 2."},
	{"", 400, `{"error":{"message":"Provider returned error","code":400,` +
		`"metadata":{"raw":"{\"error\":{\"type\":\"invalid_request_error\",` +
		`\"message\":\"This model supports at most 1 image per prompt.\"}}","provider_name":"Anvil"}},` +
		`"user_id":"user_x"}`, rejected, "at most 1 image per prompt"},
	{"", 400, `{"error":{"message":"Error code: 400 - {'error': {'message': \"'temperature' isn't taken by this ` +
		`model\", 'type': 'invalid_request_error', 'param': None}}"}}`, rejected,
		"'temperature' isn't taken by this model"},
	{"", 400, `{"error":{"code":400,"message":"Invalid JSON payload received. Unknown name \"id\" at 'contents[1]` +
		`.parts[0].function_call': Cannot find field.","status":"INVALID_ARGUMENT"}}`, rejected, "Cannot find field."},
	{"", 400, `{"errors":["temperature must be a number","top_p must be a number"]}`, rejected,
		"temperature must be a number"},
	{"", 400, `{"error":{"message":"Invalid parameter temperature (request id: 20261129abcdef0123)",` +
		`"type":"one_api_error"}}`, rejected, "Invalid parameter temperature"},
	{"api.z.ai", 200, `{"error":{"code":"1210","message":"API call parameters are incorrect,` +
		` please check the documentation."}}`, rejected, "API call parameters are incorrect"},
	{"", 200, `{"error":{"code":"400","message":"A bad image."}}`, rejected, "A bad image."},
	{"", 400, "temperature must not be negative", rejected, "temperature must not be negative"},
	{"", 413, `{"error":{"message":"Request too large for model on tokens per minute (TPM): Limit 8000,` +
		` Requested 21000, please reduce your message size and try again.","type":"tokens",` +
		`"code":"rate_limit_exceeded"}}`, rejected, "reduce your message size"},
	{"", 413, `<html><head><title>413 Request Entity Too Large</title></head></html>`, rejected, "too large"},
}

func TestWhatProvidersSayOfFailuresIsUnderstood(t *testing.T) {
	for _, tc := range failures {
		host := tc.host
		if host == "" {
			host = "provider.invalid"
		}
		e := reported(t, host, tc.status, nil, tc.body)
		require.Equal(t, tc.code, e.Code, "%d %s: %s", tc.status, tc.body, e.Message)
		require.Contains(t, e.Message, tc.says, tc.body)
		require.Equal(t, tc.says == "no credit", e.NoCredit, tc.body)
	}
}

// What is a failure in an HTTP body is the same failure in a stream, in every format that has a place for it.
func TestAllFormatsReadFailuresAlike(t *testing.T) {
	const object = `{"error":{"type":"invalid_request_error","code":"context_length_exceeded",` +
		`"message":"The prompt is too long by 9 tokens."}}`
	for kind, body := range map[string]string{
		"openai": sse(object), "azure": sse(object), "gemini": sse(object),
		"openai-responses": sse(`{"type":"error",` + object[1:]), "ollama": object + "\n",
		"anthropic": sse(`{"type":"error",` + object[1:]), "cohere": sse(object),
	} {
		for _, framed := range []string{body, "error: " + object + "\n\n", object} {
			if kind == "ollama" && framed != body {
				continue
			}
			got := decodeWith(t, kind, func() io.Reader { return strings.NewReader(framed) })
			e := chat.AsError(got.Err)
			require.Equal(t, tooLong, e.Code, "%s: %s: %v", kind, framed, got.Err)
			require.Contains(t, e.Message, "The prompt is too long by 9 tokens.")
		}
	}
}

func TestHowLongToWaitIsReadWhereverItStands(t *testing.T) {
	for _, tc := range []struct {
		header http.Header
		status int
		body   string
		want   time.Duration
	}{
		{http.Header{"Retry-After": {"7"}}, 429, `{}`, 7 * time.Second},
		{http.Header{"Retry-After-Ms": {"1200"}, "Retry-After": {"7"}}, 429, `{}`, 1200 * time.Millisecond},
		{nil, 429, `{"error":{"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo",` +
			`"retryDelay":"32.500000123s"}]}}`, 32500000123},
		{nil, 429, `{"error":{"message":"x","retry_after":3}}`, 3 * time.Second},
		{nil, 429, `{"error":{"message":"x","metadata":{"headers":{"Retry-After":"4"}}}}`, 4 * time.Second},
		{nil, 429, `{"retry_after_ms":250,"message":"x"}`, 250 * time.Millisecond},
		{nil, 200, `{"error":{"type":"rate_limit_error","message":"Please try again in 1.2s."}}`,
			1200 * time.Millisecond},
		{nil, 429, `{"error":{"message":"Please try again in 20ms. Visit us."}}`, 20 * time.Millisecond},
		{nil, 429, `{"error":{"message":"Please try again in 6m0s."}}`, 6 * time.Minute},
		{nil, 429, `{"error":{"message":"Please try again in 1h2m3.5s"}}`,
			time.Hour + 2*time.Minute + 3500*time.Millisecond},
		{nil, 429, `{"error":{"message":"Please retry in 43.2 seconds"}}`, 43200 * time.Millisecond},
		{nil, 429, `{"error":{"message":"Retry after 2 minutes"}}`, 2 * time.Minute},
		{nil, 503, `{"error":{"message":"Wait for 5 seconds"}}`, 5 * time.Second},
		{nil, 429, `{"error":{"message":"try again in 99999999999999h"}}`, 24 * time.Hour},
		{nil, 429, `{"error":{"message":"Try again later, in a minute or so","retry_after":"soon"}}`, 0},
		{nil, 402, `{"error":{"message":"x","retry_after":3}}`, 3 * time.Second},
		{nil, 400, `{"error":{"message":"please try again in 5s"}}`, 5 * time.Second},
	} {
		e := reported(t, "provider.invalid", tc.status, tc.header, tc.body)
		require.Equal(t, tc.want, e.RetryAfter, tc.body)
		require.Equal(t, limited == e.Code, tc.status != 503, tc.body)
	}
}

// What a user may see is a matter of shape: here is what has it, and what has not.
func TestOfAProvidersSentenceOnlyWhatIsPlainReachesTheUser(t *testing.T) {
	for _, s := range []string{
		"Unknown model tiny-7b-chat-x1.", "messages[0].content[1].image_url: want a data: URL",
		"Invalid value for 'tool_choice': expected 'auto' or 'none'.",
		"temperature must be between 0 and 2", "top_p + min_p <= 1.5",
		"The model `openai/gpt-oss-20b` takes at most 8,192 tokens (8k).", "image/png is no image/webp",
		"Use /v1/responses or set reasoning_effort to 'none'.", "functionResponse is not what inlineData was",
		"提示词太长，请缩短。", "Größe überschreitet 20MB",
		"claude-opus-4-5-20251101 was retired on 2026-07-24; see claude-opus-5-5",
		"RESOURCE_EXHAUSTED: it's the model's fault!", "Only 1 image – not 2 – is allowed…",
		"Your account does not have access to this model.", "thinking.type.disabled is not supported",
		"max_tokens=9000 is over 8192",
		"Use anthropic.claude-3-5-sonnet-20241022-v2:0, qwen2.5:7b or gpt-5.4-mini instead",
	} {
		body, err := json.Marshal(map[string]any{"error": map[string]string{"message": s}})
		require.NoError(t, err)
		require.Equal(t, "the provider rejected the request: "+s,
			reported(t, "provider.invalid", 400, nil, string(body)).Message)
	}
	for _, secret := range []string{
		"org-AbCdEf123", "org_01k0exampleexample", "organization `acme`", "account 'acme'", "project: acme",
		"Team: acme", "proj_abc", "user-12ab", "123456789012", "acct_1AbC",
		"arn:aws:bedrock:us-east-1:123456789012:model/x", "me@example.com", "https://api.example.com/v1",
		"http://10.0.0.1:8080", "10.0.0.1", "[::1]:8080", "fe80::1",
		"gateway.internal:8080", "llm-7.prod.svc.cluster.local", "api.example.com", "localhost:8080", "gateway:80",
		"mistral.internal", "llama-gateway:8080", "gpt.example.com", "/srv/models/x.py",
		"req_011CSHoEeqs5C35K2UUqR7Fy", "550e8400-e29b-41d4-a716-446655440000",
		"sk-proj-Abc123Def456Ghi789", "sk-proj-****i789", "SK-PROJ-ABC123DEF456GHI789", "sk-proj-Abc...i789", "ghi789",
		"sk-ant-x", "Bearer abc", "key ending in WXYZ", "AKIAIOSFODNN7EXAMPLE",
		"AIzaSyA-1234567890abcdefghijklmnopqrstu", "gsk_abcdef", "xai-abcdef", "eyJhbGciOiJIUzI1NiJ9.e30.x",
		"deadbeefcafe0123", "chatcmpl-abc", "resp_68af4030592c81938ec0a5fbab4a3e9f05438e46b5f69a3b",
		"<script>alert(1)</script>", "{\"a\":1}", "C:\\models\\x", "AbCdEfGhIjKlMnOpQrStUvWxYz",
		"subscription (0000-1)", "resource 'acme-eastus'", "deployment \"acme\"", "password hunter2", "key id K1",
	} {
		for _, status := range []int{400, 404, 500, 200} {
			body, err := json.Marshal(map[string]any{
				"error": map[string]string{"message": "First of all. Not " + secret + " again. The field is wrong."}})
			require.NoError(t, err)
			e := reported(t, "provider.invalid", status, nil, string(body))
			require.NotContains(t, e.Message, secret)
			require.Contains(t, e.Message, ": First of all. The field is wrong.",
				"what is plain beside it may be seen: %s", secret)
		}
	}
	require.LessOrEqual(t, len(reported(t, "provider.invalid", 400, nil,
		`{"error":"`+strings.Repeat("Much too long. ", 500)+`"}`).Message), 350)
}

// FuzzProviderReport feeds the reader of errors with what a fuzzer makes of bodies: it never panics, says nothing that
// is not plain, and reads the same from a body and from a stream.
func FuzzProviderReport(f *testing.F) {
	for _, tc := range failures {
		f.Add(tc.status, tc.body)
	}
	f.Add(400, `{"error":"{'a': {\"error\": '{\\\\'"}`)
	f.Add(400, strings.Repeat(`{"error":`, 50))
	f.Add(400, `{"message":"The prompt\tis\u2028too\u0085long"}`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 300 || status > 599 {
			status = 400
		}
		e := report.Of(report.Response{Status: status, Body: []byte(body)})
		require.NotEmpty(t, e.Code)
		require.Less(t, len(e.Message), 400)
		require.NotContains(t, e.Message, "://")
		require.NotContains(t, e.Message, "@")
		require.False(t, strings.ContainsFunc(e.Message,
			func(r rune) bool { return r < ' ' || r == '\u2028' || r == '{' || r == '\\' }), "%q", e.Message)
		require.LessOrEqual(t, e.RetryAfter, 24*time.Hour)
		require.GreaterOrEqual(t, e.RetryAfter, time.Duration(0))
	})
}
