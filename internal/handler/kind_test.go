package handler_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-faster/jx"
	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/sse"
	"github.com/websopy/relay/internal/upstream"
	"github.com/websopy/relay/internal/upstream/format"
	"github.com/websopy/relay/internal/upstream/framing"
	httpprovider "github.com/websopy/relay/internal/upstream/provider"
)

// toy is a kind of provider that is unlike the relay's own: each request has a signature of its body, and an answer
// comes in frames that are a length (4 bytes) and JSON.
var toy = httpprovider.Kind{
	Settings: httpprovider.Settings{Name: "toy"},
	Wire: httpprovider.Wire{
		Format:  toyFormat{},
		Framing: framing.New("application/x-toy", func() framing.Reader { return new(toyFrames) }),
		URL:     func(o *httpprovider.Options, model string) string { return o.BaseURL + "/ask/" + model },
	},
	Authorizer: func(o *httpprovider.Options) httpprovider.Authorizer { return &toySigner{key: []byte(o.APIKey)} },
}

type toyFormat struct{}

func (toyFormat) Encode(e *jx.Encoder, q *format.Query) error {
	e.ObjStart()
	e.FieldStart("question")
	e.Str(q.Messages[len(q.Messages)-1].Content)
	e.ObjEnd()
	return nil
}

func (toyFormat) NewDecoder() format.Decoder { return new(toyDecoder) }

type toyDecoder struct{ said struct{ Text, End string } }

func (d *toyDecoder) Parse(object, _ []byte) error {
	*d = toyDecoder{}
	return json.Unmarshal(object, &d.said)
}

func (d *toyDecoder) Pass(_, _ []byte, out *format.Answer) error {
	out.Text(chat.Content, []byte(d.said.Text))
	out.Complete = d.said.End != ""
	return out.FinishWith([]byte(d.said.End))
}

func (*toyDecoder) End(*format.Answer) error { return nil }

// toyFrames reads a frame at a time, and nothing ahead of it.
type toyFrames struct {
	body io.Reader
	err  error
	ev   sse.Event
}

func (f *toyFrames) Next() (*sse.Event, error) {
	var head [4]byte
	if _, f.err = io.ReadFull(f.body, head[:]); f.err != nil {
		return nil, f.err
	}
	f.ev.Data = make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, f.err = io.ReadFull(f.body, f.ev.Data); f.err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	return &f.ev, nil
}

func (f *toyFrames) Buffered() bool       { return false }
func (f *toyFrames) Ended() bool          { return f.err == io.EOF }
func (f *toyFrames) Reset(body io.Reader) { *f = toyFrames{body: body} }

// toySigner signs the path, a number that is never used again, and the body.
type toySigner struct {
	key  []byte
	last atomic.Int64
}

func (s *toySigner) Authorize(_ context.Context, r *http.Request, body []byte) error {
	number := string(rune('a' + s.last.Add(1)))
	r.Header.Set("X-Number", number)
	r.Header.Set("X-Signature", toySignature(s.key, r.URL.Path, number, body))
	return nil
}

func toySignature(key []byte, path, number string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(path + number))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

func TestAKindWithSignedRequestsAndBinaryFrames(t *testing.T) {
	const key = "toy-secret-0123456789"
	numbers := make(map[string]bool)
	frame := func(object string) string {
		return string(binary.BigEndian.AppendUint32(nil, uint32(len(object)))) + object
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		number := r.Header.Get("X-Number")
		switch {
		case numbers[number], r.Header.Get("X-Signature") != toySignature([]byte(key), r.URL.Path, number, body):
			w.WriteHeader(http.StatusForbidden)
		case len(numbers) == 0: // a retry is signed again
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			w.Header().Set("Content-Type", "application/x-toy")
			frames := frame(`{"text":"Hel"}`) + frame(`{"text":"lo"}`) + frame(`{"end":"stop"}`)
			if strings.Contains(string(body), "cut") {
				frames = frames[:len(frames)-3]
			}
			_, _ = io.WriteString(w, frames)
		}
		numbers[number] = true
	}))
	t.Cleanup(srv.Close)
	provider := toy.Open(httpprovider.Options{Name: "toy", BaseURL: srv.URL, APIKey: key, Model: "m",
		ConnectTimeout: patience, FirstChunkTimeout: patience, IdleTimeout: patience})
	chain := &upstream.Fallback{Candidates: []*upstream.Candidate{{Streamer: provider, Retries: 1}}, Budget: patience}
	r := start(t, handler.Options{Router: answering{chain}})

	_, body := fetch(t, http.MethodPost, r.url+"/api/chat/stream", question)
	require.Equal(t, helFrame+loFrame+`data: {"type":"done","finishReason":"stop"}`+"\n\n"+endFrame, body)
	require.Len(t, numbers, 2, "the second attempt had a signature of its own")

	_, body = fetch(t, http.MethodPost, r.url+"/api/chat/stream", strings.Replace(question, "hi", "cut", 1))
	require.Contains(t, body, helFrame+loFrame+`data: {"type":"error","error":"the provider's answer broke off"`)
}
