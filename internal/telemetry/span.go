package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// The steps of an event, which are the names of spans.
const (
	Publish = "publish"
	Match   = "match"
	Task    = "task"
	Send    = "attempt"
)

// Step is a span to begin.
type Step struct {
	Name   string
	Parent string   // the traceparent to continue; empty or invalid begins a trace
	Links  []string // the traceparents of others that the step belongs to
}

// kinds are what OpenTelemetry calls the steps.
var kinds = map[string]trace.SpanKind{
	Publish: trace.SpanKindServer, Match: trace.SpanKindConsumer, Task: trace.SpanKindConsumer, Send: trace.SpanKindClient,
}

// Span is a step under way. A nil Span is a step that is not traced.
type Span struct {
	span trace.Span
}

// Begin begins a step. The context carries it for log lines.
func (t *Tracer) Begin(ctx context.Context, step Step) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	parent, ok := parse(step.Parent)
	if ok && t.inherits && !parent.IsSampled() {
		return ctx, nil
	}
	if ok {
		ctx = trace.ContextWithRemoteSpanContext(ctx, parent)
	}
	options := []trace.SpanStartOption{trace.WithSpanKind(kinds[step.Name])}
	if !ok {
		options = append(options, trace.WithNewRoot())
	}
	for _, link := range step.Links {
		if to, ok := parse(link); ok {
			options = append(options, trace.WithLinks(trace.Link{SpanContext: to}))
		}
	}
	ctx, span := t.tracer.Start(ctx, step.Name, options...)
	return ctx, &Span{span: span}
}

// TraceParent is the traceparent that continues the step, or otherwise where the step is not traced.
func (s *Span) TraceParent(otherwise string) string {
	if s == nil {
		return otherwise
	}
	return format(s.span.SpanContext())
}

// Recorded reports whether anything that the step says of itself is kept.
func (s *Span) Recorded() bool { return s != nil && s.span.IsRecording() }

// Text says something of the step.
func (s *Span) Text(name, value string) {
	if s.Recorded() {
		s.span.SetAttributes(attribute.String(name, value))
	}
}

// Number says something of the step.
func (s *Span) Number(name string, value int) {
	if s.Recorded() {
		s.span.SetAttributes(attribute.Int(name, value))
	}
}

// Fail marks the step as failed, for a reason of few words.
func (s *Span) Fail(reason string) {
	if s != nil {
		s.span.SetStatus(codes.Error, reason)
	}
}

// End ends the step.
func (s *Span) End() {
	if s != nil {
		s.span.End()
	}
}
