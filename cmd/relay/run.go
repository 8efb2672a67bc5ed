package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"

	"github.com/websopy/relay/config"
	"github.com/websopy/relay/internal/dialect"
	"github.com/websopy/relay/internal/handler"
	"github.com/websopy/relay/internal/identity"
	"github.com/websopy/relay/internal/limit"
	"github.com/websopy/relay/internal/stream"
	"github.com/websopy/relay/internal/telemetry"
)

const heapFloor = 32 << 20 // bytes; see serve

// serve runs the relay until a signal ends it. It returns nil when it has drained. lostLines counts those of the log.
func serve(
	cfg *config.Config, environ []string, log zerolog.Logger, lostLines func() float64, signals received,
) error {
	// A heap of a few MiB is collected again and again for each MiB of requests. These bytes are never
	// touched, so they take no memory, but the collector counts them and comes less often.
	floor := make([]byte, heapFloor)
	defer runtime.KeepAlive(floor)

	registry := newRegistry(lostLines)
	var p parts
	defer p.close()
	if err := p.open(cfg, environ, log, registry, signals.hangUp); err != nil {
		return err
	}
	server, err := newServer(cfg, p.relay, log)
	if err != nil {
		return err
	}
	defer server.Close()
	listener, err := listen(cfg.Addr, log)
	if err != nil {
		return fmt.Errorf("RELAY_ADDR: %w", err)
	}
	defer listener.Close()
	failed := make(chan error, 2) // one for each server, so that none waits for a reader
	if cfg.AdminAddr != "" {
		adminListener, err := listen(cfg.AdminAddr, log)
		if err != nil {
			return fmt.Errorf("RELAY_ADMIN_ADDR: %w (set another address, or set it empty for none)", err)
		}
		admin := newAdmin(cfg, registry, adminListener.Addr())
		defer admin.Close()
		go func() { failed <- admin.Serve(adminListener) }()
		profiles := withProfiles(cfg, isLoopback(adminListener.Addr()))
		log.Info().Str("addr", adminListener.Addr().String()).Bool("pprof", profiles).Msg("metrics and pprof")
	}
	go func() { failed <- serveClients(server, listener) }()
	announce(cfg, log, listener.Addr())

	hangUps := signals.hangUp
	if cfg.File != "" {
		hangUps = nil // the reloader's. Where there is no file, they say that the terminal is gone
	}
	var sig os.Signal
	select {
	case err := <-failed:
		return err
	case sig = <-signals.end:
	case sig = <-hangUps:
	}
	log.Info().Stringer("signal", sig).Dur("delay_ms", cfg.ShutdownDelay).Dur("grace_ms", cfg.ShutdownGrace).
		Msg("draining")
	return drain(cfg, log, p.relay, p.hub, server, signals.end)
}

// parts are the relay and what stands behind it.
type parts struct {
	relay  *handler.Relay
	hub    *stream.Hub // nil: no stream is resumable
	closes []func()    // those of what is open, in its order
}

// open makes the parts by the settings. After an error some may be open.
func (p *parts) open(
	cfg *config.Config, environ []string, log zerolog.Logger, registry *prometheus.Registry,
	hangUps <-chan os.Signal,
) error {
	metrics := telemetry.NewMetrics(registry)
	generations := limit.NewPlaces(limit.PlacesOptions{Places: cfg.MaxStreams})
	limiter, closeLimiter, err := newLimiter(cfg, log, metrics)
	if err != nil {
		return err
	}
	p.closes = append(p.closes, closeLimiter)
	if p.hub, err = newHub(cfg, log, metrics, generations); err != nil {
		return err
	}
	if p.hub != nil {
		p.closes = append(p.closes, p.closeHub)
		telemetry.WatchStreams(registry, p.hub.Stats)
	}
	tokens, closeKeys, err := newTokens(cfg, log, limiter)
	if err != nil {
		return err
	}
	p.closes = append(p.closes, closeKeys)
	secrets := ownSecrets(cfg)
	redact := telemetry.Redactor(append(upstreamSecrets(cfg), secrets...))
	routes, err := newRoutes(cfg, log, metrics, redact)
	if err != nil {
		return err
	}
	p.closes = append(p.closes, routes.close)
	tracer, stopTraces, err := newTracer(cfg, log)
	if err != nil {
		return err
	}
	p.closes = append(p.closes, stopTraces)
	attaching := limit.NewLimiter(limit.LimiterOptions{Policy: attaches(cfg)})
	p.relay = newRelay(cfg, handler.Options{
		Router: routes, Streams: p.hub, Generations: generations,
		Limiter: limiter, Attaches: attaching, Tokens: tokens,
		Log: log, Metrics: metrics, Tracer: tracer, Redact: redact,
	})
	if cfg.File != "" {
		r := &reloader{environ: environ, cfg: cfg, log: log, metrics: metrics, redact: redact, secrets: secrets,
			routes: routes, limiter: limiter, attaches: attaching, seen: cfg.FileSum}
		p.closes = append(p.closes, r.start(hangUps))
	}
	return nil
}

// close closes what is open: what came last first, as it uses what was there before.
func (p *parts) close() {
	for _, c := range slices.Backward(p.closes) {
		c()
	}
}

// closeHub ends what may still run. After a drain there is nothing left to do.
func (p *parts) closeHub() {
	over, end := context.WithCancel(context.Background())
	end()
	p.hub.Close(over)
}

// newRegistry makes the metrics' registry, with those of the process.
func newRegistry(lostLines func() float64) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "relay_log_lines_lost_total",
			Help: "Lines of the log that were not written, because nobody read it or not fast enough."}, lostLines),
	)
	return registry
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
