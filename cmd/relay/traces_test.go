package main_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/websopy/relay/internal/redistest"
	"github.com/websopy/relay/internal/relaytest"
	"github.com/websopy/relay/internal/upstream/upstreamtest"
)

// receiver is what traces are sent to.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex // guards spans
	spans []*otlp.Span
	more  chan struct{}
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{more: make(chan struct{}, 100)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		var sent collector.ExportTraceServiceRequest
		if err != nil || req.URL.Path != "/v1/traces" || proto.Unmarshal(body, &sent) != nil {
			return // and the test finds no span
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, resource := range sent.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				r.spans = append(r.spans, scope.Spans...)
			}
		}
		r.more <- struct{}{}
	}))
	t.Cleanup(r.Close)
	return r
}

// settings make a relay send to r, soon.
func (r *receiver) settings(more ...string) []string {
	return append([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + r.URL, "OTEL_BSP_SCHEDULE_DELAY=50"}, more...)
}

// wait returns the spans of a kind when there are n of them, in the order in which they began.
func (r *receiver) wait(t *testing.T, kind otlp.Span_SpanKind, n int) []*otlp.Span {
	t.Helper()
	timeout := time.After(relaytest.Patience)
	for {
		var found []*otlp.Span
		r.mu.Lock()
		for _, s := range r.spans {
			if s.Kind == kind {
				found = append(found, s)
			}
		}
		r.mu.Unlock()
		if len(found) >= n {
			return found
		}
		select {
		case <-r.more:
		case <-timeout:
			require.FailNow(t, "too few spans", "%d of kind %v", len(found), kind)
		}
	}
}

// attributes of a span, as text.
func attributes(s *otlp.Span) map[string]string {
	all := make(map[string]string)
	for _, a := range s.Attributes {
		switch v := a.Value.Value.(type) {
		case *common.AnyValue_StringValue:
			all[a.Key] = v.StringValue
		case *common.AnyValue_ArrayValue:
			all[a.Key] = v.ArrayValue.Values[0].GetStringValue()
		case *common.AnyValue_DoubleValue:
			all[a.Key] = "a number"
		case *common.AnyValue_IntValue:
			all[a.Key] = fmt.Sprint(v.IntValue)
		case *common.AnyValue_BoolValue:
			all[a.Key] = fmt.Sprint(v.BoolValue)
		}
	}
	return all
}

const (
	server   = otlp.Span_SPAN_KIND_SERVER
	client   = otlp.Span_SPAN_KIND_CLIENT
	internal = otlp.Span_SPAN_KIND_INTERNAL
)

func TestATraceHasEveryAttempt(t *testing.T) {
	traces := newReceiver(t)
	first := faulty(t, "openai", overloaded)
	second := faulty(t, "anthropic", upstreamtest.Fault{What: upstreamtest.None})
	told := make(chan http.Header, 1)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		told <- req.Header.Clone()
		second.ServeHTTP(w, req)
	}))
	t.Cleanup(front.Close)
	p := relaytest.Serve(t, traces.settings("RELAY_API_KEYS=web:0123456789abcdef",
		"UPSTREAM_KIND=openai", "UPSTREAM_BASE_URL="+first.URL, "UPSTREAM_API_KEY=sk-1", "UPSTREAM_MODEL=gpt",
		"UPSTREAM_RETRIES=1",
		"UPSTREAM_1_KIND=anthropic", "UPSTREAM_1_BASE_URL="+front.URL, "UPSTREAM_1_API_KEY=sk-2",
		"UPSTREAM_1_MODEL=claude")...)
	const inbound, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	res := p.Ask(t, "/api/chat/stream", `{"messages":[{"role":"user","content":"do not tell"}]}`, "Authorization",
		"Bearer 0123456789abcdef",
		"Traceparent", "00-"+inbound+"-"+parent+"-01", "Baggage", "secret=1", "X-Request-Id", "request-7")
	_, last := read(t, res, true)
	require.Equal(t, "done", last.Type)

	stream := traces.wait(t, server, 1)[0]
	require.Equal(t, inbound, hex.EncodeToString(stream.TraceId))
	require.Equal(t, parent, hex.EncodeToString(stream.ParentSpanId))
	require.Equal(t, "completed", attributes(stream)["relay.reason"])
	require.Equal(t, "request-7", attributes(stream)["relay.request_id"])
	require.Equal(t, inbound, p.Wait(t, "stream")["trace_id"])

	attempts := traces.wait(t, client, 3)
	for i, want := range []string{"gpt", "gpt", "claude"} {
		require.Equal(t, stream.SpanId, attempts[i].ParentSpanId)
		require.Equal(t, "chat "+want, attempts[i].Name)
	}
	failed := attributes(attempts[0])
	require.Equal(t, "upstream_error", failed["error.type"])
	require.Equal(t, otlp.Status_STATUS_CODE_ERROR, attempts[0].Status.Code)
	answered := attributes(attempts[2])
	require.Equal(t, "anthropic", answered["gen_ai.provider.name"])
	require.Equal(t, "chat", answered["gen_ai.operation.name"])
	require.Equal(t, "stop", answered["gen_ai.response.finish_reasons"])
	require.Equal(t, "127.0.0.1", answered["server.address"])
	require.Equal(t, "a number", answered["gen_ai.response.time_to_first_chunk"])
	require.NotEmpty(t, answered["gen_ai.usage.input_tokens"])
	for _, s := range append(attempts, stream) {
		require.NotContains(t, s.String(), "do not tell")
	}

	header := <-told
	require.Equal(t, "00-"+inbound+"-"+hex.EncodeToString(attempts[2].SpanId)+"-01", header.Get("Traceparent"))
	require.Equal(t, "request-7", header.Get("X-Request-Id"))
	require.Empty(t, header.Get("Baggage"))
}

func TestAStrangersTraceIsPointedToOnly(t *testing.T) {
	traces := newReceiver(t)
	p := relaytest.Serve(t, traces.settings()...)
	const inbound = "4bf92f3577b34da6a3ce929d0e0e4736"
	read(t, p.Ask(t, "/api/chat/stream", `{"model":"demo-fast","messages":[{"role":"user","content":"Hi"}]}`,
		"Traceparent", "00-"+inbound+"-00f067aa0ba902b7-01"), true)
	stream := traces.wait(t, server, 1)[0]
	require.NotEqual(t, inbound, hex.EncodeToString(stream.TraceId))
	require.Empty(t, stream.ParentSpanId)
	require.Equal(t, inbound, hex.EncodeToString(stream.Links[0].TraceId))
}

func TestBothLanesOfAHedgeAreInTheTrace(t *testing.T) {
	traces := newReceiver(t)
	p := relaytest.Serve(t, traces.settings("UPSTREAM_KIND=demo", "UPSTREAM_MODEL=demo-slow", "RELAY_HEDGE_AFTER=50ms",
		"UPSTREAM_1_KIND=demo", "UPSTREAM_1_MODEL=demo-fast")...)
	read(t, p.Ask(t, "/api/chat/stream", `{"messages":[{"role":"user","content":"Hi"}]}`), true)
	stream := traces.wait(t, server, 1)[0]
	came := make(map[string]string)
	for _, s := range traces.wait(t, client, 2) {
		require.Equal(t, stream.SpanId, s.ParentSpanId)
		came[s.Name] = attributes(s)["error.type"]
	}
	require.Equal(t, map[string]string{"chat demo-slow": "cancelled", "chat demo-fast": ""}, came)
}

func TestAReaderAtAnotherReplicaPointsToTheGeneration(t *testing.T) {
	traces := newReceiver(t)
	redis := redistest.Start(t)
	settings := traces.settings("RELAY_STORE=redis", "RELAY_REDIS_URL="+redis.URL())
	a, b := relaytest.Serve(t, settings...), relaytest.Serve(t, settings...)
	res := a.Ask(t, "/api/chat/stream",
		`{"model":"demo-fast","resumable":true,"messages":[{"role":"user","content":"Hi"}]}`)
	id := res.Header.Get("X-Stream-Id")
	read(t, res, true)
	_, last := read(t, b.Ask(t, "/api/chat/stream/"+id, ""), false)
	require.Equal(t, "done", last.Type)

	generation := traces.wait(t, internal, 1)[0]
	attempt := traces.wait(t, client, 1)[0]
	require.Equal(t, generation.SpanId, attempt.ParentSpanId)
	var asked, reader *otlp.Span
	for _, s := range traces.wait(t, server, 2) {
		if len(s.Links) > 0 {
			reader = s
		} else {
			asked = s
		}
	}
	require.Equal(t, asked.SpanId, generation.ParentSpanId)
	require.Equal(t, generation.SpanId, reader.Links[0].SpanId)
	require.Equal(t, generation.TraceId, reader.Links[0].TraceId)
	require.NotEqual(t, generation.TraceId, reader.TraceId)
	require.Equal(t, hex.EncodeToString(generation.TraceId), a.Wait(t, "generation")["trace_id"])
}

func TestWithoutAnEndpointThereAreNoTraces(t *testing.T) {
	traces := newReceiver(t)
	for _, off := range [][]string{
		{"OTEL_SDK_DISABLED=true", "OTEL_EXPORTER_OTLP_ENDPOINT=" + traces.URL},
		{"OTEL_TRACES_EXPORTER=none", "OTEL_EXPORTER_OTLP_ENDPOINT=" + traces.URL},
		nil,
	} {
		p := relaytest.Serve(t, off...)
		read(t, p.Ask(t, "/api/chat/stream", `{"model":"demo-fast","messages":[{"role":"user","content":"Hi"}]}`),
			true)
		require.NotContains(t, p.Wait(t, "stream"), "trace_id")
		p.Signal(t, syscall.SIGTERM)
		require.Zero(t, p.Exit(t))
	}
	require.Empty(t, traces.spans)

	code, _, stderr := relaytest.Run(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + traces.URL,
		"OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "RELAY_ADDR=127.0.0.1:0"})
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "OTEL_EXPORTER_OTLP_PROTOCOL: \"grpc\" is not spoken")
}

// Nobody waits for a receiver of traces that is away, at the end either, and the log says so in its own form.
func TestAReceiverThatIsAwayHarmsNobody(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	p := relaytest.Serve(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+gone.URL, "OTEL_BSP_SCHEDULE_DELAY=10")
	_, last := read(t, p.Ask(t, "/api/chat/stream",
		`{"model":"demo-fast","messages":[{"role":"user","content":"Hi"}]}`), true)
	require.Equal(t, "done", last.Type)
	began := time.Now()
	p.Signal(t, syscall.SIGTERM)
	require.Zero(t, p.Exit(t))
	require.Less(t, time.Since(began), 10*time.Second)
	for text := range strings.Lines(p.Log()) {
		var line map[string]any
		require.NoError(t, json.Unmarshal([]byte(text), &line), "no line that is not the log's: %s", text)
		require.Contains(t, line, "level", text)
		require.False(t, strings.HasPrefix(fmt.Sprint(line["message"]), "20"), text)
	}
}

// What a provider calls its model is bytes that somebody else made up. They must not be in the way of the spans of all
// others, which are sent together.
func TestSpansAreSentWhateverAProviderCallsItsModel(t *testing.T) {
	traces := newReceiver(t)
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		model := "gpt\xff\xfe"
		if body, _ := io.ReadAll(req.Body); strings.Contains(string(body), "long") {
			model = strings.Repeat("m", 1<<15)
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, `data: {"model":"`+model+`","choices":[{"index":0,"delta":{"content":"Hi"},`+
			`"finish_reason":"stop"}]}`+"\n\ndata: [DONE]\n\n")
	}))
	t.Cleanup(provider.Close)
	p := relaytest.Serve(t, traces.settings("UPSTREAM_KIND=openai", "UPSTREAM_BASE_URL="+provider.URL,
		"UPSTREAM_API_KEY=sk-1")...)
	for _, question := range []string{"short", "long"} {
		_, last := read(t, p.Ask(t, "/api/chat/stream",
			`{"model":"m","messages":[{"role":"user","content":"`+question+`"}]}`), true)
		require.Equal(t, "done", last.Type)
	}
	for _, attempt := range traces.wait(t, client, 2) {
		name := attributes(attempt)["gen_ai.response.model"]
		require.NotEmpty(t, name)
		require.Less(t, len(name), 4<<10)
	}
	require.Equal(t, "gpt\ufffd\ufffd", attributes(traces.wait(t, client, 2)[0])["gen_ai.response.model"])
	traces.wait(t, server, 2)
}

// What is set wrong is told, in the log as it is, without what was set: a header is the key of a collector. It does not
// keep the relay from answering, unless all spans would go elsewhere or the SDK could not run.
func TestSettingsOfTracesThatCantBeUsed(t *testing.T) {
	traces := newReceiver(t)
	p := relaytest.Serve(t, traces.settings("OTEL_EXPORTER_OTLP_HEADERS=do-not-show,k=%zzdo-not-show",
		"OTEL_RESOURCE_ATTRIBUTES=do-not-show", "OTEL_EXPORTER_OTLP_TIMEOUT=5s")...)
	read(t, p.Ask(t, "/api/chat/stream", question), true)
	traces.wait(t, server, 1)
	require.Len(t, p.Lines("one of the variables OTEL_... can't be used"), 3)
	require.Equal(t, "OTEL_RESOURCE_ATTRIBUTES is not of the form name=value,name=value",
		p.Lines("traces can't be sent")[0]["error"])
	require.NotContains(t, p.Log(), "do-not-show")
	for line := range strings.Lines(p.Log()) {
		require.True(t, json.Valid([]byte(line)), line)
	}
	for setting, says := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=collector:4318":               "not an http or https URL",
		"OTEL_EXPORTER_OTLP_ENDPOINT=127.0.0.1:4318":               "not an http or https URL",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=grpc://collector:4317": "not an http or https URL",
		"OTEL_BSP_MAX_QUEUE_SIZE=-1":                               `"-1" is not a whole number from 1 to 1000000`,
		"OTEL_BSP_SCHEDULE_DELAY=5s":                               `"5s" is not a whole number from 1 to 1000000`,
	} {
		code, _, stderr := relaytest.Run(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + traces.URL, setting,
			"RELAY_ADDR=127.0.0.1:0", "RELAY_ADMIN_ADDR="})
		name, _, _ := strings.Cut(setting, "=")
		require.Equal(t, 1, code, setting)
		require.Contains(t, stderr, name+": "+says)
	}
}
