package provider_test

import (
	"bytes"
	"io"
	"iter"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat/chattest"
	"github.com/websopy/relay/internal/upstream/provider"
)

// respond answers a question with a status, headers and a body. Without headers the body is of the type that was
// asked for.
func respond(t testing.TB, kind string, status int, header http.Header, body func() io.Reader) chattest.Transcript {
	t.Helper()
	s := newUpstream(t, options(kind, "http://provider.invalid"))
	provider.SetTransport(s, roundTripper(func(req *http.Request) (*http.Response, error) {
		if header == nil {
			return replies(body).RoundTrip(req)
		}
		return &http.Response{StatusCode: status, ProtoMajor: 1, Request: req, Header: header,
			Body: io.NopCloser(body())}, nil
	}))
	return chattest.Fold(t, s.Stream(t.Context(), question()))
}

// decodeWith answers a question with a body, however it is cut into reads.
func decodeWith(t testing.TB, kind string, body func() io.Reader) chattest.Transcript {
	t.Helper()
	return respond(t, kind, http.StatusOK, nil, body)
}

// answers gives the answers of a body that is read in many ways, each with the number of the first way that led to it.
//
// All that a client learns of reads it learns from the reader of its framing: the next event, whether a whole one is
// in hand then, and whether the body has ended. So there are two steps, which together check each way. The reader has
// to give the same events, byte for byte, as in the first way. And the client answers once for each course of events
// in hand and at the end, of which a body that is cut at every byte has one for each event rather than one for each
// byte.
func answers(
	t testing.TB, kind string, status int, header http.Header, reads []func() io.Reader,
) iter.Seq2[int, chattest.Transcript] {
	return func(yield func(int, chattest.Transcript) bool) {
		var first *course
		seen := make(map[string]bool)
		for i, read := range reads {
			c := course{first: first}
			c.follow(t, i, kind, header, read())
			if first == nil {
				first = &c
			}
			if seen[string(c.told)] {
				continue
			}
			seen[string(c.told)] = true
			if !yield(i, respond(t, kind, status, header, read)) {
				return
			}
		}
	}
}

// course is what a reader says of a body that is read in one way.
type course struct {
	first  *course // another way; nil: there is none yet
	events []event // where first is nil
	end    string
	told   []byte // after each event: is another one in hand, has the body ended
}

// event is an event that outlives its reader's buffer.
type event struct {
	typ, data, stray string
	partial          bool
}

func copyOf(ev *provider.Event) event {
	return event{string(ev.Type), string(ev.Data), string(ev.Stray), ev.Partial}
}

func (e *event) is(ev *provider.Event) bool {
	return e.data == string(ev.Data) && e.typ == string(ev.Type) && e.stray == string(ev.Stray) &&
		e.partial == ev.Partial
}

// follow reads the body to its end.
func (c *course) follow(t testing.TB, read int, kind string, header http.Header, body io.Reader) {
	err := provider.EachEvent(kind, header, body, func(ev *provider.Event, inHand, ended bool) {
		switch n := len(c.told); {
		case c.first == nil:
			c.events = append(c.events, copyOf(ev))
		case n >= len(c.first.events):
			require.FailNow(t, "an event too many", "read %d: %+v", read, copyOf(ev))
		case !c.first.events[n].is(ev):
			require.Equal(t, c.first.events[n], copyOf(ev), "read %d, event %d", read, n)
		}
		told := byte('0')
		if inHand {
			told |= 1
		}
		if ended {
			told |= 2
		}
		c.told = append(c.told, told)
	})
	c.end = err.Error()
	if c.first != nil {
		require.Len(t, c.told, len(c.first.events), "read %d", read)
		require.Equal(t, c.first.end, c.end, "read %d", read)
	}
}

// splits are the ways to read body that a decoder must not notice: byte by byte, and cut in two at every byte (at
// some, when there are many), of which the first is no cut at all.
func splits(body []byte) []func() io.Reader {
	all := []func() io.Reader{func() io.Reader { return oneByte{bytes.NewReader(body)} }}
	step := max(1, len(body)*len(body)/(4<<20))
	for i := 0; i < len(body); i += step {
		all = append(all, func() io.Reader {
			return io.MultiReader(bytes.NewReader(body[:i]), bytes.NewReader(body[i:]))
		})
	}
	return all
}

type oneByte struct{ r *bytes.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }
