// Package doctor measures the path between this machine and a relay, and finds what on it harms streams. It is a
// client, and knows of the relay only what its probe says (docs/doctor.md).
package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options say what to examine.
type Options struct {
	URL    string        // of the relay, as browsers reach it
	Key    string        // API key or token; empty: none
	Origin string        // of a page whose requests to check, like https://app.example.com; empty: none
	For    time.Duration // how long to look at most; at least ten seconds
	// Progress is called with what goes on, on a goroutine of its own choice; nil: nobody is told.
	Progress func(text string)
}

// Finding is something on the path that harms streams.
type Finding struct {
	ID     string `json:"id"`
	Shows  string `json:"shows"`         // how it was seen
	Likely string `json:"hop,omitempty"` // who does such a thing
	Remedy string `json:"remedy"`
}

// Report is what was found.
type Report struct {
	URL      string    `json:"url"`
	Protocol string    `json:"protocol"`         // between this machine and the first hop
	Inside   string    `json:"inside,omitempty"` // between the last hop and the relay
	Hops     []string  `json:"hops,omitempty"`   // as far as they tell of themselves
	Findings []Finding `json:"findings"`
	Notes    []string  `json:"notes,omitempty"`     // good to know
	Skipped  []string  `json:"unchecked,omitempty"` // and why
}

// examination is one run.
type examination struct {
	Options
	http   *http.Client
	start  probeStart // of the first probe
	header http.Header

	mu      sync.Mutex // guards the rest
	report  Report
	silence time.Duration // after which a silent stream was cut; 0: none was
	age     time.Duration // at which busy streams were cut; 0: none was
}

// ErrNoRelay is for an address where no relay answers.
var ErrNoRelay = errors.New("no relay answers there")

// Examine measures the path to a relay. It takes about as long as o.For.
//
// Errors: ErrNoRelay, wrapped; the cause of ctx's end.
func Examine(ctx context.Context, o Options) (*Report, error) {
	o.URL = strings.TrimSuffix(o.URL, "/")
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DisableCompression: true, ForceAttemptHTTP2: true,
		ExpectContinueTimeout: continueTimeout,
	}
	defer transport.CloseIdleConnections()
	e := &examination{Options: o, http: &http.Client{Transport: transport},
		report: Report{URL: o.URL, Findings: []Finding{}}}
	if e.Progress == nil {
		e.Progress = func(string) {}
	}
	probed, err := e.reach(ctx)
	if err != nil {
		return nil, err
	}
	e.report.Hops = hops(e.header)
	e.checkHeaders()
	if !probed {
		e.skip("all but the headers, the buffering and the origin: the relay has no probe (RELAY_PROBE=true adds it)")
		e.checkDemo(ctx)
		e.checkOrigin(ctx)
		return &e.report, context.Cause(ctx)
	}
	e.checkStart()
	e.Progress("frames one by one")
	e.checkBuffering(ctx)
	e.checkCompression(ctx)
	e.checkResumption(ctx)
	e.checkRefusal(ctx)
	e.checkOrigin(ctx)
	e.checkBody(ctx)
	e.checkLeaving(ctx)
	var long sync.WaitGroup
	long.Go(func() { e.checkSilence(ctx) })
	long.Go(func() { e.checkClock(ctx) })
	e.countDown(&long)
	e.tellApart()
	slices.SortFunc(e.report.Findings, func(a, b Finding) int { return strings.Compare(a.ID, b.ID) })
	return &e.report, context.Cause(ctx)
}

// countDown tells how much longer it takes.
func (e *examination) countDown(long *sync.WaitGroup) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		long.Wait()
	}()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for left := e.For; ; left -= time.Second {
		e.Progress(fmt.Sprintf("silence and long streams, %v more at most", max(left, 0)))
		select {
		case <-ticker.C:
		case <-over:
			return
		}
	}
}

// tellApart takes back what only looked like a time-out of silence: a silent stream is cut by the clock as well.
func (e *examination) tellApart() {
	if e.age > 0 && (e.age-e.silence).Abs() < time.Second {
		e.report.Findings = slices.DeleteFunc(e.report.Findings,
			func(f Finding) bool { return f.ID == "idle-timeout" })
	}
}

func (e *examination) find(f Finding) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.report.Findings = append(e.report.Findings, f)
}

func (e *examination) note(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.report.Notes = append(e.report.Notes, fmt.Sprintf(format, args...))
}

func (e *examination) skip(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.report.Skipped = append(e.report.Skipped, what)
}

// hops are what proxies tell of themselves.
func hops(h http.Header) []string {
	var found []string
	for _, name := range []string{"Via", "Server"} {
		for _, value := range h.Values(name) {
			found = append(found, name+": "+value)
		}
	}
	for name, who := range map[string]string{
		"Cf-Ray": "Cloudflare", "X-Amz-Cf-Id": "CloudFront", "X-Served-By": "Fastly",
		"X-Azure-Ref":                   "Azure Front Door",
		"X-Envoy-Upstream-Service-Time": "Envoy", "Apigw-Requestid": "API Gateway",
	} {
		if h.Get(name) != "" {
			found = append(found, who+" (by its "+name+")")
		}
	}
	slices.Sort(found)
	return found
}
