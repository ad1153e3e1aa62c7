package telemetry

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// Logs adds trace_id and span_id to the log lines of traced steps.
func Logs(to slog.Handler) slog.Handler { return logs{to} }

type logs struct{ slog.Handler }

// Handle adds the ids.
func (h logs) Handle(ctx context.Context, r slog.Record) error {
	if c := trace.SpanContextFromContext(ctx); c.IsValid() {
		r.AddAttrs(slog.String("trace_id", c.TraceID().String()), slog.String("span_id", c.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps the ids.
func (h logs) WithAttrs(attrs []slog.Attr) slog.Handler { return logs{h.Handler.WithAttrs(attrs)} }

// WithGroup keeps the ids.
func (h logs) WithGroup(name string) slog.Handler { return logs{h.Handler.WithGroup(name)} }
