package main

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/websopy/relay/config"
	"github.com/websopy/relay/internal/identity"
	"github.com/websopy/relay/internal/limit"
)

// keyFetch bounds one request for an issuer's keys.
const keyFetch = 5 * time.Second

// newTokens makes the check of tokens, nil where none are accepted. close ends what it does in the background.
func newTokens(
	cfg *config.Config, log zerolog.Logger, limiter *limit.Limiter,
) (tokens *identity.Tokens, closeKeys func(), err error) {
	if !cfg.WithTokens() {
		return nil, func() {}, nil
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if cfg.JWTCAFile != "" {
		roots, err := trust(cfg.JWTCAFile)
		if err != nil {
			return nil, nil, fmt.Errorf("RELAY_JWT_CA_FILE: %w", err)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	keys := identity.OpenKeySet(identity.KeySetOptions{
		Source: cfg.JWTKeys, Issuer: cfg.JWTIssuer,
		Client: &http.Client{Timeout: keyFetch, Transport: transport, CheckRedirect: identity.StayOnTLS},
		Told: func(err error) {
			if err == nil {
				log.Info().Msg("the keys that tokens are checked with are there")
				return
			}
			log.Warn().Err(err).Msg("the keys that tokens are checked with can't be fetched: those that are known " +
				"stay in use")
		},
	})
	o := identity.TokensOptions{
		Issuer: cfg.JWTIssuer, Audience: cfg.JWTAudience, Methods: cfg.JWTAlgorithms,
		NameClaim: cfg.JWTNameClaim, TierClaim: cfg.JWTTierClaim, IsTier: limiter.HasTier,
	}
	for _, entry := range cfg.JWTRequire {
		name, value, _ := strings.Cut(entry, "=")
		o.Require = append(o.Require, identity.Claim{Name: name, Value: value})
	}
	return identity.NewTokens(o, keys), func() {
		keys.Close()
		transport.CloseIdleConnections()
	}, nil
}
