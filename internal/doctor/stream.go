package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/websopy/relay/internal/sse"
)

// probeStart and tick are the frames of the relay's probe.
type probeStart struct {
	ID             string
	Protocol       string
	Via            string
	LastEventID    string
	AcceptEncoding string
	HeartbeatMs    int64
	MaxBody        int64
	Open           *bool
}

type tick struct {
	Seq  int
	AtMs float64
}

// seen is one stream as it came.
type seen struct {
	status int
	header http.Header
	proto  string
	start  probeStart
	frames []arrival
	reads  int           // that brought at least one frame, the first one's aside
	whole  bool          // [DONE] came
	cut    time.Duration // after which it ended otherwise
	err    error
}

// arrival is when a frame came, and when it was sent, both since the first frame.
type arrival struct{ came, sent time.Duration }

const (
	probePath       = "/api/chat/probe"
	continueTimeout = 3 * time.Second
	slack           = 20 * time.Second // that a stream may take beyond its time
)

func (e *examination) request(
	ctx context.Context, method, path string, body io.Reader, headers ...string,
) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, e.URL+path, body)
	if err != nil {
		return nil, err
	}
	if e.Key != "" {
		req.Header.Set("Authorization", "Bearer "+e.Key)
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "relay-doctor")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return req, nil
}

// probe asks for a stream of the relay's probe, and reads it to its end, or to stop frames if that is positive.
func (e *examination) probe(ctx context.Context, query url.Values, stop int, headers ...string) seen {
	length, _ := time.ParseDuration(query.Get("for"))
	ctx, cancel := context.WithTimeoutCause(ctx, length+slack, errors.New("it did not end in its time"))
	defer cancel()
	return e.read(ctx, probePath+"?"+query.Encode(), stop, headers...)
}

func (e *examination) read(ctx context.Context, path string, stop int, headers ...string) (s seen) {
	req, err := e.request(ctx, http.MethodGet, path, nil, headers...)
	if err != nil {
		return seen{err: err}
	}
	began := time.Now()
	res, err := e.http.Do(req)
	if err != nil {
		return seen{err: err, cut: time.Since(began)}
	}
	defer res.Body.Close()
	s = seen{status: res.StatusCode, header: res.Header, proto: res.Proto}
	if res.StatusCode != http.StatusOK {
		return s
	}
	body := &countedReads{r: res.Body}
	events := sse.NewDecoder(body, 0)
	for last := 0; ; {
		ev, err := events.Next()
		now := time.Now()
		if err == nil && !ev.Partial {
			frames := len(s.frames)
			if s.note(ev.Data, now, &began) {
				return s
			}
			if len(s.frames) > frames && body.n != last {
				last = body.n
				s.reads++
			}
		}
		switch {
		case stop > 0 && len(s.frames) >= stop:
			return s
		case err != nil:
			s.err, s.cut = err, time.Since(began)
			if errors.Is(err, io.EOF) {
				s.err = errors.New("the connection ended without [DONE]")
			}
			return s
		}
	}
}

// countedReads counts how often a body was read: frames that came in one piece come by one read.
type countedReads struct {
	r io.Reader
	n int
}

func (c *countedReads) Read(p []byte) (int, error) {
	c.n++
	return c.r.Read(p)
}

// note reads a frame's data. It reports whether it was the last one. From the first frame on times count.
func (s *seen) note(data []byte, now time.Time, began *time.Time) (over bool) {
	if string(data) == "[DONE]" {
		s.whole = true
		return true
	}
	var head struct{ Type string }
	if json.Unmarshal(data, &head) != nil {
		return false
	}
	switch head.Type {
	case "probe":
		_ = json.Unmarshal(data, &s.start)
		*began = now
	case "tick":
		var t tick
		_ = json.Unmarshal(data, &t)
		sent := time.Duration(t.AtMs * float64(time.Millisecond))
		s.frames = append(s.frames, arrival{now.Sub(*began), sent})
	case "content":
		s.frames = append(s.frames, arrival{came: now.Sub(*began)})
	}
	return false
}

// models are what the relay lists.
func (e *examination) models(ctx context.Context) (list struct {
	status int
	ids    []string
}) {
	ctx, cancel := context.WithTimeout(ctx, slack)
	defer cancel()
	req, err := e.request(ctx, http.MethodGet, "/v1/models", nil)
	if err != nil {
		return list
	}
	res, err := e.http.Do(req)
	if err != nil {
		return list
	}
	defer res.Body.Close()
	list.status = res.StatusCode
	var body struct{ Data []struct{ ID string } }
	if json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&body) == nil {
		for _, m := range body.Data {
			list.ids = append(list.ids, m.ID)
		}
	}
	return list
}

// reach asks for the first probe. It reports whether there is one.
func (e *examination) reach(ctx context.Context) (probed bool, err error) {
	e.Progress("reaching the relay")
	s := e.probe(ctx, url.Values{"for": {"1s"}, "every": {"100ms"}}, 0)
	if s.err != nil && s.status == 0 {
		return false, fmt.Errorf("%w: %w", ErrNoRelay, s.err)
	}
	e.header, e.report.Protocol = s.header, s.proto
	switch {
	case s.status == http.StatusUnauthorized:
		return false, fmt.Errorf("%w: it wants a key (--key)", ErrNoRelay)
	case s.status == http.StatusOK && s.start.ID != "":
		e.start = s.start
		e.report.Inside = s.start.Protocol
		return true, nil
	case s.header.Get("X-Request-Id") == "":
		return false, fmt.Errorf("%w: the answer is %d, without the relay's headers", ErrNoRelay, s.status)
	case e.models(ctx).status == http.StatusUnauthorized:
		return false, fmt.Errorf("%w: it wants a key (--key)", ErrNoRelay)
	}
	return false, nil
}
