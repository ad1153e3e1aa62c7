package replay

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/event"
)

// registerJobs adds the operations that retry and cancel in bulk.
func (r Routes) registerJobs(to huma.API) {
	op := func(method, path, id, summary, description string) huma.Operation {
		o := huma.Operation{Method: method, Path: path, OperationID: id, Summary: summary, Description: description, Tags: []string{"Jobs"}}
		if method == http.MethodPost {
			o.DefaultStatus = http.StatusAccepted
		}
		return o
	}
	const how = " A dry run only counts. With `expect`, a count that differs from it by more than a tenth ends the job as cancelled, with the " +
		"reason `unexpected_count`. Without a tenant, an admin key acts on all of them; other keys over all tenants must name one."
	api.Register(to, r.retryMany, "deliveries:write", op(http.MethodPost, "/v1/deliveries/retry", "retry-deliveries", "Retry deliveries by a filter",
		"Sends the deliveries of the filter, by default the dead ones, as `POST /v1/deliveries/{id}/retry` does, at the requested rate. One of which a "+
			"later generation was made is left out, as is what was made after the request."+how))
	api.Register(to, r.cancelMany, "deliveries:write", op(http.MethodPost, "/v1/deliveries/cancel", "cancel-deliveries", "Cancel deliveries by a filter",
		"Ends the pending deliveries of the filter as `POST /v1/deliveries/{id}/cancel` does."+how))
	api.Register(to, r.listJobs, "deliveries:read", op(http.MethodGet, "/v1/jobs", "list-jobs", "List jobs", "The newest first."))
	api.Register(to, r.getJob, "deliveries:read", op(http.MethodGet, "/v1/jobs/{id}", "get-job", "Read how far a job is",
		"`matched` grows while it is counting; `done` counts the deliveries that it has retried or cancelled."))
	api.Register(to, r.pauseJob, "deliveries:write", op(http.MethodPost, "/v1/jobs/{id}/pause", "pause-job", "Pause a job",
		"No request of it begins after the answer."))
	api.Register(to, r.resumeJob, "deliveries:write", op(http.MethodPost, "/v1/jobs/{id}/resume", "resume-job", "Resume a paused job",
		"It goes on where it was paused. One that has ended is not begun again (409)."))
	api.Register(to, r.cancelJob, "deliveries:write", op(http.MethodPost, "/v1/jobs/{id}/cancel", "cancel-job", "End a job",
		"No request of it begins after the answer. What it has done stays done; it cannot be resumed."))
}

type jobInput struct {
	Body jobRequest
}

// jobRequest asks for a job.
type jobRequest struct {
	Filter jobFilter `json:"filter"`
	Rate   int       `json:"rate,omitempty" minimum:"1" maximum:"10000" default:"100" doc:"Deliveries per second"`
	DryRun bool      `json:"dry_run,omitempty" doc:"Only count" example:"true"`
	Expect *int64    `json:"expect,omitempty" minimum:"0" doc:"How many deliveries a dry run counted" example:"412"`
}

// jobFilter says which deliveries a job is about.
type jobFilter struct {
	Tenant       string               `json:"tenant,omitempty" doc:"For keys over all tenants; an admin key that leaves it out acts on all" example:"acme"`
	Subscription string               `json:"subscription,omitempty" format:"uuid"`
	Reason       []outcome.Reason     `json:"reason,omitempty" maxItems:"30" doc:"Why they wait or how they ended" example:"[\"tls\"]"`
	HTTPStatus   []history.HTTPStatus `json:"http_status,omitempty" maxItems:"30" doc:"Of the last attempt" example:"[\"5xx\"]"`
	State        []string             `json:"state,omitempty" enum:"pending,delivered,dead,cancelled" maxItems:"4" doc:"dead for a retry, pending for a cancel, if left out; a cancel takes no other" example:"[\"dead\"]"`
	Type         []string             `json:"type,omitempty" maxItems:"100" doc:"Of the event" example:"[\"order.created\"]"`
	Since        time.Time            `json:"since" doc:"Accepted at this time or later" example:"2026-11-20T10:00:00Z"`
	Until        time.Time            `json:"until" doc:"Accepted before this time" example:"2026-11-21T00:00:00Z"`
}

type jobOutput struct{ Body jobJSON }

// jobJSON is a job as the API shows it.
type jobJSON struct {
	ID        uuid.UUID   `json:"id" example:"0198c0de-7a3c-7000-8000-5f1e2d3c4b5a"`
	Kind      kind        `json:"kind" enum:"retry,cancel" example:"retry"`
	State     replayState `json:"state" enum:"counting,running,paused,done,cancelled"`
	Reason    *string     `json:"reason" doc:"Why it ended early by itself: unexpected_count; else null"`
	Tenant    *string     `json:"tenant" doc:"Null: of all tenants"`
	Filter    jobFilter   `json:"filter" doc:"What it was asked for; until is not after its beginning"`
	Expect    *int64      `json:"expect" doc:"How many deliveries it was to find; null: any number" example:"412"`
	Matched   int64       `json:"matched" doc:"How many deliveries it is about; grows while it is counting"`
	Done      int64       `json:"done" doc:"How many of them it has retried or cancelled"`
	Rate      int         `json:"rate" doc:"Deliveries per second"`
	DryRun    bool        `json:"dry_run"`
	CreatedAt time.Time   `json:"created_at"`
	EndedAt   *time.Time  `json:"ended_at"`
}

func (r *replay) job() jobJSON {
	shown := r.output().Body
	j := jobJSON{
		ID: r.id, Kind: r.kind, State: r.state, Matched: r.matched, Done: r.sent, Rate: r.rate, DryRun: r.dryRun,
		CreatedAt: shown.CreatedAt, EndedAt: shown.EndedAt,
	}
	j.Filter = jobFilter{
		Tenant: r.tenant, Reason: r.filter.Reasons, HTTPStatus: r.filter.Statuses, State: r.filter.States, Type: r.types,
		Since: shown.Since, Until: shown.Until,
	}
	if r.subscription.Valid {
		j.Filter.Subscription = r.subscription.UUID.String()
	}
	if r.tenant != "" {
		j.Tenant = &r.tenant
	}
	if r.expect.Valid {
		j.Expect = &r.expect.V
	}
	if r.endReason.Valid {
		j.Reason = &r.endReason.V
	}
	return j
}

func (r Routes) retryMany(ctx context.Context, in *jobInput) (*jobOutput, error) {
	return r.begin(ctx, kindRetry, in.Body, string(outcome.Dead))
}

func (r Routes) cancelMany(ctx context.Context, in *jobInput) (*jobOutput, error) {
	for _, state := range in.Body.Filter.State {
		if state != outcome.Pending {
			return nil, api.Invalid(api.At("body.filter.state", "must be pending: nothing else can be cancelled"))
		}
	}
	return r.begin(ctx, kindCancel, in.Body, outcome.Pending)
}

// begin writes a job that a Replayer does.
func (r Routes) begin(ctx context.Context, k kind, in jobRequest, state string) (*jobOutput, error) {
	tenant, err := api.TenantOrAny(ctx, in.Filter.Tenant)
	if err != nil {
		return nil, err
	}
	now := r.Now()
	p := &replay{
		id: newID(now), kind: k, tenant: tenant, only: ledger.OnlyListed, types: in.Filter.Type, rate: in.Rate, dryRun: in.DryRun,
		span:   ledger.Span{Since: api.Instant(in.Filter.Since), Until: api.Instant(in.Filter.Until)},
		filter: filter{Reasons: in.Filter.Reason, Statuses: in.Filter.HTTPStatus, States: in.Filter.State},
	}
	if !p.span.Since.Before(p.span.Until) {
		return nil, api.Invalid(api.At("body.filter.until", "must be after since"))
	}
	if p.span.Until.After(now) { // What the job itself makes is not part of it.
		p.span.Until = api.Instant(now)
	}
	if len(p.filter.States) == 0 {
		p.filter.States = []string{state}
	}
	for _, t := range p.types {
		if refusal := event.CheckType(t); refusal != nil {
			return nil, api.Invalid(api.At("body.filter.type", refusal.Error()))
		}
	}
	if in.Filter.Subscription != "" {
		id, err := r.known(ctx, in.Filter.Subscription, tenant)
		if err != nil {
			return nil, err
		}
		p.subscription = uuid.NullUUID{UUID: id, Valid: true}
	}
	if in.Expect != nil {
		p.expect.V, p.expect.Valid = *in.Expect, true
	}
	if p.rate == 0 {
		p.rate = defaultRate
	}
	made, err := (&replayStore{db: r.DB, quotas: r.Quotas}).create(ctx, p)
	if err != nil {
		return nil, err
	}
	return &jobOutput{Body: made.job()}, nil
}

// known returns the id of a subscription that the caller may see, whatever its status.
func (r Routes) known(ctx context.Context, raw, tenant string) (uuid.UUID, error) {
	if _, err := r.Directory.Fresh(ctx); err != nil {
		return uuid.Nil, err
	}
	id, err := uuid.Parse(raw)
	if err == nil {
		if sub, ok := r.Directory.Get(id); ok && (tenant == "" || sub.Tenant == tenant) {
			return id, nil
		}
	}
	return uuid.Nil, api.Invalid(api.At("body.filter.subscription", "must be a subscription of the tenant"))
}

type jobsInput struct{ api.ListInput }

type jobsOutput struct{ Body api.List[jobJSON] }

func (r Routes) listJobs(ctx context.Context, in *jobsInput) (*jobsOutput, error) {
	body, err := listOf(ctx, r, in.ListInput, listed{jobs: true}, (*replay).job)
	return &jobsOutput{Body: body}, err
}

type jobIDInput struct {
	ID string `path:"id" doc:"The job's id" example:"0198c0de-7a3c-7000-8000-5f1e2d3c4b5a"`
}

func (r Routes) getJob(ctx context.Context, in *jobIDInput) (*jobOutput, error) {
	return shownJob(r.act(ctx, in.ID, true, "", nil))
}

func (r Routes) pauseJob(ctx context.Context, in *jobIDInput) (*jobOutput, error) {
	return shownJob(r.act(ctx, in.ID, true, replayPaused, []replayState{replayCounting, replayRunning}))
}

func (r Routes) resumeJob(ctx context.Context, in *jobIDInput) (*jobOutput, error) {
	return shownJob(r.act(ctx, in.ID, true, replayRunning, []replayState{replayPaused}))
}

func (r Routes) cancelJob(ctx context.Context, in *jobIDInput) (*jobOutput, error) {
	return shownJob(r.act(ctx, in.ID, true, replayCancelled, []replayState{replayCounting, replayRunning, replayPaused}))
}

func shownJob(p *replay, err error) (*jobOutput, error) {
	if err != nil {
		return nil, err
	}
	return &jobOutput{Body: p.job()}, nil
}
