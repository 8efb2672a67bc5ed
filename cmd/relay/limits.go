package main

import (
	"fmt"

	"github.com/rs/zerolog"

	"github.com/websopy/relay/config"
	"github.com/websopy/relay/internal/limit"
	"github.com/websopy/relay/internal/redisconn"
	"github.com/websopy/relay/internal/telemetry"
)

// newLimiter makes what keeps callers to their limits, nil where there are none. stop settles what is left.
func newLimiter(cfg *config.Config, log zerolog.Logger, metrics *telemetry.Metrics) (l *limit.Limiter, stop func(), err error) {
	if !cfg.Limits() {
		return nil, func() {}, nil
	}
	o := limit.LimiterOptions{
		Limits: limit.Limits{
			Requests: limit.Rate(cfg.LimitRequests), Tokens: limit.Rate(cfg.LimitTokens), TokensPerDay: cfg.BudgetTokens.Count,
			Streams: cfg.LimitStreams,
		},
		Away: limit.Away(cfg.LimitFallback), Longest: cfg.MaxDuration,
	}
	stop = func() {}
	if cfg.RedisURL != "" {
		if o.Redis, err = openLimits(cfg, log); err != nil {
			return nil, nil, err
		}
		stop = o.Redis.Close
	}
	l = limit.NewLimiter(o)
	metrics.ObserveLimits(l)
	return l, func() {
		l.Close()
		stop()
	}, nil
}

// openLimits makes a connection of its own, so that limits and streams don't wait for each other.
func openLimits(cfg *config.Config, log zerolog.Logger) (*redisconn.Conn, error) {
	o, err := redisOptions(cfg, log)
	if err != nil {
		return nil, err
	}
	o.Probe, o.Evicts = limit.Probe, nil
	o.Changed = func(node string, s redisconn.State, reason error) {
		if s == redisconn.Up {
			log.Info().Str("node", node).Msg("Redis is back: limits hold for all replicas together again")
			return
		}
		log.Warn().Str("node", node).Str("error", withoutURL(cfg, reason)).Str("fallback", cfg.LimitFallback).
			Msg("Redis can't be used for limits: see RELAY_LIMIT_FALLBACK")
	}
	conn, err := redisconn.Open(o)
	if err != nil {
		return nil, fmt.Errorf("RELAY_REDIS_URL: %w", err)
	}
	return conn, nil
}
