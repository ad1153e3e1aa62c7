package deliver

import (
	"context"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/telemetry"
)

// traceTasks begins a step for each task of a message, which the attempts of its targets continue. The returned function ends them.
func (w *Worker) traceTasks(tasks []Task) (end func()) {
	if w.tracer == nil {
		return func() {}
	}
	spans := make([]*telemetry.Span, 0, len(tasks))
	for i := range tasks {
		e := &tasks[i].Event
		_, span := w.tracer.Begin(context.Background(), telemetry.Step{Name: telemetry.Task, Parent: e.TraceParent})
		e.TraceParent = span.TraceParent(e.TraceParent)
		span.Text("fanfare.tenant", e.Tenant)
		span.Text("fanfare.event.id", e.ID)
		span.Number("fanfare.targets", len(tasks[i].Targets))
		spans = append(spans, span)
	}
	return func() {
		for _, span := range spans {
			span.End()
		}
	}
}

// traceAttempt begins the step of an attempt. It continues the event's trace; when a delivery is sent again after it ended, that is
// a trace of its own with a link to the event's.
func (w *Worker) traceAttempt(ctx context.Context, f *flight) (context.Context, *telemetry.Span) {
	if w.tracer == nil {
		return ctx, nil
	}
	step := telemetry.Step{Name: telemetry.Send, Parent: f.event.TraceParent}
	if f.Generation > 0 {
		step.Parent, step.Links = "", []string{f.event.TraceParent}
	}
	ctx, span := w.tracer.Begin(ctx, step)
	if span.Recorded() {
		span.Text("fanfare.tenant", f.Tenant)
		span.Text("fanfare.event.id", f.EventID)
		span.Text("fanfare.event.type", f.EventType)
		span.Text("fanfare.subscription", f.Subscription.String())
		span.Text("fanfare.delivery", f.Delivery.String())
		span.Number("fanfare.attempt", f.Attempts+1)
	}
	return ctx, span
}

// endAttempt ends the step of an attempt with its result.
func endAttempt(span *telemetry.Span, result webhook.Result, err error) {
	if span.Recorded() {
		if result.Status > 0 {
			span.Number("http.response.status_code", result.Status)
		}
		switch {
		case err != nil:
			span.Fail("not attempted")
		case result.Reason != outcome.ReasonOK:
			span.Fail(result.Reason.String())
		}
	}
	span.End()
}
