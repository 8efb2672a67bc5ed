// Package upstreamtest is a provider that fails on purpose, for tests of what stands in front of it. It
// speaks real HTTP on the loopback interface.
package upstreamtest

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fault is what goes wrong with an answer.
type Fault struct {
	What   What
	At     Position // of those that can happen anywhere
	Status int      // of BadStatus
}

// What is the kind of a Fault.
type What string

// The faults. Those from Slow to Garbage happen at a position.
const (
	None       What = "none"
	Slow       What = "slow"       // the rest comes byte by byte, more or less, and is good
	Stalled    What = "stalled"    // nothing comes any more, on an open connection
	Reset      What = "reset"      // the connection is reset
	Cut        What = "cut"        // the connection ends in the midst of the body, as when a proxy restarts
	Truncated  What = "truncated"  // the body ends, by HTTP's rules as it should
	Garbage    What = "garbage"    // something comes that is not in the format
	ErrorEvent What = "error"      // an event reports a failure; not in the midst of an event
	HalfHeader What = "halfheader" // the connection ends in the midst of the response's header
	BadStatus  What = "status"     // an error status with an error object; 429 with Retry-After: 0
	JSONError  What = "jsonerror"  // status 200 with an error object instead of a stream
	Empty      What = "empty"      // a complete answer without content
)

// Position is how far an answer has come.
type Position string

// The positions.
const (
	BeforeHeader Position = "before the header"
	BeforeFirst  Position = "before the first chunk" // after the header, and events without text
	AtFirst      Position = "at the first chunk"     // in the midst of the event that has the first word
	AfterFirst   Position = "after the first chunk"
)

// String names the fault as a test's name has it.
func (f Fault) String() string {
	s := string(f.What)
	if f.At != "" {
		s += " " + string(f.At)
	}
	if f.Status != 0 {
		s += fmt.Sprintf(" %d", f.Status)
	}
	return s
}

// Provider answers every request in one format. Its methods are safe for concurrent use.
type Provider struct {
	URL    string
	format Format

	mu       sync.Mutex // guards the rest
	rnd      *rand.Rand
	script   []Fault
	requests int
	open     int
	idle     chan struct{} // closed when open falls to 0
}

// New starts a provider that ends with the test. It makes no mistakes until it is told to. Where a fault
// leaves room for chance (where in an event, how many bytes at a time), seed decides.
func New(t testing.TB, f Format, seed uint64) *Provider {
	t.Helper()
	p := &Provider{format: f, rnd: rand.New(rand.NewPCG(seed, 0))}
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	p.URL = srv.URL
	return p
}

// Play gives each request from now on one of the faults, in their order; the last one stays.
func (p *Provider) Play(script ...Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.script = script
}

// Requests is how many requests there were.
func (p *Provider) Requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

// WaitIdle returns when no request is open, or with the error of ctx.
func (p *Provider) WaitIdle(ctx context.Context) error {
	p.mu.Lock()
	idle := p.idle
	open := p.open
	p.mu.Unlock()
	if open == 0 {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// plan is an answer with its fault: what is sent, up to the fault and from there on.
type plan struct {
	fault         Fault
	before, after string
	pieces        []int // lengths in which a slow provider sends after
	garbage       string
}

func (p *Provider) begin() plan {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open++; p.open == 1 {
		p.idle = make(chan struct{})
	}
	p.requests++
	f := Fault{What: None}
	if len(p.script) > 0 {
		f = p.script[0]
		if len(p.script) > 1 {
			p.script = p.script[1:]
		}
	}
	return p.plan(f)
}

func (p *Provider) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open--; p.open == 0 {
		close(p.idle)
	}
}

// plan lays out an answer. The caller holds mu.
func (p *Provider) plan(f Fault) plan {
	head, words, tail := strings.Join(p.format.Head, ""), p.format.Words, strings.Join(p.format.Tail, "")
	all := head + strings.Join(words, "") + tail
	at := 0
	switch f.At {
	case BeforeFirst:
		at = len(head)
	case AtFirst: // within the JSON text, because before and after it the event may count as none, or as whole
		open, end := strings.IndexByte(words[0], '{')+1, strings.LastIndexByte(words[0], '}')
		at = len(head) + open + p.rnd.IntN(end-open)
	case AfterFirst:
		at = len(head) + len(words[0])
	}
	made := plan{fault: f, before: all[:at], after: all[at:]}
	switch f.What {
	case Slow:
		for left := len(made.after); left > 0; left -= made.pieces[len(made.pieces)-1] {
			made.pieces = append(made.pieces, min(left, 1+p.rnd.IntN(40)))
		}
	case Garbage:
		made.garbage = p.garbage(f.At == AtFirst)
	case ErrorEvent:
		made.after = p.format.Error
	case Empty:
		made.after = head + tail
	}
	return made
}

// garbage is no JSON, wherever in an object it stands.
func (p *Provider) garbage(inEvent bool) string {
	const noise = "<>!?#%&abcxyz \x00\x1f\xff"
	b := []byte("<")
	longer := 0
	if strings.Contains(p.format.ContentType, "amazon") {
		longer = 400 // than a frame: or it would only be the rest of one that ends too early
	}
	for range longer + 10 + p.rnd.IntN(100) {
		b = append(b, noise[p.rnd.IntN(len(noise))])
	}
	if inEvent || p.format.ContentType != eventStream {
		return string(b) + "\n\n"
	}
	return data(string(b))
}

// ServeHTTP implements http.Handler.
func (p *Provider) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	made := p.begin()
	defer p.end()
	_, _ = io.Copy(io.Discard, req.Body) // or the server would not notice that the client leaves
	switch f := made.fault; {
	case f.What == HalfHeader:
		drop(w, "HTTP/1.1 200 OK\r\nContent-Ty", false)
	case f.What == BadStatus || f.What == JSONError:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(cmp.Or(f.Status, http.StatusOK))
		_, _ = io.WriteString(w, `{"error":{"message":"the server is overloaded","type":"server_error"}}`)
	case f.What == Stalled && f.At == BeforeHeader:
		<-req.Context().Done()
	case (f.What == Reset || f.What == Cut) && f.At == BeforeHeader:
		drop(w, "", f.What == Reset)
	default:
		w.Header().Set("Content-Type", p.format.ContentType)
		w.WriteHeader(http.StatusOK)
		send(w, made.before)
		p.fail(w, req, made)
	}
}

// fail goes on from where the fault is.
func (p *Provider) fail(w http.ResponseWriter, req *http.Request, made plan) {
	switch made.fault.What {
	case Slow:
		for _, n := range made.pieces {
			send(w, made.after[:n])
			made.after = made.after[n:]
			time.Sleep(time.Millisecond) // it is what the fault is, and nobody's proof
		}
	case Stalled:
		<-req.Context().Done()
	case Reset:
		drop(w, "", true)
	case Cut:
		panic(http.ErrAbortHandler)
	case Truncated:
	case Garbage:
		send(w, made.garbage)
	default:
		send(w, made.after)
	}
}

func send(w http.ResponseWriter, s string) {
	_, _ = io.WriteString(w, s) // a client that has left is what some tests are about
	_ = http.NewResponseController(w).Flush()
}

// drop ends the connection after last, if it has to be with a reset.
func drop(w http.ResponseWriter, last string, reset bool) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err) // the server is HTTP/1.1, which can
	}
	_, _ = io.WriteString(conn, last)
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
