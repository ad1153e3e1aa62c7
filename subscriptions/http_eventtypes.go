package subscriptions

import (
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

func (s *Store) eventTypeRoutes(to huma.API) {
	tag := huma.OperationTags("Event types")
	const base, one = "/v1/event-types", "/v1/event-types/{name}"
	huma.Post(to, base, s.postEventType, tag, api.Scope(api.Admin), largeBody, describe("create-event-type", "Create an event type",
		"Describes events of this type. With a schema, publishing data that does not fit is refused. Without a tenant it holds for all tenants; "+
			"a tenant's own goes before it.", http.StatusCreated))
	huma.Get(to, base, s.getEventTypes, tag, api.Scope(scopeReadTypes), describe("list-event-types", "List event types",
		"Those of the tenant and those that are every tenant's; for an admin key that names no tenant, the latter only.", http.StatusOK))
	huma.Get(to, one, s.getEventType, tag, api.Scope(scopeReadTypes), describe("get-event-type", "Read an event type",
		"The tenant's own, or the one that is every tenant's.", http.StatusOK))
	huma.Patch(to, one, s.patchEventType, tag, api.Scope(api.Admin), largeBody, describe("update-event-type", "Change an event type",
		"A JSON Merge Patch, which merges into schema and sample as well: what they are to lose must be null.", http.StatusOK))
	huma.Delete(to, one, s.deleteEventType, tag, api.Scope(api.Admin), describe("delete-event-type", "Delete an event type",
		"Events of the type are judged as those of any unknown type from then on.", http.StatusNoContent))
	huma.Get(to, one+"/sample", s.getSample, tag, api.Scope(scopeReadTypes), describe("get-event-type-sample", "Read an event type's sample",
		"The sample as it is, without anything around it; 404 if the type has none.", http.StatusOK))
}

// largeBody makes room for a sample as large as an event's data.
func largeBody(op *huma.Operation) { op.MaxBodyBytes = maxSampleBytes + 2*maxSchemaBytes }

// settableType are the fields of an event type that can be changed.
type settableType struct {
	Description string          `json:"description,omitempty" example:"A customer placed an order"`
	Schema      json.RawMessage `json:"schema,omitempty" doc:"A JSON Schema 2020-12 that the data of events must fit; it refers to nothing outside of itself. Null for any data."`
	Sample      json.RawMessage `json:"sample,omitempty" doc:"Data as it could be; it must fit the schema. Null for none."`
	Scopes      []string        `json:"scopes,omitempty" maxItems:"20" doc:"The scopes that a key needs to subscribe to the type." example:"[\"view:purchases\"]"`
	Archived    bool            `json:"archived,omitempty" doc:"Takes no new subscriptions and no new events."`
}

// SettableType has an exported name only because huma passes over embedded fields that have not.
type SettableType = settableType

type newEventType struct {
	Tenant string `json:"tenant,omitempty" doc:"Whose type it is, here or as ?tenant=; every tenant's if left out." example:"acme"`
	Name   string `json:"name" doc:"1-128 of [A-Za-z0-9_] with dots." example:"order.created"`
	SettableType
}

type eventTypeJSON struct {
	Tenant      *string         `json:"tenant" doc:"Null for a type that is every tenant's." example:"acme"`
	Name        string          `json:"name" example:"order.created"`
	Description string          `json:"description" example:"A customer placed an order"`
	Schema      json.RawMessage `json:"schema" doc:"A JSON Schema 2020-12, or null."`
	Sample      json.RawMessage `json:"sample" doc:"Data as it could be, or null."`
	Scopes      []string        `json:"scopes" nullable:"false" example:"[\"view:purchases\"]"`
	Archived    bool            `json:"archived"`
	CreatedAt   time.Time       `json:"created_at"`
	UpdatedAt   time.Time       `json:"updated_at"`
}

type eventTypeOutput struct {
	ETag string `header:"ETag"`
	Body eventTypeJSON
}

func presentType(t *EventType) eventTypeJSON {
	return eventTypeJSON{
		Tenant: optional(t.Tenant), Name: t.Name, Description: t.Description, Schema: orNull(t.Schema), Sample: orNull(t.Sample),
		Scopes: notNil(t.Scopes), Archived: t.Archived, CreatedAt: t.CreatedAt.UTC(), UpdatedAt: t.UpdatedAt.UTC(),
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

func (s *Store) postEventType(ctx context.Context, in *struct {
	Tenant string `query:"tenant" doc:"Whose type it is; every tenant's if left out." example:"acme"`
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
	if err := s.CreateEventType(ctx, t); err != nil {
		return nil, problem(err)
	}
	return outputType(t), nil
}

// into sets what can be changed.
func (in *settableType) into(t *EventType) {
	t.Description, t.Schema, t.Sample, t.Scopes, t.Archived = in.Description, in.Schema, in.Sample, in.Scopes, in.Archived
}

func (s *Store) getEventTypes(ctx context.Context, in *api.ListInput) (*struct{ Body api.List[eventTypeJSON] }, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return nil, err
	}
	page, err := in.Page(ctx)
	if err != nil {
		return nil, err
	}
	q := EventTypeQuery{Tenant: tenant, Asc: page.Asc, Limit: page.Fetch()}
	if page.After != "" {
		micros, name, _ := strings.Cut(page.After, " ")
		n, err := strconv.ParseInt(micros, 10, 64)
		if err != nil {
			return nil, api.Invalid(api.At("query.cursor", "is not a cursor of this list"))
		}
		q.AfterAt, q.AfterName = time.UnixMicro(n), name
	}
	types, err := s.ListEventTypes(ctx, q)
	if err != nil {
		return nil, problem(err)
	}
	items := make([]eventTypeJSON, len(types))
	for i, t := range types {
		items[i] = presentType(t)
	}
	list, err := api.ListOf(ctx, page, items, func(t eventTypeJSON) string {
		return strconv.FormatInt(t.CreatedAt.UnixMicro(), 10) + " " + t.Name
	})
	return &struct{ Body api.List[eventTypeJSON] }{list}, err
}

type nameInput struct {
	Name string `path:"name" doc:"The event type." example:"order.created"`
}

// typeFor reads an event type for whoever is calling.
func (s *Store) typeFor(ctx context.Context, name string) (*EventType, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return nil, err
	}
	t, err := s.EventTypeFor(ctx, tenant, name)
	return t, problem(err)
}

func (s *Store) getEventType(ctx context.Context, in *nameInput) (*eventTypeOutput, error) {
	t, err := s.typeFor(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return outputType(t), nil
}

func (s *Store) getSample(ctx context.Context, in *nameInput) (*struct{ Body json.RawMessage }, error) {
	t, err := s.typeFor(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	if len(t.Sample) == 0 {
		return nil, api.NotFound()
	}
	return &struct{ Body json.RawMessage }{t.Sample}, nil
}

// ownType reads exactly the type that an admin means: the tenant's own, or the one that is every tenant's.
func (s *Store) ownType(ctx context.Context, name string) (*EventType, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return nil, err
	}
	t, err := s.GetEventType(ctx, tenant, name)
	return t, problem(err)
}

func (s *Store) patchEventType(ctx context.Context, in *struct {
	Name   string `path:"name" doc:"The event type." example:"order.created"`
	Tenant string `query:"tenant" doc:"Whose type is meant; every tenant's if left out." example:"acme"`
	api.Precondition
	Body api.Patch[settableType]
}) (*eventTypeOutput, error) {
	for try := 1; ; try++ {
		t, err := s.ownType(ctx, in.Name)
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
		next.into(t)
		err = s.UpdateEventType(ctx, t)
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
	return settableType{Description: t.Description, Schema: t.Schema, Sample: t.Sample, Scopes: t.Scopes, Archived: t.Archived}
}

func (s *Store) deleteEventType(ctx context.Context, in *struct {
	Name   string `path:"name" doc:"The event type." example:"order.created"`
	Tenant string `query:"tenant" doc:"Whose type is meant; every tenant's if left out." example:"acme"`
	api.Precondition
}) (*struct{}, error) {
	t, err := s.ownType(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	if err := in.Check(typeETag(t)); err != nil {
		return nil, err
	}
	return nil, problem(s.DeleteEventType(ctx, t.Tenant, t.Name))
}
