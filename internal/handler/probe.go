package handler

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/websopy/relay/internal/chat"
)

// probePath serves `relay doctor`: streams without a provider, which show what lies between a client and the relay.
const probePath = "/api/chat/probe"

const (
	longestProbe  = 20 * time.Minute
	fastestProbe  = 10 * time.Millisecond
	largestProbe  = 64 << 10 // bytes of one frame
	defaultProbe  = 10 * time.Second
	probeRetry    = 7 * time.Second // of a refusal that was asked for
	largestHeader = 1 << 10         // bytes of a request's header that are told
)

// probeOptions are a probe's query parameters. Times are written as in Go, like 1.5s.
type probeOptions struct {
	silent time.Duration // before the second frame, without pings
	every  time.Duration // between frames
	size   int           // of a frame, about
	length time.Duration // of all
	refuse bool          // no stream but 503 with Retry-After
	watch  string        // the id of a probe of which to tell whether it is open here
}

// probeStart is the first frame: what the relay saw of the request.
type probeStart struct {
	Type           string   `json:"type"` // probe
	ID             string   `json:"id"`
	Protocol       string   `json:"protocol"` // like HTTP/1.0, of the last hop
	Host           string   `json:"host"`
	Via            string   `json:"via,omitempty"`
	Forwarded      []string `json:"forwarded,omitempty"` // names of the headers that proxies add
	LastEventID    string   `json:"lastEventId,omitempty"`
	AcceptEncoding string   `json:"acceptEncoding,omitempty"`
	HeartbeatMs    int64    `json:"heartbeatMs"`
	MaxBody        int64    `json:"maxBody"`
	Open           *bool    `json:"open,omitempty"` // the watched probe is
}

// probeTick is each further frame.
type probeTick struct {
	Type string  `json:"type"` // tick
	Seq  int     `json:"seq"`
	AtMs float64 `json:"atMs"` // since the first frame, when it was written
	Pad  string  `json:"pad,omitempty"`
}

// probes are those that are open in this process.
type probes struct {
	mu   sync.Mutex
	open map[string]struct{}
}

func (p *probes) begin(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		p.open = make(map[string]struct{})
	}
	p.open[id] = struct{}{}
}

func (p *probes) end(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, id)
}

func (p *probes) has(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.open[id]
	return ok
}

func readProbe(q url.Values) (o probeOptions, err error) {
	o = probeOptions{length: defaultProbe, every: time.Second, refuse: q.Get("refuse") == "true",
		watch: q.Get("watch")}
	for name, d := range map[string]*time.Duration{"silent": &o.silent, "every": &o.every, "for": &o.length} {
		if q.Get(name) == "" {
			continue
		}
		if *d, err = time.ParseDuration(q.Get(name)); err != nil || *d < 0 || *d > longestProbe {
			return o, fmt.Errorf("%s: %.40q is no time up to %v", name, q.Get(name), longestProbe)
		}
	}
	if o.every < fastestProbe {
		return o, fmt.Errorf("every: at least %v", fastestProbe)
	}
	if size := q.Get("size"); size != "" {
		if o.size, err = strconv.Atoi(size); err != nil || o.size < 0 || o.size > largestProbe {
			return o, fmt.Errorf("size: %.40q is no number of bytes up to %d", size, largestProbe)
		}
	}
	return o, nil
}

// probe streams frames by the clock. It counts as a stream, and has no pings.
func (r *Relay) probe(w http.ResponseWriter, req *http.Request) {
	if r.draining.Load() {
		r.fail(w, req, errDraining)
		return
	}
	o, err := readProbe(req.URL.Query())
	if err != nil {
		r.fail(w, req, &chat.Error{Code: chat.InvalidRequest, Message: err.Error()})
		return
	}
	if o.refuse {
		r.fail(w, req, &chat.Error{Code: chat.Overloaded, Message: "refused, as was asked for",
			RetryAfter: probeRetry})
		return
	}
	place, full := r.enter(req)
	if full != nil {
		r.fail(w, req, full)
		return
	}
	defer r.leave(place)
	ctx, cancel := context.WithTimeout(req.Context(), o.length)
	defer cancel()
	defer context.AfterFunc(r.life, cancel)()

	start := r.probeStart(req, o)
	r.probesOpen.begin(start.ID)
	defer r.probesOpen.end(start.ID)
	o.watch = "" // it is a part of the URL
	letHeaderGo(req)
	maps.Copy(w.Header(), streamHeaders)
	out := probeWriter{w: w, rc: http.NewResponseController(w), timeout: r.writeTimeout}
	if out.send(start) != nil {
		return
	}
	began, wait := time.Now(), max(o.silent, o.every)
	for seq := 1; sleep(ctx, wait); seq, wait = seq+1, o.every {
		tick := probeTick{Type: "tick", Seq: seq, AtMs: float64(time.Since(began).Microseconds()) / 1e3}
		tick.Pad = strings.Repeat("x",
			max(0, o.size-len(`data: {"type":"tick","seq":1000,"atMs":10000.000,"pad":""}`)))
		if out.send(tick) != nil {
			return
		}
	}
	if req.Context().Err() == nil {
		_ = out.write([]byte("data: [DONE]\n\n"))
	}
}

func (r *Relay) probeStart(req *http.Request, o probeOptions) probeStart {
	short := func(s string) string { return s[:min(len(s), largestHeader)] }
	s := probeStart{
		Type: "probe", ID: rand.Text(), Protocol: req.Proto, Host: short(req.Host), Via: short(req.Header.Get("Via")),
		LastEventID: short(lastEventID(req)), AcceptEncoding: short(req.Header.Get("Accept-Encoding")),
		HeartbeatMs: r.heartbeat.Milliseconds(), MaxBody: r.maxBody,
	}
	for name := range req.Header {
		if name == "Forwarded" || strings.HasPrefix(name, "X-Forwarded-") || name == "X-Real-Ip" {
			s.Forwarded = append(s.Forwarded, name)
		}
	}
	slices.Sort(s.Forwarded)
	if o.watch != "" {
		open := r.probesOpen.has(o.watch)
		s.Open = &open
	}
	return s
}

// sleep waits, and reports whether ctx lives on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// probeWriter writes and flushes one frame at a time, each with its deadline.
type probeWriter struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	timeout time.Duration
}

func (p *probeWriter) send(frame any) error {
	body, err := json.Marshal(frame)
	if err != nil {
		return err
	}
	return p.write(append(append([]byte("data: "), body...), "\n\n"...))
}

func (p *probeWriter) write(frame []byte) error {
	_ = p.rc.SetWriteDeadline(time.Now().Add(p.timeout)) // a recorder has none
	if _, err := p.w.Write(frame); err != nil {
		return err
	}
	return p.rc.Flush()
}
