package changes

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/fair"
)

// These members of a subscription's definition are not shown: the scopes of its key, and whether its requests are signed.
const (
	Scopes = "granted_scopes"
	Signed = "signed"
)

// readable is the scope that reading a resource needs. A key with api.AdminRead reads the changes of all.
var readable = []struct{ resource, scope string }{
	{Subscription, "subscriptions:read"}, {EventType, "events:read"}, {Key, "keys:write"}, {Tenant, api.AdminRead},
}

// Routes adds the operations of the history to an API. They are costly, and take a place in heavy; nil is no bound.
func Routes(to huma.API, log *Log, heavy *fair.Room) {
	r := routes{log, heavy}
	api.Register(to, r.list, "", huma.Operation{
		Method: http.MethodGet, Path: "/v1/changes", OperationID: "list-changes", Summary: "List changes", Tags: []string{"Changes"},
		Description: "Who changed which subscription, event type, key or tenant, and how. A key sees the changes of the resources that it may read; " +
			"naming one that it may not read is a 403. With admin:read, that is all of them. Secrets, header values, user names and client ids, and the parts of URLs that may hold a token are masked. " +
			"A page with more than 4 MiB of definitions is shorter than `limit`: go on until `next_cursor` is null.",
	})
	of := huma.Operation{
		Method: http.MethodGet, Path: "/v1/subscriptions/{id}/changes", OperationID: "list-subscription-changes",
		Summary: "List the changes of a subscription", Tags: []string{"Changes"},
		Description: "Also of one that was deleted, for as long as changes are kept.",
	}
	api.Instead(api.AdminRead)(&of)
	api.Register(to, r.ofSubscription, "subscriptions:read", of)
}

type routes struct {
	log   *Log
	heavy *fair.Room
}

// ChangeJSON is a change as the API shows it.
type ChangeJSON struct {
	ID         uuid.UUID                  `json:"id" format:"uuid" example:"0198c0de-7a3c-7000-8000-5f1e2d3c4b5a"`
	At         time.Time                  `json:"at" example:"2026-11-20T10:00:00Z"`
	Tenant     *string                    `json:"tenant" nullable:"true" doc:"Null for what belongs to no tenant." example:"acme"`
	Actor      Actor                      `json:"actor"`
	Action     string                     `json:"action" enum:"create,update,delete,pause,resume,disable,enable,rotate_secret" example:"update"`
	Resource   string                     `json:"resource" enum:"subscription,event_type,key,tenant" example:"subscription"`
	ResourceID string                     `json:"resource_id" example:"0198c0de-7a3c-7000-8000-5f1e2d3c4b5b"`
	Revision   int64                      `json:"revision" doc:"Grows with each change of the resource." example:"42"`
	Changed    []string                   `json:"changed" nullable:"false" doc:"The fields that changed; empty on create and delete." example:"[\"url\"]"`
	Before     map[string]json.RawMessage `json:"before" nullable:"true" doc:"The definition before the change; null on create."`
	After      map[string]json.RawMessage `json:"after" nullable:"true" doc:"The definition after the change; null on delete."`
}

func (r row) shown() (ChangeJSON, error) {
	before, err := shown(r.before)
	if err != nil {
		return ChangeJSON{}, err
	}
	after, err := shown(r.after)
	if err != nil {
		return ChangeJSON{}, err
	}
	s := ChangeJSON{
		ID: r.id, At: r.at.UTC(), Actor: r.actor, Action: r.action, Resource: r.resource, ResourceID: r.resourceID, Revision: r.revision,
		Changed: r.changed, Before: before, After: after,
	}
	if r.tenant != "" {
		s.Tenant = &r.tenant
	}
	return s, nil
}

// SpanInput holds the filters that both lists have; its name is exported because huma skips embedded fields of unexported types.
type SpanInput struct {
	api.ListInput
	Actor string    `query:"actor" maxLength:"256" doc:"Changes by this actor: its id, which is admin for the first admin key and system for the system." example:"4fUxJ0zQ7aBc"`
	Since time.Time `query:"since" doc:"Changes at this time or later." example:"2026-11-20T10:00:00Z"`
	Until time.Time `query:"until" doc:"Changes before this time." example:"2026-11-21T00:00:00Z"`
}

type listInput struct {
	SpanInput
	Resource string `query:"resource" enum:"subscription,event_type,key,tenant" doc:"Changes of this kind of resource." example:"subscription"`
	ID       string `query:"id" maxLength:"128" doc:"Changes of the resource with this id: for event types and tenants, the name." example:"0198c0de-7a3c-7000-8000-5f1e2d3c4b5b"`
}

type ofSubscriptionInput struct {
	SpanInput
	ID string `path:"id" doc:"The subscription's id." example:"0198c0de-7a3c-7000-8000-5f1e2d3c4b5a"`
}

type listOutput struct{ Body api.List[ChangeJSON] }

func (r routes) list(ctx context.Context, in *listInput) (*listOutput, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return nil, err
	}
	q := query{tenant: tenant, resourceID: in.ID}
	caller := api.CallerFrom(ctx)
	var lacking error
	for _, kind := range readable {
		if in.Resource != "" && in.Resource != kind.resource {
			continue
		}
		if err := caller.Require(kind.scope); err != nil && !caller.Has(api.AdminRead) {
			lacking = err
			continue
		}
		q.resources = append(q.resources, kind.resource)
	}
	if len(q.resources) == 0 {
		return nil, lacking
	}
	return r.page(ctx, &in.SpanInput, q)
}

func (r routes) ofSubscription(ctx context.Context, in *ofSubscriptionInput) (*listOutput, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return nil, err
	}
	id, err := api.ParseID(in.ID)
	if err != nil {
		return nil, err
	}
	ok, err := r.log.has(ctx, tenant, id)
	if err == nil && !ok {
		err = api.NotFound()
	}
	if err != nil {
		return nil, err
	}
	return r.page(ctx, &in.SpanInput, query{tenant: tenant, resources: []string{Subscription}, resourceID: id.String()})
}

// page reads the part of a list that is asked for.
func (r routes) page(ctx context.Context, in *SpanInput, q query) (*listOutput, error) {
	page, err := in.Page(ctx)
	if err != nil {
		return nil, err
	}
	if q.after, err = page.AfterID(); err != nil {
		return nil, err
	}
	q.actor, q.since, q.until, q.asc, q.limit = in.Actor, api.Instant(in.Since), api.Instant(in.Until), page.Asc, page.Fetch()
	leave, err := r.heavy.Enter(ctx, q.tenant)
	if err != nil {
		return nil, err
	}
	defer leave()
	rows, cut, err := r.log.list(ctx, q)
	if err != nil {
		return nil, err
	}
	if cut {
		page.CutAt(rows[len(rows)-1].id)
	}
	items := make([]ChangeJSON, len(rows))
	for i, row := range rows {
		if items[i], err = row.shown(); err != nil {
			return nil, err
		}
	}
	list, err := api.ListOf(ctx, page, items, func(s ChangeJSON) string { return s.ID.String() })
	if err != nil {
		return nil, err
	}
	return &listOutput{Body: list}, nil
}
