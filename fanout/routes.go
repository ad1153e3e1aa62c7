package fanout

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"reflect"
	"runtime"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/changes"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/fair"
	"github.com/fanfarehq/fanfare/internal/quota"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Deliveries tells what became of an event.
type Deliveries interface {
	// CountByState counts the deliveries of an event by their state.
	CountByState(ctx context.Context, event uuid.UUID) (map[string]int, error)
	// DescribeLast returns the last generation of a delivery with its attempts as the API shows it, JSON; nil if there
	// is none.
	DescribeLast(ctx context.Context, event, subscription uuid.UUID) (json.RawMessage, error)
	// MatchedThen reports whether a delivery shows that the event matched the subscription when it was fanned out.
	MatchedThen(ctx context.Context, event, subscription uuid.UUID) (bool, error)
	// Receivers returns the subscriptions for which an event has a delivery, at most limit.
	Receivers(ctx context.Context, event uuid.UUID, limit int) ([]uuid.UUID, error)
}

// Bytes reads events wherever they still are: the stream, or a kept copy.
type Bytes interface {
	// Get returns an event; deliver.ErrEventGone if it is nowhere any more.
	Get(ctx context.Context, uid uuid.UUID, seq uint64) (*event.Event, error)
	// Kept returns the copy of an event kept for a delivery that outlives the stream, and nothing that is only in
	// memory; deliver.ErrEventGone if nothing was.
	Kept(ctx context.Context, uid uuid.UUID) (*event.Event, error)
}

// Routes are the operations on events, on quarantine, and on what a subscription would have matched.
type Routes struct {
	Ledger     *Ledger
	Reader     *Reader
	Bytes      Bytes
	Deliveries Deliveries
	Directory  *subscriptions.Directory
	Changes    *changes.Log     // the history of subscriptions and event types
	Quotas     *quota.Quotas    // nil bounds nothing
	Heavy      *fair.Room       // of costly reads; nil bounds nothing
	Now        func() time.Time // nil means time.Now

	previews *fair.Room
}

// Register adds the operations.
func (r Routes) Register(to huma.API) {
	if r.Now == nil {
		r.Now = time.Now
	}
	r.previews = fair.NewRoom(runtime.GOMAXPROCS(0), previewWait)
	api.Register(to, r.list, "events:read", huma.Operation{
		OperationID: "list-events", Method: http.MethodGet, Path: "/v1/events", Tags: []string{"Events"},
		Summary: "List events",
		Description: "Events that were accepted and matched, newest first. An event is listed once it was fanned out, " +
			"which is some milliseconds after it was accepted. With `type`, `object_id` or `resource_id`, a page may be shorter than `limit`, even empty, while " +
			"`next_cursor` is not null: go on until it is null.",
		Errors: []int{http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	})
	api.Register(to, r.get, "events:read", huma.Operation{
		OperationID: "get-event", Method: http.MethodGet, Path: "/v1/events/{id}", Tags: []string{"Events"},
		Summary: "Read an event",
		Description: "The event with its data, how many subscriptions it matched, and its deliveries by state. " +
			"`data` is absent once the stream no longer holds the event, unless a delivery of it is dead or held, and for a key " +
			"that lacks a scope which the event's type demands. " +
			"If an id was used again after more than a day, the last event is shown.",
		Errors: []int{http.StatusNotFound, http.StatusServiceUnavailable},
	})
	api.Register(to, r.explain, "deliveries:read", huma.Operation{
		OperationID: "explain-event", Method: http.MethodGet, Path: "/v1/events/{id}/explain", Tags: []string{"Events"},
		Summary: "Explain what became of an event",
		Description: "Takes the event through the steps of matching against a subscription, up to the first step that fails: " +
			"`then` by the definition that the event was matched against, `now` by the definition of today. `matched` and `steps` " +
			"are those of `then`. Once the event's data is gone, the steps that need it are `skipped`, and `matched` is null where " +
			"they decide and no delivery shows the answer. " +
			"Shows the last delivery with its attempts: what it waits for and when it goes next. Values of the " +
			"event are shown to keys with events:read and the scopes that its type demanded then and demands now. A " +
			"subscription that is gone, or was made after the event, is said to be so. Without one, it is those that match, " +
			"those that have a delivery, and then the tenant's others, 100 in all.",
		Errors: []int{http.StatusNotFound, http.StatusServiceUnavailable},
	})
	api.Register(to, r.preview, "subscriptions:write events:read", huma.Operation{
		OperationID: "preview-subscription", Method: http.MethodPost, Path: "/v1/subscriptions/preview", Tags: []string{"Subscriptions"},
		Summary: "Preview a subscription",
		Description: "Holds the last events of the stream against what a subscription would ask for: how many would have " +
			"matched, with samples. Examines what it can within eight seconds. As many run at once as there are cores, tenants in turn: one " +
			"that finds no place within ten seconds is 503.",
		Errors: []int{http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	})
	quarantine := huma.Operation{
		OperationID: "list-quarantine", Method: http.MethodGet, Path: "/v1/quarantine", Tags: []string{"Events"},
		Summary: "List messages that are no valid event",
		Description: "Messages that were published straight to NATS and could not be taken as events, newest first: " +
			"why, and their first 4 KiB. `data` is empty for a key that lacks a scope which the event's type demands.",
		Errors: []int{http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}
	api.Instead(api.AdminRead)(&quarantine)
	api.Register(to, r.quarantine, "events:read", quarantine)
}

type listInput struct {
	api.ListInput
	Type string `query:"type" doc:"Only events of this type" example:"order.created"`

	Object   []string `query:"object_id,explode" maxItems:"30" doc:"Only events of this object; may be repeated" example:"[\"o_17\"]"`
	Resource []string `query:"resource_id,explode" maxItems:"30" doc:"Only events that name this resource; may be repeated" example:"[\"123\"]"`

	Since time.Time `query:"since" doc:"Accepted at this time or later" example:"2026-11-20T10:00:00Z"`
	Until time.Time `query:"until" doc:"Accepted before this time" example:"2026-11-21T00:00:00Z"`
}

type eventJSON struct {
	ID         string    `json:"id" example:"evt_17" doc:"Given by the publisher, or made"`
	Tenant     string    `json:"tenant" example:"acme"`
	Type       string    `json:"type" example:"order.created"`
	Time       time.Time `json:"time" doc:"When it happened, by its publisher's word"`
	AcceptedAt time.Time `json:"accepted_at" doc:"When it was on disk"`
	Matched    int       `json:"matched" doc:"How many subscriptions it went to"`

	SchemaValid *bool `json:"schema_valid" nullable:"true" doc:"Whether its data fits the schema that its type had; null where that was not judged: no schema, validation off, a schema too costly for the data"`
}

func (r Recorded) json() eventJSON {
	return eventJSON{ID: r.ID, Tenant: r.Tenant, Type: r.Type, Time: r.Time, AcceptedAt: r.AcceptedAt, Matched: r.Matched, SchemaValid: r.SchemaValid}
}

type listOutput struct{ Body api.List[eventJSON] }

func (r Routes) list(ctx context.Context, in *listInput) (*listOutput, error) {
	f, page, err := listFilter(ctx, &in.ListInput)
	if err != nil {
		return nil, err
	}
	f.eventType, f.since, f.until = in.Type, api.Instant(in.Since), api.Instant(in.Until)
	f.objects, f.resources = in.Object, in.Resource
	if f.tenant == "" && len(f.objects)+len(f.resources) > 0 {
		return nil, api.Invalid(api.At("query.tenant", "must be given with object_id and resource_id: they are unique within a tenant"))
	}
	rows, cut, err := r.Ledger.list(ctx, f)
	if err != nil {
		return nil, err
	}
	page.CutAt(cut)
	list, err := api.ListOf(ctx, page, rows, func(r Recorded) string { return r.UID.String() })
	if err != nil {
		return nil, err
	}
	out := &listOutput{}
	out.Body.NextCursor = list.NextCursor
	out.Body.Data = make([]eventJSON, 0, len(list.Data))
	for _, row := range list.Data {
		out.Body.Data = append(out.Body.Data, row.json())
	}
	return out, nil
}

// listFilter makes the filter of a list from what all lists have.
func listFilter(ctx context.Context, in *api.ListInput) (filter, api.Page, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return filter{}, api.Page{}, err
	}
	page, err := in.Page(ctx)
	if err != nil {
		return filter{}, api.Page{}, err
	}
	after, err := page.AfterID()
	if err != nil {
		return filter{}, api.Page{}, err
	}
	return filter{tenant: tenant, after: after, asc: page.Asc, limit: page.Fetch()}, page, nil
}

type getInput struct {
	ID string `path:"id" doc:"The event's id" example:"evt_17"`
}

type getOutput struct{ Body eventDetail }

// EventJSON is exported only because huma skips embedded fields of unexported types.
type EventJSON = eventJSON

type eventDetail struct {
	EventJSON
	Data        json.RawMessage  `json:"data,omitempty" doc:"Absent if it is no longer kept, if it is not JSON, or if the key lacks a scope of the type"`
	DataBase64  []byte           `json:"data_base64,omitempty" doc:"Data that is not JSON"`
	CloudEvent  *cloudAttributes `json:"cloudevent,omitempty" doc:"What a CloudEvent said of itself; absent for other events"`
	ResourceIDs []string         `json:"resource_ids" nullable:"false"`
	ObjectID    string           `json:"object_id"`
	Changed     []string         `json:"changed" nullable:"false"`
	Targets     []uuid.UUID      `json:"targets" nullable:"false" doc:"Where not empty, only these subscriptions got the event"`
	Deliveries  stateCounts      `json:"deliveries" doc:"Deliveries by state: pending, delivered, dead, cancelled"`
}

// stateCounts counts deliveries by state.
type stateCounts map[string]int

// Schema names the states, all of which are always there.
func (stateCounts) Schema(r huma.Registry) *huma.Schema {
	s := &huma.Schema{
		Type: huma.TypeObject, Properties: map[string]*huma.Schema{}, AdditionalProperties: false,
		Required: []string{"pending", "delivered", "dead", "cancelled"},
	}
	for _, state := range s.Required {
		s.Properties[state] = r.Schema(reflect.TypeFor[int](), true, "")
	}
	return s
}

// cloudAttributes is a CloudEvent's attributes.
type cloudAttributes struct {
	ID              string            `json:"id,omitempty" doc:"As its producer gave it; unique within the source" example:"partition:0/offset:1"`
	Source          string            `json:"source" example:"/shop"`
	Subject         string            `json:"subject,omitempty"`
	DataSchema      string            `json:"dataschema,omitempty"`
	DataContentType string            `json:"datacontenttype,omitempty" example:"application/json"`
	Extensions      map[string]string `json:"extensions,omitempty" doc:"The other attributes"`
}

func cloudOf(e *event.Event) *cloudAttributes {
	c := e.Cloud
	if c == nil {
		return nil
	}
	shown := &cloudAttributes{ID: c.ID, Source: c.Source, Subject: c.Subject, DataSchema: c.DataSchema, DataContentType: e.ContentType}
	for _, x := range c.Extensions {
		if shown.Extensions == nil {
			shown.Extensions = make(map[string]string, len(c.Extensions))
		}
		shown.Extensions[x.Name] = x.Value
	}
	return shown
}

func (r Routes) get(ctx context.Context, in *getInput) (*getOutput, error) {
	row, err := r.find(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	out := &getOutput{Body: eventDetail{
		EventJSON: row.json(), ResourceIDs: []string{}, Changed: []string{}, Targets: []uuid.UUID{},
		Deliveries: stateCounts{"pending": 0, "delivered": 0, "dead": 0, "cancelled": 0},
	}}
	counts, err := r.Deliveries.CountByState(ctx, row.UID)
	if err != nil {
		return nil, err
	}
	maps.Copy(out.Body.Deliveries, counts)
	// What has neither ended nor been put off is on its way.
	c := out.Body.Deliveries
	c["pending"] = max(c["pending"], row.Matched-c["delivered"]-c["dead"]-c["cancelled"])
	e, err := r.event(ctx, row)
	if errors.Is(err, event.ErrGone) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	if _, err := r.Directory.Fresh(ctx); err != nil { // For the scopes that event types demand.
		return nil, err
	}
	d := &out.Body
	d.ObjectID = e.ObjectID
	if r.Directory.Covers(subscriptions.ViewOf(ctx).Scopes, row.Tenant, row.Type) {
		if d.CloudEvent = cloudOf(e); e.JSON() {
			d.Data = e.Data
		} else {
			d.DataBase64 = e.Data
		}
	}
	d.ResourceIDs, d.Changed, d.Targets = append(d.ResourceIDs, e.ResourceIDs...), append(d.Changed, e.Changed...), append(d.Targets, e.Targets...)
	return out, nil
}

// find returns the ledger's row of an event of the caller's tenant. Ids that could not be are not found.
func (r Routes) find(ctx context.Context, id string) (Recorded, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return Recorded{}, err
	}
	if event.CheckID(id) != nil {
		return Recorded{}, api.NotFound()
	}
	if tenant == "" { // The index begins with the tenant: without it, all of it is read.
		leave, err := r.Heavy.Enter(ctx, "")
		if err != nil {
			return Recorded{}, err
		}
		defer leave()
	}
	row, err := r.Ledger.get(ctx, tenant, id)
	if errors.Is(err, errNoEvent) {
		return Recorded{}, api.NotFound()
	}
	return row, err
}

// event returns the whole event: from the stream, or its kept copy, without its targets then.
func (r Routes) event(ctx context.Context, row Recorded) (*event.Event, error) {
	return ReadEvent(ctx, r.Reader, r.Bytes, row)
}

// ReadEvent reads the event of a row; deliver.ErrEventGone if it is nowhere any more.
func ReadEvent(ctx context.Context, from *Reader, bytes Bytes, row Recorded) (*event.Event, error) {
	if row.Erased {
		return bytes.Kept(ctx, row.UID)
	}
	if e, err := from.Read(ctx, row.Seq); err == nil {
		if found := e.As(row.UID); found != nil {
			return found, nil
		}
	}
	return bytes.Get(ctx, row.UID, row.Seq)
}

type quarantineInput struct {
	api.ListInput
	Since time.Time `query:"since" doc:"Received at this time or later" example:"2026-11-20T10:00:00Z"`
	Until time.Time `query:"until" doc:"Received before this time" example:"2026-11-21T00:00:00Z"`
}

type quarantinedMessage struct {
	ID         uuid.UUID     `json:"id"`
	StreamSeq  uint64        `json:"stream_seq" doc:"The message's place in the stream EVENTS"`
	Subject    string        `json:"subject" example:"events.acme.order.created"`
	ReceivedAt time.Time     `json:"received_at"`
	Reason     refusalReason `json:"reason" example:"bad_data"`
	Detail     string        `json:"detail" example:"data must be JSON"`
	Data       []byte        `json:"data" doc:"The message's first 4 KiB"`
}

// refusalReason is an event.Reason in an answer.
type refusalReason string

// Schema lists the reasons.
func (refusalReason) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, r := range event.Reasons() {
		s.Enum = append(s.Enum, string(r))
	}
	return s
}

type quarantineOutput struct{ Body api.List[quarantinedMessage] }

func (r Routes) quarantine(ctx context.Context, in *quarantineInput) (*quarantineOutput, error) {
	f, page, err := listFilter(ctx, &in.ListInput)
	if err != nil {
		return nil, err
	}
	f.since, f.until = api.Instant(in.Since), api.Instant(in.Until)
	rows, err := r.Ledger.listQuarantined(ctx, f)
	if err != nil {
		return nil, err
	}
	if err := r.hide(ctx, rows); err != nil {
		return nil, err
	}
	list, err := api.ListOf(ctx, page, rows, func(q quarantined) string { return q.id.String() })
	if err != nil {
		return nil, err
	}
	out := &quarantineOutput{}
	out.Body.NextCursor = list.NextCursor
	out.Body.Data = make([]quarantinedMessage, 0, len(list.Data))
	for _, q := range list.Data {
		out.Body.Data = append(out.Body.Data, quarantinedMessage{
			ID: q.id, StreamSeq: q.seq, Subject: q.subject, ReceivedAt: q.receivedAt, Reason: refusalReason(q.reason), Detail: q.detail, Data: q.data,
		})
	}
	return out, nil
}

// hide empties what came of events whose type demands a scope that the caller lacks. The detail of a refusal may quote the data.
func (r Routes) hide(ctx context.Context, rows []quarantined) error {
	if len(rows) == 0 {
		return nil
	}
	if _, err := r.Directory.Fresh(ctx); err != nil {
		return err
	}
	scopes := subscriptions.ViewOf(ctx).Scopes
	for i := range rows {
		if tenant, name, ok := event.SplitSubject(rows[i].subject); ok && !r.Directory.Covers(scopes, tenant, name) {
			rows[i].detail, rows[i].data = "the key lacks a scope of the event's type", []byte{}
		}
	}
	return nil
}
