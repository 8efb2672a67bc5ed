package replicas_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/websopy/relay/internal/stream"
)

// client asks one question and reads the answer to its end, over as many connections as it takes, with the
// patience of the SDK: three more attempts until the answer has begun and then, as long as the stream may be
// kept, until it hears that there is none.
type client struct {
	t        *testing.T
	question string
	hasty    bool // it is done after three attempts in vain, also when the answer has begun
	leaves   int  // its network fails once behind so many words; 0: never

	http   *http.Client
	id     string // of the stream
	cursor string // of the last frame
	seq    uint64
	used   int           // attempts since something new came
	since  time.Time     // when it came
	wait   time.Duration // what the last retry: asked for
	keeps  time.Duration // for so long the stream is kept without anybody reading it

	text    string
	end     frame // the done or error chunk
	conns   int
	refused int           // answers of 502, which are none of the relay's
	silence time.Duration // the longest without anything new
}

// frame is the JSON of one.
type frame struct {
	Type, Content, ID, Error, Code, FinishReason string
	GraceMs, RetentionMs                         int64
}

func newClient(t *testing.T, question string) *client {
	return &client{
		t: t, question: question, keeps: time.Minute + 10*time.Minute, // as RELAY_RESUME_GRACE and _RETENTION
		http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}
}

var errCut = errors.New("the stream was cut")

// refusal is an answer that is no stream.
type refusal struct {
	status     int
	retryAfter time.Duration
	body       string
}

func (r *refusal) Error() string { return fmt.Sprintf("%d: %s", r.status, r.body) }

// run follows the answer to its end, at the URL that next gives for each connection.
func (c *client) run(ctx context.Context, next func() string) error {
	c.since = time.Now()
	for {
		err := c.connect(ctx, next(), c.offline)
		if err == nil || ctx.Err() != nil {
			return err
		}
		wait, again := c.patient(err)
		if !again {
			return fmt.Errorf("gave up after %d attempts in vain: %w", c.used, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// offline says whether the network fails now. Where the answer can't be resumed it does not.
func (c *client) offline() bool {
	if c.leaves == 0 || c.id == "" || strings.Count(c.text, "词") < c.leaves {
		return false
	}
	c.leaves = 0
	return true
}

// patient says after which time there is another attempt, if there is.
func (c *client) patient(err error) (wait time.Duration, again bool) {
	c.used++
	backoff := rand.N(min(8*time.Second, 500*time.Millisecond<<min(c.used-1, 10))) + 1
	if c.wait > 0 {
		backoff = c.wait
		c.wait = 0
	}
	if r := (*refusal)(nil); errors.As(err, &r) {
		if r.status < 500 && r.status != http.StatusTooManyRequests {
			return 0, false
		}
		backoff = max(backoff, r.retryAfter)
	}
	if c.id == "" || c.hasty {
		return backoff, c.used <= 3
	}
	return backoff, time.Since(c.since) < c.keeps
}

// progress is that something new came.
func (c *client) progress() {
	now := time.Now()
	if !c.since.IsZero() {
		c.silence = max(c.silence, now.Sub(c.since))
	}
	c.since, c.used = now, 0
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
		if res.StatusCode == http.StatusBadGateway {
			c.refused++
		}
		body, _ := io.ReadAll(res.Body)
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		return &refusal{res.StatusCode, time.Duration(seconds) * time.Second, string(body)}
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
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, base+"/api/chat/stream",
		strings.NewReader(string(body)))
	req.Header.Set("Content-Type", "application/json")
	// long enough for an open relay
	req.Header.Set("Idempotency-Key", fmt.Sprintf("%x", sha256.Sum256([]byte(c.question))))
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
	if f.Type == "error" && id == "" { // not the stream's own end: nobody has it any more
		c.end = f
		return true
	}
	if c.id != "" && (!ok || of != c.id) {
		c.t.Errorf("frame %q has id %q", data, id)
	}
	if c.id != "" && f.Type != "start" && seq != c.seq+1 && f.Code != "producer_lost" {
		c.t.Errorf("position %d after %d", seq, c.seq)
	}
	c.seq, c.cursor = seq, id
	c.progress()
	if f.GraceMs > 0 {
		c.keeps = time.Duration(f.GraceMs+f.RetentionMs) * time.Millisecond
	}
	switch f.Type {
	case "content":
		c.text += f.Content
	case "done", "error":
		c.end = f
		return true
	}
	return false
}
