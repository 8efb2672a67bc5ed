package main

import (
	"fmt"
	"strings"

	"github.com/rs/zerolog"

	"github.com/websopy/relay/config"
	"github.com/websopy/relay/internal/limit"
	"github.com/websopy/relay/internal/redisconn"
	"github.com/websopy/relay/internal/stream"
	"github.com/websopy/relay/internal/telemetry"
)

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
