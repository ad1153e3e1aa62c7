package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Tracer makes spans. A nil Tracer makes none.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	// inherits says that a span is sampled exactly if its parent is.
	inherits bool
}

// Process is what the spans say of the process.
type Process struct{ Role, Version string }

// Open makes a Tracer by the standard OTEL_* variables, or nil if they ask for no traces: an endpoint or OTEL_TRACES_EXPORTER=otlp
// does, OTEL_TRACES_EXPORTER=none and OTEL_SDK_DISABLED=true do not. It does not wait for the collector.
func Open(ctx context.Context, p Process, log *slog.Logger) (*Tracer, error) {
	if !wanted(os.Getenv) {
		return nil, nil // A nil Tracer makes no spans.
	}
	exporter, err := export(ctx)
	if err != nil {
		return nil, err
	}
	about, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", "fanfare"), attribute.String("service.version", p.Version), attribute.String("fanfare.role", p.Role),
	), resource.WithHost(), resource.WithFromEnv()) // The environment comes last, and so decides.
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	// Errors of exporting are few: the SDK reports each batch that it drops.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("cannot send traces", "error", err) }))
	return newTracer(os.Getenv("OTEL_TRACES_SAMPLER"), sdktrace.WithBatcher(exporter), sdktrace.WithResource(about)), nil
}

func newTracer(sampler string, options ...sdktrace.TracerProviderOption) *Tracer {
	provider := sdktrace.NewTracerProvider(options...)
	return &Tracer{
		provider: provider, tracer: provider.Tracer("github.com/fanfarehq/fanfare"),
		inherits: sampler == "" || strings.HasPrefix(sampler, "parentbased_"),
	}
}

// wanted reports whether the environment asks for traces.
func wanted(env func(string) string) bool {
	if strings.EqualFold(env("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	switch exporter := env("OTEL_TRACES_EXPORTER"); exporter {
	case "":
		return env("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
	default:
		return exporter != "none"
	}
}

// export makes the exporter, which reads the other variables itself.
func export(ctx context.Context) (*otlptrace.Exporter, error) {
	if exporter := os.Getenv("OTEL_TRACES_EXPORTER"); exporter != "" && exporter != "otlp" {
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER must be otlp or none, not %q", exporter)
	}
	protocol := os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
	if protocol == "" {
		protocol = os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL")
	}
	switch protocol {
	case "", "http/protobuf":
		return otlptracehttp.New(ctx)
	case "grpc":
		return otlptracegrpc.New(ctx)
	}
	return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf or grpc, not %q", protocol)
}

// Close sends the spans that are left.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("send the last traces: %w", err)
	}
	return nil
}
