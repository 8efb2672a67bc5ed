package main

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-logr/logr"
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
	if err := checkTraces(); err != nil {
		return nil, nil, err
	}
	warnings := log.Sample(&zerolog.BurstSampler{Burst: 1, Period: traceWarnings})
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		warnings.Warn().Err(err).Msg("traces can't be sent")
	}))
	otel.SetLogger(logr.New(sdkLog{log}))
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

// checkTraces reports what the SDK would take for something else without a word, an address for its default one, or
// could not live with.
func checkTraces() error {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"} {
		u, err := url.Parse(strings.TrimSpace(os.Getenv(name)))
		if os.Getenv(name) != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "") {
			return fmt.Errorf("%s: not an http or https URL; use e.g. http://collector:4318", name)
		}
	}
	const most = 1_000_000
	for _, name := range []string{
		"OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_SCHEDULE_DELAY",
	} {
		text := strings.TrimSpace(os.Getenv(name))
		if n, err := strconv.Atoi(text); text != "" && (err != nil || n < 1 || n > most) {
			return fmt.Errorf("%s: %.20q is not a whole number from 1 to %d", name, text, most)
		}
	}
	return nil
}

// sdkLog is the log for what OpenTelemetry's SDK has to say of its variables, which it would write as text. It tells
// neither the error nor the values: they quote what is set, and that may be the key of a collector.
type sdkLog struct{ log zerolog.Logger }

func (sdkLog) Init(logr.RuntimeInfo)            {}
func (sdkLog) Enabled(int) bool                 { return false } // only errors
func (sdkLog) Info(int, string, ...any)         {}
func (l sdkLog) WithValues(...any) logr.LogSink { return l }
func (l sdkLog) WithName(string) logr.LogSink   { return l }
func (l sdkLog) Error(_ error, what string, _ ...any) {
	l.log.Warn().Str("problem", what).Msg("one of the variables OTEL_... can't be used")
}
