package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"

	"github.com/websopy/relay/config"
	"github.com/websopy/relay/internal/dialect"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/identity"
	"github.com/websopy/relay/internal/limit"
	"github.com/websopy/relay/internal/redisconn"
	"github.com/websopy/relay/internal/stream"
	"github.com/websopy/relay/internal/telemetry"
)

const (
	heapFloor         = 32 << 20 // bytes; see serve
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 120 * time.Second // longer than load balancers keep idle connections: they should close first
	maxHeaderBytes    = 64 << 10
	// for error frames when the grace time is over, and for the last lines of the log
	lastWords = 5 * time.Second
)

var errSecondSignal = errors.New("second signal: gave up the running streams")

// serve runs the relay until a signal ends it. It returns nil when it has drained. lostLines counts those of the log.
func serve(
	cfg *config.Config, environ []string, log zerolog.Logger, lostLines func() float64, signals <-chan os.Signal,
) error {
	// A heap of a few MiB is collected again and again for each MiB of requests. These bytes are never
	// touched, so they take no memory, but the collector counts them and comes less often.
	floor := make([]byte, heapFloor)
	defer runtime.KeepAlive(floor)

	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "relay_log_lines_lost_total",
		Help: "Lines of the log that were not written, because nobody read it or not fast enough."}, lostLines))
	metrics := telemetry.NewMetrics(registry)
	generations := limit.NewPlaces(limit.PlacesOptions{Places: cfg.MaxStreams})
	limiter, closeLimiter, err := newLimiter(cfg, log, metrics)
	if err != nil {
		return err
	}
	defer closeLimiter()
	hub, err := newHub(cfg, log, metrics, generations)
	if err != nil {
		return err
	}
	if hub != nil {
		over, end := context.WithCancel(context.Background())
		end()
		defer hub.Close(over) // after a drain there is nothing left to do
		telemetry.WatchStreams(registry, hub.Stats)
	}
	tokens, closeKeys, err := newTokens(cfg, log, limiter)
	if err != nil {
		return err
	}
	defer closeKeys()
	secrets := ownSecrets(cfg)
	redact := telemetry.Redactor(append(upstreamSecrets(cfg), secrets...))
	upstreams, err := newRoutes(cfg, log, metrics, redact)
	if err != nil {
		return err
	}
	defer upstreams.close()
	tracer, stopTraces, err := newTracer(cfg, log)
	if err != nil {
		return err
	}
	defer stopTraces()
	attaching := limit.NewLimiter(limit.LimiterOptions{Policy: attaches(cfg)})
	relay := newRelay(cfg, handler.Options{
		Router: upstreams, Streams: hub, Generations: generations,
		Limiter: limiter, Attaches: attaching, Tokens: tokens,
		Log: log, Metrics: metrics, Tracer: tracer, Redact: redact,
	})
	if cfg.File != "" {
		r := &reloader{environ: environ, cfg: cfg, log: log, metrics: metrics, redact: redact, secrets: secrets,
			routes: upstreams, limiter: limiter, attaches: attaching}
		defer r.start()()
	}

	listener, err := listen(cfg.Addr, log)
	if err != nil {
		return fmt.Errorf("RELAY_ADDR: %w", err)
	}
	server, err := newServer(cfg, relay, log)
	if err != nil {
		listener.Close()
		return err
	}
	failed := make(chan error, 2) // one for each server, so that none waits for a reader
	if cfg.AdminAddr != "" {
		adminListener, err := listen(cfg.AdminAddr, log)
		if err != nil {
			listener.Close()
			return fmt.Errorf("RELAY_ADMIN_ADDR: %w (set another address, or set it empty for none)", err)
		}
		admin := newAdmin(cfg, registry, adminListener.Addr())
		defer admin.Close()
		go func() { failed <- admin.Serve(adminListener) }()
		profiles := withProfiles(cfg, isLoopback(adminListener.Addr()))
		log.Info().Str("addr", adminListener.Addr().String()).Bool("pprof", profiles).Msg("metrics and pprof")
	}
	go func() {
		if server.TLSConfig != nil {
			failed <- server.ServeTLS(listener, "", "")
		} else {
			failed <- server.Serve(listener)
		}
	}()
	announce(cfg, log, listener.Addr())

	select {
	case err := <-failed:
		server.Close()
		return err
	case sig := <-signals:
		log.Info().Stringer("signal", sig).Dur("delay_ms", cfg.ShutdownDelay).Dur("grace_ms", cfg.ShutdownGrace).
			Msg("draining")
	}
	return drain(cfg, log, relay, hub, server, signals)
}

// newRelay makes a relay of parts, and of the settings.
func newRelay(cfg *config.Config, o handler.Options) *handler.Relay {
	var keys []identity.APIKey
	for _, k := range cfg.APIKeys {
		keys = append(keys, identity.APIKey{Name: k.Name, Key: k.Key.Reveal()})
	}
	o.Keys, o.Cookie, o.TrustedProxies = identity.NewKeys(keys), cfg.JWTCookie, cfg.TrustedProxies
	o.Hosts, o.CORSOrigins = append(certificateNames(cfg), cfg.Hosts...), cfg.CORSOrigins
	o.MaxBody, o.APIMaxBody = int64(cfg.MaxBody), int64(cfg.V1MaxBody)
	o.BodyBytes, o.BodyTimeout = int64(cfg.BodyBytes), cfg.BodyTimeout
	o.MaxStreams, o.MaxStreamBytes, o.MaxDuration = cfg.MaxStreams, int64(cfg.MaxStreamBytes), cfg.MaxDuration
	o.Heartbeat, o.WriteTimeout = cfg.Heartbeat, cfg.WriteTimeout
	o.UI, o.Probe, o.Dialects = cfg.UI, cfg.Probe, dialects
	return handler.New(o)
}

// ownSecrets are those of the relay itself.
func ownSecrets(cfg *config.Config) []string {
	secrets := []string{cfg.RedisURL.Reveal(), cfg.SentinelPassword.Reveal()}
	for _, k := range cfg.APIKeys {
		secrets = append(secrets, k.Key.Reveal())
	}
	return secrets
}

// dialects are what clients may speak, beside the native one.
var dialects = []handler.Dialect{
	{Path: "/v1/chat/completions", Dialect: dialect.ChatCompletions{}, OfProvider: true, FromBeginning: true},
	{Path: "/v1/messages", Dialect: dialect.Messages{}, OfProvider: true, FromBeginning: true},
	{Path: "/v1/responses", Dialect: dialect.Responses{}, OfProvider: true, FromBeginning: true},
	{Path: "/api/agui", Dialect: dialect.AGUI{}, FromBeginning: true},
}

// longestLog is what a resumable stream may have, in bytes: what can't be sent to anybody is not worth its tokens.
func longestLog(cfg *config.Config) int64 {
	if sent := cfg.MaxStreamBytes; sent > 0 && (cfg.ResumePerStream == 0 || sent < cfg.ResumePerStream) {
		return int64(sent)
	}
	return int64(cfg.ResumePerStream)
}

// newHub makes the resumable streams, or nil when they are off.
func newHub(
	cfg *config.Config, log zerolog.Logger, metrics *telemetry.Metrics, generations *limit.Places,
) (*stream.Hub, error) {
	o := stream.Options{
		Grace: cfg.ResumeGrace, Retention: cfg.ResumeRetention, MaxDuration: cfg.MaxDuration,
		MaxStreamBytes: longestLog(cfg), MaxBytes: int64(cfg.ResumeBytes), Generations: generations,
		Panicked: func(err error) { log.Error().Err(err).Msg("internal error at the end of a resumable stream") },
		Appended: metrics.Appended,
		Trouble: func(err error) {
			log.Warn().Str("error", withoutURL(cfg, err)).
				Msg("Redis refuses the log of one stream, which goes on in memory; more of the kind are not told " +
					"for a minute")
		},
	}
	switch cfg.Store {
	case "off":
		return nil, nil
	case "redis":
		redis, err := redisOptions(cfg, log)
		if err != nil {
			return nil, err
		}
		hub, err := stream.Open(o, redis)
		if err != nil {
			return nil, fmt.Errorf("RELAY_REDIS_URL: %w", err)
		}
		return hub, nil
	default:
		return stream.New(o), nil
	}
}

// redisOptions say how Redis is reached.
func redisOptions(cfg *config.Config, log zerolog.Logger) (o redisconn.Options, err error) {
	o = redisconn.Options{
		URL:          cfg.RedisURL.Reveal(),
		SentinelUser: cfg.SentinelUser, SentinelPassword: cfg.SentinelPassword.Reveal(),
		Changed: func(node string, s redisconn.State, reason error) { tellState(cfg, log, node, s, reason) },
		Evicts: func(policy string) {
			log.Warn().Str("maxmemory_policy", policy).
				Msg("a full Redis drops running streams: set its maxmemory-policy to noeviction")
		},
	}
	if cfg.RedisCAFile != "" {
		if o.RootCAs, err = trust(cfg.RedisCAFile); err != nil {
			return o, fmt.Errorf("RELAY_REDIS_CA_FILE: %w", err)
		}
	}
	return o, nil
}

func tellState(cfg *config.Config, log zerolog.Logger, node string, s redisconn.State, reason error) {
	switch s {
	case redisconn.Up:
		log.Info().Str("node", node).Msg("Redis is back: streams are written to it again")
	case redisconn.Refusing:
		log.Warn().Str("node", node).Str("error", withoutURL(cfg, reason)).
			Msg("Redis refuses writes: its streams can be read, and new text and new streams are in this process only")
	case redisconn.Away:
		log.Warn().Str("node", node).Str("error", withoutURL(cfg, reason)).
			Msg("Redis is away: streams go on, and can be resumed only where they run")
	}
}

// withoutURL is an error's text without the URL of Redis, which may have a password.
func withoutURL(cfg *config.Config, err error) string {
	return strings.ReplaceAll(err.Error(), cfg.RedisURL.Reveal(), "***")
}

// newServer makes the server for clients: HTTP/1.1 and HTTP/2, with or without TLS. WriteTimeout stays
// 0: it would cut streams, and each write has a deadline of its own.
func newServer(cfg *config.Config, h http.Handler, log zerolog.Logger) (*http.Server, error) {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		ConnContext:       handler.WithConnection,
		MaxHeaderBytes:    maxHeaderBytes,
		Protocols:         new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			// What one connection can ask for at once. A balancer opens another one when it needs more.
			MaxConcurrentStreams: 100,
			// A connection can die silently.
			SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second,
			// A stream's own deadline does not free what waits to be written on a socket that nobody reads.
			WriteByteTimeout: cfg.WriteTimeout,
		},
		ErrorLog: serverLog(log),
	}
	s.Protocols.SetHTTP1(true)
	if cfg.TLSCert == "" {
		s.Protocols.SetUnencryptedHTTP2(true)
		return s, nil
	}
	s.Protocols.SetHTTP2(true)
	cert, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("RELAY_TLS_CERT, RELAY_TLS_KEY: %w", err)
	}
	s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	return s, nil
}

// certificateNames are the names that the relay's certificate is for: a browser that finds the relay by any other
// name does not speak to it.
func certificateNames(cfg *config.Config) []string {
	if cfg.TLSCert == "" {
		return nil
	}
	cert, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
	if err != nil {
		return nil // newServer reports it
	}
	return cert.Leaf.DNSNames
}

// drain lets the running streams finish, in the steps of docs/operations.md.
func drain(
	cfg *config.Config, log zerolog.Logger, relay *handler.Relay, hub *stream.Hub, server *http.Server,
	signals <-chan os.Signal,
) error {
	relay.SetNotReady()
	select {
	case <-time.After(cfg.ShutdownDelay):
	case <-signals:
		relay.EndStreams()
		server.Close()
		return errSecondSignal
	}

	relay.Drain()
	grace, cancel := context.WithTimeout(context.Background(), cfg.ShutdownGrace)
	defer cancel()
	var err error
	shut := make(chan struct{}) // closed when everything has ended and err is set
	go func() {
		defer close(shut)
		var generations sync.WaitGroup
		if hub != nil {
			hub.Release()
			generations.Go(func() { hub.Close(grace) })
		}
		err = server.Shutdown(context.Background())
		generations.Wait()
	}()
	expired := grace.Done()
	var last <-chan time.Time
	for {
		select {
		case <-shut:
			log.Info().Msg("drained")
			return err
		case <-signals:
			cancel()
			relay.EndStreams()
			server.Close()
			<-shut
			return errSecondSignal
		case <-expired:
			log.Warn().Msg("the grace time is over: ending the running streams")
			relay.EndStreams()
			expired, last = nil, time.After(lastWords)
		case <-last:
			server.Close()
			<-shut
			log.Warn().Msg("drained, but some clients did not take their error frame")
			return nil
		}
	}
}

// newLogger makes a logger that writes to w, in the format that suits stderr.
func newLogger(cfg *config.Config, stderr, w io.Writer) zerolog.Logger {
	if f, ok := stderr.(*os.File); cfg.LogFormat == "console" || cfg.LogFormat == "auto" && ok &&
		isatty.IsTerminal(f.Fd()) {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly}
	}
	level, err := zerolog.ParseLevel(cfg.LogLevel)
	if err != nil {
		level = zerolog.InfoLevel
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

// announce says what is being served, and what the operator may not have meant.
func announce(cfg *config.Config, log zerolog.Logger, addr net.Addr) {
	for _, w := range cfg.Warnings {
		log.Warn().Msg(w)
	}
	u := cfg.Upstreams[0]
	if cfg.Open() {
		log.Warn().Msg("RELAY_API_KEYS is not set: whoever reaches this address can ask the provider")
	}
	log.Debug().Any("settings", cfg.Redacted()).Msg("settings")
	scheme := "http"
	if cfg.TLSCert != "" {
		scheme = "https"
	}
	log.Info().Str("version", buildVersion()).Str("addr", addr.String()).Str("scheme", scheme).
		Str("upstream", u.Kind).Str("base_url", u.BaseURL).Str("model", u.Model).
		Int("fallbacks", len(cfg.Upstreams)-1).
		Int("api_keys", len(cfg.APIKeys)).Bool("tokens", cfg.WithTokens()).Str("store", cfg.Store).Msg("listening")
}

// healthcheck asks the relay that runs with the same settings on this machine.
func healthcheck(cfg *config.Config) error {
	host, port, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return fmt.Errorf("RELAY_ADDR: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http"
	if cfg.TLSCert != "" {
		scheme = "https"
	}
	client := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{
		// The certificate is for the public name, and this is the same machine.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec
	}}
	res, err := client.Get(scheme + "://" + net.JoinHostPort(host, port) + "/healthz")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the relay answers %s", res.Status)
	}
	return nil
}

// serverLog takes what net/http has to say, mostly of clients that break off a handshake.
func serverLog(log zerolog.Logger) *stdlog.Logger {
	return stdlog.New(logWriter{log}, "", 0)
}

type logWriter struct{ log zerolog.Logger }

const maxServerLine = 2 << 10 // bytes

func (w logWriter) Write(p []byte) (int, error) {
	w.log.Debug().Str("from", "net/http").Msg(strings.TrimSpace(string(p[:min(len(p), maxServerLine)])))
	return len(p), nil
}
