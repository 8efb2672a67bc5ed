package replicas_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/websopy/relay/internal/stream"
)

// client asks one question and reads the answer to its end, over as many connections as it takes,
// as the SDK does.
type client struct {
	t        *testing.T
	question string

	http   *http.Client
	id     string // of the stream
	cursor string // of the last frame
	seq    uint64
	wait   time.Duration

	text  string
	end   frame // the done or error chunk
	conns int
}

// frame is the JSON of one.
type frame struct {
	Type, Content, ID, Error, Code, FinishReason string
}

func newClient(t *testing.T, question string) *client {
	return &client{t: t, question: question, wait: 100 * time.Millisecond, http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
}

var errCut = errors.New("the stream was cut")

// run follows the answer to its end, at the URL that next gives for each connection.
func (c *client) run(ctx context.Context, next func() string) error {
	for {
		err := c.connect(ctx, next(), func() bool { return false })
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(c.wait):
		}
	}
}

// connect reads from one connection until the answer's end, nil, or the connection's, or until
// enough says so, which is errCut.
func (c *client) connect(ctx context.Context, base string, enough func() bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	res, err := c.http.Do(c.request(ctx, base))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	c.conns++
	if res.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(res.Body)
		return fmt.Errorf("%s: %s", res.Status, body)
	}
	c.id = res.Header.Get("X-Stream-Id")
	lines := bufio.NewReader(res.Body)
	var data, id string
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return errCut
		}
		line = strings.TrimSuffix(line, "\n")
		switch name, value, _ := strings.Cut(line, ": "); {
		case name == "data":
			data = value
		case name == "id":
			id = value
		case name == "retry":
			ms, err := strconv.Atoi(value)
			if err != nil {
				c.t.Errorf("retry: %q", value)
			}
			c.wait = time.Duration(ms) * time.Millisecond
		case line == "":
			if ended := c.frame(data, id); ended {
				return nil
			}
			data, id = "", ""
			if enough() {
				return errCut
			}
		default:
			c.t.Errorf("line %q", line)
		}
	}
}

func (c *client) request(ctx context.Context, base string) *http.Request {
	if c.id != "" {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/chat/stream/"+c.id, nil)
		if c.cursor != "" {
			req.Header.Set("Last-Event-ID", c.cursor)
		}
		return req
	}
	body, _ := json.Marshal(map[string]any{
		"messages": []any{map[string]any{"role": "user", "content": c.question}}, "resumable": true,
	})
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, base+"/api/chat/stream", strings.NewReader(string(body)))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", c.question)
	return req
}

// frame takes one frame. It says whether it was the last.
func (c *client) frame(data, id string) bool {
	var f frame
	if err := json.Unmarshal([]byte(data), &f); err != nil {
		c.t.Errorf("frame %q: %v", data, err)
		return true
	}
	if f.Type == "ping" {
		return false
	}
	of, seq, ok := stream.ParseCursor(id)
	if c.id != "" && (!ok || of != c.id) {
		c.t.Errorf("frame %q has id %q", data, id)
	}
	lost := f.Code == "producer_lost"
	if c.id != "" && f.Type != "start" && seq != c.seq+1 && !lost {
		c.t.Errorf("position %d after %d", seq, c.seq)
	}
	c.seq, c.cursor = seq, id
	switch f.Type {
	case "content":
		c.text += f.Content
	case "done", "error":
		c.end = f
		return true
	}
	return false
}
