package history

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/fair"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// OverviewDeps are what the overview works with.
type OverviewDeps struct {
	DB           *sql.DB
	DisableAfter time.Duration // of the failure rule; 0: it disables nothing
	Heavy        *fair.Room    // of costly reads; nil bounds nothing
	// Broker asks for what the broker knows.
	Broker func(context.Context) (BrokerState, error)
	// Durability is synced, degraded or unknown.
	Durability func(context.Context) string
	// DiskFree is how many bytes are left for the embedded servers; false without them.
	DiskFree func() (uint64, bool)
}

// BrokerState is the backlog, the size and the reach of the streams.
type BrokerState struct {
	Backlog Backlog
	Storage Storage
	Oldest  *time.Time // the oldest event that can be sent again
}

// Backlog are messages that a stage has not acknowledged.
type Backlog struct {
	Fanout   uint64 `json:"fanout" doc:"Events that were not fanned out yet."`
	Deliver  uint64 `json:"deliver" doc:"Messages with tasks that were not done yet."`
	Recorder uint64 `json:"recorder" doc:"Messages with outcomes that are not in the ledger yet."`
}

// Storage is what the events take.
type Storage struct {
	EventsBytes    uint64  `json:"events_bytes"`
	EventsMaxBytes int64   `json:"events_max_bytes" doc:"0: no bound."`
	DiskFree       *uint64 `json:"disk_free_bytes" nullable:"true" doc:"Of FANFARE_DATA_DIR; null without embedded servers."`
}

// FailingSubscription has failed without a success since a time.
type FailingSubscription struct {
	ID         uuid.UUID  `json:"subscription_id" format:"uuid"`
	Name       string     `json:"name"`
	Tenant     string     `json:"tenant"`
	Since      time.Time  `json:"since"`
	Failures   int64      `json:"failures"`
	DisablesAt *time.Time `json:"disables_at" nullable:"true" doc:"When it will be disabled; null if it will not."`
}

// DisabledSubscription was disabled lately.
type DisabledSubscription struct {
	ID     uuid.UUID `json:"subscription_id" format:"uuid"`
	Name   string    `json:"name"`
	Tenant string    `json:"tenant"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason" enum:"gone,failing,manual" example:"gone"`
}

// Process is a running process of the installation.
type Process struct {
	ID        uuid.UUID `json:"id" format:"uuid"`
	Role      string    `json:"role" enum:"all,api,ingest,fanout,deliver" example:"all"`
	Host      string    `json:"host"`
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
	SeenAt    time.Time `json:"seen_at"`
}

// Rates are per second.
type Rates struct {
	Accepted  float64 `json:"accepted_per_s"`
	Delivered float64 `json:"delivered_per_s"`
	Failed    float64 `json:"failed_per_s" doc:"Attempts that did not deliver."`
}

// Latency is how long attempts took.
type Latency struct {
	P50 *float64 `json:"p50_ms" nullable:"true"`
	P99 *float64 `json:"p99_ms" nullable:"true"`
}

// Overview is the state of the installation, or of a tenant.
type Overview struct {
	At           time.Time              `json:"at"`
	Rates        Rates                  `json:"rates" doc:"Over the last one to two minutes."`
	Latency      Latency                `json:"latency" doc:"Of the attempts of the last one to two minutes; null without any."`
	Backlog      *Backlog               `json:"backlog,omitempty" doc:"Left out for a tenant."`
	Pending      int64                  `json:"pending" doc:"Held ones included; at most 1,000,000 are counted."`
	Held         int64                  `json:"held"`
	OldestDueAt  *time.Time             `json:"oldest_due_at" nullable:"true"`
	Overdue      int64                  `json:"overdue" doc:"Pending ones that were due a minute ago or earlier."`
	BreakersOpen int64                  `json:"breakers_open" doc:"Subscriptions with deliveries that wait because their endpoint is failing."`
	Failing      []FailingSubscription  `json:"failing" nullable:"false" doc:"The 100 that fail longest; without a tenant, among the 10,000 that fail longest."`
	Disabled     []DisabledSubscription `json:"disabled" nullable:"false" doc:"The 100 that were disabled last, within 7 days and the last 1,000 times that one was."`
	Quarantine   int64                  `json:"quarantine" doc:"Messages in quarantine; at most 100,000 are counted."`
	Durability   string                 `json:"durability" enum:"synced,degraded,unknown"`
	Storage      *Storage               `json:"storage,omitempty" doc:"Left out for a tenant."`
	Oldest       *time.Time             `json:"oldest_replayable_at" nullable:"true" doc:"Events accepted before this time have left the stream; null if it is empty."`
	Processes    *[]Process             `json:"processes,omitempty" doc:"Left out for a tenant."`
}

type overview struct {
	OverviewDeps
	*Reader
}

// RegisterOverview adds the overview and the list of processes to an API.
func RegisterOverview(to huma.API, deps OverviewDeps) {
	o := overview{deps, NewReader(deps.DB, nil)}
	api.Register(to, o.get, api.AdminRead, huma.Operation{
		Method: http.MethodGet, Path: "/v1/overview", OperationID: "get-overview", Summary: "Read the state of the installation", Tags: []string{"Operations"},
		Description: "Rates, backlogs, pending deliveries, failing subscriptions, storage and processes. With tenant, those of the tenant.",
	})
	api.Register(to, o.list, api.AdminRead, huma.Operation{
		Method: http.MethodGet, Path: "/v1/processes", OperationID: "list-processes", Summary: "List the processes", Tags: []string{"Operations"},
		Description: "Each process writes when it was last seen every 5 s. One that was killed is listed for an hour.",
	})
}

type overviewInput struct {
	Tenant string `query:"tenant" maxLength:"64" pattern:"^[A-Za-z0-9_-]+$" doc:"Only the figures of this tenant." example:"acme"`
}

func (o overview) get(ctx context.Context, in *overviewInput) (*struct{ Body Overview }, error) {
	leave, err := o.Heavy.Enter(ctx, in.Tenant)
	if err != nil {
		return nil, err
	}
	defer leave()
	out := &struct{ Body Overview }{}
	v := &out.Body
	v.At = time.Now().UTC()
	for _, read := range []func(context.Context, string, *Overview) error{o.rates, o.pending, o.failing, o.disabled, o.quarantined, o.broker} {
		if err := read(ctx, in.Tenant, v); err != nil {
			return nil, err
		}
	}
	v.Durability = o.Durability(ctx)
	if in.Tenant != "" {
		return out, nil
	}
	list, err := o.processes(ctx)
	v.Processes = &list
	return out, err
}

// The most rows that the parts of an overview look at; beyond them they are cut short.
const (
	eventsCounted      = 1_000_000
	pendingCounted     = 1_000_000
	quarantinedCounted = 100_000
	failingExamined    = 10_000
	disabledExamined   = 1000
)

const countAccepted = `SELECT count(*) FROM (SELECT FROM events WHERE uid >= $2 AND ($1 = '' OR tenant = $1) LIMIT $3) e`

// rates counts from the beginning of the minute before.
func (o overview) rates(ctx context.Context, tenant string, v *Overview) error {
	since := v.At.Truncate(time.Minute).Add(-time.Minute)
	span := v.At.Sub(since).Seconds()
	sums, err := o.sums(ctx, sumsQuery{tenant: tenant, step: "1m", since: since, until: v.At})
	if err != nil {
		return err
	}
	for i := range sums {
		sums[i].at = since
	}
	slices.SortFunc(sums, func(a, b sum) int { return a.bucket - b.bucket })
	if len(sums) > 0 {
		p := pointOf(sums)
		v.Rates.Delivered, v.Rates.Failed = float64(p.Delivered)/span, float64(p.Failed)/span
		v.Latency.P50, v.Latency.P99 = p.P50, p.P99
	}
	var accepted int64
	err = o.db.QueryRowContext(ctx, countAccepted, tenant, event.FirstUID(since), eventsCounted).Scan(&accepted)
	if err != nil {
		return fmt.Errorf("count events: %w", err)
	}
	v.Rates.Accepted = float64(accepted) / span
	return nil
}

const countPending = `
SELECT count(*), count(*) FILTER (WHERE held AND NOT waits), min(due_at) FILTER (WHERE NOT held),
    count(*) FILTER (WHERE NOT held AND due_at < now() - interval '1 minute'), count(DISTINCT subscription_id) FILTER (WHERE reason = $2)
FROM (SELECT held, waits, due_at, subscription_id, reason FROM deferrals WHERE $1 = '' OR tenant = $1 LIMIT $3) d`

func (o overview) pending(ctx context.Context, tenant string, v *Overview) error {
	var oldest sql.NullTime
	err := o.db.QueryRowContext(ctx, countPending, tenant, string(outcome.ReasonBreakerOpen), pendingCounted).
		Scan(&v.Pending, &v.Held, &oldest, &v.Overdue, &v.BreakersOpen)
	if err != nil {
		return fmt.Errorf("count pending deliveries: %w", err)
	}
	v.OldestDueAt = shownTime(oldest)
	return nil
}

// listed is how many subscriptions a list of the overview has.
const listed = 100

const failingColumns = `SELECT s.id, s.name, s.tenant, f.since, f.failures, s.dialect FROM `

// failingOf reads those of a tenant, failingOfAll those of all tenants among the ones that fail longest.
const (
	failingOf = failingColumns + `subscriptions s JOIN failing f ON f.subscription_id = s.id
WHERE s.tenant = $1 AND NOT s.deleted AND s.status <> 'disabled' ORDER BY f.since LIMIT $2`
	failingOfAll = failingColumns + `(SELECT subscription_id, since, failures FROM failing ORDER BY since LIMIT $1) f JOIN subscriptions s ON s.id = f.subscription_id
WHERE NOT s.deleted AND s.status <> 'disabled' ORDER BY f.since LIMIT $2`
)

func (o overview) failing(ctx context.Context, tenant string, v *Overview) error {
	query, of := failingOf, any(tenant)
	if tenant == "" {
		query, of = failingOfAll, failingExamined
	}
	rows, err := o.db.QueryContext(ctx, query, of, listed)
	v.Failing = []FailingSubscription{}
	err = postgres.Each(rows, err, func() error {
		var f FailingSubscription
		var dialect string
		if err := rows.Scan(&f.ID, &f.Name, &f.Tenant, &f.Since, &f.Failures, &dialect); err != nil {
			return err
		}
		f.Since = f.Since.UTC()
		if o.DisableAfter > 0 && dialect == subscriptions.Native { // No vendor has such a rule.
			at := f.Since.Add(o.DisableAfter)
			f.DisablesAt = &at
		}
		v.Failing = append(v.Failing, f)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read failing subscriptions: %w", err)
	}
	return nil
}

const lastDisabled = `
SELECT s.id, s.name, s.tenant, c.at, s.disabled_reason
FROM (SELECT resource_id, max(at) AS at FROM (
        SELECT resource_id, at FROM changes WHERE resource = 'subscription' AND action = 'disable' AND ($1 = '' OR tenant = $1) ORDER BY id DESC LIMIT $2
    ) d WHERE at > now() - interval '7 days' GROUP BY resource_id) c
JOIN subscriptions s ON s.id = c.resource_id::uuid
WHERE NOT s.deleted AND s.status = 'disabled' ORDER BY c.at DESC LIMIT $3`

// disabled finds the last changes that disabled a subscription which is disabled still.
func (o overview) disabled(ctx context.Context, tenant string, v *Overview) error {
	rows, err := o.db.QueryContext(ctx, lastDisabled, tenant, disabledExamined, listed)
	v.Disabled = []DisabledSubscription{}
	err = postgres.Each(rows, err, func() error {
		var d DisabledSubscription
		if err := rows.Scan(&d.ID, &d.Name, &d.Tenant, &d.At, &d.Reason); err != nil {
			return err
		}
		d.At = d.At.UTC()
		v.Disabled = append(v.Disabled, d)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read disabled subscriptions: %w", err)
	}
	return nil
}

const countQuarantined = `SELECT count(*) FROM (SELECT FROM quarantine WHERE $1 = '' OR tenant = $1 LIMIT $2) q`

func (o overview) quarantined(ctx context.Context, tenant string, v *Overview) error {
	err := o.db.QueryRowContext(ctx, countQuarantined, tenant, quarantinedCounted).Scan(&v.Quarantine)
	if err != nil {
		return fmt.Errorf("count messages in quarantine: %w", err)
	}
	return nil
}

func (o overview) broker(ctx context.Context, tenant string, v *Overview) error {
	state, err := o.Broker(ctx)
	if err != nil {
		return fmt.Errorf("ask the broker: %w", err)
	}
	v.Oldest = state.Oldest
	if tenant != "" {
		return nil
	}
	v.Backlog, v.Storage = &state.Backlog, &state.Storage
	if free, ok := o.DiskFree(); ok {
		v.Storage.DiskFree = &free
	}
	return nil
}

// listedProcesses bounds the list of processes.
const listedProcesses = 1000

func (o overview) processes(ctx context.Context) ([]Process, error) {
	rows, err := o.db.QueryContext(ctx, `SELECT id, role, host, version, started_at, seen_at FROM processes ORDER BY started_at, id LIMIT $1`, listedProcesses)
	list, err := postgres.Collect(rows, err, func(rows *sql.Rows) (p Process, err error) {
		err = rows.Scan(&p.ID, &p.Role, &p.Host, &p.Version, &p.StartedAt, &p.SeenAt)
		p.StartedAt, p.SeenAt = p.StartedAt.UTC(), p.SeenAt.UTC()
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("read processes: %w", err)
	}
	if list == nil {
		list = []Process{}
	}
	return list, nil
}

// ProcessList is the answer of the list of processes.
type ProcessList struct {
	Data []Process `json:"data" nullable:"false"`
}

type processesOutput struct{ Body ProcessList }

func (o overview) list(ctx context.Context, _ *struct{}) (*processesOutput, error) {
	out := &processesOutput{}
	var err error
	out.Body.Data, err = o.processes(ctx)
	return out, err
}
