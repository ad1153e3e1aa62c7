package replay

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/quota"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// replayState says how far a replay is.
type replayState string

const (
	replayCounting  replayState = "counting" // what it will send
	replayRunning   replayState = "running"
	replayPaused    replayState = "paused"
	replayDone      replayState = "done"
	replayCancelled replayState = "cancelled"
)

// defaultRate is in deliveries per second.
const defaultRate = 100

// replay is a span of the past that is sent again.
type replay struct {
	id           uuid.UUID
	kind         kind
	filter       filter          // of a job
	expect       sql.Null[int64] // of a job: how many deliveries it is to find
	endReason    sql.Null[string]
	tenant       string
	subscription uuid.NullUUID // none: of every subscription, dead letters only
	only         ledger.Only
	span         ledger.Span
	eventID      string
	types        []string
	rate         int // deliveries per second
	dryRun       bool
	state        replayState
	counted      bool
	matched      int64
	unreachable  int64
	sent         int64
	place        uuid.UUID       // the last event or dead letter that was looked at
	lastSeq      sql.Null[int64] // of one that makes missing deliveries: the last place in the stream that it looks at
	createdAt    time.Time
	endedAt      sql.NullTime
}

// Routes are the operations that send the past again; a Replayer does what they ask for.
type Routes struct {
	DB        *sql.DB
	Directory *subscriptions.Directory
	Quotas    *quota.Quotas
	Logger    *slog.Logger     // nil discards
	Now       func() time.Time // nil means time.Now
}

// Usage is how many replays of a tenant are under way.
func (r Routes) Usage(ctx context.Context, tenant string) (map[quota.Name]int64, error) {
	n, err := openReplays(ctx, r.DB, tenant)
	return map[quota.Name]int64{quota.Replays: n}, err
}

// Register adds the operations.
func (r Routes) Register(to huma.API) {
	if r.Now == nil {
		r.Now = time.Now
	}
	if r.Logger == nil {
		r.Logger = slog.New(slog.DiscardHandler)
	}
	op := func(method, path, id, summary, description string) huma.Operation {
		o := huma.Operation{Method: method, Path: path, OperationID: id, Summary: summary, Description: description, Tags: []string{"Replays"}}
		if method == http.MethodPost {
			o.DefaultStatus = http.StatusAccepted
		}
		return o
	}
	api.Register(to, r.start, "subscriptions:write", op(http.MethodPost, "/v1/subscriptions/{id}/replay", "replay-subscription",
		"Send events of the past to a subscription",
		"Also events that are older than the subscription, if they match it as it is now and the stream still holds them. "+
			"Each is sent as a new generation with the same webhook-id, beside live events, at the requested rate. "+
			"`only` says which: `dead` ones, all that were `undelivered`, or `all`. A dry run only counts."))
	api.Register(to, r.startDead, "deliveries:write", op(http.MethodPost, "/v1/dead-letters/replay", "replay-dead-letters",
		"Send dead letters again", "Those that the filters name, as `GET /v1/dead-letters` lists them; each once, however often it was given up before."))
	api.Register(to, r.list, "deliveries:read", op(http.MethodGet, "/v1/replays", "list-replays", "List replays",
		"Replays and backfills, newest first; see the single replay for what the numbers mean. With `subscription` or `state`, a page may be shorter "+
			"than `limit`, even empty, while `next_cursor` is not null: go on until it is null."))
	api.Register(to, r.get, "deliveries:read", op(http.MethodGet, "/v1/replays/{id}", "get-replay", "Read how far a replay is",
		"`matched` grows while it is counting; `sent` counts the deliveries whose first attempt has begun, or that were cancelled before it. It ends "+
			"with less sent than matched if some were sent otherwise meanwhile, or their bytes left the stream; or if some still wait for the endpoint "+
			"5 seconds after the last was due: `sent` grows on then. `unreachable` counts those whose bytes had left the stream before."))
	api.Register(to, r.pause, "subscriptions:write", op(http.MethodPost, "/v1/replays/{id}/pause", "pause-replay", "Pause a replay",
		"No request of it begins after the answer."))
	api.Register(to, r.resume, "subscriptions:write", op(http.MethodPost, "/v1/replays/{id}/resume", "resume-replay", "Resume a paused replay",
		"It goes on where it was paused. One that has ended is not begun again (409)."))
	api.Register(to, r.cancel, "subscriptions:write", op(http.MethodPost, "/v1/replays/{id}/cancel", "cancel-replay", "End a replay",
		"No request of it begins after the answer. What it has sent stays sent; it cannot be resumed."))
	r.registerJobs(to)
}

// tell logs that the replay has ended.
func (r *replay) tell(log *slog.Logger) {
	log.Info("replay ended", "replay", r.id, "state", string(r.state), "tenant", r.tenant, "subscription", r.subscription.UUID, "only", string(r.only),
		"dry_run", r.dryRun, "matched", r.matched, "unreachable", r.unreachable, "sent", r.sent)
}

type replayOutput struct{ Body replayJSON }

type replayJSON struct {
	ID           uuid.UUID   `json:"id"`
	Tenant       string      `json:"tenant" example:"acme"`
	State        replayState `json:"state" enum:"counting,running,paused,done,cancelled"`
	Matched      int64       `json:"matched" doc:"How many deliveries it is to make; grows while it is counting"`
	Unreachable  int64       `json:"unreachable" doc:"How many deliveries it does not make because the bytes of their events have left the stream"`
	Sent         int64       `json:"sent" doc:"How many of them were sent so far; each is a delivery of its own"`
	Rate         int         `json:"rate" doc:"Deliveries per second"`
	Subscription *uuid.UUID  `json:"subscription_id" nullable:"true" doc:"Null for a replay of dead letters"`
	Only         string      `json:"only" enum:"dead,undelivered,all,missing" doc:"missing: deliveries that were never made; the past of a subscription that was created with since"`
	Event        *string     `json:"event" doc:"The event's id that a replay of dead letters was asked for; else null" example:"evt_17"`
	Types        []string    `json:"types" nullable:"false" doc:"Only events of these types; empty: all"`

	Reason     []outcome.Reason     `json:"reason" nullable:"false" doc:"As a replay of dead letters was asked for; empty: any"`
	HTTPStatus []history.HTTPStatus `json:"http_status" nullable:"false" doc:"As a replay of dead letters was asked for; empty: any"`
	Object     []string             `json:"object_id" nullable:"false" doc:"As a replay of dead letters was asked for; empty: any"`
	Resource   []string             `json:"resource_id" nullable:"false" doc:"As a replay of dead letters was asked for; empty: any"`

	Since     time.Time  `json:"since"`
	Until     time.Time  `json:"until" doc:"Of a backfill that has not begun to count, when it was asked for"`
	DryRun    bool       `json:"dry_run"`
	CreatedAt time.Time  `json:"created_at"`
	EndedAt   *time.Time `json:"ended_at"`
}

func (r *replay) output() *replayOutput {
	out := &replayOutput{Body: replayJSON{
		ID: r.id, Tenant: r.tenant, Types: orNone(r.types), Reason: orNone(r.filter.Reasons), HTTPStatus: orNone(r.filter.Statuses),
		Object: orNone(r.filter.Objects), Resource: orNone(r.filter.Resources), State: r.state, Matched: r.matched, Unreachable: r.unreachable, Sent: r.sent, Rate: r.rate, Only: string(r.only),
		Since: r.span.Since.UTC(), Until: r.span.Until.UTC(), DryRun: r.dryRun, CreatedAt: r.createdAt.UTC(),
	}}
	if r.eventID != "" {
		out.Body.Event = &r.eventID
	}
	if r.subscription.Valid {
		out.Body.Subscription = &r.subscription.UUID
	}
	if r.endedAt.Valid {
		at := r.endedAt.Time.UTC()
		out.Body.EndedAt = &at
	}
	return out
}

// orNone is an empty list for nil, which would be null.
func orNone[T any](list []T) []T { return append([]T{}, list...) }

type replayInput struct {
	ID   string `path:"id" doc:"The subscription's id" example:"0198c0de-7a3c-7000-8000-5f1e2d3c4b5a"`
	Body newReplay
}

// newReplay is what a replay of a subscription is asked for by.
type newReplay struct {
	Since  time.Time  `json:"since" doc:"Accepted at this time or later" example:"2026-11-20T10:00:00Z"`
	Until  *time.Time `json:"until,omitempty" doc:"Accepted before this time; by default, now"`
	Types  []string   `json:"types,omitempty" maxItems:"100" doc:"Only events of these types" example:"[\"order.created\"]"`
	Only   string     `json:"only,omitempty" enum:"dead,undelivered,all" default:"undelivered"`
	Rate   int        `json:"rate,omitempty" minimum:"1" maximum:"10000" default:"100" doc:"Deliveries per second"`
	DryRun bool       `json:"dry_run,omitempty" doc:"Only count what would be sent" example:"true"`
}

func (r Routes) start(ctx context.Context, in *replayInput) (*replayOutput, error) {
	sub, err := r.subscription(ctx, in.ID, "path.id")
	if err != nil {
		return nil, err
	}
	now := r.Now()
	p := &replay{
		id: newID(now), tenant: sub.Tenant, subscription: uuid.NullUUID{UUID: sub.ID, Valid: true}, only: ledger.Only(in.Body.Only),
		span: ledger.Span{Since: in.Body.Since, Until: now}, types: in.Body.Types, rate: in.Body.Rate, dryRun: in.Body.DryRun,
	}
	if in.Body.Until != nil {
		p.span.Until = *in.Body.Until
	}
	return r.create(ctx, p)
}

type deadReplayInput struct {
	Body newDeadLetterReplay
}

// newDeadLetterReplay is what a replay of dead letters is asked for by.
type newDeadLetterReplay struct {
	Subscription string `json:"subscription,omitempty" format:"uuid"`
	Event        string `json:"event,omitempty" maxLength:"128" doc:"The event's id"`
	Type         string `json:"type,omitempty" maxLength:"128"`

	Reason     []outcome.Reason     `json:"reason,omitempty" maxItems:"30" doc:"Why they were given up" example:"[\"tls\"]"`
	HTTPStatus []history.HTTPStatus `json:"http_status,omitempty" maxItems:"30" doc:"Of the last attempt" example:"[\"5xx\"]"`
	Object     []string             `json:"object_id,omitempty" maxItems:"30" doc:"The event's object_id: one of these" example:"[\"o_17\"]"`
	Resource   []string             `json:"resource_id,omitempty" maxItems:"30" doc:"One of these is among the event's resource_ids" example:"[\"123\"]"`

	Since  *time.Time `json:"since,omitempty" doc:"Accepted at this time or later"`
	Until  *time.Time `json:"until,omitempty" doc:"Accepted before this time; by default, now"`
	Rate   int        `json:"rate,omitempty" minimum:"1" maximum:"10000" default:"100" doc:"Deliveries per second"`
	DryRun bool       `json:"dry_run,omitempty" doc:"Only count what would be sent" example:"true"`
	Tenant string     `json:"tenant,omitempty" doc:"For keys over all tenants"`
}

func (r Routes) startDead(ctx context.Context, in *deadReplayInput) (*replayOutput, error) {
	tenant, err := api.TenantOf(ctx, in.Body.Tenant)
	if err != nil {
		return nil, err
	}
	now := r.Now()
	p := &replay{
		id: newID(now), tenant: tenant, only: ledger.OnlyDead, span: ledger.Span{Since: time.UnixMilli(0), Until: now},
		eventID: in.Body.Event, rate: in.Body.Rate, dryRun: in.Body.DryRun,
		filter: filter{Reasons: in.Body.Reason, Statuses: in.Body.HTTPStatus, Objects: in.Body.Object, Resources: in.Body.Resource},
	}
	if in.Body.Subscription != "" {
		sub, err := r.subscription(ctx, in.Body.Subscription, "body.subscription")
		if err != nil {
			return nil, err
		}
		p.subscription = uuid.NullUUID{UUID: sub.ID, Valid: true}
	}
	if in.Body.Type != "" {
		p.types = []string{in.Body.Type}
	}
	if in.Body.Since != nil {
		p.span.Since = *in.Body.Since
	}
	if in.Body.Until != nil {
		p.span.Until = *in.Body.Until
	}
	return r.create(ctx, p)
}

// subscription returns one that the caller may see and that can receive.
func (r Routes) subscription(ctx context.Context, raw, location string) (*subscriptions.Subscription, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return nil, err
	}
	id, err := uuid.Parse(raw)
	if err != nil {
		return nil, api.NotFound()
	}
	if _, err := r.Directory.Fresh(ctx); err != nil {
		return nil, err
	}
	sub, ok := r.Directory.Get(id)
	if !ok || tenant != "" && sub.Tenant != tenant {
		if location == "path.id" {
			return nil, api.NotFound()
		}
		return nil, api.Invalid(api.At(location, "is no subscription of the tenant"))
	}
	if sub.Status == subscriptions.Disabled {
		return nil, api.Conflict("the subscription is disabled")
	}
	return sub, nil
}

func (r Routes) create(ctx context.Context, p *replay) (*replayOutput, error) {
	p.span.Since, p.span.Until = api.Instant(p.span.Since), api.Instant(p.span.Until)
	if p.rate == 0 {
		p.rate = defaultRate
	}
	if !p.span.Since.Before(p.span.Until) {
		return nil, api.Invalid(api.At("body.until", "must be after since"))
	}
	for _, t := range p.types {
		if refusal := event.CheckType(t); refusal != nil {
			return nil, api.Invalid(api.At("body.types", refusal.Error()))
		}
	}
	made, err := (&replayStore{db: r.DB, quotas: r.Quotas}).create(ctx, p)
	if err != nil {
		return nil, err
	}
	return made.output(), nil
}

type replayIDInput struct {
	ID string `path:"id" doc:"The replay's id" example:"0198c0de-7a3c-7000-8000-5f1e2d3c4b5a"`
}

func (r Routes) get(ctx context.Context, in *replayIDInput) (*replayOutput, error) {
	return shownReplay(r.act(ctx, in.ID, false, "", nil))
}

func (r Routes) pause(ctx context.Context, in *replayIDInput) (*replayOutput, error) {
	return shownReplay(r.act(ctx, in.ID, false, replayPaused, []replayState{replayCounting, replayRunning}))
}

func (r Routes) resume(ctx context.Context, in *replayIDInput) (*replayOutput, error) {
	return shownReplay(r.act(ctx, in.ID, false, replayRunning, []replayState{replayPaused}))
}

func (r Routes) cancel(ctx context.Context, in *replayIDInput) (*replayOutput, error) {
	return shownReplay(r.act(ctx, in.ID, false, replayCancelled, []replayState{replayCounting, replayRunning, replayPaused}))
}

func shownReplay(p *replay, err error) (*replayOutput, error) {
	if err != nil {
		return nil, err
	}
	return p.output(), nil
}

// act moves a replay or a job of the caller's to a state, from one of those that allow it, and returns it. What is in that
// state already stays; to nothing only returns it.
func (r Routes) act(ctx context.Context, raw string, job bool, to replayState, from []replayState) (*replay, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return nil, err
	}
	id, err := api.ParseID(raw)
	if err != nil {
		return nil, err
	}
	store := newReplayStore(r.DB)
	p, err := store.get(ctx, id, tenant)
	if errors.Is(err, errNoReplay) || err == nil && job != (p.kind != kindReplay) {
		return nil, api.NotFound()
	}
	if err != nil || to == "" {
		return p, err
	}
	before := p.state
	if err := store.move(ctx, id, to, from); err != nil {
		return nil, err
	}
	if p, err = store.get(ctx, id, tenant); err != nil {
		return nil, err
	}
	if p.state == replayCancelled && before != replayCancelled {
		p.tell(r.Logger)
	}
	reached := p.state == to || to == replayRunning && (p.state == replayCounting || p.state == replayDone && !p.dryRun)
	if !reached {
		return nil, api.Conflict(p.stands())
	}
	return p, nil
}

// stands says in which state a replay or a job is.
func (r *replay) stands() string {
	subject := "the job "
	if r.kind == kindReplay {
		subject = "the replay "
	}
	switch r.state {
	case replayDone:
		return subject + "has ended"
	case replayCancelled:
		return subject + "was cancelled"
	default:
		return subject + "is " + string(r.state)
	}
}

// newID makes a UUIDv7 of a time.
func newID(at time.Time) uuid.UUID {
	random := uuid.New()
	id := event.FirstUID(at)
	copy(id[6:], random[6:])
	id[6] = id[6]&0x0f | 0x70
	return id
}
