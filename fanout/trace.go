package fanout

import (
	"context"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/telemetry"
)

// traced is inTurn as a step of the event's trace, which the tasks continue.
func (j *job) traced(ctx context.Context) (*event.Refusal, error) {
	if j.tracer == nil {
		return j.inTurn(ctx)
	}
	_, span := j.tracer.Begin(context.Background(), telemetry.Step{Name: telemetry.Match, Parent: j.event.TraceParent})
	defer span.End()
	j.event.TraceParent = span.TraceParent(j.event.TraceParent)
	span.Text("fanfare.tenant", j.event.Tenant)
	span.Text("fanfare.event.id", j.event.ID)
	span.Text("fanfare.event.type", j.event.Type)
	refusal, err := j.inTurn(ctx)
	span.Number("fanfare.matched", j.matched)
	switch {
	case refusal != nil:
		span.Fail(string(refusal.Reason))
	case err != nil:
		span.Fail("unavailable")
	}
	return refusal, err
}
