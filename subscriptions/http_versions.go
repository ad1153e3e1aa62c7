package subscriptions

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/changes"
)

type eventTypeVersionJSON struct {
	Version int             `json:"version" example:"2"`
	Schema  json.RawMessage `json:"schema" doc:"The JSON Schema from then on, or null."`
	At      time.Time       `json:"at"`
	Actor   changes.Actor   `json:"actor"`
}

func (r routes) getVersions(ctx context.Context, in *struct {
	Name string `path:"name" doc:"The event type." example:"order.created"`
	api.ListInput
}) (*struct {
	Body api.List[eventTypeVersionJSON]
}, error) {
	t, err := r.typeFor(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	page, err := in.Page(ctx)
	if err != nil {
		return nil, err
	}
	after := 0
	if page.After != "" {
		if after, err = strconv.Atoi(page.After); err != nil {
			return nil, api.Invalid(api.At("query.cursor", "is not a cursor of this list"))
		}
	}
	versions, err := r.store.Versions(ctx, VersionQuery{Tenant: t.Tenant, Name: t.Name, After: after, Asc: page.Asc, Limit: page.Fetch()})
	if err != nil {
		return nil, problem(err)
	}
	items := make([]eventTypeVersionJSON, len(versions))
	for i, v := range versions {
		items[i] = eventTypeVersionJSON{Version: v.Number, Schema: orNull(v.Schema), At: v.At.UTC(), Actor: v.Actor}
	}
	list, err := api.ListOf(ctx, page, items, func(v eventTypeVersionJSON) string { return strconv.Itoa(v.Version) })
	return &struct {
		Body api.List[eventTypeVersionJSON]
	}{list}, err
}
