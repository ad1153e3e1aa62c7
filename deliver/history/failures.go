package history

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

const (
	// failuresExamined is how many rows of each table are grouped: a tenth of a second of Postgres.
	failuresExamined = 100_000
	// failuresMost is how many groups are shown.
	failuresMost = 200
)

// failuresInput says which failures are grouped, and by what.
type failuresInput struct {
	Since time.Time `query:"since" doc:"accepted at this time or later" example:"2026-11-20T10:00:00Z"`
	Until time.Time `query:"until" doc:"accepted before this time" example:"2026-11-21T00:00:00Z"`
	By    []string  `query:"by" enum:"reason,host,http_status,subscription" uniqueItems:"true" maxItems:"4" doc:"what they are grouped by, with commas between; reason, host and http_status if left out" example:"[\"reason\",\"host\"]"`
}

// failureJSON is a group of deliveries that failed alike.
type failureJSON struct {
	Reason        *failureReason `json:"reason" doc:"null unless grouped by it"`
	HTTPStatus    *int           `json:"http_status" doc:"of the last attempt; null where none came, and unless grouped by it"`
	Host          *string        `json:"host" doc:"of the subscription's URL, with its port where that is not the scheme's own; null unless grouped by it, and for subscriptions that were deleted so long ago that their history is gone"`
	Subscription  *uuid.UUID     `json:"subscription_id" nullable:"true" doc:"null unless grouped by it"`
	Count         int64          `json:"count"`
	Tenants       int64          `json:"tenants" doc:"how many tenants have some"`
	Subscriptions int64          `json:"subscriptions" doc:"how many subscriptions have some"`
	FirstAt       time.Time      `json:"first_at" doc:"acceptance of the first"`
	LastAt        time.Time      `json:"last_at" doc:"acceptance of the last"`
	Sample        uuid.UUID      `json:"sample_delivery_id" doc:"the newest"`
}

// failureReason is an outcome.Reason in an answer; nil is null.
type failureReason outcome.Reason

// Schema is that of the reason, or null.
func (*failureReason) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{AnyOf: []*huma.Schema{outcome.Reason("").Schema(r), {Type: "null"}}}
}

type failuresOutput struct {
	Body failureList
}

// failureList holds the groups.
type failureList struct {
	Data     []failureJSON `json:"data" nullable:"false"`
	Complete bool          `json:"complete" doc:"false if only the newest 100,000 pending or dead deliveries were looked at"`
}

func (r *routes) failures(ctx context.Context, in *failuresInput) (*failuresOutput, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return nil, err
	}
	by := in.By
	if len(by) == 0 {
		by = []string{"reason", "host", "http_status"}
	}
	leave, err := r.heavy.Enter(ctx, tenant)
	if err != nil {
		return nil, err
	}
	defer leave()
	f := Filter{Tenant: tenant, Since: api.Instant(in.Since), Until: api.Instant(in.Until)}
	out := &failuresOutput{}
	out.Body.Data, out.Body.Complete, err = r.Reader.failures(ctx, f, by)
	return out, err
}

// hostOf is the host of the subscription as HostOf returns it; null where there is none.
const hostOf = `nullif(regexp_replace(lower(substring(coalesce(s.url, gone.url) from '^[A-Za-z]+://(?:[^/?#]*@)?([^/?#]*)')),
    CASE WHEN coalesce(s.url, gone.url) ILIKE 'https:%' THEN ':443$' ELSE ':80$' END, ''), '')`

// failures groups deliveries that are pending after a failure, dead or held. It reports whether it looked at all of them.
func (l *Reader) failures(ctx context.Context, f Filter, by []string) (list []failureJSON, complete bool, err error) {
	query, args := failuresQuery(f, by, failuresExamined)
	rows, err := l.db.QueryContext(ctx, query, args...)
	list = []failureJSON{}
	err = postgres.Each(rows, err, func() error {
		var reason, host sql.Null[string]
		var status, count, tenants, subscriptions sql.Null[int64]
		var subscription, sample uuid.NullUUID
		var first, last sql.NullTime
		if err := rows.Scan(&complete, &reason, &host, &status, &subscription, &count, &tenants, &subscriptions, &first, &last, &sample); err != nil {
			return err
		}
		if !count.Valid { // There are none.
			return nil
		}
		g := failureJSON{
			Count: count.V, Tenants: tenants.V, Subscriptions: subscriptions.V, FirstAt: first.Time.UTC(), LastAt: last.Time.UTC(), Sample: sample.UUID,
		}
		if reason.Valid {
			g.Reason = new(failureReason(reason.V))
		}
		if host.Valid {
			g.Host = &host.V
		}
		if status.Valid && status.V != 0 {
			n := int(status.V)
			g.HTTPStatus = &n
		}
		if subscription.Valid {
			g.Subscription = &subscription.UUID
		}
		list = append(list, g)
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("group failures: %w", err)
	}
	return list, complete, nil
}

// failuresQuery groups the newest deliveries of each table. Dead letters of all tenants have an index of the open ones.
func failuresQuery(f Filter, by []string, most int) (query string, args []any) {
	w := &postgres.Where{}
	look, groupsMost := w.Arg(most), w.Arg(failuresMost)
	f.place(w)
	const isOpen = "resolved_at IS NULL AND superseded_by IS NULL"
	open, closed := " AND "+isOpen, ""
	if f.Tenant != "" {
		open, closed = "", isOpen+" AND "
	}
	joined := ""
	if slices.Contains(by, "host") {
		joined = joinReceivers
	}
	dims := map[string]string{"reason": "o.reason", "host": hostOf, "http_status": "o.status", "subscription": "o.subscription_id"}
	var columns, groups []string
	for _, name := range []string{"reason", "host", "http_status", "subscription"} {
		typ := map[string]string{"http_status": "bigint", "subscription": "uuid"}[name]
		if typ == "" {
			typ = "text"
		}
		if slices.Contains(by, name) {
			columns = append(columns, fmt.Sprintf("(%s)::%s AS by_%s", dims[name], typ, name))
			groups = append(groups, "by_"+name)
		} else {
			columns = append(columns, fmt.Sprintf("NULL::%s AS by_%s", typ, name))
		}
	}
	const row = "id, tenant, subscription_id, reason, status, created_at"
	query = fmt.Sprintf(`
WITH dead AS MATERIALIZED (
    SELECT %[1]s, resolved_at, superseded_by FROM deliveries WHERE state = 'dead'%[2]s AND %[4]s ORDER BY id DESC LIMIT %[7]s
), waiting AS MATERIALIZED (
    SELECT %[1]s, attempts, held, waits FROM deferrals WHERE %[4]s ORDER BY id DESC LIMIT %[7]s
), looked AS (
    SELECT (SELECT count(*) FROM dead) < %[7]s AND (SELECT count(*) FROM waiting) < %[7]s AS complete
), g AS (
    SELECT reason, status, subscription_id, tenant, count(*) AS n, min(created_at) AS first, max(created_at) AS last,
        (array_agg(id ORDER BY id DESC))[1] AS sample
    FROM (
        SELECT %[1]s FROM dead WHERE %[3]strue
        UNION ALL
        SELECT %[1]s FROM waiting p WHERE (attempts > 0 OR held AND NOT waits OR reason = 'breaker_open')
            AND NOT EXISTS (SELECT FROM deliveries e WHERE e.id = p.id OFFSET 0)
    ) found GROUP BY reason, status, subscription_id, tenant
), top AS (
    SELECT %[5]s, sum(n)::bigint AS n, count(DISTINCT o.tenant) AS tenants, count(DISTINCT o.subscription_id) AS subscriptions,
        min(first) AS first, max(last) AS last, (array_agg(sample ORDER BY sample DESC))[1] AS sample
    FROM g o%[9]s
    GROUP BY %[6]s ORDER BY n DESC, sample LIMIT %[8]s
)
SELECT complete, by_reason, by_host, by_http_status, by_subscription, n, tenants, subscriptions, first, last, sample
FROM looked LEFT JOIN top ON true ORDER BY n DESC, sample`,
		row, open, closed, w.String(), strings.Join(columns, ", "), strings.Join(groups, ", "), look, groupsMost, joined)
	return query, w.Args()
}
