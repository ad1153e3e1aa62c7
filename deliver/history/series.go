package history

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// The bounds of an answer.
const (
	mostPoints = 1500
	mostSeries = 200
)

// steps are the lengths of a point, and the step of the sums that they are made of.
var steps = map[string]struct {
	length, back time.Duration // back: the span without since
	stored       int
}{
	"1m": {time.Minute, time.Hour, 1}, "5m": {5 * time.Minute, 6 * time.Hour, 1},
	"1h": {time.Hour, 48 * time.Hour, 60}, "1d": {24 * time.Hour, 30 * 24 * time.Hour, 60},
}

// groups are the expressions that series are divided by; null is the rest that was not counted apart.
var groups = map[string]string{
	"": "''", "subscription": "nullif(subscription_id, '00000000-0000-0000-0000-000000000000')::text", "type": "nullif(event_type, '')", "reason": "reason",
	"status_class": "CASE WHEN class BETWEEN 1 AND 5 THEN class || 'xx' ELSE 'none' END",
}

type seriesInput struct {
	Since        time.Time `query:"since" doc:"Points that begin at this time or later, rounded down to a step; without it, an hour, 6 hours, 2 days or 30 days back, by step." example:"2026-11-20T10:00:00Z"`
	Until        time.Time `query:"until" doc:"Points that begin before this time; now if left out." example:"2026-11-21T00:00:00Z"`
	Step         string    `query:"step" enum:"1m,5m,1h,1d" default:"1m" doc:"How long a point is. Minutes are kept for two days, hours for 90 days."`
	By           string    `query:"by" enum:"subscription,type,reason,status_class" doc:"One series for each of these; one for all if left out."`
	Subscription string    `query:"subscription" format:"uuid" doc:"Deliveries of this subscription." example:"0198c9d2-e7b3-7c1f-9a55-0d2f3c4b5a69"`
}

// Point counts the deliveries that ended and the attempts that were made within one step.
type Point struct {
	At        time.Time `json:"at" example:"2026-11-20T10:00:00Z"`
	Delivered int64     `json:"delivered"`
	Dead      int64     `json:"dead"`
	Cancelled int64     `json:"cancelled"`
	Attempts  int64     `json:"attempts"`
	Failed    int64     `json:"failed" doc:"Attempts that did not deliver."`
	P50       *float64  `json:"p50_ms" doc:"Of the attempts, to within 10 %; null where there were none."`
	P95       *float64  `json:"p95_ms"`
	P99       *float64  `json:"p99_ms"`
}

// Series are the points of one key, in the order of time; steps without a delivery or an attempt have none.
type Series struct {
	Key    map[string]any `json:"key" nullable:"false" doc:"The members that the series is of: {} for all, {\"other\":true} for all beyond the 200 largest and for the rest that was not counted apart."`
	Points []Point        `json:"points" nullable:"false" doc:"In the order of time; steps without a delivery or an attempt are left out."`
}

// DeliveryMetrics are the numbers over time.
type DeliveryMetrics struct {
	Step   string   `json:"step" enum:"1m,5m,1h,1d"`
	Series []Series `json:"series" nullable:"false"`
}

type seriesOutput struct{ Body DeliveryMetrics }

// seriesRoutes adds the numbers over time.
func (r *routes) seriesRoutes(to huma.API) {
	api.Register(to, r.series, "deliveries:read", huma.Operation{
		Method: http.MethodGet, Path: "/v1/metrics/deliveries", OperationID: "get-delivery-metrics", Summary: "Count deliveries over time",
		Tags: []string{"Deliveries"},
		Description: "Deliveries that ended and attempts that were made in each step, of a tenant or, for a key over all tenants that names none, of all. Counts are some seconds " +
			"late. A series has no points for steps without a delivery or an attempt; without `by` there is always one series. At most 1,500 points a series and the 200 largest series. Over all tenants, a span with more than 500,000 counts by type or subscription is refused (422). In each minute and in each hour of a tenant, 100 event types are counted apart, " +
			"those that came first; and beyond 10,000 different counts, all that follows is counted without its subscription and type. Both are part of `other`.",
	})
}

// sumsQuery is what a series asks for.
type sumsQuery struct {
	tenant       string
	subscription uuid.UUID
	by           string
	step         string
	since, until time.Time
}

// sum is what a bucket of durations came to within a step.
type sum struct {
	key                                          string
	other                                        bool // of the series beyond the largest
	at                                           time.Time
	bucket                                       int
	delivered, dead, cancelled, attempts, failed int64
}

// sumsOfAll is how many sums of all tenants a series by type or subscription may be made of: about a second of work.
const sumsOfAll = 500_000

// errManySums says that a series would be made of more.
var errManySums = errors.New("the span has too many counts")

// tenantOf is the tenant of a subscription, deleted or not; empty if there is none.
func (l *Reader) tenantOf(ctx context.Context, subscription uuid.UUID) (tenant string, err error) {
	err = l.db.QueryRowContext(ctx, `SELECT tenant FROM subscriptions WHERE id = $1`, subscription).Scan(&tenant)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("look for subscription %s: %w", subscription, err)
	}
	return tenant, nil
}

// source is the table that a series is made of. Those over all tenants have totals, but for series by type and by subscription.
func (l *Reader) source(ctx context.Context, q sumsQuery) (string, error) {
	if q.tenant != "" {
		return "delivery_counts", nil
	}
	if q.by != "type" && q.by != "subscription" && q.subscription == uuid.Nil {
		return "(SELECT '' AS tenant, NULL::uuid AS subscription_id, t.* FROM delivery_totals t) d", nil
	}
	var n int
	err := l.db.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT FROM delivery_counts WHERE step = $1 AND at >= $2 AND at < $3 LIMIT $4) d`,
		steps[q.step].stored, q.since, q.until, l.mostSums+1).Scan(&n)
	if err != nil {
		return "", fmt.Errorf("count sums: %w", err)
	}
	if n > l.mostSums {
		return "", errManySums
	}
	return "delivery_counts", nil
}

// sums reads the sums of the largest series, and of the rest together. errManySums says that there are too many to read.
func (l *Reader) sums(ctx context.Context, q sumsQuery) ([]sum, error) {
	if q.tenant == "" && q.subscription != uuid.Nil { // The counts are in the order of tenants.
		tenant, err := l.tenantOf(ctx, q.subscription)
		if err != nil {
			return nil, err
		}
		q.tenant = tenant
	}
	source, err := l.source(ctx, q)
	if err != nil {
		return nil, err
	}
	query, args := q.statement(source)
	rows, err := l.db.QueryContext(ctx, query, args...)
	list, err := postgres.Collect(rows, err, func(rows *sql.Rows) (s sum, err error) {
		err = rows.Scan(&s.key, &s.other, &s.at, &s.bucket, &s.delivered, &s.dead, &s.cancelled, &s.attempts, &s.failed)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("read counts of deliveries: %w", err)
	}
	return list, nil
}

// statement reads the sums of a span from a table: of a tenant at most ledger.MostRows for each step.
func (q sumsQuery) statement(source string) (query string, args []any) {
	step := steps[q.step]
	return `
WITH base AS MATERIALIZED (
    SELECT ` + groups[q.by] + ` AS key, to_timestamp(floor(extract(epoch FROM at) / $5::float8) * $5::float8) AS bin, bucket,
        sum(n) FILTER (WHERE ended = $8) AS delivered, sum(n) FILTER (WHERE ended = $9) AS dead, sum(n) FILTER (WHERE ended = $10) AS cancelled,
        sum(n) FILTER (WHERE bucket >= 0) AS attempts, sum(n) FILTER (WHERE bucket >= 0 AND reason <> 'ok') AS failed, sum(n) AS n
    FROM ` + source + ` WHERE step = $1 AND at >= $2 AND at < $3 AND ($4 = '' OR tenant = $4) AND ($6::uuid IS NULL OR subscription_id = $6)
    GROUP BY 1, 2, 3
), top AS (
    SELECT key FROM base WHERE key IS NOT NULL GROUP BY key ORDER BY sum(n) DESC, key LIMIT $7
)
SELECT coalesce(top.key, ''), top.key IS NULL, bin, bucket,
    coalesce(sum(delivered), 0)::bigint, coalesce(sum(dead), 0)::bigint, coalesce(sum(cancelled), 0)::bigint,
    coalesce(sum(attempts), 0)::bigint, coalesce(sum(failed), 0)::bigint
FROM base LEFT JOIN top ON top.key = base.key GROUP BY 1, 2, 3, 4 ORDER BY 2, 1, 3, 4`,
		[]any{step.stored, q.since, q.until, q.tenant, step.length.Seconds(), uuid.NullUUID{UUID: q.subscription, Valid: q.subscription != uuid.Nil}, mostSeries,
			ledger.EndedDelivered, ledger.EndedDead, ledger.EndedCancelled}
}

// pointOf makes a point of the sums of one step, in the order of their buckets.
func pointOf(sums []sum) Point {
	p := Point{At: sums[0].at.UTC()}
	for _, s := range sums {
		p.Delivered += s.delivered
		p.Dead += s.dead
		p.Cancelled += s.cancelled
		p.Attempts += s.attempts
		p.Failed += s.failed
	}
	p.P50, p.P95, p.P99 = percentile(sums, p.Attempts, 0.5), percentile(sums, p.Attempts, 0.95), percentile(sums, p.Attempts, 0.99)
	return p
}

// percentile is the duration that so many of all attempts took at most; nil without attempts.
func percentile(sums []sum, attempts int64, share float64) *float64 {
	rest := int64(math.Ceil(share * float64(attempts)))
	for _, s := range sums {
		if rest -= s.attempts; s.attempts > 0 && rest <= 0 {
			ms := ledger.BucketMS(s.bucket)
			return &ms
		}
	}
	return nil
}

// seriesOf groups sums, which are in the order of key, step and bucket. Without by there is one series, even if it has no
// points.
func seriesOf(by string, sums []sum) []Series {
	out := []Series{}
	if by == "" && len(sums) == 0 {
		return append(out, Series{Key: map[string]any{}, Points: []Point{}})
	}
	for len(sums) > 0 {
		n := 1
		for n < len(sums) && sums[n].key == sums[0].key && sums[n].other == sums[0].other {
			n++
		}
		s := Series{Key: map[string]any{}, Points: []Point{}}
		switch {
		case sums[0].other:
			s.Key["other"] = true
		case by != "":
			s.Key[by] = sums[0].key
		}
		for rest := sums[:n]; len(rest) > 0; {
			m := 1
			for m < len(rest) && rest[m].at.Equal(rest[0].at) {
				m++
			}
			s.Points = append(s.Points, pointOf(rest[:m]))
			rest = rest[m:]
		}
		out, sums = append(out, s), sums[n:]
	}
	return out
}

func (r *routes) series(ctx context.Context, in *seriesInput) (*seriesOutput, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return nil, err
	}
	subscription, err := SubscriptionInput{in.Subscription}.id()
	if err != nil {
		return nil, err
	}
	q := sumsQuery{tenant: tenant, subscription: subscription, by: in.By, step: in.Step, since: api.Instant(in.Since), until: api.Instant(in.Until)}
	if in.Until.IsZero() {
		q.until = r.now()
	}
	step := steps[in.Step]
	if in.Since.IsZero() {
		q.since = q.until.Add(-step.back)
	}
	q.since = q.since.Truncate(step.length)
	if !q.since.Before(q.until) {
		return nil, api.Invalid(api.At("query.since", "must be before until"))
	}
	if q.until.Sub(q.since) > mostPoints*step.length {
		return nil, api.Invalid(api.At("query.since", fmt.Sprintf("must be at most %d steps before until", mostPoints)))
	}
	leave, err := r.heavy.Enter(ctx, tenant)
	if err != nil {
		return nil, err
	}
	defer leave()
	sums, err := r.sums(ctx, q)
	if errors.Is(err, errManySums) {
		return nil, api.Invalid(api.At("query.since", fmt.Sprintf("has more than %d counts of all tenants: take a shorter span, or name a tenant", r.mostSums)))
	}
	if err != nil {
		return nil, err
	}
	out := &seriesOutput{}
	out.Body.Step, out.Body.Series = in.Step, seriesOf(in.By, sums)
	slices.SortStableFunc(out.Body.Series, func(a, b Series) int { return cmp.Compare(total(b), total(a)) })
	return out, nil
}

// total is by what series are ordered; the rest comes last.
func total(s Series) (n int64) {
	if s.Key["other"] == true {
		return -1
	}
	for _, p := range s.Points {
		n += p.Attempts + p.Delivered + p.Dead + p.Cancelled
	}
	return n
}
