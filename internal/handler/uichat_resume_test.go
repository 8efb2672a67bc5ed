package handler_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/identity"
	"github.com/websopy/relay/internal/limit"
	"github.com/websopy/relay/internal/stream"
)

const uiChat = "chat-0123456789abcdef"

var resumableChat = strings.Replace(uiQuestion, `"trigger"`, `"resumable":true,"trigger"`, 1)

// uiWhole is uiHello for who follows by the chat: with what the message had before.
var uiWhole = strings.Replace(uiHello, `"a1"}`+"\n\n", `"a1"}`+"\n\n"+
	`data: {"type":"start-step"}`+"\n\n"+`data: {"type":"text-start","id":"before-1"}`+"\n\n"+
	`data: {"type":"text-delta","id":"before-1","delta":"x"}`+"\n\n"+`data: {"type":"text-end","id":"before-1"}`+
	"\n\n"+
	`data: {"type":"finish-step"}`+"\n\n", 1)

// slow says "Hel" and, once it may, "lo" and the end.
func slow(may <-chan struct{}, gone chan<- error) provider {
	return func(ctx context.Context, _ *chat.Request, yield func(chat.Chunk, error) bool) {
		if !yield(content("Hel"), nil) {
			return
		}
		select {
		case <-may:
			_ = yield(content("lo"), nil) && yield(done(chat.FinishStop), nil)
		case <-ctx.Done():
			gone <- ctx.Err()
			yield(chat.Chunk{}, ctx.Err())
		}
	}
}

// chats is a relay with the memory log, and a provider that waits in the midst.
type chats struct {
	*relay
	may  chan struct{}
	gone chan error
	left int // clients
}

func newChats(t *testing.T, keys ...identity.APIKey) *chats {
	hub := stream.New(stream.Options{Grace: time.Minute, Retention: time.Minute})
	c := &chats{may: make(chan struct{}), gone: make(chan error, 10)}
	c.relay = start(t, handler.Options{Router: answering{slow(c.may, c.gone)}, Streams: hub,
		Keys: identity.NewKeys(keys)})
	t.Cleanup(func() { closeHub(hub) })
	return c
}

// leave asks in a chat, reads the first text of the answer and goes.
func (c *chats) leave(t *testing.T, body string, headers ...string) (id string) {
	t.Helper()
	transport := &http.Transport{DisableCompression: true}
	res := ask(t, &http.Client{Transport: transport}, http.MethodPost, c.url+"/api/chat", body, headers...)
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() && !strings.Contains(lines.Text(), "Hel") {
	}
	require.NoError(t, res.Body.Close())
	transport.CloseIdleConnections()
	c.left++
	c.log.wait(t, "stream", c.left) // the relay has seen it
	return res.Header.Get("X-Stream-Id")
}

func (c *chats) resume(t *testing.T, id string, headers ...string) (int, string) {
	t.Helper()
	res, body := fetch(t, http.MethodGet, c.url+"/api/chat/"+id+"/stream", "", headers...)
	return res.StatusCode, body
}

func TestAReloadedChatHasTheWholeAnswer(t *testing.T) {
	c := newChats(t)
	id := c.leave(t, resumableChat)
	res := ask(t, http.DefaultClient, http.MethodGet, c.url+"/api/chat/"+uiChat+"/stream", "")
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, "v1", res.Header.Get("X-Vercel-Ai-Ui-Message-Stream"))
	require.Equal(t, id, res.Header.Get("X-Stream-Id"))
	close(c.may)
	all, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, uiWhole, string(all), "from its beginning, as the same message")

	status, body := c.resume(t, uiChat)
	require.Equal(t, http.StatusNoContent, status, "its end was read")
	require.Empty(t, body)
}

func TestAnAnswerThatNobodyReadToItsEndIsToldOnce(t *testing.T) {
	c := newChats(t)
	c.leave(t, resumableChat)
	close(c.may)
	c.log.wait(t, "generation", 1)
	status, body := c.resume(t, uiChat)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, uiWhole, body)
	status, _ = c.resume(t, uiChat)
	require.Equal(t, http.StatusNoContent, status)
}

// A page is closed in the moment in which its answer ends: the relay writes the end before it sees that nobody is there.
func TestAnEndThatIsWrittenToNobodyIsToldAgain(t *testing.T) {
	hub := stream.New(stream.Options{Grace: time.Minute, Retention: time.Minute})
	may := make(chan struct{})
	r := start(t, handler.Options{Streams: hub, Router: answering{
		provider(func(_ context.Context, _ *chat.Request, yield func(chat.Chunk, error) bool) {
			if yield(content("Hel"), nil) && yield(content("lo"), nil) {
				<-may
				yield(done(chat.FinishStop), nil)
			}
		}),
	}})
	t.Cleanup(func() { closeHub(hub) })
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\n\r\n%s", len(resumableChat), resumableChat)
	require.NoError(t, err)
	for lines := bufio.NewScanner(conn); lines.Scan() && !strings.Contains(lines.Text(), `"lo"`); {
	}
	// A server looks out for the end of its client until something else comes, as the first byte of a next request.
	_, err = conn.Write([]byte("P"))
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	close(may)
	line := r.log.wait(t, "stream", 1)[0]
	require.Equal(t, "completed", line["reason"], "the relay has not seen that nobody is there")

	res, body := fetch(t, http.MethodGet, r.url+"/api/chat/"+uiChat+"/stream", "")
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, uiWhole, body)
}

func TestWhereThereIsNothingToResumeIsNoError(t *testing.T) {
	c := newChats(t)
	short := strings.Replace(resumableChat, uiChat, "15-characters..", 1)
	c.leave(t, short)
	c.leave(t, uiQuestion)
	for _, id := range []string{uiChat, "15-characters..", strings.Repeat("0", 32), "stream%2Fx"} {
		status, body := c.resume(t, id)
		require.Equal(t, http.StatusNoContent, status, id)
		require.Empty(t, body)
	}
	none := start(t, handler.Options{Router: answering{hello}})
	res, _ := fetch(t, http.MethodGet, none.url+"/api/chat/"+uiChat+"/stream", "")
	require.Equal(t, http.StatusNoContent, res.StatusCode, "RELAY_STORE=off")
}

func TestAChatIsItsCallers(t *testing.T) {
	c := newChats(t, identity.APIKey{Name: "a", Key: "k1"}, identity.APIKey{Name: "b", Key: "k2"})
	first, second := []string{"Authorization", "Bearer k1"}, []string{"Authorization", "Bearer k2"}
	for _, id := range []string{"1", "a b/ü%41"} {
		c.leave(t, strings.Replace(resumableChat, uiChat, id, 1), first...)
	}
	close(c.may)
	c.log.wait(t, "generation", 2)
	status, _ := c.resume(t, "1", second...)
	require.Equal(t, http.StatusNoContent, status)
	for _, id := range []string{"1", "a%20b%2F%C3%BC%2541"} {
		status, body := c.resume(t, id, first...)
		require.Equal(t, http.StatusOK, status, id)
		require.Contains(t, body, `"delta":"lo"`)
	}
	res, _ := fetch(t, http.MethodGet, c.url+"/api/chat/1/stream", "")
	require.Equal(t, http.StatusUnauthorized, res.StatusCode)
}

func TestAChatIsStopped(t *testing.T) {
	c := newChats(t)
	res := ask(t, http.DefaultClient, http.MethodPost, c.url+"/api/chat", resumableChat)
	stopped, _ := fetch(t, http.MethodPost, c.url+"/api/chat/"+uiChat+"/stop", "")
	require.Equal(t, http.StatusAccepted, stopped.StatusCode)
	require.Equal(t, context.Canceled, receive(t, c.gone))
	all, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(string(all), `data: {"type":"finish-step"}`+"\n\n"+`data: {"type":"abort"}`+
		"\n\n"+endFrame), string(all))

	stopped, body := fetch(t, http.MethodPost, c.url+"/api/chat/another-chat-of-nobody/stop", "")
	require.Equal(t, http.StatusNotFound, stopped.StatusCode)
	require.Equal(t, "there is no such stream", body)
	require.Equal(t, "stream_not_found", stopped.Header.Get("X-Relay-Error"))
	refused := c.log.wait(t, "refused", 1)[0]
	require.Equal(t, "/api/chat/another-…/stop", refused["path"], "who knows the id of a chat may read it")
}

func TestTheNextQuestionInAChatStopsTheAnswerBefore(t *testing.T) {
	c := newChats(t)
	before := c.leave(t, resumableChat)
	after := c.leave(t, resumableChat)
	require.Equal(t, context.Canceled, receive(t, c.gone))
	close(c.may)
	res, body := fetch(t, http.MethodGet, c.url+"/api/chat/"+uiChat+"/stream", "")
	require.Equal(t, after, res.Header.Get("X-Stream-Id"))
	require.Equal(t, uiWhole, body)
	_, body = fetch(t, http.MethodGet, c.url+"/api/chat/stream/"+before, "")
	require.Contains(t, body, `"finishReason":"stopped"`)
}

// Who may have one answer at a time closes a page in which one is written, opens it again and asks the next question.
func TestTheNextQuestionInAChatHasThePlaceOfTheAnswerBefore(t *testing.T) {
	const auth, bearer = "Authorization", "Bearer " + callersKey
	hub := stream.New(stream.Options{Grace: time.Minute, Retention: time.Minute})
	may, gone := make(chan struct{}), make(chan error, 10)
	limiter := limit.NewLimiter(limit.LimiterOptions{Policy: limit.Policy{Limits: limit.Limits{Streams: 1}}})
	c := &chats{may: may, gone: gone, relay: start(t, handler.Options{
		Router: answering{slow(may, gone)}, Streams: hub, Limiter: limiter,
		Keys: identity.NewKeys([]identity.APIKey{{Name: "me", Key: callersKey}}),
	})}
	t.Cleanup(func() { closeHub(hub) })
	before := c.leave(t, resumableChat, auth, bearer)

	other := strings.Replace(resumableChat, uiChat, "another-chat-of-mine", 1)
	res, body := fetch(t, http.MethodPost, c.url+"/api/chat", other, auth, bearer)
	require.Equal(t, http.StatusTooManyRequests, res.StatusCode, "%s", body)
	require.Empty(t, gone, "what is asked elsewhere stops nothing")

	after := c.leave(t, resumableChat, auth, bearer)
	require.NotEmpty(t, after)
	require.NotEqual(t, before, after)
	require.Equal(t, context.Canceled, receive(t, gone))
	close(may)
	status, body := c.resume(t, uiChat, auth, bearer)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, uiWhole, body)
}

// A stream has no dialect: whoever has its id may read it in any.
func TestAStreamOfOneDialectIsFollowedInAnother(t *testing.T) {
	c := newChats(t)
	close(c.may)
	res, _ := fetch(t, http.MethodPost, c.url+"/api/chat/stream", resumableQuestion)
	id := res.Header.Get("X-Stream-Id")
	status, body := c.resume(t, id)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, strings.Replace(uiHello, `"a1"`, `"msg-`+id[:16]+`"`, 1), body)

	res, _ = fetch(t, http.MethodPost, c.url+"/api/chat", resumableChat)
	_, body = fetch(t, http.MethodGet, c.url+"/api/chat/stream/"+res.Header.Get("X-Stream-Id"), "")
	require.Contains(t, body, `{"type":"content","content":"Hel"}`)
	require.Contains(t, body, `{"type":"done","finishReason":"stop"`)
	status, body = c.resume(t, uiChat, "Accept", "text/plain")
	require.Equal(t, http.StatusNoContent, status, body)
}
