package handler_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/identity"
	"github.com/websopy/relay/internal/upstream"
)

const uiQuestion = `{"id":"chat-0123456789abcdef","trigger":"submit-message","messages":[` +
	`{"id":"u1","role":"user","parts":[{"type":"text","text":"hi"}]},{"id":"a1","role":"assistant",` +
	`"parts":[{"type":"text","text":"x"}]}]}`

// uiHello is hello as a client of the AI SDK gets it.
const uiHello = `data: {"type":"start","messageId":"a1"}` + "\n\n" + `data: {"type":"start-step"}` + "\n\n" +
	`data: {"type":"text-start","id":"1"}` + "\n\n" + `data: {"type":"text-delta","id":"1","delta":"Hel"}` + "\n\n" +
	`data: {"type":"text-delta","id":"1","delta":"lo"}` + "\n\n" + `data: {"type":"text-end","id":"1"}` + "\n\n" +
	`data: {"type":"finish-step"}` + "\n\n" + `data: {"type":"finish","finishReason":"stop"}` + "\n\n" + endFrame

func TestUseChatIsAnsweredWhereNativeClientsAre(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello}})
	res, body := fetch(t, http.MethodPost, r.url+"/api/chat", uiQuestion, "Accept", "*/*")
	require.Equal(t, uiHello, body)
	require.Equal(t, "text/event-stream; charset=utf-8", res.Header.Get("Content-Type"))
	require.Equal(t, "v1", res.Header.Get("X-Vercel-Ai-Ui-Message-Stream"))

	res, body = fetch(t, http.MethodPost, r.url+"/api/chat", question)
	require.Equal(t, helFrame+loFrame+doneFrame+endFrame, body)
	require.Empty(t, res.Header.Get("X-Vercel-Ai-Ui-Message-Stream"))

	res, body = fetch(t, http.MethodPost, r.url+"/api/chat", uiQuestion, "Accept", "text/plain")
	require.Equal(t, "Hello", body)
	require.Equal(t, "text/plain; charset=utf-8", res.Header.Get("Content-Type"))
	for _, accept := range []string{"text/plain;q=0.5, text/event-stream", "application/json, text/plain, */*",
		"text/plain, */*;q=0.8", "?"} {
		_, body = fetch(t, http.MethodPost, r.url+"/api/chat", uiQuestion, "Accept", accept)
		require.Equal(t, uiHello, body, accept)
	}
	_, body = fetch(t, http.MethodPost, r.url+"/api/chat", uiQuestion, "Last-Event-ID", "x.1")
	require.Equal(t, uiHello, body, "its frames have no positions")
}

func TestUseChatIsToldOfErrorsInWords(t *testing.T) {
	failure := &chat.Error{Code: chat.UpstreamRateLimited, Message: "the provider has enough", RetryAfter: 1}
	r := start(t, handler.Options{
		Keys: identity.NewKeys([]identity.APIKey{{Key: "k"}}),
		Router: routed{play(content("x"), failure), &upstream.Router{Routes: []*upstream.Route{
			{Has: func(model string) bool { return model != "forbidden" }}}}},
	})
	key := []string{"Authorization", "Bearer k"}
	url := r.url + "/api/chat"
	_, body := fetch(t, http.MethodPost, url, uiQuestion, key...)
	require.True(t, strings.HasSuffix(body,
		`"delta":"x"}`+"\n\n"+`data: {"type":"error","errorText":"the provider has enough"}`+"\n\n"), body)

	res, body := fetch(t, http.MethodPost, url, `{"trigger":"submit-message","messages":[]}`, key...)
	require.Equal(t, "messages: at least one message with text is required", body)
	require.Equal(t, "text/plain; charset=utf-8", res.Header.Get("Content-Type"))
	require.Equal(t, "invalid_request", res.Header.Get("X-Relay-Error"))
	require.Equal(t, http.StatusBadRequest, res.StatusCode)

	forbidden := strings.Replace(uiQuestion, `"trigger"`, `"model":"forbidden","trigger"`, 1)
	res, body = fetch(t, http.MethodPost, url, forbidden, append(key, "Accept", "text/event-stream")...)
	require.Equal(t, http.StatusForbidden, res.StatusCode)
	require.Equal(t, `model: "forbidden" is not allowed`, body)

	_, body = fetch(t, http.MethodPost, url, uiQuestion)
	require.Equal(t, chat.Unauthorized, lastError(t, body).Code, "before the body is read it may be a native client")
	_, body = fetch(t, http.MethodPost, url, `{"messages":[]}`, key...)
	require.Equal(t, chat.InvalidRequest, lastError(t, body).Code)
}

// useChat asks once and never again, whatever it says that it accepts.
func TestUseChatIsRefusedWhereThereIsNoRoom(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello}, MaxStreams: 1})
	r.Drain()
	res, body := fetch(t, http.MethodPost, r.url+"/api/chat", uiQuestion, "Accept", "text/event-stream")
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.Equal(t, "the server is shutting down", body)
	require.Equal(t, "1", res.Header.Get("Retry-After"))
}

func TestPlainTextThatFailsIsCut(t *testing.T) {
	failure := &chat.Error{Code: chat.UpstreamError, Message: "no"}
	r := start(t, handler.Options{Router: answering{play(content("half"), failure)}})
	for name, client := range protocols(t) {
		res := ask(t, client, http.MethodPost, r.url+"/api/chat", uiQuestion, "Accept", "text/plain")
		text, err := io.ReadAll(res.Body)
		require.Error(t, err, name+": a clean end would be taken for the end of the answer")
		require.Equal(t, "half", string(text))
	}
	require.Len(t, r.log.wait(t, "stream", 2), 2)
}
