package ingest

import (
	"context"
	"net/http"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/telemetry"
)

// trace begins the step of a request and gives each event the traceparent that fan-out continues. One event continues its own
// trace, if it names one, else the request's. Of many, each that names one keeps it, and the request's step has a link to it.
func (in *Ingest) trace(ctx context.Context, r *http.Request, items []*item) (context.Context, *telemetry.Span) {
	parent := r.Header.Get("Traceparent")
	if !event.ValidTraceParent(parent) {
		parent = ""
	}
	step := telemetry.Step{Name: telemetry.Publish, Parent: parent}
	for _, it := range items {
		switch own := it.event.TraceParent; {
		case own == "":
		case len(items) == 1:
			step.Parent = own
		case in.tracer != nil:
			step.Links = append(step.Links, own)
		}
	}
	ctx, span := in.tracer.Begin(ctx, step)
	following := span.TraceParent(step.Parent)
	for _, it := range items {
		if it.event.TraceParent == "" || len(items) == 1 {
			it.event.TraceParent = following
		}
	}
	return ctx, span
}

// traced ends the step.
func traced(span *telemetry.Span, items []*item) {
	if span.Recorded() && len(items) > 0 {
		first := &items[0].event
		span.Text("fanfare.tenant", first.Tenant)
		span.Number("messaging.batch.message_count", len(items))
		if len(items) == 1 {
			span.Text("fanfare.event.id", first.ID)
			span.Text("fanfare.event.type", first.Type)
		}
		for _, it := range items {
			if it.problem != nil {
				span.Fail(it.reason)
				break
			}
		}
	}
	span.End()
}
