package ingest

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/fanfarehq/fanfare/internal/api"
)

// reasonLimited is the metrics' word for events beyond their tenant's rate.
const reasonLimited = "limited"

// meter takes the events of the items from their tenants' rates, and returns the items that may go on. Of one tenant all
// may, or none.
func (in *Ingest) meter(ctx context.Context, items []*item) []*item {
	limited := false
	for from := 0; from < len(items); { // Most requests are of one tenant.
		to := from + 1
		for to < len(items) && items[to].event.Tenant == items[from].event.Tenant {
			to++
		}
		if err := in.quotas.Take(items[from].event.Tenant, to-from); err != nil {
			limited = true
			for _, it := range items[from:to] {
				it.limit(ctx, err)
			}
		}
		from = to
	}
	if !limited {
		return items
	}
	return alive(items)
}

// limit answers that the tenant's rate is used up.
func (it *item) limit(ctx context.Context, err error) {
	it.problem, _ = api.ProblemOf(ctx, err)
	it.reason, it.limited = reasonLimited, err
}

// waitHeader says when limited items may come again.
func waitHeader(w http.ResponseWriter, items ...*item) {
	for _, it := range items {
		if limit, ok := errors.AsType[*api.LimitError](it.limited); ok {
			w.Header().Set("Retry-After", strconv.Itoa(int(limit.RetryAfter.Seconds())))
			return
		}
	}
}

// limitedProblem is the problem of an array of which a part is beyond its tenant's rate.
func limitedProblem(items []*item) *api.Problem {
	for _, it := range items {
		if it.limited != nil {
			p := *it.problem
			p.Status, p.Detail = http.StatusTooManyRequests, "the limit events_per_second is reached: nothing was stored, send it again later"
			return &p
		}
	}
	return nil
}
