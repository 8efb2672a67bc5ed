package doctor

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// checkHeaders looks at what a stream's headers became.
func (e *examination) checkHeaders() {
	if strings.HasPrefix(e.URL, "https://") && e.report.Protocol != "HTTP/2.0" {
		e.find(Finding{ID: "http1-outside", Shows: "the first hop speaks " + e.report.Protocol + " to browsers",
			Remedy: "Let it offer HTTP/2: over HTTP/1.1 a browser has six connections for a host, and each open " +
				"stream takes one."})
	}
	if e.start.ID == "" {
		return
	}
	if kind := e.header.Get("Content-Type"); !strings.HasPrefix(kind, "text/event-stream") {
		e.find(Finding{ID: "rewriting", Shows: fmt.Sprintf("the Content-Type comes as %q", kind),
			Remedy: "Let the hop pass text/event-stream on: EventSource takes nothing else."})
	}
	if control := e.header.Get("Cache-Control"); !strings.Contains(control, "no-cache") &&
		!strings.Contains(control, "no-store") {
		e.find(Finding{ID: "rewriting", Shows: fmt.Sprintf("the Cache-Control comes as %q", control),
			Remedy: "Let the hop keep the relay's Cache-Control."})
	}
	if age := e.header.Get("Age"); age != "" {
		e.find(Finding{ID: "caching", Shows: "the answer comes from a cache, with an Age of " + age,
			Remedy: "Take the relay's paths out of the cache."})
	}
}

// checkStart looks at what the relay saw of the request.
func (e *examination) checkStart() {
	if e.start.Protocol == "HTTP/1.0" {
		e.find(Finding{ID: "http10-inside", Shows: "the last hop speaks HTTP/1.0 to the relay",
			Likely: "nginx before 1.29.7, by default",
			Remedy: "proxy_http_version 1.1; over 1.0 a stream that breaks off ends like a whole one, and no " +
				"connection is used again."})
	}
}

// bufferingDelay is how late a frame in ten may be; a machine that is busy makes some of them late.
const bufferingDelay = 100 * time.Millisecond

// checkBuffering looks for hops that collect frames before they pass them on.
func (e *examination) checkBuffering(ctx context.Context) {
	var late time.Duration
	var frames, reads int
	for range 2 { // what the machine did once, it does not do twice
		s := e.probe(ctx, url.Values{"for": {"3s"}, "every": {"30ms"}}, 0)
		if len(s.frames) == 0 {
			e.find(Finding{ID: "buffering", Shows: "of a stream of three seconds no frame came",
				Remedy: bufferingRemedy})
			return
		}
		late, frames, reads = lateness(s.frames), len(s.frames), s.reads
		if late < bufferingDelay || frames < 2*reads {
			return
		}
	}
	likely := "nginx that buffers (proxy_buffering, or X-Accel-Buffering ignored), or a CDN"
	if reads > 5 {
		likely = "HAProxy without option http-no-delay"
	}
	e.find(Finding{ID: "buffering", Likely: likely, Remedy: bufferingRemedy,
		Shows: fmt.Sprintf("%d frames came in %d pieces, one in ten more than %v late", frames, reads,
			late.Round(time.Millisecond))})
}

const bufferingRemedy = "nginx: proxy_buffering off, or let X-Accel-Buffering through. HAProxy: option " +
	"http-no-delay. " +
	"Others: switch buffering of responses off for the relay's paths."

// lateness is by how much one frame in ten is late at least, against the one that was fastest.
func lateness(frames []arrival) time.Duration {
	late := make([]time.Duration, len(frames))
	for i, f := range frames {
		late[i] = f.came - f.sent
	}
	slices.Sort(late)
	return late[len(late)*9/10] - late[0]
}

// checkDemo is checkBuffering by the demo provider's words, which come some 30 ms apart.
func (e *examination) checkDemo(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, slack)
	defer cancel()
	if !slices.Contains(e.models(ctx).ids, "demo") {
		e.skip("the buffering: the relay has no demo provider either, and others cost")
		return
	}
	s := e.read(ctx, "/v1/ai/chat?"+url.Values{"message": {"Hello"}, "model": {"demo"}}.Encode(), 0)
	if len(s.frames) == 0 {
		e.find(Finding{ID: "buffering", Shows: "the demo's answer did not come", Remedy: bufferingRemedy})
		return
	}
	if spread := s.frames[len(s.frames)-1].came - s.frames[0].came; len(s.frames) > 3*s.reads || spread < time.Second {
		e.find(Finding{ID: "buffering", Remedy: bufferingRemedy,
			Shows: fmt.Sprintf("%d words came in %d pieces within %v", len(s.frames), s.reads,
				spread.Round(time.Millisecond))})
	}
}

func (e *examination) checkCompression(ctx context.Context) {
	s := e.probe(ctx, url.Values{"for": {"500ms"}, "every": {"100ms"}}, 1, "Accept-Encoding", "gzip, br, zstd")
	if encoding := s.header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		e.find(Finding{ID: "compression", Shows: "the stream comes as " + encoding,
			Likely: "nginx, which compresses in spite of no-transform",
			Remedy: "Take text/event-stream out of what is compressed (nginx: gzip_types without it, or gzip off): " +
				"a compressor " +
				"holds frames back."})
	}
}

// checkResumption looks whether a browser that comes back is known again.
func (e *examination) checkResumption(ctx context.Context) {
	query := url.Values{"for": {"200ms"}, "every": {"100ms"}}
	id := "doctor." + rand.Text()
	first := e.probe(ctx, query, 1, "Last-Event-ID", id)
	if first.start.ID != "" && first.start.LastEventID != id {
		query.Set("last_event_id", id)
		by := "the parameter last_event_id comes through"
		if e.probe(ctx, query, 1).start.LastEventID != id {
			by = "nor does the parameter last_event_id"
		}
		e.find(Finding{ID: "last-event-id", Shows: "the header Last-Event-ID does not reach the relay; " + by,
			Remedy: "Let the hop pass Last-Event-ID on: without it a stream that was cut begins anew."})
	}
	second := e.probe(ctx, query, 1)
	third := e.probe(ctx, query, 1)
	if second.start.ID != "" && second.start.ID == third.start.ID {
		e.find(Finding{ID: "caching", Shows: "two requests got the same stream",
			Remedy: "Take the relay's paths out of the cache."})
	}
}

// checkRefusal looks whether a refusal comes as the relay wrote it.
func (e *examination) checkRefusal(ctx context.Context) {
	s := e.probe(ctx, url.Values{"refuse": {"true"}}, 0)
	if s.status == http.StatusServiceUnavailable && s.header.Get("Retry-After") == "7" &&
		strings.HasPrefix(s.header.Get("Content-Type"), "application/json") {
		return
	}
	e.find(Finding{ID: "rewriting", Likely: "nginx with proxy_intercept_errors, or a CDN with error pages of its own",
		Shows: fmt.Sprintf("a refusal comes with status %d, Content-Type %q and Retry-After %q instead of 503, "+
			"application/json and 7",
			s.status, s.header.Get("Content-Type"), s.header.Get("Retry-After")),
		Remedy: "Let errors of the relay through: clients read their code, and when to come again."})
}

// checkOrigin asks as a browser does for a page of another origin.
func (e *examination) checkOrigin(ctx context.Context) {
	if e.Origin == "" {
		return
	}
	req, err := e.request(ctx, http.MethodOptions, "/api/chat/stream", nil, "Origin", e.Origin,
		"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers",
		"authorization,content-type,last-event-id")
	if err != nil {
		return
	}
	req.Header.Del("Authorization") // a preflight has none
	res, err := e.http.Do(req)
	if err != nil {
		e.find(Finding{ID: "cors", Shows: "a preflight fails: " + err.Error(), Remedy: corsRemedy})
		return
	}
	res.Body.Close()
	allowed := res.Header.Values("Access-Control-Allow-Origin")
	headers := strings.ToLower(res.Header.Get("Access-Control-Allow-Headers"))
	switch {
	case res.StatusCode >= http.StatusMultipleChoices:
		e.find(Finding{ID: "cors", Shows: fmt.Sprintf("a preflight is answered with %d", res.StatusCode),
			Remedy: corsRemedy})
	case len(allowed) > 1 || len(allowed) == 1 && strings.Contains(allowed[0], ","):
		e.find(Finding{ID: "cors", Shows: fmt.Sprintf("Access-Control-Allow-Origin is there twice: %q", allowed),
			Remedy: corsRemedy})
	case len(allowed) == 0 || allowed[0] != e.Origin && allowed[0] != "*":
		e.find(Finding{ID: "cors", Shows: fmt.Sprintf("Access-Control-Allow-Origin is %q for a page of %s", allowed,
			e.Origin), Remedy: corsRemedy})
	case !strings.Contains(headers, "last-event-id") && headers != "*":
		e.find(Finding{ID: "cors", Shows: fmt.Sprintf("Access-Control-Allow-Headers is %q", headers),
			Remedy: corsRemedy})
	}
}

const corsRemedy = "List the origin in RELAY_CORS_ORIGINS, and let no hop add or answer headers of CORS itself."

// checkBody sends a body of nearly the size that the relay takes. It is no question, so nothing is asked.
func (e *examination) checkBody(ctx context.Context) {
	const room = 1 << 10
	if e.start.MaxBody <= room {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*slack)
	defer cancel()
	var waited bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got100Continue: func() { waited = true }})
	body := `{"messages":"` + strings.Repeat("x", int(e.start.MaxBody)-room) + `"}`
	req, err := e.request(ctx, http.MethodPost, "/api/chat/stream", strings.NewReader(body),
		"Content-Type", "application/json", "Expect", "100-continue")
	if err != nil {
		return
	}
	res, err := e.http.Do(req)
	if err == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, room))
		res.Body.Close()
	}
	switch {
	case err != nil:
		e.find(Finding{ID: "body-limit",
			Shows:  fmt.Sprintf("a body of %d bytes, as large as the relay takes, fails: %v", len(body), err),
			Remedy: bodyRemedy})
	case res.StatusCode != http.StatusBadRequest:
		e.find(Finding{ID: "body-limit", Likely: "nginx, whose client_max_body_size is 1m by default",
			Remedy: bodyRemedy,
			Shows: fmt.Sprintf("a body of %d bytes, as large as the relay takes, is answered with %d", len(body),
				res.StatusCode)})
	case !waited && res.ProtoMajor == 1:
		e.find(Finding{ID: "expect-continue",
			Shows:  "Expect: 100-continue is not answered; curl waits a second for that",
			Remedy: "Let the hop pass Expect on, or answer it."})
	}
}

const bodyRemedy = "Let bodies of RELAY_MAX_BODY through: pictures and long conversations need them."

// checkLeaving looks whether the relay learns that a client has left.
func (e *examination) checkLeaving(ctx context.Context) {
	const patience = 2 * time.Second
	s := e.probe(ctx, url.Values{"for": {"30s"}, "every": {"200ms"}}, 2) // and leave
	if s.start.ID == "" {
		return
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		watch := e.probe(ctx, url.Values{"for": {"10ms"}, "watch": {s.start.ID}}, 0)
		if watch.start.Open == nil || !*watch.start.Open {
			return
		}
		if time.Now().After(deadline) {
			e.find(Finding{ID: "leaving",
				Shows: fmt.Sprintf("%v after the client has left, the relay still sends to it", patience),
				Likely: "HAProxy without option abortonclose, nginx with proxy_ignore_client_abort, or a proxy that " +
					"reads on",
				Remedy: "Let the hop close its connection to the relay when its client has left: until then the " +
					"answer is paid for."})
			return
		}
	}
}

// checkSilence looks how long nothing may come before the path is cut.
func (e *examination) checkSilence(ctx context.Context) {
	beat := time.Duration(e.start.HeartbeatMs) * time.Millisecond
	silences := []time.Duration{beat + beat/3, 35 * time.Second, 65 * time.Second, 125 * time.Second,
		305 * time.Second}
	if beat == 0 {
		e.note("the relay sends no pings (RELAY_HEARTBEAT=0)")
		silences = silences[1:]
	}
	slices.Sort(silences)
	var asked sync.WaitGroup
	cuts := make([]time.Duration, len(silences))
	for i, silence := range silences {
		if silence+time.Second > e.For {
			continue
		}
		asked.Go(func() {
			length := (silence + 500*time.Millisecond).String()
			if s := e.probe(ctx, url.Values{"silent": {silence.String()}, "for": {length}}, 0); !s.whole {
				cuts[i] = s.cut
			}
		})
	}
	asked.Wait()
	for i, cut := range cuts {
		if cut == 0 || ctx.Err() != nil {
			continue
		}
		e.silence = cut
		if beat > 0 && silences[i] > beat+beat/3 {
			e.note("a silence of more than %v is cut; the relay's pings come every %v", cut.Round(time.Second), beat)
			return
		}
		e.find(Finding{ID: "idle-timeout", Shows: fmt.Sprintf("a stream is cut after a silence of %v",
			cut.Round(100*time.Millisecond)),
			Likely: byTimeout(cut, idleTimeouts),
			Remedy: fmt.Sprintf("Raise the hop's idle time-out, or set RELAY_HEARTBEAT, which is %v, well below it.",
				beat)})
		return
	}
}

// checkClock looks whether streams are cut at a certain age, however busy they are.
func (e *examination) checkClock(ctx context.Context) {
	const apart = 1500 * time.Millisecond
	var asked sync.WaitGroup
	var ends [2]seen
	length := e.For - apart - time.Second
	for i := range ends {
		asked.Go(func() {
			time.Sleep(time.Duration(i) * apart)
			ends[i] = e.probe(ctx, url.Values{"for": {length.String()}, "every": {"250ms"}}, 0)
		})
	}
	asked.Wait()
	switch a, b := ends[0], ends[1]; {
	case ctx.Err() != nil || a.whole && b.whole:
	case !a.whole && !b.whole && (a.cut-b.cut).Abs() < time.Second:
		e.age = a.cut
		e.find(Finding{ID: "clock", Shows: fmt.Sprintf("streams are cut when they are %v old, while frames flow",
			a.cut.Round(100*time.Millisecond)),
			Likely: byTimeout(a.cut, clocks),
			Remedy: "Raise the hop's time-out of whole requests for the relay's paths, to RELAY_MAX_DURATION " +
				"or none."})
	default:
		cut := max(a.cut, b.cut)
		e.find(Finding{ID: "unstable",
			Shows: fmt.Sprintf("a stream was cut after %v, another of the same minute was not",
				cut.Round(time.Second)),
			Remedy: "Look for a hop that was restarted, or that loses connections."})
	}
}

// hopTimeout is what a hop is known for.
type hopTimeout struct {
	after time.Duration
	who   string
}

// Time-outs of idle connections by default, in the vendors' documentation.
var idleTimeouts = []hopTimeout{
	{10 * time.Second, "Fastly (between bytes)"}, {20 * time.Second, "Azure Application Gateway"},
	{30 * time.Second, "CloudFront or Azure Front Door"}, {55 * time.Second, "Heroku"},
	{60 * time.Second, "nginx (proxy_read_timeout), AWS ALB or Apache"}, {120 * time.Second, "Cloudflare"},
	{300 * time.Second, "Envoy (stream_idle_timeout)"}, {350 * time.Second, "AWS NLB"},
}

// Time-outs of whole requests.
var clocks = []hopTimeout{
	{15 * time.Second, "Envoy (the route's timeout)"}, {29 * time.Second, "API Gateway"},
	{30 * time.Second, "Google Cloud's balancer (backend timeout)"}, {300 * time.Second, "Cloud Run"},
}

// byTimeout is who is known for a time-out.
func byTimeout(after time.Duration, known []hopTimeout) string {
	for _, h := range known {
		if (after - h.after).Abs() <= time.Second/2 {
			return h.who
		}
	}
	return ""
}
