package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"
)

const (
	// Admin is the scope of operations that demand an admin key.
	Admin = "admin"
	// AdminRead is the scope of reading what belongs to the installation. Only a caller over all tenants can hold it.
	AdminRead = "admin:read"
)

// Caller is the holder of a key or a token. Whether it is an admin, whether it acts for all tenants and which scopes it holds are
// three things: an admin holds every scope and acts for all tenants; an operator acts for all tenants within its scopes.
type Caller struct {
	Tenant string   // empty for an admin and an operator
	Scopes []string // nil for an admin, who holds every scope
	Admin  bool
	// AllTenants says that the caller acts for all tenants without being an admin. An empty Tenant alone does not say so.
	AllTenants bool
	KeyID      string // empty for the admin key of the environment; the subject of a token
	Name       string // of the key; empty for a token and for the admin key of the environment
	// Token says that the caller shows a token of the identity provider, and KeyID is its subject.
	Token bool
	// ExpiresAt is when the caller's key or token ends; zero for keys that do not.
	ExpiresAt time.Time
}

// Has says whether the caller holds the scope.
func (c Caller) Has(scope string) bool {
	switch {
	case c.Admin:
		return true
	case scope == Admin, scope == AdminRead && !c.AllTenants:
		return false
	}
	return slices.Contains(c.Scopes, scope)
}

// OverAll says whether the caller acts for all tenants: an admin or an operator.
func (c Caller) OverAll() bool { return c.Admin || c.AllTenants }

// Require is nil if the caller holds the scope, else a 403.
func (c Caller) Require(scope string) error {
	switch {
	case c.Has(scope):
		return nil
	case scope == Admin:
		return Forbidden("an admin key is needed")
	}
	return withHeader(Forbidden("the key lacks the scope "+scope), "WWW-Authenticate",
		`Bearer realm="fanfare", error="insufficient_scope", scope="`+scope+`"`)
}

// mayActFor is nil if the caller may name this tenant, else a 403.
func (c Caller) mayActFor(tenant string) error {
	if c.OverAll() || c.Tenant == tenant {
		return nil
	}
	return Forbidden("the key belongs to another tenant")
}

// ErrUnauthenticated says that a credential is unknown, expired or revoked: 401.
var ErrUnauthenticated = errors.New("the key or token is not valid")

// Authenticator says who holds a credential.
type Authenticator interface {
	// Authenticate returns ErrUnauthenticated, possibly wrapped, for a credential that is not valid, and an
	// error that says it is an unavailability where that cannot be found out (503, never 401).
	Authenticate(ctx context.Context, credential string) (Caller, error)
}

// tenantUser is told of each tenant that somebody acts for.
type tenantUser interface {
	// UseTenant makes the tenant exist. It returns a problem if the tenant was erased.
	UseTenant(ctx context.Context, tenant string) error
}

// callerWatcher ends requests whose caller may no longer act.
type callerWatcher interface {
	// Watch returns a context that ends, with the cause ErrUnauthenticated, within 5 s of the end of the caller: of its key,
	// its token or its tenant. The function must be called once the request is over.
	Watch(ctx context.Context, c Caller) (context.Context, func())
}

// CallerFrom is the caller of a request; outside of one the zero Caller, without any right.
func CallerFrom(ctx context.Context) Caller {
	if r := requestFrom(ctx); r != nil {
		return r.caller
	}
	return Caller{}
}

// WithCaller makes a context in which c asks, for handlers that authenticate by themselves.
func WithCaller(ctx context.Context, c Caller) context.Context {
	next := &request{}
	if r := requestFrom(ctx); r != nil {
		*next = *r
	}
	next.caller = c
	return context.WithValue(ctx, requestKey{}, next)
}

// RemoteAddr is the address of the peer, without its port; empty outside of a request.
func RemoteAddr(ctx context.Context) string {
	if r := requestFrom(ctx); r != nil {
		return r.remote
	}
	return ""
}

// TenantOf is the tenant that the request acts for: that of a tenant key, whatever it leaves open, and a 403 if asked
// names another; of a key over all tenants the asked one, else that of ?tenant=, and a 422 if there is neither.
func TenantOf(ctx context.Context, asked string) (string, error) {
	tenant, err := TenantOrAny(ctx, asked)
	if err != nil {
		return "", err
	}
	if tenant == "" {
		return "", errNoTenant()
	}
	r := requestFrom(ctx)
	if r.adapter == nil || r.tenants == nil || r.reads() {
		return tenant, nil
	}
	return tenant, r.tenants.UseTenant(ctx, tenant)
}

func errNoTenant() error {
	return Invalid(At("query.tenant", "a key over all tenants must name the tenant, here or as \"tenant\" in the body"))
}

// reads says whether the request changes nothing.
func (r *request) reads() bool { return r.method == http.MethodGet || r.method == http.MethodHead }

// TenantOrAny is TenantOf for operations that can be about all tenants: a key over all tenants that names none gets "", which
// stands for all of them. An operator's write is about one: it is a 422 without.
func TenantOrAny(ctx context.Context, asked string) (string, error) {
	r := requestFrom(ctx)
	if r == nil {
		return "", Forbidden("nobody is calling")
	}
	if asked != "" && !ValidTenant(asked) {
		return "", Invalid(At("body.tenant", "is not the name of a tenant"))
	}
	inQuery := r.query.Get("tenant")
	switch {
	case asked == "":
		asked = inQuery
	case inQuery != "" && inQuery != asked:
		return "", Invalid(At("query.tenant", "differs from the tenant in the body"))
	}
	if r.caller.OverAll() {
		if asked == "" && !r.caller.Admin && !r.reads() {
			return "", errNoTenant()
		}
		return asked, nil
	}
	if r.caller.Tenant == "" {
		return "", Forbidden("the caller has no tenant")
	}
	if asked != "" && asked != r.caller.Tenant {
		return "", r.caller.mayActFor(asked)
	}
	return r.caller.Tenant, nil
}

// ValidTenant says whether name can be a tenant's: 1-64 of [A-Za-z0-9_-], since it is a token of a subject.
func ValidTenant(name string) bool {
	if name == "" || len(name) > 64 {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
