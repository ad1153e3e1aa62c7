package audit

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/internal/api"
)

// auditSpan is how far back an audit looks that is not told.
const auditSpan = 24 * time.Hour

type auditInput struct {
	Since time.Time `query:"since" doc:"Accepted at this time or later; by default, 24 hours before until" example:"2026-11-20T10:00:00Z"`
	Until time.Time `query:"until" doc:"Accepted before this time; by default, now" example:"2026-11-21T00:00:00Z"`

	Tenant string `query:"tenant" maxLength:"64" doc:"Events of this tenant alone" example:"acme"`
}

type auditOutput struct{ Body *Audit }

// Register adds the audit to an API.
func (a *Auditor) Register(to huma.API) {
	api.Register(to, a.audit, api.AdminRead, huma.Operation{
		OperationID: "audit", Method: http.MethodGet, Path: "/v1/audit", Tags: []string{"Operations"},
		Summary: "Prove that nothing is lost",
		Description: "For the events that were accepted in a span: each is in the stream and in the ledger, and each match is " +
			"delivered, dead, cancelled or pending. Each gap is named. A deleted tenant has no gaps: while it is erased, only what is left of it is counted. `fanfare audit --repair` sends missing deliveries.",
		Errors: []int{http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	})
}

func (a *Auditor) audit(ctx context.Context, in *auditInput) (*auditOutput, error) {
	tenant, err := api.TenantOrAny(ctx, in.Tenant)
	if err != nil {
		return nil, err
	}
	span := ledger.Span{Since: api.Instant(in.Since), Until: api.Instant(in.Until), Tenant: tenant}
	if span.Until.IsZero() {
		span.Until = time.Now()
	}
	if span.Since.IsZero() {
		span.Since = api.Instant(span.Until.Add(-auditSpan))
	}
	if !span.Since.Before(span.Until) {
		return nil, api.Invalid(api.At("query.until", "must be after since"))
	}
	found, err := a.Audit(ctx, span)
	if err != nil {
		return nil, err
	}
	return &auditOutput{Body: found}, nil
}
