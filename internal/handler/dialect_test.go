package handler_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/dialect"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/identity"
	"github.com/websopy/relay/internal/stream"
)

// shouting is a dialect that has nothing in common with the native one: the body is a JSON string, and the answer
// comes in capitals, each piece on an event of its own name.
type shouting struct{}

func (shouting) Decode(body []byte) (*dialect.Ask, error) {
	text, err := strconv.Unquote(string(body))
	if err != nil {
		return nil, &chat.Error{Code: chat.InvalidRequest, Message: "want a string"}
	}
	question := chat.Message{Role: chat.RoleUser, Content: text}
	return &dialect.Ask{Stream: true, Resumable: true, Request: chat.Request{Messages: []chat.Message{question}}}, nil
}

func (shouting) AppendAnswer(dst []byte, _ *dialect.Answer) []byte { return dst }
func (shouting) Name() string                                      { return "shouting" }

func (shouting) AppendRefusal(dst []byte, e *chat.Error, _ string) []byte {
	return append(dst, "NO: "+string(e.Code)...)
}

func (shouting) Encoder(r dialect.Response) dialect.Encoder { return shouter{r.Head.ID} }

type shouter struct{ id string }

func (s shouter) frame(dst []byte, name, data string, seq uint64) []byte {
	dst = append(dst, "event: "+name+"\ndata: "+strings.ToUpper(data)...)
	if seq > 0 {
		dst = strconv.AppendUint(append(dst, "\nid: "+s.id+"."...), seq, 10)
	}
	return append(dst, "\n\n"...)
}

func (s shouter) Start(dst []byte) []byte { return s.frame(dst, "hello", s.id, 0) }
func (s shouter) Chunk(dst []byte, c chat.Chunk) []byte {
	if c.Type == chat.Done {
		return s.frame(dst, "end", string(c.Done.FinishReason), c.Seq)
	}
	return s.frame(dst, "piece", string(c.Text), c.Seq)
}
func (s shouter) Ping(dst []byte) []byte                       { return append(dst, ":\n"...) }
func (s shouter) Reconnect(dst []byte, _ time.Duration) []byte { return dst }
func (s shouter) Close(dst []byte) []byte                      { return append(dst, ": bye\n\n"...) }
func (s shouter) Fail(dst []byte, e *chat.Error, n uint64) []byte {
	return s.frame(dst, "no", string(e.Code), n)
}

func TestAnotherDialectStreamsResumesAndRefusesInItsOwnWay(t *testing.T) {
	hub := stream.New(stream.Options{Grace: time.Minute, Retention: time.Minute})
	t.Cleanup(func() { closeHub(hub) })
	r := start(t, handler.Options{
		Router: answering{&abc{}}, Streams: hub, Keys: identity.NewKeys([]identity.APIKey{{Key: "k"}}),
		Dialects: []handler.Dialect{{Path: "/shout", Dialect: shouting{}}},
	})
	key := []string{"Authorization", "Bearer k"}

	res, body := fetch(t, http.MethodPost, r.url+"/shout", `"hi"`, key...)
	id := res.Header.Get("X-Stream-Id")
	pieces := strings.SplitAfter(body, "\n\n")
	require.Equal(t, []string{
		"event: hello\ndata: " + strings.ToUpper(id) + "\n\n",
		"event: piece\ndata: A\nid: " + id + ".1\n\n", "event: piece\ndata: B\nid: " + id + ".2\n\n",
		"event: piece\ndata: C\nid: " + id + ".3\n\n", "event: end\ndata: STOP\nid: " + id + ".4\n\n",
		": bye\n\n", "",
	}, pieces)

	res, body = fetch(t, http.MethodGet, r.url+"/shout/"+id, "", append(key, "Last-Event-ID", id+".2")...)
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, strings.Join(pieces[3:], ""), strings.TrimPrefix(body, pieces[0]),
		"from where the client stopped")

	_, body = fetch(t, http.MethodGet, r.url+"/api/chat/stream/"+id, "", append(key, "Last-Event-ID", id+".2")...)
	require.Equal(t, frames(id, 2, false), body, "and in the native dialect, which the log does not know of either")

	for name, refusal := range map[string]struct {
		method, path, body, want string
		headers                  []string
	}{
		"by the dialect":  {http.MethodPost, "/shout", `{}`, "NO: invalid_request\n", key},
		"by a middleware": {http.MethodPost, "/shout", `"hi"`, "NO: unauthorized\n", nil},
		"of a method":     {http.MethodDelete, "/shout", "", "NO: method_not_allowed\n", key},
		"of an unknown stream": {http.MethodGet, "/shout/" + strings.Repeat("0", 32), "", "NO: stream_not_found\n",
			key},
	} {
		_, body := fetch(t, refusal.method, r.url+refusal.path, refusal.body, refusal.headers...)
		require.Equal(t, refusal.want, body, name)
	}
	_, body = fetch(t, http.MethodPost, r.url+"/shouting", `"hi"`, key...)
	require.Equal(t, chat.NotFound, lastError(t, body).Code, "a path that only begins alike is native")
}
