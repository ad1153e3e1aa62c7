package telemetry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/fanfarehq/fanfare/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The tests that set variables of the environment are not parallel.

const (
	sampled   = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
)

// Traces are made if the environment asks for them, by the standard variables.
func TestWhatAsksForTraces(t *testing.T) {
	for name, tt := range map[string]struct {
		env  map[string]string
		want bool
	}{
		"nothing":               {nil, false},
		"an endpoint":           {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, true},
		"an endpoint of traces": {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, true},
		"an exporter":           {map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, true},
		"no exporter":           {map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, false},
		"disabled":              {map[string]string{"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, variable := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED"} {
				t.Setenv(variable, tt.env[variable])
			}
			tracer, err := telemetry.Open(t.Context(), telemetry.Process{}, slog.New(slog.DiscardHandler))
			if err != nil || (tracer != nil) != tt.want {
				t.Errorf("got %v, %v, want one: %t", tracer, err, tt.want)
			}
			if err := tracer.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// Settings that cannot work are refused by name.
func TestOpenRefuses(t *testing.T) {
	for variable, value := range map[string]string{"OTEL_TRACES_EXPORTER": "zipkin", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
			t.Setenv(variable, value)
			if _, err := telemetry.Open(t.Context(), telemetry.Process{}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), variable) {
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
	tracer, err := telemetry.Open(t.Context(), telemetry.Process{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	step := func() {
		_, span := tracer.Begin(t.Context(), telemetry.Step{Name: telemetry.Publish, Parent: sampled})
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

// traced is a Tracer and the collector that it sends to.
type traced struct {
	*telemetry.Tracer
	mu    sync.Mutex
	spans []*otlp.Span
}

// newTraced makes one by the environment, with a sampler; an empty one is the standard's, which follows the parent.
func newTraced(t testing.TB, sampler string) *traced {
	t.Helper()
	c := &traced{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var req collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &req)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, resource := range req.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				c.spans = append(c.spans, scope.GetSpans()...)
			}
		}
	}))
	t.Cleanup(server.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_TRACES_SAMPLER", sampler)
	tracer, err := telemetry.Open(t.Context(), telemetry.Process{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c.Tracer = tracer
	t.Cleanup(func() { _ = tracer.Close(context.WithoutCancel(t.Context())) })
	return c
}

// sent closes the Tracer and returns its spans by name.
func (c *traced) sent(t *testing.T) map[string]*otlp.Span {
	t.Helper()
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	named := map[string]*otlp.Span{}
	for _, s := range c.spans {
		named[s.GetName()] = s
	}
	return named
}

// A step continues its parent, and the next one continues it.
func TestBegin(t *testing.T) {
	tracer := newTraced(t, "")
	_, publish := tracer.Begin(t.Context(), telemetry.Step{Name: telemetry.Publish, Parent: sampled})
	_, match := tracer.Begin(t.Context(), telemetry.Step{Name: telemetry.Match, Parent: publish.TraceParent("")})
	_, again := tracer.Begin(t.Context(), telemetry.Step{Name: telemetry.Send, Links: []string{match.TraceParent(""), "nonsense"}})
	again.Text("fanfare.tenant", "acme")
	again.Fail("http_5xx")
	for _, s := range []*telemetry.Span{publish, match, again} {
		s.End()
	}
	spans := tracer.sent(t)
	if len(spans) != 3 {
		t.Fatalf("%d spans, want 3", len(spans))
	}
	first, second, third := spans[telemetry.Publish], spans[telemetry.Match], spans[telemetry.Send]
	if !strings.Contains(sampled, hex(first.GetParentSpanId())) || !bytes.Equal(second.GetParentSpanId(), first.GetSpanId()) ||
		!strings.Contains(sampled, hex(second.GetTraceId())) {
		t.Errorf("parents: %x, %x", first.GetParentSpanId(), second.GetParentSpanId())
	}
	if len(third.GetParentSpanId()) > 0 || len(third.GetLinks()) != 1 || !bytes.Equal(third.GetLinks()[0].GetSpanId(), second.GetSpanId()) {
		t.Errorf("the step with a link: parent %x, links %v", third.GetParentSpanId(), third.GetLinks())
	}
	if third.GetStatus().GetMessage() != "http_5xx" || third.GetAttributes()[0].GetValue().GetStringValue() != "acme" {
		t.Errorf("got %v, %v", third.GetStatus(), third.GetAttributes())
	}
}

// A step whose parent is not sampled makes no span; without a Tracer none does, and the traceparent is handed on.
func TestNotSampled(t *testing.T) {
	tracer := newTraced(t, "")
	for _, tt := range []struct {
		tracer *telemetry.Tracer
		parent string
	}{{tracer.Tracer, unsampled}, {nil, sampled}, {nil, ""}} {
		_, span := tt.tracer.Begin(t.Context(), telemetry.Step{Name: telemetry.Match, Parent: tt.parent})
		span.Text("a", "b")
		span.Number("a", 1)
		span.Fail("x")
		span.End()
		if got := span.TraceParent(tt.parent); got != tt.parent || span.Recorded() {
			t.Errorf("got %q, want %q", got, tt.parent)
		}
	}
	if spans := tracer.sent(t); len(spans) > 0 {
		t.Errorf("got %v", spans)
	}
	if err := (*telemetry.Tracer)(nil).Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// A trace that Fanfare begins and does not sample is not begun again by the next stage.
func TestDecidedOnce(t *testing.T) {
	tracer := newTraced(t, "parentbased_always_off")
	_, publish := tracer.Begin(t.Context(), telemetry.Step{Name: telemetry.Publish})
	parent := publish.TraceParent("")
	publish.End()
	if !strings.HasSuffix(parent, "-00") {
		t.Errorf("got %q, want one that is not sampled", parent)
	}
	_, match := tracer.Begin(t.Context(), telemetry.Step{Name: telemetry.Match, Parent: parent})
	if spans := tracer.sent(t); match != nil || len(spans) > 0 {
		t.Errorf("the next stage has a span: %v", spans)
	}
}

// What is no traceparent begins a trace; what is one is continued.
func TestTraceParents(t *testing.T) {
	tracer := newTraced(t, "")
	const trace = "0af7651916cd43dd8448eb211c80319c"
	for parent, continued := range map[string]bool{
		"": false, "x": false, sampled[:54]: false, sampled + "-x": false, "ff" + sampled[2:]: false, strings.ToUpper(sampled): false,
		strings.Replace(sampled, "7", "g", 1):                     false,
		"00-00000000000000000000000000000000-b7ad6b7169203331-01": false,
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01": false,
		"01" + sampled[2:] + "x":                                  false,
		sampled:                                                   true, "01" + sampled[2:] + "-more": true, sampled[:53] + "03": true,
	} {
		_, span := tracer.Begin(t.Context(), telemetry.Step{Name: telemetry.Match, Parent: parent})
		got := span.TraceParent("")
		span.End()
		if strings.HasPrefix(got, "00-"+trace+"-") != continued || len(got) != len(sampled) || !strings.HasSuffix(got, "-01") {
			t.Errorf("%q: got %q, continued: want %t", parent, got, continued)
		}
	}
	if _, span := tracer.Begin(t.Context(), telemetry.Step{Name: telemetry.Match, Parent: unsampled}); span != nil {
		t.Error("one that is not sampled is continued")
	}
}

// Log lines of a traced step carry its ids, others do not.
func TestLogs(t *testing.T) {
	tracer := newTraced(t, "")
	var out bytes.Buffer
	log := slog.New(telemetry.Logs(slog.NewTextHandler(&out, nil))).With("role", "deliver")
	ctx, span := tracer.Begin(t.Context(), telemetry.Step{Name: telemetry.Send, Parent: sampled})
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
	steps := func(b *testing.B, tracer *telemetry.Tracer) {
		b.ReportAllocs()
		for b.Loop() {
			parent := ""
			for _, name := range []string{telemetry.Publish, telemetry.Match, telemetry.Task, telemetry.Send} {
				_, span := tracer.Begin(context.Background(), telemetry.Step{Name: name, Parent: parent})
				parent = span.TraceParent(parent)
				span.End()
			}
		}
	}
	b.Run("off", func(b *testing.B) { steps(b, nil) })
	for name, ratio := range map[string]string{"1in100": "0.01", "all": "1"} {
		b.Run(name, func(b *testing.B) {
			b.Setenv("OTEL_TRACES_SAMPLER_ARG", ratio)
			steps(b, newTraced(b, "parentbased_traceidratio").Tracer)
		})
	}
}

// hex writes an id as traceparents do.
func hex(id []byte) string { return fmt.Sprintf("%x", id) }
