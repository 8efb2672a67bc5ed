// Package handler is the relay's HTTP side: routes, who may call them, and the one writer of event
// streams. What an answer is and where it comes from is not known here.
package handler

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/rs/zerolog"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/dialect"
	"github.com/websopy/relay/internal/identity"
	"github.com/websopy/relay/internal/limit"
	"github.com/websopy/relay/internal/stream"
	"github.com/websopy/relay/internal/telemetry"
	"github.com/websopy/relay/internal/upstream"
)

// Dialect is a wire format and the path that it is spoken at: POST starts a stream, GET of an id below the path
// follows one.
type Dialect struct {
	Path string
	dialect.Dialect

	// OfProvider tells that the path is one of a provider's own API. The clients there are SDKs that know nothing of
	// relays. They retry by the response's status, which therefore waits for the first chunk or heartbeat, they
	// resume nothing, and they accept an event stream without saying so.
	OfProvider bool

	// FromBeginning tells that an encoder has to see what came before the position from which a client goes on.
	FromBeginning bool

	// Header is what the response of a stream has beside the usual header, or in its place.
	Header http.Header

	// Words tells that a refusal is a sentence and not JSON. Its code is in a header then.
	Words bool

	// choose gives the dialect that a request is in after all, which only its body tells.
	choose func(req *http.Request, body []byte) Dialect
}

// Router knows who answers a request, and says before it is put to anybody what will become of it.
type Router interface {
	chat.Streamer
	// Resolve names the fields of a request that do not reach the provider. The error, a *chat.Error, is why the
	// request is not to be answered: of its model, for one.
	Resolve(*chat.Request) (leftOut []string, err error)
	// Models are those that clients may choose from, the one first that answers requests which name none.
	Models() []upstream.Model
}

// Options are what a Relay is made of. The zero value of a limit or a time means none.
type Options struct {
	Router  Router
	Streams *stream.Hub // nil: no stream is resumable
	// Generations are the places of answers that are being generated. Those of Streams have theirs from the same.
	Generations *limit.Places
	Limiter     *limit.Limiter // of what callers may; nil: all
	Attaches    *limit.Limiter // of how often a caller may come for one answer, as requests; nil: as often as it likes

	// Who shows none of Keys and Tokens is refused; where there are neither, the relay is open to all.
	Keys   identity.Keys
	Tokens *identity.Tokens // nil: none are accepted
	Cookie string           // where a token may be as well, for EventSource, which can't set a header; empty: nowhere

	TrustedProxies identity.Proxies // whose word on the client is taken
	Hosts          Hosts            // that a relay without keys answers to
	CORSOrigins    []string         // like https://app.example.com, https://*.example.com, or "*"

	MaxBody        int64         // bytes of a request body
	APIMaxBody     int64         // the same on paths of providers' APIs; 0: MaxBody
	BodyBytes      int64         // bytes of all request bodies together, until their answers begin
	BodyTimeout    time.Duration // for a body to arrive; must be positive
	MaxStreams     int           // open connections of streams
	MaxStreamBytes int64         // of one answer, as sent to the client
	MaxDuration    time.Duration // of one stream
	Heartbeat      time.Duration // silence before a ping
	WriteTimeout   time.Duration // one write and flush; must be positive

	Dialects []Dialect // beside the native one

	UI    bool // serve the demo page
	Probe bool // serve relay doctor

	Log     zerolog.Logger
	Metrics *telemetry.Metrics
	Tracer  *telemetry.Tracer   // nil: no traces
	Redact  telemetry.Redaction // takes out of logs and messages what must not appear there, whoever quotes it
}

// Relay serves the wire contract (docs/protocol.md). It keeps of its options what answers need; checks have theirs
// from newMux.
type Relay struct {
	mux     http.Handler
	router  Router
	streams *stream.Hub // nil: no stream is resumable

	generations *limit.Places
	connections *limit.Places  // of streams
	limiter     *limit.Limiter // nil: callers may all
	attaches    *limit.Limiter
	bodies      *limit.Bytes
	probesOpen  probes

	maxBody, apiMaxBody, bodyBytes int64
	bodyTimeout                    time.Duration
	maxStreamBytes                 int64
	maxDuration                    time.Duration
	heartbeat, writeTimeout        time.Duration

	telemetry *telemetry.Telemetry
	metrics   *telemetry.Metrics
	tracer    *telemetry.Tracer
	redact    telemetry.Redaction
	bugs      bugs

	notReady atomic.Bool
	draining atomic.Bool

	running running
	life    context.Context // ends when running streams have to
	end     context.CancelCauseFunc
}

// New returns a Relay that is ready.
func New(o Options) *Relay {
	r := &Relay{
		router: o.Router, streams: o.Streams,
		generations: o.Generations, connections: limit.NewPlaces(limit.PlacesOptions{Places: o.MaxStreams}),
		limiter: o.Limiter, attaches: o.Attaches, bodies: limit.NewBytes(o.BodyBytes),
		maxBody: o.MaxBody, apiMaxBody: o.APIMaxBody, bodyBytes: o.BodyBytes, bodyTimeout: o.BodyTimeout,
		maxStreamBytes: o.MaxStreamBytes, maxDuration: o.MaxDuration,
		heartbeat: o.Heartbeat, writeTimeout: o.WriteTimeout,
		metrics: o.Metrics, tracer: o.Tracer, redact: o.Redact,
	}
	r.life, r.end = context.WithCancelCause(context.Background())
	r.telemetry = telemetry.New(o.Metrics, o.Log, o.Redact)
	r.bugs = bugs{r.telemetry}
	r.metrics.ObserveBodies(r.bodies.Used)
	r.mux = r.newMux(&o)
	return r
}

// ServeHTTP implements http.Handler.
func (r *Relay) ServeHTTP(w http.ResponseWriter, req *http.Request) { r.mux.ServeHTTP(w, req) }

func (r *Relay) newMux(o *Options) http.Handler {
	mux := chi.NewRouter()
	mux.Use(recoverPanics(r.bugs, r.fail))
	mux.Use(checked(r.fail, address(o.TrustedProxies), bodyDeadline(o.BodyTimeout)), markOrigins(o.CORSOrigins))
	mux.NotFound(r.refuse(errNoPath))
	mux.MethodNotAllowed(r.methodNotAllowed(mux))

	for _, ask := range []func(string, http.HandlerFunc){mux.Get, mux.Head} { // some balancers ask by HEAD
		ask("/healthz", r.healthz)
		ask("/readyz", r.readyz)
	}
	accepted := credentials{keys: o.Keys, tokens: o.Tokens, cookie: o.Cookie}
	host := checkHost(o.Hosts, accepted)
	if o.UI {
		r.routePages(mux.With(checked(r.fail, host)))
	}
	r.routeStreams(mux, o, host, accepted)
	return receive(o.Dialects, o.Redact, mux)
}

func (r *Relay) routePages(mux chi.Router) {
	for _, ask := range []func(string, http.HandlerFunc){mux.Get, mux.Head} {
		ask("/", r.ui)
		ask("/ui/*", r.ui)
	}
}

func (r *Relay) routeStreams(mux chi.Router, o *Options, host check, accepted credentials) {
	refuse := func(w http.ResponseWriter, req *http.Request, e *chat.Error) {
		if e == errNoKeys { // that may be different in a moment
			r.turnAway(w, req, e)
			return
		}
		r.fail(w, req, e)
	}
	mux.Group(func(mux chi.Router) {
		mux.Use(checked(refuse,
			host, checkOrigin(o.CORSOrigins), authenticate(accepted, o.CORSOrigins), r.discardBody))
		for _, path := range []string{"/api/chat/stream", "/v1/ai/chat/stream", uiPath} {
			mux.Post(path, r.postStream)
		}
		for _, path := range []string{"/api/chat/stream", "/v1/ai/chat/stream"} {
			mux.Get(path+"/{id}", r.attachStream)
			mux.Delete(path+"/{id}", r.stopStream)
			mux.Post(path+"/{id}/stop", r.stopStream)
		}
		mux.Get(uiPath+"/{chatId}/stream", r.resumeChat)
		mux.Post(uiPath+"/{chatId}/stop", r.stopChat)
		sign := checked(r.fail, checkSign(o.CORSOrigins, accepted.none()))
		for _, path := range []string{"/api/chat/stream", "/v1/ai/chat"} {
			mux.With(sign).Get(path, r.getStream)
		}
		if o.Probe {
			mux.Get(probePath, r.probe)
		}
		mux.Get("/v1/models", r.listModels)
		mux.Get("/v1/models/*", r.oneModel)
		for _, d := range o.Dialects {
			mux.Post(d.Path, r.postStream)
			mux.Get(d.Path+"/{id}", r.attachStream)
		}
	})
}

// dialectOf is what a path speaks, refusals included: native, where no other dialect has it. What else is below /v1
// is of OpenAI's API, or is taken for a part of it.
func dialectOf(dialects []Dialect, path string) Dialect {
	for _, d := range dialects {
		if isUnder(path, d.Path) {
			return d
		}
	}
	if isUnder(path, "/v1") && !isUnder(path, "/v1/ai") {
		return Dialect{Dialect: dialect.ChatCompletions{}, OfProvider: true}
	}
	native := Dialect{Dialect: dialect.Native{}}
	if path == uiPath {
		native.choose = chooseUI
	}
	return native
}

// isUnder tells whether a path is root, or below it.
func isUnder(path, root string) bool {
	rest, ok := strings.CutPrefix(path, root)
	return ok && (rest == "" || rest[0] == '/')
}

var errNoPath = &chat.Error{Code: chat.NotFound, Message: "there is nothing at this path"}

func (r *Relay) healthz(w http.ResponseWriter, req *http.Request) {
	r.plain(w, req, http.StatusOK, "ok\n")
}

func (r *Relay) readyz(w http.ResponseWriter, req *http.Request) {
	if r.notReady.Load() {
		r.plain(w, req, http.StatusServiceUnavailable, "draining\n")
		return
	}
	r.plain(w, req, http.StatusOK, "ready\n")
}

// SetNotReady makes /readyz answer 503, so that load balancers look elsewhere. New streams are still
// taken, because the balancers do not know yet.
func (r *Relay) SetNotReady() { r.notReady.Store(true) }

// Drain refuses new streams; the running ones go on.
func (r *Relay) Drain() {
	r.notReady.Store(true)
	r.draining.Store(true)
}

// EndStreams ends the running streams with server_shutdown. Their handlers return soon after.
func (r *Relay) EndStreams() {
	cause := &chat.Error{Code: chat.ServerShutdown, Message: "the server is shutting down"}
	r.end(cause)
	r.running.end(cause)
}
