package main

import (
	"bytes"
	"context"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/websopy/relay/config"
	"github.com/websopy/relay/internal/limit"
	"github.com/websopy/relay/internal/telemetry"
)

// pollTime is how long a change of the settings' file may go unnoticed. Whatever tells of changes does not see those
// of a mounted Kubernetes ConfigMap in the same way everywhere; looking does.
const pollTime = 10 * time.Second

// reloader reads the settings again when their file changes, or on SIGHUP.
type reloader struct {
	environ  []string
	cfg      *config.Config // what holds now
	log      zerolog.Logger
	metrics  *telemetry.Metrics
	redact   telemetry.Redaction
	secrets  []string // that others than upstreams have
	routes   *routes
	limiter  *limit.Limiter
	attaches *limit.Limiter
	content  []byte // of the file, when it was last looked at
}

// start runs until the function that it returns is called.
func (r *reloader) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	hangups := make(chan os.Signal, 1) // what comes while one is handled is the same
	signal.Notify(hangups, syscall.SIGHUP)
	var running sync.WaitGroup
	running.Go(func() { r.run(ctx, hangups) })
	return func() {
		signal.Stop(hangups)
		cancel()
		running.Wait()
	}
}

func (r *reloader) run(ctx context.Context, hangups <-chan os.Signal) {
	poll := time.NewTicker(pollTime)
	defer poll.Stop()
	r.content, _ = os.ReadFile(r.cfg.File)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			r.content, _ = os.ReadFile(r.cfg.File)
			r.reload()
		case <-poll.C:
			r.look()
		}
	}
}

// look reads the settings again when the file is not what it was.
func (r *reloader) look() {
	content, err := os.ReadFile(r.cfg.File)
	if err == nil && !bytes.Equal(content, r.content) {
		r.content = content
		r.reload()
	}
}

// reload takes the settings whole, or not at all.
func (r *reloader) reload() {
	next, err := config.Reload(r.environ, kinds, r.cfg)
	if err == nil {
		err = r.apply(next)
	}
	r.metrics.Reloaded(err)
	if err != nil {
		r.log.Error().Strs("problems", strings.Split(r.redact.Replace(err.Error()), "\n")).
			Msg("the settings have changed and can't be used: those from before hold")
		return
	}
	for _, w := range next.Warnings {
		r.log.Warn().Msg(w)
	}
	r.log.Info().Int("upstreams", len(next.Upstreams)).Int("models", len(next.Models)).
		Msg("the settings were read again")
}

func (r *reloader) apply(next *config.Config) error {
	secrets := append(upstreamSecrets(next), upstreamSecrets(r.cfg)...) // what runs may still quote the old ones
	r.redact.Set(append(secrets, r.secrets...))
	before := r.routes.now.Load()
	routing, err := newRouting(next, r.log, r.redact, before)
	if err != nil {
		return err
	}
	r.routes.now.Store(routing)
	r.limiter.SetPolicy(policy(next))
	r.attaches.SetPolicy(attaches(next))
	before.close(routing)
	r.cfg = next
	return nil
}
