package subscriptions

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/internal/api"
)

const (
	// catalogBytes is how large the schemas and descriptions of a catalog may be, catalogSamples how large its samples; those
	// beyond are left out.
	catalogBytes   = 8 << 20
	catalogSamples = 4 << 20
	// catalogPage is how many event types are read at once, catalogEach the bytes of one beside its schema.
	catalogPage = 20
	catalogEach = 1 << 10
	// catalogsAtOnce is how many catalogs are written at once, in turns of tenants; catalogWait is how long one waits for its place.
	catalogsAtOnce = 2
	catalogWait    = 10 * time.Second
)

func (r routes) catalogRoute(to huma.API) {
	huma.Get(to, "/v1/catalog", r.getCatalog, huma.OperationTags("Event types"), api.Scope(scopeReadTypes), describe("get-catalog", "Read the catalog",
		"An OpenAPI 3.1 document with a webhook for each event type, to generate receivers from: the body and the signature headers of requests with the "+
			"payload format `standard`, and the types' schemas and samples. Archived types are left out. For a key over all tenants that names none, only the types without a "+
			"tenant, which hold for every one: a type's name is unique within a tenant. At most 8 MiB of schemas, 422 beyond: narrow it by `type`; samples beyond 4 MiB are left out.", http.StatusOK))
}

func (r routes) getCatalog(ctx context.Context, in *struct {
	Type string `query:"type" maxLength:"128" doc:"Only event types that this pattern takes: order.created, order.*, order.>" example:"order.*"`
}) (*struct{ Body *catalog }, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return nil, err
	}
	if in.Type != "" {
		if err := ValidPattern(in.Type); err != nil {
			return nil, api.Invalid(api.At("query.type", err.Error()))
		}
	}
	leave, err := r.catalogs.Enter(ctx, tenant)
	if err != nil {
		return nil, err
	}
	defer leave()
	c, err := r.catalogOf(ctx, tenant, in.Type)
	if errors.Is(err, errLarge) {
		return nil, api.Invalid(api.At("query.type", "must be narrower: the schemas are larger than "+strconv.Itoa(catalogBytes)+" bytes"))
	}
	return &struct{ Body *catalog }{c}, problem(err)
}

// errLarge says that a catalog is too large.
var errLarge = errors.New("the catalog is too large")

// catalogOf writes the catalog of a tenant's types that a pattern takes; empty takes all.
func (r routes) catalogOf(ctx context.Context, tenant, pattern string) (*catalog, error) {
	c := newCatalog(tenant)
	room, samples := catalogBytes, catalogSamples
	q := EventTypeQuery{Tenant: tenant, Held: granted(ctx), Asc: true, Limit: catalogPage}
	for {
		types, err := r.store.ListEventTypes(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, t := range types {
			if t.Archived || pattern != "" && !patternTakes(pattern, t.Name) {
				continue
			}
			if room -= len(t.Schema) + len(t.Description) + catalogEach; room < 0 {
				return nil, errLarge
			}
			fits := len(t.Sample) <= samples
			if fits {
				samples -= len(t.Sample)
			}
			if err := c.add(t, fits); err != nil {
				return nil, err
			}
		}
		if len(types) < catalogPage {
			return c, nil
		}
		last := types[len(types)-1]
		q.AfterAt, q.AfterName, q.AfterTenant = last.CreatedAt, last.Name, last.Tenant
	}
}

// granted are the scopes that the caller was given as a key of its tenant. A caller over all tenants sees what the tenant sees.
func granted(ctx context.Context) []string {
	caller := api.CallerFrom(ctx)
	if caller.OverAll() {
		return nil
	}
	return caller.Scopes
}
