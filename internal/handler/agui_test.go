package handler_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/dialect"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/stream"
)

var aguiAt = handler.Dialect{Path: "/api/agui", Dialect: dialect.AGUI{}, FromBeginning: true}

const aguiQuestion = `{"threadId":"t1","runId":"r1","messages":[{"id":"u1","role":"user","content":"hi"}],` +
	`"forwardedProps":{"resumable":true}}`

func TestARunGoesOnWhereItsClientStopped(t *testing.T) {
	hub := stream.New(stream.Options{Grace: time.Minute, Retention: time.Minute})
	t.Cleanup(func() { closeHub(hub) })
	upstream := &abc{}
	r := start(t, handler.Options{Router: answering{upstream}, Streams: hub, Dialects: []handler.Dialect{aguiAt}})

	res, body := fetch(t, http.MethodPost, r.url+"/api/agui", aguiQuestion, "Accept", "text/event-stream")
	id := res.Header.Get("X-Stream-Id")
	pieces := strings.SplitAfter(body, "\n\n")
	require.Len(t, pieces, 8, body)
	require.True(t, strings.HasPrefix(pieces[2],
		"id: "+id+".1\n"+`data: {"type":"TEXT_MESSAGE_CONTENT","messageId":"msg-`), body)
	require.True(t, strings.HasPrefix(pieces[6],
		"id: "+id+".4\n"+`data: {"type":"RUN_FINISHED","threadId":"t1","runId":"r1"`), body)

	// Its client sends the same request again, and is in the midst of a message.
	_, rest := fetch(t, http.MethodPost, r.url+"/api/agui", aguiQuestion, "Last-Event-ID", id+".2")
	require.Equal(t, strings.Join(pieces[4:], ""), rest)
	_, rest = fetch(t, http.MethodGet, r.url+"/api/agui/"+id, "", "Last-Event-ID", id+".1")
	require.Equal(t, strings.Join(pieces[3:], ""), rest)
	_, whole := fetch(t, http.MethodGet, r.url+"/api/agui/"+id, "")
	require.Equal(t, body, whole)

	// The log knows of no dialect.
	_, native := fetch(t, http.MethodGet, r.url+"/api/chat/stream/"+id, "", "Last-Event-ID", id+".2")
	require.Equal(t, frames(id, 2, false), native)
	_, native = fetch(t, http.MethodPost, r.url+"/api/chat/stream", question, "Last-Event-ID", id+".2")
	require.Equal(t, frames(id, 2, true), native)
}

func TestAnAGUIClientIsRefusedWithAStatus(t *testing.T) {
	r := start(t, handler.Options{Router: answering{hello}, Dialects: []handler.Dialect{aguiAt}})
	gone := strings.Repeat("0", 32) + ".1"
	res, _ := fetch(t, http.MethodPost, r.url+"/api/agui", aguiQuestion, "Accept", "text/event-stream",
		"Last-Event-ID", gone)
	require.Equal(t, http.StatusNotFound, res.StatusCode)
	r.Drain()
	res, body := fetch(t, http.MethodPost, r.url+"/api/agui", aguiQuestion, "Accept", "text/event-stream")
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode, "it would not come back by itself")
	require.Equal(t, "the server is shutting down", lastError(t, body).Error)
}
