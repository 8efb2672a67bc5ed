package telemetry

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	global "go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	otel "go.opentelemetry.io/otel/trace"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream/trace"
)

// Inbound is what a trace that a request is part of means for the relay's.
type Inbound string

// The ways to take it.
const (
	Parent Inbound = "parent" // the relay's spans belong to it, and are sampled as it is
	Link   Inbound = "link"   // the relay's have a trace of their own, which points to it
	Ignore Inbound = "ignore"
)

// Tracer makes spans and sends them by OTLP. Nil makes none.
type Tracer struct {
	inbound  Inbound
	tracer   otel.Tracer
	provider *sdk.TracerProvider
}

// NewTracer returns a Tracer that sends to where the variables OTEL_… of the process say, which the SDK reads:
// sampler, resource, batch and headers as well.
func NewTracer(ctx context.Context, inbound Inbound, version string) (*Tracer, error) {
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, err
	}
	about, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", "relay"),
		attribute.String("service.version", version)), resource.WithFromEnv(), resource.WithTelemetrySDK())
	if about == nil {
		return nil, err
	}
	if err != nil { // a part of OTEL_RESOURCE_ATTRIBUTES can't be read: that is no reason to answer nobody
		global.Handle(errors.New("OTEL_RESOURCE_ATTRIBUTES is not of the form name=value,name=value"))
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))
	return &Tracer{inbound, provider.Tracer("github.com/websopy/relay"), provider}, nil
}

// Shutdown sends what is left.
func (t *Tracer) Shutdown(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// Span is what a trace has of one stream, or of one generation. Nil is none.
type Span struct {
	tracer *Tracer
	span   otel.Span
}

// Request begins the span of a stream that a request asks for.
func (t *Tracer) Request(req *http.Request, requestID string) *Span {
	if t == nil {
		return nil
	}
	ctx := context.Background()
	options := []otel.SpanStartOption{otel.WithSpanKind(otel.SpanKindServer), otel.WithAttributes(
		attribute.String("http.request.method", req.Method),
		attributeText("url.path", req.URL.Path),
		attribute.String("relay.request_id", requestID),
	)}
	remote := otel.SpanContextFromContext(propagation.TraceContext{}.Extract(ctx,
		propagation.HeaderCarrier(req.Header)))
	switch {
	case !remote.IsValid():
	case t.inbound == Parent:
		ctx = otel.ContextWithRemoteSpanContext(ctx, remote)
	case t.inbound == Link:
		options = append(options, otel.WithLinks(otel.Link{SpanContext: remote}))
	}
	_, span := t.tracer.Start(ctx, "relay stream", options...)
	return &Span{t, span}
}

// Generation begins the span of an answer that is generated for whoever reads it, in the trace of the request that
// asked for it first.
func (s *Span) Generation() *Span {
	if s == nil {
		return nil
	}
	ctx := otel.ContextWithSpan(context.Background(), s.span)
	_, span := s.tracer.tracer.Start(ctx, "relay generation")
	return &Span{s.tracer, span}
}

// Traceparent tells other replicas of the span, in the form of the W3C's header. It is "" for no span.
func (s *Span) Traceparent() string {
	if s == nil {
		return ""
	}
	return traceparent(s.span.SpanContext())
}

func traceparent(c otel.SpanContext) string {
	return "00-" + c.TraceID().String() + "-" + c.SpanID().String() + "-" + c.TraceFlags().String()
}

// LinkTo points to the span of a Traceparent.
func (s *Span) LinkTo(parent string) {
	if s == nil || parent == "" {
		return
	}
	carrier := propagation.MapCarrier{"traceparent": parent}
	remote := otel.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
	if remote.IsValid() {
		s.span.AddLink(otel.Link{SpanContext: remote})
	}
}

// spanText is what others made up, for a span. OTLP has UTF-8 only: one span that has anything else is in the way of
// all that are sent with it, of other streams as well, and so is one that is larger than a collector takes.
func spanText(s string) string { return shorten(s, longText) }

func attributeText(key, value string) attribute.KeyValue {
	return attribute.String(key, spanText(value))
}

// In makes ctx, and what t notes of it, a part of the span.
func (s *Span) In(ctx context.Context, t *trace.Trace) context.Context {
	if s == nil {
		return ctx
	}
	t.Observer = s.tracer
	return otel.ContextWithSpan(ctx, s.span)
}

// traceID is for the log.
func (s *Span) traceID() string { return s.span.SpanContext().TraceID().String() }

// end says how the stream ended.
func (s *Span) end(of *Stream) {
	if s == nil {
		return
	}
	if s.span.IsRecording() {
		s.span.SetAttributes(
			attributeText("gen_ai.request.model", of.model()), attribute.String("relay.reason", of.Reason),
			attribute.Int64("relay.chunks", of.Chunks), attribute.Int64("relay.bytes", of.Bytes),
		)
		if of.ID != "" {
			s.span.SetAttributes(attribute.String("relay.stream", of.ID[:8]))
		}
		if of.Failure != nil {
			s.span.SetStatus(codes.Error, string(of.Failure.Code))
			s.span.SetAttributes(attribute.String("error.type", string(of.Failure.Code)))
		}
	}
	s.span.End()
}

// Begin implements trace.Observer, in the terms of OpenTelemetry's conventions for generative AI. They are being
// developed, and what of them is not here says what is asked and answered, or is not known.
// https://github.com/open-telemetry/semantic-conventions-genai
func (t *Tracer) Begin(ctx context.Context, of trace.Target) (context.Context, trace.Watch) {
	name := strings.TrimSpace("chat " + spanText(of.Model))
	ctx, span := t.tracer.Start(ctx, name, otel.WithSpanKind(otel.SpanKindClient))
	a := &attempt{span: span, began: time.Now()}
	if span.IsRecording() {
		a.known = append(make([]attribute.KeyValue, 0, mostAttributes),
			attribute.String("gen_ai.operation.name", "chat"), attribute.String("gen_ai.provider.name", of.System),
			attributeText("gen_ai.request.model", of.Model), attribute.Bool("gen_ai.request.stream", true),
			attribute.String("relay.upstream", of.Upstream),
		)
		a.known = appendServer(a.known, of.Address)
	}
	return ctx, a
}

// mostAttributes is how many the span of an attempt has.
const mostAttributes = 15

func appendServer(to []attribute.KeyValue, address string) []attribute.KeyValue {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return to
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		port = map[string]int{"http": 80, "https": 443}[u.Scheme]
	}
	return append(to, attribute.String("server.address", u.Hostname()), attribute.Int("server.port", port))
}

// attempt is the span of one request to one upstream.
type attempt struct {
	span  otel.Span
	began time.Time
	first time.Duration        // until the first piece of the answer; 0: it did not come
	known []attribute.KeyValue // which the span gets at its end, all at once
}

// Header passes the trace on. Baggage stays here: it is whatever callers sent.
func (a *attempt) Header(h http.Header) {
	h["Traceparent"] = []string{traceparent(a.span.SpanContext())}
}

func (a *attempt) First() { a.first = time.Since(a.began) }

func (a *attempt) End(err error, done *chat.Completion) {
	defer a.span.End()
	if !a.span.IsRecording() {
		return
	}
	if a.first > 0 {
		a.known = append(a.known, attribute.Float64("gen_ai.response.time_to_first_chunk", a.first.Seconds()))
	}
	if err != nil {
		a.known = append(a.known, attribute.String("error.type", outcome(err)))
		if isChatError(err) { // otherwise nobody wanted the answer any more
			a.span.SetStatus(codes.Error, outcome(err))
		}
	}
	a.completed(done)
	a.span.SetAttributes(a.known...)
}

func (a *attempt) completed(done *chat.Completion) {
	if done == nil {
		return
	}
	a.known = append(a.known, attributeText("gen_ai.response.model", done.Model),
		attribute.StringSlice("gen_ai.response.finish_reasons", []string{string(done.FinishReason)}))
	if u := done.Usage; u != nil {
		a.known = append(a.known,
			attribute.Int64("gen_ai.usage.input_tokens", u.PromptTokens),
			attribute.Int64("gen_ai.usage.output_tokens", u.CompletionTokens),
			attribute.Int64("gen_ai.usage.cache_read.input_tokens", u.CachedTokens),
			attribute.Int64("gen_ai.usage.reasoning.output_tokens", u.ReasoningTokens),
		)
	}
}
