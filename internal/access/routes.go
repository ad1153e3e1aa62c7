package access

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/quota"
)

// Routes adds the operations of keys and tenants.
func (a *Access) Routes(to huma.API) {
	tag := huma.OperationTags("Keys")
	huma.Post(to, "/v1/keys", a.createKey, tag, api.Scope(scopeKeys), describe("create-key", "Create a key",
		"Makes a key and shows it, this once. It can have no scope that the caller lacks, and ends no later than the caller's own key or token. "+
			"An admin key can make one over all tenants (`\"tenant\": null`): it reads of all tenants what its scopes allow, names the tenant in "+
			"`?tenant=` or in the body to write, and makes no keys.",
		http.StatusCreated))
	huma.Get(to, "/v1/keys", a.listKeys, tag, api.Scope(scopeKeys), describe("list-keys", "List keys",
		"The keys that are not revoked, without their secrets. An admin key that names no tenant sees those of all tenants and those over all tenants.",
		http.StatusOK))
	huma.Delete(to, "/v1/keys/{id}", a.revokeKey, tag, api.Scope(scopeKeys), describe("revoke-key", "Revoke a key",
		"Ends the key in every process within 5 seconds.", http.StatusNoContent))

	tag = huma.OperationTags("Tenants")
	huma.Get(to, "/v1/tenants", a.listTenants, tag, api.Scope(api.AdminRead), describe("list-tenants", "List tenants",
		"Every tenant that is not deleted, with the number of its subscriptions by status. With `q`, a page may be shorter than `limit`, even empty, "+
			"while `next_cursor` is not null: go on until it is null.", http.StatusOK))
	huma.Get(to, "/v1/tenants/{tenant}", a.getTenant, tag, api.Scope(api.AdminRead), describe("get-tenant", "Read a tenant",
		"A tenant exists from its first use. While it is erased, the answer says how far that is; then it is gone (404).", http.StatusOK))
	huma.Put(to, "/v1/tenants/{tenant}", a.putTenant, tag, api.Scope(api.Admin), describe("put-tenant", "Describe a tenant",
		"Sets name, metadata and limits, and makes the tenant if there is none. The name of a deleted tenant is not given again (409).",
		http.StatusOK))
	huma.Delete(to, "/v1/tenants/{tenant}", a.deleteTenant, tag, api.Scope(api.Admin), describe("delete-tenant", "Erase a tenant",
		"Ends the tenant's keys at once and erases all that belongs to it in the background. It is gone for every route from now on.",
		http.StatusAccepted))
}

func describe(id, summary, description string, status int) func(*huma.Operation) {
	return func(op *huma.Operation) {
		op.OperationID, op.Summary, op.Description, op.DefaultStatus = id, summary, description, status
	}
}

type keyJSON struct {
	ID         string     `json:"id" example:"4fUxJ0zQ7aBc"`
	Tenant     *string    `json:"tenant" doc:"Null for keys over all tenants." example:"acme"`
	Name       string     `json:"name" example:"Order service"`
	Scopes     []string   `json:"scopes" nullable:"false" doc:"Empty for admin keys, which hold every scope." example:"[\"events:write\"]"`
	Admin      bool       `json:"admin"`
	CreatedAt  time.Time  `json:"created_at"`
	ExpiresAt  *time.Time `json:"expires_at" nullable:"true" doc:"Null if it does not end by itself."`
	LastUsedAt *time.Time `json:"last_used_at" nullable:"true" doc:"To the minute; null if it was not used yet."`
	Key        string     `json:"key,omitempty" doc:"The key itself, in the answer to its creation only." example:"ff_4fUxJ0zQ7aBc_..."`
}

type newKeyJSON struct {
	Name      string     `json:"name" minLength:"1" maxLength:"200" example:"Order service"`
	Scopes    []string   `json:"scopes,omitempty" nullable:"false" maxItems:"64" pattern:"^[a-z_:]{1,64}$" doc:"What the key may do: events:write, events:read, subscriptions:read, subscriptions:write, deliveries:read, deliveries:write, keys:write (of a tenant only), admin:read (over all tenants only), and what event types demand." example:"[\"events:write\"]"`
	ExpiresAt *time.Time `json:"expires_at,omitempty" nullable:"true" doc:"When the key ends; never, if left out."`
	Tenant    keyTenant  `json:"tenant,omitempty" doc:"Admin keys must name the tenant, here or as ?tenant=; null makes a key over all tenants." example:"acme"`
	Admin     bool       `json:"admin,omitempty" doc:"Makes an admin key, without tenant and scopes. Only admin keys can."`
}

func present(k *Key) keyJSON {
	out := keyJSON{ID: k.ID, Name: k.Name, Scopes: k.Scopes, Admin: k.Admin, CreatedAt: k.CreatedAt}
	if out.Scopes == nil {
		out.Scopes = []string{}
	}
	if k.Tenant != "" {
		out.Tenant = &k.Tenant
	}
	if !k.ExpiresAt.IsZero() {
		out.ExpiresAt = &k.ExpiresAt
	}
	if !k.LastUsedAt.IsZero() {
		out.LastUsedAt = &k.LastUsedAt
	}
	return out
}

func (a *Access) listKeys(ctx context.Context, in *api.ListInput) (*struct{ Body api.List[keyJSON] }, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return nil, err
	}
	page, err := in.Page(ctx)
	if err != nil {
		return nil, err
	}
	ask := keyPage{tenant: tenant, asc: page.Asc, limit: page.Fetch()}
	if page.After != "" {
		if ask.afterAt, ask.afterID, err = parsePosition(page.After); err != nil {
			return nil, err
		}
	}
	keys, err := a.store.listKeys(ctx, ask)
	if err != nil {
		return nil, away(err)
	}
	items := make([]keyJSON, len(keys))
	for i, k := range keys {
		items[i] = present(k)
	}
	body, err := api.ListOf(ctx, page, items, position)
	return &struct{ Body api.List[keyJSON] }{body}, err
}

// position of a key in the list: when it was made, in µs, and its id.
func position(k keyJSON) string { return fmt.Sprintf("%d.%s", k.CreatedAt.UnixMicro(), k.ID) }

func parsePosition(text string) (time.Time, string, error) {
	at, id, _ := strings.Cut(text, ".")
	micros, err := strconv.ParseInt(at, 10, 64)
	if err != nil || id == "" {
		return time.Time{}, "", api.Invalid(api.At("query.cursor", "is not a cursor of this list"))
	}
	return time.UnixMicro(micros), id, nil
}

func (a *Access) revokeKey(ctx context.Context, in *struct {
	ID string `path:"id" doc:"The key's id: the part between ff_ and the second underscore." example:"4fUxJ0zQ7aBc"`
}) (*struct{}, error) {
	tenant, err := api.TenantOrAny(ctx, "")
	if err != nil {
		return nil, err
	}
	found, err := a.store.revokeKey(ctx, tenant, in.ID)
	if err != nil {
		return nil, away(err)
	}
	if !found {
		return nil, api.NotFound()
	}
	a.keys.forget(in.ID)
	a.log.InfoContext(ctx, "key revoked", "key", in.ID, "tenant", tenant)
	return nil, nil
}

type tenantJSON struct {
	Tenant    string            `json:"tenant" example:"acme"`
	State     string            `json:"state,omitempty" enum:"erasing" doc:"erasing while a deleted tenant is erased; else left out"`
	Progress  *erasureProgress  `json:"progress,omitempty" doc:"of the erasure; else left out"`
	Name      string            `json:"name" example:"Acme Inc."`
	Metadata  map[string]string `json:"metadata" nullable:"false"`
	CreatedAt time.Time         `json:"created_at"`
	UpdatedAt time.Time         `json:"updated_at"`
	Limits    tenantLimits      `json:"limits" doc:"What the tenant was given; null where the default of the settings holds."`
	Usage     tenantUsage       `json:"usage" doc:"What the tenant has of it."`
}

// erasureProgress counts rows and messages.
type erasureProgress struct {
	Done  int64 `json:"done"`
	Total int64 `json:"total" doc:"0 until it is counted"`
}

type tenantPath struct {
	Tenant string `path:"tenant" doc:"The tenant's name: 1-64 of [A-Za-z0-9_-]." example:"acme"`
}

type putTenantInput struct {
	Tenant string `path:"tenant" doc:"The tenant's name: 1-64 of [A-Za-z0-9_-]." example:"acme"`
	Body   tenantDescription
}

// tenantDescription is the body of put-tenant.
type tenantDescription struct {
	Name     string            `json:"name,omitempty" maxLength:"200" example:"Acme Inc."`
	Metadata map[string]string `json:"metadata,omitempty" maxProperties:"50"`
	Limits   *quota.Limits     `json:"limits,omitempty" doc:"What the tenant may have and do, in place of all its own limits before; each that is left out or null is the default. If limits is left out, they stay as they are."`
}

type tenantOutput struct{ Body tenantJSON }

func (a *Access) presentTenant(ctx context.Context, t *Tenant) (*tenantOutput, error) {
	used, err := a.used(ctx, t.Tenant)
	if err != nil {
		return nil, err
	}
	out := &tenantOutput{Body: tenantJSON{
		Tenant: t.Tenant, Name: t.Name, Metadata: t.Metadata, CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt, Usage: used,
	}}
	if t.Limits != nil {
		out.Body.Limits = tenantLimits(*t.Limits)
	}
	if out.Body.Metadata == nil {
		out.Body.Metadata = map[string]string{}
	}
	return out, nil
}

func (a *Access) getTenant(ctx context.Context, in *tenantPath) (*tenantOutput, error) {
	if !api.ValidTenant(in.Tenant) {
		return nil, api.NotFound()
	}
	gone, at, err := a.store.erasing(ctx, in.Tenant)
	if err != nil {
		return nil, away(err)
	}
	if gone != nil {
		out, err := a.presentTenant(ctx, gone)
		if err != nil {
			return nil, err
		}
		out.Body.State, out.Body.Progress = "erasing", &erasureProgress{Done: at.done, Total: at.total}
		return out, nil
	}
	t, err := a.find(ctx, in.Tenant)
	if err != nil {
		return nil, err
	}
	return a.presentTenant(ctx, t)
}

func (a *Access) find(ctx context.Context, name string) (*Tenant, error) {
	if !api.ValidTenant(name) {
		return nil, api.NotFound()
	}
	t, err := a.store.tenant(ctx, name)
	if err != nil {
		return nil, away(err)
	}
	if t == nil {
		return nil, api.NotFound()
	}
	return t, nil
}

func (a *Access) putTenant(ctx context.Context, in *putTenantInput) (*tenantOutput, error) {
	if !api.ValidTenant(in.Tenant) {
		return nil, api.NotFound()
	}
	t := &Tenant{Tenant: in.Tenant, Name: in.Body.Name, Metadata: in.Body.Metadata, Limits: in.Body.Limits}
	if t.Metadata == nil {
		t.Metadata = map[string]string{}
	}
	put, err := a.store.putTenant(ctx, t)
	if errors.Is(err, errErased) {
		return nil, api.Conflict("the tenant was deleted, and its name is not given again")
	}
	if err != nil {
		return nil, away(err)
	}
	if in.Body.Limits != nil {
		a.store.quotas.Note(in.Tenant, *in.Body.Limits)
	}
	return a.presentTenant(ctx, put)
}

// deletedTenantOutput is the erasing that has begun.
type deletedTenantOutput struct {
	Body erasure
}

// erasure names the tenant whose erasure has begun.
type erasure struct {
	Tenant string `json:"tenant" example:"acme"`
	State  string `json:"state" enum:"erasing"`
}

func (a *Access) deleteTenant(ctx context.Context, in *tenantPath) (*deletedTenantOutput, error) {
	if _, err := a.find(ctx, in.Tenant); err != nil {
		return nil, err
	}
	ids, err := a.store.deleteTenant(ctx, in.Tenant)
	if err != nil {
		return nil, away(err)
	}
	a.tenants.forget(in.Tenant)
	a.keys.forget(ids...)
	out := &deletedTenantOutput{}
	out.Body.Tenant, out.Body.State = in.Tenant, "erasing"
	return out, nil
}
