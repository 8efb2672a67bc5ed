package telemetry_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/telemetry"
	"github.com/websopy/relay/internal/upstream/trace"
)

// oneStream tells of a stream with one attempt, as the handler and a provider do.
func oneStream(told *telemetry.Telemetry, tracer *telemetry.Tracer, req *http.Request, done *chat.Completion) {
	s := &telemetry.Stream{RequestID: "r", Model: "m", Label: "m", Reason: "completed", Start: time.Now(), Done: done}
	s.Trace = new(trace.Trace)
	s.Span = tracer.Request(req, s.RequestID)
	ctx := trace.With(s.Span.In(req.Context(), s.Trace), s.Trace)
	ctx = trace.Begin(ctx, trace.Target{Upstream: "u", System: "openai", Address: "https://api.openai.com/v1",
		Model: "m"})
	trace.Header(ctx, http.Header{"Accept": {"text/event-stream"}})
	trace.First(ctx)
	trace.Done(ctx, done)
	trace.End(ctx, "u", nil)
	told.StreamEnded(s)
}

func newTracer(tb testing.TB) *telemetry.Tracer {
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	tb.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", srv.URL)
	tracer, err := telemetry.NewTracer(tb.Context(), telemetry.Parent, "test")
	require.NoError(tb, err)
	tb.Cleanup(func() {
		_ = tracer.Shutdown(tb.Context())
		srv.Close()
	})
	return tracer
}

// BenchmarkStream is what telemetry costs a request, with and without traces.
func BenchmarkStream(b *testing.B) {
	for name, tracer := range map[string]func() *telemetry.Tracer{
		"off":     func() *telemetry.Tracer { return nil },
		"sampled": func() *telemetry.Tracer { return newTracer(b) },
	} {
		b.Run(name, func(b *testing.B) {
			told := telemetry.New(telemetry.NewMetrics(prometheus.NewRegistry()), zerolog.New(io.Discard),
				telemetry.Redaction{})
			done := &chat.Completion{Model: "m", FinishReason: chat.FinishStop,
				Usage: &chat.Usage{PromptTokens: 7, CompletionTokens: 9}}
			req := httptest.NewRequest(http.MethodPost, "/api/chat/stream", nil)
			t := tracer()
			b.ReportAllocs()
			for b.Loop() {
				oneStream(told, t, req, done)
			}
		})
	}
}

// Without traces nothing is made for them: the trace of a request and its log line are all.
func TestNoTracerIsNone(t *testing.T) {
	var none *telemetry.Tracer
	span := none.Request(httptest.NewRequest(http.MethodGet, "/", nil), "r")
	require.Nil(t, span)
	require.Nil(t, span.Generation())
	require.Empty(t, span.Traceparent())
	span.LinkTo("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	tr := new(trace.Trace)
	require.Equal(t, t.Context(), span.In(t.Context(), tr))
	require.Nil(t, tr.Observer)

	shared := http.Header{"Accept": {"text/event-stream"}}
	ctx := trace.With(t.Context(), tr)
	require.Zero(t, testing.AllocsPerRun(100, func() { trace.First(trace.Begin(ctx, trace.Target{Upstream: "u"})) }))
	trace.Header(ctx, shared)["Accept"][0] = "same"
	require.Equal(t, "same", shared.Get("Accept"), "the header itself, without a copy")
}

// Nothing is written into the header that all requests share.
func TestTheSharedHeaderStaysAsItIs(t *testing.T) {
	shared := http.Header{"X-Request-Id": {"the operator's"}, "Accept": {"text/event-stream"}}
	ctx := trace.With(t.Context(), &trace.Trace{RequestID: "r-1"})
	require.Equal(t, shared, trace.Header(ctx, shared, "X-Request-Id", "X-Client-Request-Id"))
	delete(shared, "X-Request-Id")
	shown := trace.Header(ctx, shared, "X-Request-Id", "X-Client-Request-Id")
	require.Equal(t, "r-1", shown.Get("X-Request-Id"))
	require.Equal(t, "r-1", shown.Get("X-Client-Request-Id"))
	require.Len(t, shared, 1)
}
