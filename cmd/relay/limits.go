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
func newLimiter(
	cfg *config.Config, log zerolog.Logger, metrics *telemetry.Metrics,
) (l *limit.Limiter, stop func(), err error) {
	if !cfg.HasLimits() {
		return nil, func() {}, nil
	}
	o := limit.LimiterOptions{
		Policy: policy(cfg),
		Away:   limit.Away(cfg.LimitFallback), Longest: cfg.MaxDuration,
		Refused: func(reason error) {
			log.Error().Str("error", withoutURL(cfg, reason)).Str("fallback", cfg.LimitFallback).
				Msg("Redis does not do what limits ask of it: see RELAY_LIMIT_FALLBACK; an ACL user needs what " +
					"docs/resume.md says")
		},
	}
	closeRedis := func() {} // not in stop, which is the function that calls it when this one has returned
	if cfg.RedisURL != "" {
		if o.Redis, err = openLimits(cfg, log); err != nil {
			return nil, nil, err
		}
		closeRedis = o.Redis.Close
	}
	l = limit.NewLimiter(o)
	metrics.ObserveLimits(l)
	return l, func() {
		l.Close()
		closeRedis()
	}, nil
}

// attaches says how often callers may come for one answer.
func attaches(cfg *config.Config) limit.Policy {
	return limit.Policy{Limits: limit.Limits{Requests: limit.Rate(cfg.LimitAttach)}}
}

// policy says what callers may.
func policy(cfg *config.Config) limit.Policy {
	p := limit.Policy{Limits: limitsOf(cfg.Limits()), Tiers: make(map[string]limit.Limits)}
	for name, limits := range cfg.Tiers {
		p.Tiers["tier "+name] = limitsOf(limits)
	}
	for name, caller := range cfg.Callers {
		limits := caller.Limits
		if caller.Tier != "" {
			limits = cfg.Tiers[caller.Tier]
		}
		p.Tiers["key "+name] = limitsOf(limits)
	}
	return p
}

func limitsOf(l config.Limits) limit.Limits {
	return limit.Limits{
		Requests: limit.Rate(l.Requests), Tokens: limit.Rate(l.Tokens), TokensPerDay: l.Budget.Count,
		Streams: l.Streams,
	}
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
