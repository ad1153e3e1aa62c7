package history

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/fair"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// RoutesDeps are what the routes work with.
type RoutesDeps struct {
	DB     *sql.DB
	Events eventReader // its keys open answers as well
	// Past and Requests say by which URL and with which headers attempts were sent; without them these are null, and no request
	// is shown.
	Past     past
	Requests *webhook.Requests
	Types    eventTypes       // which data a key may read; nil: any
	Now      func() time.Time // nil means time.Now
	Heavy    *fair.Room       // of costly reads; nil bounds nothing
}

// past reads subscriptions as they were; *subscriptions.Past is one.
type past interface {
	// At returns a subscription as of a revision; changes.ErrNone if that is not known any more.
	At(ctx context.Context, tenant string, id uuid.UUID, revision int64) (subscriptions.Sent, error)
}

// eventTypes knows which scopes event types demand; *subscriptions.Directory does.
type eventTypes interface {
	Fresh(ctx context.Context) (revision int64, err error)
	Covers(scopes []string, tenant, eventType string) bool
}

// eventReader reads events that were accepted before.
type eventReader interface {
	// Get returns an event; event.ErrGone if it is nowhere any more.
	Get(ctx context.Context, uid uuid.UUID, seq uint64) (*event.Event, error)
	// Sendable returns an event that is to be sent again; event.ErrGone if it was erased.
	Sendable(ctx context.Context, uid uuid.UUID, seq uint64) (*event.Event, error)
	// Keys open sealed contents; nil if nothing is sealed.
	Keys() *tenantkeys.Keys
}

func keysOf(events eventReader) *tenantkeys.Keys {
	if events == nil {
		return nil
	}
	return events.Keys()
}

// routes answers for deliveries: reading them, and asking for one to be made again, sooner, or not at all.
type routes struct {
	*Reader
	ledger   *ledger.Ledger
	events   eventReader
	past     past
	requests *webhook.Requests
	types    eventTypes
	now      func() time.Time
	heavy    *fair.Room
}

func newRoutes(deps RoutesDeps) *routes {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	return &routes{
		Reader: NewReader(deps.DB, keysOf(deps.Events)), ledger: ledger.New(deps.DB), events: deps.Events,
		past: deps.Past, requests: deps.Requests, types: deps.Types, now: deps.Now, heavy: deps.Heavy,
	}
}

// Routes adds the operations of deliveries to an API.
func Routes(to huma.API, deps RoutesDeps) {
	r := newRoutes(deps)
	op := func(method, path, id, summary string) huma.Operation {
		return huma.Operation{
			Method: method, Path: path, OperationID: id, Summary: summary, Description: descriptions[id], Tags: []string{"Deliveries"},
		}
	}
	read := func(path, id, summary string) huma.Operation {
		o := op(http.MethodGet, path, id, summary)
		api.Scope("deliveries:read")(&o)
		return o
	}
	act := func(path, id, summary string) huma.Operation {
		o := op(http.MethodPost, path, id, summary)
		o.DefaultStatus = http.StatusAccepted
		api.Scope("deliveries:write")(&o)
		return o
	}
	r.seriesRoutes(to)
	huma.Register(to, read("/v1/deliveries", "list-deliveries", "List deliveries, pending and ended"), r.list)
	huma.Register(to, read("/v1/deliveries/{id}", "get-delivery", "Read a delivery with its attempts"), r.get)
	r.requestRoute(to, read("/v1/deliveries/{id}/request", "get-delivery-request", "Read the body of a delivery's last request"))
	huma.Register(to, read("/v1/subscriptions/{id}/deliveries", "list-subscription-deliveries", "List the deliveries of a subscription"), r.ofSubscription)
	huma.Register(to, read("/v1/dead-letters", "list-dead-letters", "List the deliveries that were given up"), r.deadLetters)
	huma.Register(to, read("/v1/subscriptions/{id}/stats", "get-subscription-stats", "Count what became of a subscription's deliveries in the last 24 hours"), r.stats)
	failures := read("/v1/failures", "list-failures", "Group what failed")
	api.Instead(api.AdminRead)(&failures)
	huma.Register(to, failures, r.failures)
	huma.Register(to, read("/v1/reasons", "list-reasons", "Describe the reasons of deliveries and of quarantine"), r.reasons)
	huma.Register(to, act("/v1/deliveries/{id}/retry", "retry-delivery", "Send a delivery now: sooner, or again if it had ended"), r.retry)
	huma.Register(to, act("/v1/deliveries/{id}/cancel", "cancel-delivery", "End a pending delivery"), r.cancel)
}

// short says how a list ends that is filtered by what no index answers.
const short = "With a filter other than `subscription`, `event`, `since` and `until`, a page may be shorter than `limit`, even empty, while `next_cursor` is not null: go on until it is null."

// descriptions of the operations, by their ids.
var descriptions = map[string]string{
	"list-deliveries": "Each is one event on its way to one subscription. What waits has the reason and the time of the next attempt; " +
		"what ended has how and when. " + short,
	"get-delivery": "With all its attempts: when and how they were sent, how long each step took, what the endpoint answered. The URL and the headers " +
		"of a request are those of the subscription's revision that it was sent by, with everything that may be a credential as `***`; the " +
		"headers of a response are kept of attempts that failed and of tests.",
	"get-delivery-request": "The bytes of the body, as they were sent by the last attempt, with their content type. 404 before the first attempt; 410 " +
		"once the event's data is no longer kept, or the definition of the subscription by which it was sent. A key needs the scopes that the " +
		"event's type demands.",
	"list-subscription-deliveries": "As the list of all deliveries, of this subscription alone. " + short,
	"list-dead-letters": "Those that ran out of retries, or that no retry would mend. They can be retried one by one, or replayed. " +
		"What was delivered since, by a retry or a replay, is left out unless `resolved` is true; so is a dead letter of which a later generation " +
		"is pending or dead, so that each delivery that is still open is listed once. " + short,
	"list-reasons": "Every word that `reason` can have, with what it means and what can be done. The first ones are of deliveries, the " +
		"others of quarantined messages.",
	"list-failures": "What waits after a failure, is dead and was neither delivered since nor made again, or is held: grouped by reason, host and HTTP status, the " +
		"most first, at most 200 groups. For a key over all tenants that names none, of all of them.",
	"get-subscription-stats": "How many ended how, how long attempts took, how many wait, and since when.",
	"retry-delivery": "A pending one is attempted now. One that has ended is sent again as a new generation, with the same webhook-id " +
		"and a row of its own, which is answered. Of a subscription with an ordering it takes its place in the order of its key. " +
		"409 if the event's data is no longer kept, or the delivery waits for the one before it.",
	"cancel-delivery": "An attempt that is under way may still arrive. A dead one for which the order of its key stands still is passed over: it " +
		"stays dead, and the next one goes. 409 if the delivery has ended otherwise.",
}

// deliveryJSON is a delivery as the API shows it.
type deliveryJSON struct {
	ID           uuid.UUID      `json:"id" example:"0198c9d2-e7b3-7c1f-9a55-0d2f3c4b5a69"`
	Number       int64          `json:"number"`
	EventID      string         `json:"event_id"`
	EventType    string         `json:"event_type"`
	Subscription uuid.UUID      `json:"subscription_id"`
	Generation   int            `json:"generation" doc:"0, or how often it was sent anew after it had ended"`
	State        string         `json:"state" enum:"pending,delivered,dead,cancelled"`
	Reason       outcome.Reason `json:"reason" doc:"why it waits or how it ended, in a word"`
	Attempts     int            `json:"attempts"`
	DueAt        *time.Time     `json:"due_at" doc:"when a pending one is attempted next; null while it is held"`
	CreatedAt    time.Time      `json:"created_at"`
	EndedAt      *time.Time     `json:"ended_at"`

	LastStatus       *int       `json:"last_status" doc:"the HTTP status of the last attempt; null where none came"`
	LastError        *string    `json:"last_error" doc:"the error of the last attempt; null where there was none"`
	LastAttemptAt    *time.Time `json:"last_attempt_at"`
	NextAttemptAt    *time.Time `json:"next_attempt_at" doc:"the same as due_at"`
	SubscriptionName *string    `json:"subscription_name" doc:"of a deleted subscription, the last one that its history has; null once that is gone too"`
	URLHost          *string    `json:"url_host" doc:"the host of the subscription's URL, with its port where that is not the scheme's own; null for a subscription without a URL, and once its history is gone"`
	Revision         *int64     `json:"subscription_revision" doc:"the revision of the subscription that the last attempt was sent by; null before the first"`
	ResolvedAt       *time.Time `json:"resolved_at" doc:"of a dead one: when a retry or a replay delivered the event after all; else null"`
	SupersededBy     *uuid.UUID `json:"superseded_by" nullable:"true" doc:"of a dead one: the later generation that counts instead of it; null where there is none, or once that one was cancelled"`
}

// DeliveryJSON is exported only because huma skips embedded fields of unexported types.
type DeliveryJSON = deliveryJSON

// deliveryDetail is a delivery with its attempts.
type deliveryDetail struct {
	DeliveryJSON
	Log []attemptJSON `json:"log" nullable:"false"`
	// BlockedBy is shown of one delivery only: in a list it would take a question for each.
	BlockedBy *uuid.UUID `json:"blocked_by" nullable:"true" doc:"the delivery that this one waits for, of one that waits for its turn in the order of its key; else null"`
}

// attemptJSON is an attempt as the API shows it.
type attemptJSON struct {
	Number     int             `json:"number"`
	StartedAt  time.Time       `json:"started_at"`
	DurationMS int64           `json:"duration_ms"`
	Status     *int            `json:"status" doc:"the HTTP status; null where none came"`
	Error      *string         `json:"error"`
	Response   *string         `json:"response" doc:"the beginning of the response's body, at most 16 KiB; a data: URL where it is no text"`
	Outcome    outcome.Outcome `json:"outcome" enum:"delivered,later,dead"`
	Revision   *int64          `json:"subscription_revision" doc:"the revision of the subscription that it was sent by; null for attempts of earlier versions"`

	URL             *string           `json:"url" doc:"as of that revision; credentials and what may be one are ***; null once the revision is not known any more" example:"https://erp.example.com/hooks?token=***"`
	RequestHeaders  map[string]string `json:"request_headers" nullable:"true" doc:"as of that revision; values that the subscription sets, credentials and signatures are ***; null once the revision is not known any more" example:"{\"Webhook-Id\":\"evt_17\"}"`
	ResponseHeaders map[string]string `json:"response_headers" nullable:"true" doc:"at most 4 KiB, of an attempt that failed or of a test; else null; credentials are ***" example:"{\"Retry-After\":\"30\"}"`
	RemoteAddress   *string           `json:"remote_address" doc:"the address and port that it was sent to; null where there was no connection, and behind an egress proxy" example:"203.0.113.7:443"`
	Connection      *connection       `json:"connection" doc:"whether it was made for this attempt; null where there was none"`
	Timings         timingsJSON       `json:"timings"`
}

// timingsJSON are the steps of an attempt. A step is null where it did not happen, and may end with the failure.
type timingsJSON struct {
	DNS       *float64 `json:"dns_ms" doc:"resolving the host's name" example:"1.25"`
	Connect   *float64 `json:"connect_ms" doc:"connecting to the address" example:"12.5"`
	TLS       *float64 `json:"tls_ms" doc:"the TLS handshake" example:"15.75"`
	FirstByte *float64 `json:"first_byte_ms" doc:"from the connection to the first byte of the answer" example:"31.5"`
	Total     float64  `json:"total_ms" doc:"all of it, up to the end of the answer" example:"61.25"`
}

// connection is an egress.Connection in an answer; nil is null.
type connection egress.Connection

// Schema lists the kinds and null.
func (*connection) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{AnyOf: []*huma.Schema{{Type: huma.TypeString, Enum: []any{string(egress.NewConnection), string(egress.ReusedConnection)}}, {Type: "null"}}}
}

// entry is a delivery without its last attempt and its subscription.
func entry(e ledger.Entry) deliveryJSON {
	d := deliveryJSON{
		ID: e.ID, Number: e.Number, EventID: e.EventID, EventType: e.EventType, Subscription: e.Subscription, Generation: e.Generation,
		State: e.State, Reason: outcome.Reason(e.Reason), Attempts: e.Attempts, CreatedAt: e.CreatedAt.UTC(),
	}
	if e.Revision.Valid {
		d.Revision = &e.Revision.V
	}
	if !e.Held {
		d.DueAt = shownTime(e.DueAt)
	}
	d.EndedAt, d.ResolvedAt = shownTime(e.EndedAt), shownTime(e.ResolvedAt)
	if e.SupersededBy.Valid {
		d.SupersededBy = &e.SupersededBy.UUID
	}
	return d
}

func (a AttemptEntry) json() attemptJSON {
	j := attemptJSON{Number: a.Number, StartedAt: a.StartedAt.UTC(), DurationMS: (a.Micros + 500) / 1000, Outcome: a.Outcome}
	if a.Revision != 0 {
		j.Revision = &a.Revision
	}
	if a.Status != 0 {
		j.Status = &a.Status
	}
	if a.Error != "" {
		j.Error = &a.Error
	}
	if len(a.Response) > 0 {
		text := string(a.Response)
		j.Response = &text
	}
	j.exchanged(a)
	return j
}

// SpanInput are the filters that every list has.
type SpanInput struct {
	api.ListInput
	Event     string `query:"event" maxLength:"128" doc:"the event's id" example:"evt_17"`
	EventType string `query:"type" maxLength:"128" doc:"the event's type" example:"order.created"`

	Reason   []outcome.Reason `query:"reason,explode" maxItems:"30" doc:"why it waits or how it ended; may be repeated" example:"[\"tls\"]"`
	Statuses []HTTPStatus     `query:"http_status,explode" maxItems:"30" doc:"the HTTP status of the last attempt, 503 or 5xx; may be repeated" example:"[\"5xx\"]"`
	Object   []string         `query:"object_id,explode" maxItems:"30" doc:"the event's object_id; may be repeated" example:"[\"o_17\"]"`
	Resource []string         `query:"resource_id,explode" maxItems:"30" doc:"one of the event's resource_ids; may be repeated" example:"[\"123\"]"`

	Since time.Time `query:"since" doc:"accepted at this time or later" example:"2026-11-20T10:00:00Z"`
	Until time.Time `query:"until" doc:"accepted before this time" example:"2026-11-21T00:00:00Z"`
}

// SubscriptionInput filters by subscription.
type SubscriptionInput struct {
	Subscription string `query:"subscription" format:"uuid" doc:"the subscription's id" example:"0198c9d2-e7b3-7c1f-9a55-0d2f3c4b5a69"`
}

// StateInput filters by state.
type StateInput struct {
	State string `query:"state" enum:"pending,delivered,dead,cancelled" doc:"those in this state" example:"dead"`
}

type listInput struct {
	SpanInput
	SubscriptionInput
	StateInput
}

type deadLettersInput struct {
	SpanInput
	SubscriptionInput
	Resolved bool `query:"resolved" doc:"show those as well that were delivered since, and those of which a later generation was made"`
}

type ofSubscriptionInput struct {
	SpanInput
	StateInput
	IDInput
}

// IDInput is the path of one delivery, or of one subscription.
type IDInput struct {
	ID string `path:"id" doc:"the id" example:"0198c0de-7a3c-7000-8000-5f1e2d3c4b5a"`
}

type listOutput struct{ Body api.List[deliveryJSON] }

type deliveryOutput struct{ Body deliveryDetail }

func (r *routes) list(ctx context.Context, in *listInput) (*listOutput, error) {
	subscription, err := in.id()
	if err != nil {
		return nil, err
	}
	return r.page(ctx, &in.SpanInput, Filter{Subscription: subscription, State: in.State})
}

func (r *routes) deadLetters(ctx context.Context, in *deadLettersInput) (*listOutput, error) {
	subscription, err := in.id()
	if err != nil {
		return nil, err
	}
	return r.page(ctx, &in.SpanInput, Filter{Subscription: subscription, State: string(outcome.Dead), Open: !in.Resolved})
}

func (r *routes) ofSubscription(ctx context.Context, in *ofSubscriptionInput) (*listOutput, error) {
	id, err := r.subscription(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return r.page(ctx, &in.SpanInput, Filter{Subscription: id, State: in.State})
}

// id reads the filter; empty is none.
func (in SubscriptionInput) id() (uuid.UUID, error) {
	if in.Subscription == "" {
		return uuid.Nil, nil
	}
	id, err := uuid.Parse(in.Subscription)
	if err != nil {
		return uuid.Nil, api.Invalid(api.At("query.subscription", "is no id"))
	}
	return id, nil
}

// Subscription returns the id of a subscription that the caller may see.
func (r *routes) subscription(ctx context.Context, raw string) (uuid.UUID, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return uuid.Nil, err
	}
	id, err := api.ParseID(raw)
	if err != nil {
		return uuid.Nil, err
	}
	ok, err := r.Reader.owns(ctx, id, tenant)
	if err == nil && !ok {
		err = api.NotFound()
	}
	return id, err
}

// page reads the part of a list that is asked for.
func (r *routes) page(ctx context.Context, in *SpanInput, f Filter) (*listOutput, error) {
	var err error
	if f.Tenant, err = api.TenantOrAny(ctx, ""); err != nil {
		return nil, err
	}
	if f.Tenant == "" && (in.Event != "" || len(in.Object)+len(in.Resource) > 0) {
		return nil, api.Invalid(api.At("query.tenant", "must be given with event, object_id and resource_id: they are unique within a tenant"))
	}
	p, err := in.Page(ctx)
	if err != nil {
		return nil, err
	}
	if f.After, err = p.AfterID(); err != nil {
		return nil, err
	}
	f.event, f.Asc, f.Limit = in.Event, p.Asc, p.Fetch()
	if in.EventType != "" {
		f.Types = []string{in.EventType}
	}
	f.Reasons, f.Statuses, f.Objects, f.Resources = in.Reason, in.Statuses, in.Object, in.Resource
	f.Since, f.Until = api.Instant(in.Since), api.Instant(in.Until)
	entries, cut, err := r.Reader.list(ctx, f)
	if err != nil {
		return nil, err
	}
	p.CutAt(cut)
	items, err := r.present(ctx, entries...)
	if err != nil {
		return nil, err
	}
	list, err := api.ListOf(ctx, p, items, func(d deliveryJSON) string { return d.ID.String() })
	if err != nil {
		return nil, err
	}
	return &listOutput{Body: list}, nil
}

func (r *routes) get(ctx context.Context, in *IDInput) (*deliveryOutput, error) {
	e, err := r.find(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return r.show(ctx, e)
}

// Find returns a delivery that the caller may see.
func (r *routes) find(ctx context.Context, raw string) (ledger.Entry, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return ledger.Entry{}, err
	}
	id, err := api.ParseID(raw)
	if err != nil {
		return ledger.Entry{}, err
	}
	e, err := r.Reader.Find(ctx, id, tenant)
	if errors.Is(err, ledger.ErrNotFound) {
		err = api.NotFound()
	}
	return e, err
}

func (r *routes) show(ctx context.Context, e ledger.Entry) (*deliveryOutput, error) {
	attempts, err := r.Reader.Attempts(ctx, e.Tenant, e.ID)
	if err != nil {
		return nil, err
	}
	shown, err := r.present(ctx, e)
	if err != nil {
		return nil, err
	}
	out := &deliveryOutput{Body: deliveryDetail{DeliveryJSON: shown[0], Log: make([]attemptJSON, len(attempts))}}
	for i, a := range attempts {
		out.Body.Log[i] = a.json()
	}
	if err := r.showRequests(ctx, e, out.Body.Log); err != nil {
		return nil, err
	}
	if e.WaitsTurn() {
		if out.Body.BlockedBy, err = r.ledger.Blocker(ctx, e); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (r *routes) retry(ctx context.Context, in *IDInput) (*deliveryOutput, error) {
	e, err := r.find(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if e.WaitsTurn() {
		return nil, api.Conflict("the delivery waits for the one before it in the order of its key")
	}
	id, err := r.retryInOrder(ctx, e)
	if err != nil {
		return nil, err
	}
	if e, err = r.Reader.Find(ctx, id, e.Tenant); err != nil {
		return nil, err
	}
	return r.show(ctx, e)
}

func (r *routes) cancel(ctx context.Context, in *IDInput) (*deliveryOutput, error) {
	e, err := r.find(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if e.State == string(outcome.Dead) {
		if passed, err := r.ledger.PassOver(ctx, e); err != nil {
			return nil, err
		} else if passed {
			return r.show(ctx, e)
		}
	}
	if e.State != outcome.Pending {
		return nil, api.Conflict("the delivery has ended: it is " + e.State)
	}
	if err := r.ledger.Cancel(ctx, e.ID); err != nil {
		return nil, err
	}
	if e, err = r.Reader.Find(ctx, e.ID, e.Tenant); err != nil {
		return nil, err
	}
	return r.show(ctx, e)
}

// statsWindow is the time over which stats count.
const statsWindow = 24 * time.Hour

// statsJSON is what became of a subscription's deliveries.
type statsJSON struct {
	Window      string     `json:"window"`
	Delivered   int64      `json:"delivered" doc:"among the newest 100,000 deliveries of the window, as dead and attempts"`
	Dead        int64      `json:"dead"`
	Attempts    int64      `json:"attempts"`
	P50         *float64   `json:"p50_ms" doc:"of the last 10,000 attempts; null where there were none"`
	P99         *float64   `json:"p99_ms"`
	Pending     int64      `json:"pending" doc:"held ones included; at most 100,000 are counted"`
	Held        int64      `json:"held" doc:"by a pause"`
	Blocked     int64      `json:"key_blocked" doc:"pending ones that wait for the one before them in the order of their key"`
	OldestDueAt *time.Time `json:"oldest_due_at"`
	LastSuccess *time.Time `json:"last_success_at" doc:"among the newest 10,000 deliveries, or the 10,000 before the subscription began to fail; else null"`
}

type statsOutput struct{ Body statsJSON }

func (r *routes) stats(ctx context.Context, in *IDInput) (*statsOutput, error) {
	id, err := r.subscription(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	s, err := r.Reader.stats(ctx, id, r.now().Add(-statsWindow))
	if err != nil {
		return nil, err
	}
	out := statsJSON{
		Window: "24h", Delivered: s.Delivered, Dead: s.Dead, Attempts: s.Attempts, Pending: s.Pending, Held: s.Held, Blocked: s.Blocked,
	}
	if s.P50.Valid {
		out.P50, out.P99 = &s.P50.Float64, &s.P99.Float64
	}
	out.OldestDueAt, out.LastSuccess = shownTime(s.OldestDue), shownTime(s.LastSuccess)
	return &statsOutput{Body: out}, nil
}
