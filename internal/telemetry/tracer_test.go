package telemetry

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	sampled   = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
)

// Traces are made if the environment asks for them, by the standard variables.
func TestWanted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		env  map[string]string
		want bool
	}{
		{nil, false},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, true},
		{map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, true},
		{map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, true},
		{map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, false},
		{map[string]string{"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, false},
	} {
		if got := wanted(func(name string) string { return tt.env[name] }); got != tt.want {
			t.Errorf("%v: got %v, want %v", tt.env, got, tt.want)
		}
	}
}

// Settings that cannot work are refused by name.
func TestOpenRefuses(t *testing.T) {
	for variable, value := range map[string]string{"OTEL_TRACES_EXPORTER": "zipkin", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
			t.Setenv(variable, value)
			if _, err := Open(t.Context(), Process{}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), variable) {
				t.Errorf("got %v, want an error that names %s", err, variable)
			}
		})
	}
}

// A collector that takes requests and never answers holds up neither the steps that are traced nor, beyond its time, the end.
func TestACollectorThatHangs(t *testing.T) {
	release := make(chan struct{})
	asked := make(chan struct{}, 1)
	collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		<-release
	}))
	defer collector.Close()
	defer close(release)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
	tracer, err := Open(t.Context(), Process{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	step := func() {
		_, span := tracer.Begin(t.Context(), Step{Name: Publish, Parent: sampled})
		span.End()
	}
	step()
	<-asked
	for range 10_000 { // Several times what the queue holds.
		step()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := tracer.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that the time is over", err)
	}
}

// traced is a Tracer whose spans are kept.
func traced(t testing.TB, sampler string, options ...sdktrace.TracerProviderOption) (*Tracer, *tracetest.InMemoryExporter) {
	t.Helper()
	kept := tracetest.NewInMemoryExporter()
	tracer := newTracer(sampler, append(options, sdktrace.WithSyncer(kept))...)
	t.Cleanup(func() {
		if err := tracer.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return tracer, kept
}

// A step continues its parent, and the next one continues it.
func TestBegin(t *testing.T) {
	t.Parallel()
	tracer, kept := traced(t, "")
	_, publish := tracer.Begin(t.Context(), Step{Name: Publish, Parent: sampled})
	_, match := tracer.Begin(t.Context(), Step{Name: Match, Parent: publish.TraceParent("")})
	_, again := tracer.Begin(t.Context(), Step{Name: Send, Links: []string{match.TraceParent(""), "nonsense"}})
	again.Text("fanfare.tenant", "acme")
	again.Fail("http_5xx")
	for _, s := range []*Span{publish, match, again} {
		s.End()
	}
	spans := kept.GetSpans()
	if len(spans) != 3 {
		t.Fatalf("%d spans, want 3", len(spans))
	}
	if spans[0].Parent.SpanID().String() != "b7ad6b7169203331" || spans[1].Parent.SpanID() != spans[0].SpanContext.SpanID() {
		t.Errorf("parents: %v, %v", spans[0].Parent.SpanID(), spans[1].Parent.SpanID())
	}
	if spans[2].Parent.IsValid() || len(spans[2].Links) != 1 || spans[2].Links[0].SpanContext.SpanID() != spans[1].SpanContext.SpanID() {
		t.Errorf("the step with a link: parent %v, links %v", spans[2].Parent, spans[2].Links)
	}
	if spans[2].Status.Description != "http_5xx" || spans[2].Attributes[0].Value.AsString() != "acme" {
		t.Errorf("got %+v, %v", spans[2].Status, spans[2].Attributes)
	}
}

// A step whose parent is not sampled makes no span; without a Tracer none does, and the traceparent is handed on.
func TestNotSampled(t *testing.T) {
	t.Parallel()
	tracer, kept := traced(t, "")
	for _, tt := range []struct {
		tracer *Tracer
		parent string
	}{{tracer, unsampled}, {nil, sampled}, {nil, ""}} {
		_, span := tt.tracer.Begin(t.Context(), Step{Name: Match, Parent: tt.parent})
		span.Text("a", "b")
		span.Number("a", 1)
		span.Fail("x")
		span.End()
		if got := span.TraceParent(tt.parent); got != tt.parent || span.Recorded() {
			t.Errorf("got %q, want %q", got, tt.parent)
		}
	}
	if n := len(kept.GetSpans()); n > 0 {
		t.Errorf("%d spans", n)
	}
	if err := (*Tracer)(nil).Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// A trace that Fanfare begins and does not sample is not begun again by the next stage.
func TestDecidedOnce(t *testing.T) {
	t.Parallel()
	tracer, kept := traced(t, "parentbased_traceidratio", sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())))
	_, publish := tracer.Begin(t.Context(), Step{Name: Publish})
	parent := publish.TraceParent("")
	publish.End()
	if !strings.HasSuffix(parent, "-00") {
		t.Errorf("got %q, want one that is not sampled", parent)
	}
	_, match := tracer.Begin(t.Context(), Step{Name: Match, Parent: parent})
	if match != nil || len(kept.GetSpans()) > 0 {
		t.Errorf("the next stage has a span")
	}
}

// What is no traceparent begins a trace; what is one comes out as it went in.
func TestTraceParents(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"", "x", sampled[:54], sampled + "-x", "ff" + sampled[2:], strings.ToUpper(sampled), strings.Replace(sampled, "7", "g", 1),
		"00-00000000000000000000000000000000-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", "01" + sampled[2:] + "x",
	} {
		if _, ok := parse(bad); ok {
			t.Errorf("%q is read", bad)
		}
	}
	for text, want := range map[string]string{
		sampled: sampled, unsampled: unsampled, "01" + sampled[2:] + "-more": sampled, sampled[:53] + "03": sampled,
	} {
		c, ok := parse(text)
		if got := format(c); !ok || got != want {
			t.Errorf("%q: got %q, %v, want %q", text, got, ok, want)
		}
	}
}

// Log lines of a traced step carry its ids, others do not.
func TestLogs(t *testing.T) {
	t.Parallel()
	tracer, _ := traced(t, "")
	var out bytes.Buffer
	log := slog.New(Logs(slog.NewTextHandler(&out, nil))).With("role", "deliver")
	ctx, span := tracer.Begin(t.Context(), Step{Name: Send, Parent: sampled})
	log.InfoContext(ctx, "inside")
	span.End()
	log.InfoContext(t.Context(), "outside")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if !strings.Contains(lines[0], "role=deliver trace_id=0af7651916cd43dd8448eb211c80319c span_id=") || strings.Contains(lines[1], "trace_id") {
		t.Errorf("got %s", out.String())
	}
}

// Off costs a comparison; at one in a hundred, an event that is not sampled costs one decision.
func BenchmarkStep(b *testing.B) {
	steps := func(b *testing.B, tracer *Tracer) {
		b.ReportAllocs()
		for b.Loop() {
			parent := ""
			for _, name := range []string{Publish, Match, Task, Send} {
				_, span := tracer.Begin(context.Background(), Step{Name: name, Parent: parent})
				parent = span.TraceParent(parent)
				span.End()
			}
		}
	}
	b.Run("off", func(b *testing.B) { steps(b, nil) })
	for name, ratio := range map[string]float64{"1in100": 0.01, "all": 1} {
		b.Run(name, func(b *testing.B) {
			tracer := newTracer("", sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio))))
			defer func() { _ = tracer.Close(context.Background()) }()
			steps(b, tracer)
		})
	}
}
