package access

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/internal/api"
)

// scopeKeys is the scope of making and revoking keys.
const scopeKeys = "keys:write"

// keyTenant is the tenant of a new key: a name, null for a key over all tenants, or left out.
type keyTenant struct {
	name string
	null bool
}

// UnmarshalJSON tells null from a tenant that is left out.
func (t *keyTenant) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		t.null = true
		return nil
	}
	return json.Unmarshal(data, &t.name)
}

// Schema is that of a text or null.
func (keyTenant) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Nullable: true}
}

func (a *Access) createKey(ctx context.Context, in *struct{ Body newKeyJSON }) (*struct{ Body keyJSON }, error) {
	// Microseconds are what Postgres keeps.
	k := &Key{Name: in.Body.Name, CreatedAt: a.now().UTC().Truncate(time.Microsecond)}
	err := a.grant(ctx, k, in.Body)
	if err != nil {
		return nil, err
	}
	id, whole := newKey()
	k.ID, k.hash = id, a.hasher.hash(whole)
	if err := a.store.insertKey(ctx, k); errors.Is(err, errErased) {
		return nil, api.NotFound()
	} else if err != nil {
		return nil, away(err)
	}
	a.log.InfoContext(ctx, "key made", "key", k.ID, "tenant", k.Tenant, "name", k.Name, "scopes", k.Scopes, "admin", k.Admin)
	out := present(k)
	out.Key = whole
	return &struct{ Body keyJSON }{out}, nil
}

// grant sets what a new key may do, as far as the caller may grant it.
func (a *Access) grant(ctx context.Context, k *Key, in newKeyJSON) error {
	caller := api.CallerFrom(ctx)
	if err := a.limitTime(caller, k, in.ExpiresAt); err != nil {
		return err
	}
	switch {
	case in.Admin:
		return grantAdmin(ctx, caller, k, in)
	case in.Tenant.null:
		if err := overAll(ctx, caller); err != nil {
			return err
		}
	default:
		var err error
		if k.Tenant, err = api.TenantOf(ctx, in.Tenant.name); err != nil {
			return err
		}
	}
	if err := grantable(caller, k.Tenant == "", in.Scopes); err != nil {
		return err
	}
	k.Scopes = normalScopes(in.Scopes)
	return nil
}

// grantable refuses scopes that a key cannot have, or that its maker lacks.
func grantable(caller api.Caller, allTenants bool, scopes []string) error {
	if len(scopes) == 0 {
		return api.Invalid(api.At("body.scopes", "must name at least one scope"))
	}
	for i, scope := range scopes {
		at := "body.scopes[" + strconv.Itoa(i) + "]"
		switch {
		case !validScope(scope):
			return api.Invalid(api.At(at, "is not a scope that a key can have"))
		case !caller.Has(scope):
			return api.Forbidden("a key cannot grant a scope that it lacks: " + scope)
		case scope == scopeKeys && allTenants:
			return api.Invalid(api.At(at, "must not be held by a key over all tenants"))
		case scope == api.AdminRead && !allTenants:
			return api.Invalid(api.At(at, "must be held by a key over all tenants"))
		}
	}
	return nil
}

// overAll is nil if the request may make a key over all tenants.
func overAll(ctx context.Context, caller api.Caller) error {
	if err := caller.Require(api.Admin); err != nil {
		return err
	}
	tenant, err := api.TenantOrAny(ctx, "")
	if err == nil && tenant != "" {
		err = api.Invalid(api.At("query.tenant", "must not be given for a key over all tenants"))
	}
	return err
}

func grantAdmin(ctx context.Context, caller api.Caller, k *Key, in newKeyJSON) error {
	if err := caller.Require(api.Admin); err != nil {
		return err
	}
	tenant, err := api.TenantOrAny(ctx, in.Tenant.name)
	if err != nil {
		return err
	}
	if tenant != "" || len(in.Scopes) > 0 {
		return api.Invalid(api.At("body.admin", "an admin key has neither tenant nor scopes"))
	}
	k.Admin, k.Scopes = true, []string{}
	return nil
}

// limitTime lets no key outlive the key or the token that made it.
func (a *Access) limitTime(caller api.Caller, k *Key, asked *time.Time) error {
	if !caller.ExpiresAt.IsZero() && !caller.ExpiresAt.After(a.now()) {
		return api.ErrUnauthenticated // a token within its leeway
	}
	k.ExpiresAt = caller.ExpiresAt
	if asked == nil {
		return nil
	}
	if !asked.After(a.now()) {
		return api.Invalid(api.At("body.expires_at", "must be in the future"))
	}
	if !caller.ExpiresAt.IsZero() && asked.After(caller.ExpiresAt) {
		return api.Forbidden("a key cannot make one that ends later than itself")
	}
	k.ExpiresAt = api.Instant(*asked)
	return nil
}
