package main

import (
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/websopy/relay/config"
	"github.com/websopy/relay/internal/cloud"
	"github.com/websopy/relay/internal/telemetry"
)

// newCredential begins to fetch the credential of an upstream that the relay asks by its identity in a cloud. It is
// nil for all others.
func newCredential(u config.Upstream, log zerolog.Logger, redact telemetry.Redaction) (cloud.Credential, error) {
	tell := tellOf(log.With().Str("upstream", u.Name).Logger(), redact)
	kind, _ := kinds.Named(u.Kind)
	switch {
	case kind.Local:
	case u.Auth == config.AuthAWS:
		c, err := cloud.AWS(u.BaseURL, u.AuthScope, tell)
		if err != nil {
			return nil, fmt.Errorf("AUTH_SCOPE of %s: %w", u.Name, err)
		}
		return c, nil
	case u.Auth == config.AuthGoogle:
		return cloud.Google(u.AuthScope, tell), nil
	case u.Auth == config.AuthAzure:
		return cloud.Azure(u.AuthScope, tell), nil
	}
	return nil, nil
}

// tellOf logs failures to fetch a credential, and each credential that comes from elsewhere than the one before, or
// after a failure.
func tellOf(log zerolog.Logger, redact telemetry.Redaction) cloud.Tell {
	last := ""
	return func(name string, expires time.Time, err error) {
		if err != nil {
			last = ""
			log.Error().Str("error", redact.Replace(err.Error())).Str("credential", name).
				Msg("no credential for the provider; requests to it fail once the last one has expired")
			return
		}
		if name == last {
			return
		}
		last = name
		e := log.Info().Str("credential", name)
		if !expires.IsZero() {
			e = e.Time("expires", expires)
		}
		e.Msg("credential for the provider")
	}
}
