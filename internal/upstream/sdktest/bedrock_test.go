package sdktest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/types"
	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/provider"
	"github.com/websopy/relay/internal/upstream/upstreamtest"
)

const bedrockModel = "eu.anthropic.claude-haiku-4-5-20251001-v1:0"

var bedrockAnswer = strings.Join([]string{
	upstreamtest.AWSEvent("messageStart", `{"role":"assistant","p":"ab"}`),
	upstreamtest.AWSEvent("contentBlockDelta",
		`{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"hm"}},"p":"abc"}`),
	upstreamtest.AWSEvent("contentBlockDelta",
		`{"contentBlockIndex":0,"delta":{"reasoningContent":{"signature":"c2ln"}},"p":"a"}`),
	upstreamtest.AWSEvent("contentBlockStop", `{"contentBlockIndex":0}`),
	upstreamtest.AWSEvent("contentBlockDelta", `{"contentBlockIndex":1,"delta":{"text":"Hel"},"p":"abcdef"}`),
	upstreamtest.AWSEvent("contentBlockDelta", `{"contentBlockIndex":1,"delta":{"text":"lo 你"},"p":"abcd"}`),
	upstreamtest.AWSEvent("contentBlockStop", `{"contentBlockIndex":1}`),
	upstreamtest.AWSEvent("contentBlockStart",
		`{"contentBlockIndex":2,"start":{"toolUse":{"toolUseId":"a","name":"f"}}}`),
	upstreamtest.AWSEvent("contentBlockDelta", `{"contentBlockIndex":2,"delta":{"toolUse":{"input":"{\"x\":1}"}}}`),
	upstreamtest.AWSEvent("contentBlockStop", `{"contentBlockIndex":2}`),
	upstreamtest.AWSEvent("messageStop", `{"stopReason":"tool_use"}`),
	upstreamtest.AWSEvent("metadata",
		`{"usage":{"inputTokens":4,"outputTokens":2,"totalTokens":9,"cacheReadInputTokens":3},`+
			`"metrics":{"latencyMs":5}}`),
}, "")

// converse folds a stream by the SDK.
func converse(
	ctx context.Context, t *testing.T, url string,
) (text, thinking, input, stop string, total int32, err error) {
	t.Helper()
	client := bedrockruntime.New(bedrockruntime.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String(url), RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "secret"}, nil
		}),
	})
	out, err := client.ConverseStream(ctx, &bedrockruntime.ConverseStreamInput{ModelId: aws.String(bedrockModel),
		Messages: []types.Message{
			{Role: types.ConversationRoleUser,
				Content: []types.ContentBlock{&types.ContentBlockMemberText{Value: "hi"}}},
		}})
	if err != nil {
		return "", "", "", "", 0, err
	}
	stream := out.GetStream()
	defer stream.Close()
	for event := range stream.Events() {
		switch e := event.(type) {
		case *types.ConverseStreamOutputMemberContentBlockDelta:
			switch d := e.Value.Delta.(type) {
			case *types.ContentBlockDeltaMemberText:
				text += d.Value
			case *types.ContentBlockDeltaMemberReasoningContent:
				if r, ok := d.Value.(*types.ReasoningContentBlockDeltaMemberText); ok {
					thinking += r.Value
				}
			case *types.ContentBlockDeltaMemberToolUse:
				input += aws.ToString(d.Value.Input)
			}
		case *types.ConverseStreamOutputMemberMessageStop:
			stop = string(e.Value.StopReason)
		case *types.ConverseStreamOutputMemberMetadata:
			total = aws.ToInt32(e.Value.Usage.TotalTokens)
		}
	}
	return text, thinking, input, stop, total, stream.Err()
}

// TestBedrocksSDKReadsTheFramesAndAsksTheSame: the frames of our tests are Amazon's, and both ask at the same address
// with the same body.
func TestBedrocksSDKReadsTheFramesAndAsksTheSame(t *testing.T) {
	var paths, bodies []string
	answer := bedrockAnswer
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		paths, bodies = append(paths, r.RequestURI), append(bodies, string(body))
		w.Header().Set("Content-Type", "application/vnd.amazon.eventstream")
		_, _ = io.WriteString(w, answer)
	}))
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	text, thinking, input, stop, total, err := converse(ctx, t, srv.URL)
	require.NoError(t, err)
	s, err := provider.New(provider.Options{Name: "bedrock", Kind: "bedrock", BaseURL: srv.URL, Model: bedrockModel,
		ConnectTimeout: 5 * time.Second, FirstChunkTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second})
	require.NoError(t, err)
	var gotText, gotThinking string
	for c, err := range s.Stream(ctx, &chat.Request{Messages: []chat.Message{{Role: chat.RoleUser, Content: "hi"}}}) {
		require.NoError(t, err)
		switch c.Type {
		case chat.Content:
			gotText += string(c.Text)
		case chat.Reasoning:
			gotThinking += string(c.Text)
		case chat.Tool:
			require.Equal(t, input, c.Tool.Arguments)
		case chat.Done:
			require.Equal(t, "tool_use", stop)
			require.Equal(t, chat.FinishToolCalls, c.Done.FinishReason)
			require.EqualValues(t, total, c.Done.Usage.PromptTokens+c.Done.Usage.CompletionTokens)
		}
	}
	require.Equal(t, text, gotText)
	require.Equal(t, thinking, gotThinking)
	require.Equal(t, paths[0], paths[1], "the model's id is escaped alike, which signatures depend on")
	require.JSONEq(t, strings.Replace(bodies[0], "{", `{"inferenceConfig":{},`, 1), bodies[1])

	answer = upstreamtest.AWSFrame(`{"message":"Too many"}`, ":message-type", "exception", ":exception-type",
		"throttlingException",
		":content-type", "application/json")
	_, _, _, _, _, err = converse(ctx, t, srv.URL)
	var throttled *types.ThrottlingException
	require.ErrorAs(t, err, &throttled)
	for _, err := range s.Stream(ctx, &chat.Request{Messages: []chat.Message{{Role: chat.RoleUser, Content: "hi"}}}) {
		require.Equal(t, chat.UpstreamRateLimited, chat.AsError(err).Code)
	}
}
