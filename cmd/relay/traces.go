package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel"

	"github.com/websopy/relay/config"
	"github.com/websopy/relay/internal/telemetry"
)

const (
	lastSpans     = 5 * time.Second  // for what is left to be sent at the end
	traceWarnings = 10 * time.Second // at most one in this time, of spans that can't be sent
)

// newTracer makes spans where OpenTelemetry's own variables ask for them, and nil where they don't. These are read
// from the process, because its SDK does so as well.
func newTracer(cfg *config.Config, log zerolog.Logger) (t *telemetry.Tracer, stop func(), err error) {
	if !tracesWanted() {
		return nil, func() {}, nil
	}
	protocol := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"))
	if protocol != "" && protocol != "http/protobuf" {
		return nil, nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL: %q is not spoken; use http/protobuf, on port 4318",
			protocol)
	}
	warnings := log.Sample(&zerolog.BurstSampler{Burst: 1, Period: traceWarnings})
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		warnings.Warn().Err(err).Msg("traces can't be sent")
	}))
	t, err = telemetry.NewTracer(context.Background(), telemetry.Inbound(cfg.TraceInbound), buildVersion())
	if err != nil {
		return nil, nil, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)
	}
	log.Info().Str("inbound", cfg.TraceInbound).Msg("traces")
	return t, func() {
		ctx, cancel := context.WithTimeout(context.Background(), lastSpans)
		defer cancel()
		if err := t.Shutdown(ctx); err != nil {
			log.Warn().Err(err).Msg("the last traces could not be sent")
		}
	}, nil
}

func tracesWanted() bool {
	endpoint := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
	disabled := strings.EqualFold(strings.TrimSpace(os.Getenv("OTEL_SDK_DISABLED")), "true")
	return endpoint != "" && !disabled && os.Getenv("OTEL_TRACES_EXPORTER") != "none"
}
