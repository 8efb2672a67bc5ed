package main

import (
	"context"
	"crypto/sha256"
	"os"
	"strings"
	"sync"
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
	seen     [sha256.Size]byte // what of the file was last read
}

// start runs until the function that it returns is called.
func (r *reloader) start(hangUps <-chan os.Signal) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.run(ctx, hangUps) })
	return func() {
		cancel()
		running.Wait()
	}
}

func (r *reloader) run(ctx context.Context, hangUps <-chan os.Signal) {
	poll := time.NewTicker(pollTime)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangUps:
			r.changed()
			r.reload()
		case <-poll.C:
			if r.changed() {
				r.reload()
			}
		}
	}
}

// changed tells whether the file is not what it was when it was read: at the start, or last.
func (r *reloader) changed() bool {
	content, err := os.ReadFile(r.cfg.File)
	was := r.seen
	if err == nil {
		r.seen = sha256.Sum256(content)
	}
	return r.seen != was
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
