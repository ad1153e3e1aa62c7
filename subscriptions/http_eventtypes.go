package subscriptions

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/internal/api"
)

const scopeReadTypes = "events:read"

func (r routes) eventTypeRoutes(to huma.API) {
	tag := huma.OperationTags("Event types")
	const base, one = "/v1/event-types", "/v1/event-types/{name}"
	huma.Post(to, base, r.postEventType, tag, api.Scope(api.Admin), largeBody, describe("create-event-type", "Create an event type",
		"Describes events of this type. With a schema, publishing data that does not fit is refused, unless `validation` says otherwise. Without a tenant it applies to all tenants; "+
			"a tenant's own type takes precedence.", http.StatusCreated))
	huma.Get(to, base, r.getEventTypes, tag, api.Scope(scopeReadTypes), describe("list-event-types", "List event types",
		"The types of the tenant and those of all tenants; for a key over all tenants that names none, the types of each tenant as well. Types that a vendor's dialect brought are listed "+
			"to tenants that have subscriptions of it, and to keys with the type's scopes.", http.StatusOK))
	huma.Get(to, one, r.getEventType, tag, api.Scope(scopeReadTypes), describe("get-event-type", "Read an event type",
		"The tenant's own type, or the one of all tenants.", http.StatusOK))
	huma.Patch(to, one, r.patchEventType, tag, api.Scope(api.Admin), largeBody, describe("update-event-type", "Change an event type",
		"A JSON Merge Patch, which merges into schema and sample as well: set members to null to remove them. A schema that refuses what the former "+
			"one took is 409 unless `breaking=true`: the sample, one of the last 1,000 events of the type (as far as 16 MiB and 8 seconds reach), or a "+
			"value, where the two schemas tell. A change of `validation` to enforce is held against these events in the same way. The problem's `errors` are the places: `body.sample.total`, `event.evt_17.data.total`, and JSON Pointers into "+
			"the new schema such as `body.schema/properties/total/type`.", http.StatusOK))
	huma.Delete(to, one, r.deleteEventType, tag, api.Scope(api.Admin), describe("delete-event-type", "Delete an event type",
		"Events of the type are judged as those of any unknown type from then on. A type that others name in `replaced_by` is 409.", http.StatusNoContent))
	huma.Get(to, one+"/versions", r.getVersions, tag, api.Scope(scopeReadTypes), describe("list-event-type-versions", "List the versions of an event type's schema",
		"A version for each change of the schema, newest first; its number is `schema_version` of the type until the next one. The newest 100 of 1 MiB in all are kept.",
		http.StatusOK))
	huma.Get(to, one+"/sample", r.getSample, tag, api.Scope(scopeReadTypes), describe("get-event-type-sample", "Read an event type's sample",
		"The bare sample; 404 if the type has none.", http.StatusOK))
}

// largeBody makes room for a sample as large as an event's data.
func largeBody(op *huma.Operation) { op.MaxBodyBytes = maxSampleBytes + 2*maxSchemaBytes }

// settableType holds the fields of an event type that can be changed.
type settableType struct {
	Description string          `json:"description,omitempty" example:"A customer placed an order"`
	Schema      json.RawMessage `json:"schema,omitempty" doc:"A JSON Schema 2020-12 that the data of events must fit; it refers to nothing outside of itself. Null for any data."`
	Sample      json.RawMessage `json:"sample,omitempty" doc:"Data as it could be; it must fit the schema. Null for none."`
	Scopes      []string        `json:"scopes,omitempty" maxItems:"20" doc:"The scopes that a key needs to subscribe to the type." example:"[\"view:purchases\"]"`
	Archived    bool            `json:"archived,omitempty" doc:"Takes no new subscriptions and no new events."`
	Deprecated  bool            `json:"deprecated,omitempty" doc:"Should not be published or subscribed to any more."`
	ReplacedBy  string          `json:"replaced_by,omitempty" maxLength:"128" doc:"The event type to use instead; it must exist. Null for none."`
	Validation  Validation      `json:"validation,omitempty" enum:"off,warn,enforce" default:"enforce" doc:"What becomes of an event whose data does not fit the schema: enforce refuses it, warn accepts it with schema_valid false, off does not look. Null is enforce."`
}

// PatchName is the name of a patch of it in the document.
func (settableType) PatchName() string { return "EventTypePatch" }

// SettableType is exported only because huma skips embedded fields of unexported types.
type SettableType = settableType

type newEventType struct {
	Tenant string `json:"tenant,omitempty" doc:"The type's tenant, here or as ?tenant=; all tenants if omitted." example:"acme"`
	Name   string `json:"name" doc:"1-128 of [A-Za-z0-9_] with dots; not beginning with fanfare." example:"order.created"`
	SettableType
}

type eventTypeJSON struct {
	Tenant      *string         `json:"tenant" doc:"Null for a type of all tenants." example:"acme"`
	Name        string          `json:"name" example:"order.created"`
	Description string          `json:"description" example:"A customer placed an order"`
	Schema      json.RawMessage `json:"schema" doc:"A JSON Schema 2020-12, or null."`
	Sample      json.RawMessage `json:"sample" doc:"Data as it could be, or null."`
	Scopes      []string        `json:"scopes" nullable:"false" example:"[\"view:purchases\"]"`
	Archived    bool            `json:"archived"`

	Deprecated    bool       `json:"deprecated"`
	ReplacedBy    *string    `json:"replaced_by" doc:"The event type to use instead, or null." example:"order.placed"`
	Validation    Validation `json:"validation" enum:"off,warn,enforce" example:"enforce"`
	SchemaVersion int        `json:"schema_version" doc:"Grows with each change of the schema; 0 for a type that never had one." example:"1"`

	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

type eventTypeOutput struct {
	ETag string `header:"ETag"`
	Body eventTypeJSON
}

func presentType(t *EventType) eventTypeJSON {
	return eventTypeJSON{
		Tenant: optional(t.Tenant), Name: t.Name, Description: t.Description, Schema: orNull(t.Schema), Sample: orNull(t.Sample),
		Scopes: notNil(t.Scopes), Archived: t.Archived, Deprecated: t.Deprecated, ReplacedBy: optional(t.ReplacedBy),
		Validation: cmp.Or(t.Validation, Enforce), SchemaVersion: t.SchemaVersion, CreatedAt: t.CreatedAt.UTC(), UpdatedAt: t.UpdatedAt.UTC(),
	}
}

func orNull(text json.RawMessage) json.RawMessage {
	if len(text) == 0 {
		return json.RawMessage("null")
	}
	return text
}

func outputType(t *EventType) *eventTypeOutput {
	return &eventTypeOutput{ETag: typeETag(t), Body: presentType(t)}
}

func typeETag(t *EventType) string { return api.ETag(t.Tenant, t.Name, t.Revision) }

func (r routes) postEventType(ctx context.Context, in *struct {
	Tenant string `query:"tenant" doc:"The type's tenant; all tenants if omitted." example:"acme"`
	Body   newEventType
}) (*eventTypeOutput, error) {
	tenant, err := api.TenantOrAny(ctx, in.Body.Tenant)
	if err == nil && tenant != "" {
		tenant, err = api.TenantOf(ctx, in.Body.Tenant)
	}
	if err != nil {
		return nil, err
	}
	t := &EventType{Tenant: tenant, Name: in.Body.Name}
	in.Body.into(t)
	if err := r.store.CreateEventType(ctx, t); err != nil {
		return nil, problem(err)
	}
	return outputType(t), nil
}

// into sets the fields that can be changed.
func (in *settableType) into(t *EventType) {
	t.Description, t.Schema, t.Sample, t.Scopes, t.Archived = in.Description, in.Schema, in.Sample, in.Scopes, in.Archived
	t.Deprecated, t.ReplacedBy, t.Validation = in.Deprecated, in.ReplacedBy, in.Validation
}

func (r routes) getEventTypes(ctx context.Context, in *api.ListInput) (*struct{ Body api.List[eventTypeJSON] }, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return nil, err
	}
	page, err := in.Page(ctx)
	if err != nil {
		return nil, err
	}
	q := EventTypeQuery{Tenant: tenant, Held: granted(ctx), All: tenant == "", Asc: page.Asc, Limit: page.Fetch()}
	if page.After != "" {
		micros, after, _ := strings.Cut(page.After, " ")
		n, err := strconv.ParseInt(micros, 10, 64)
		if err != nil {
			return nil, api.Invalid(api.At("query.cursor", "is not a cursor of this list"))
		}
		q.AfterAt = time.UnixMicro(n)
		q.AfterName, q.AfterTenant, _ = strings.Cut(after, " ")
	}
	types, err := r.store.ListEventTypes(ctx, q)
	if err != nil {
		return nil, problem(err)
	}
	items := make([]eventTypeJSON, len(types))
	for i, t := range types {
		items[i] = presentType(t)
	}
	list, err := api.ListOf(ctx, page, items, func(t eventTypeJSON) string {
		place := strconv.FormatInt(t.CreatedAt.UnixMicro(), 10) + " " + t.Name
		if t.Tenant != nil {
			place += " " + *t.Tenant
		}
		return place
	})
	return &struct{ Body api.List[eventTypeJSON] }{list}, err
}

type nameInput struct {
	Name string `path:"name" doc:"The event type." example:"order.created"`
}

// typeFor reads an event type for the caller.
func (r routes) typeFor(ctx context.Context, name string) (*EventType, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return nil, err
	}
	t, err := r.store.EventTypeFor(ctx, tenant, name)
	return t, problem(err)
}

func (r routes) getEventType(ctx context.Context, in *nameInput) (*eventTypeOutput, error) {
	t, err := r.typeFor(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return outputType(t), nil
}

func (r routes) getSample(ctx context.Context, in *nameInput) (*struct{ Body json.RawMessage }, error) {
	t, err := r.typeFor(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	if len(t.Sample) == 0 {
		return nil, api.NotFound()
	}
	return &struct{ Body json.RawMessage }{t.Sample}, nil
}

// ownType reads the type that an admin names: the tenant's own, or the one of all tenants.
func (r routes) ownType(ctx context.Context, name string) (*EventType, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return nil, err
	}
	t, err := r.store.GetEventType(ctx, tenant, name)
	return t, problem(err)
}

func (r routes) patchEventType(ctx context.Context, in *struct {
	Name     string `path:"name" doc:"The event type." example:"order.created"`
	Tenant   string `query:"tenant" doc:"The type's tenant; all tenants if omitted." example:"acme"`
	Breaking bool   `query:"breaking" doc:"Also takes a schema that refuses what the former one took. A sample that it refuses is removed, unless the patch gives one."`
	api.Precondition
	Body api.Patch[settableType]
}) (*eventTypeOutput, error) {
	for try := 1; ; try++ {
		t, err := r.ownType(ctx, in.Name)
		if err != nil {
			return nil, err
		}
		if err := in.Check(typeETag(t)); err != nil {
			return nil, err
		}
		next, err := in.Body.Apply(settableTypeOf(t))
		if err != nil {
			return nil, err
		}
		former := &EventType{Tenant: t.Tenant, Name: t.Name, Schema: t.Schema, Sample: t.Sample, Validation: t.Validation}
		next.into(t)
		if err := r.checkBreaking(ctx, former, t, in.Breaking); err != nil {
			return nil, err
		}
		err = r.store.UpdateEventType(ctx, t)
		if errors.Is(err, ErrChanged) && try < patchTries {
			continue
		}
		if err != nil {
			return nil, problem(err)
		}
		return outputType(t), nil
	}
}

func settableTypeOf(t *EventType) settableType {
	return settableType{
		Description: t.Description, Schema: t.Schema, Sample: t.Sample, Scopes: t.Scopes, Archived: t.Archived,
		Deprecated: t.Deprecated, ReplacedBy: t.ReplacedBy, Validation: t.Validation,
	}
}

func (r routes) deleteEventType(ctx context.Context, in *struct {
	Name   string `path:"name" doc:"The event type." example:"order.created"`
	Tenant string `query:"tenant" doc:"The type's tenant; all tenants if omitted." example:"acme"`
	api.Precondition
}) (*struct{}, error) {
	t, err := r.ownType(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	if err := in.Check(typeETag(t)); err != nil {
		return nil, err
	}
	return nil, problem(r.store.DeleteEventType(ctx, t.Tenant, t.Name))
}
