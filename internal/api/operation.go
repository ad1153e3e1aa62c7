package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
)

// Keys of an operation's Metadata.
const (
	scopeKey   = "fanfare.scope"
	insteadKey = "fanfare.instead"
	publicKey  = "fanfare.public"
)

// ScopeExtension is the field of an operation in the document that names its scope, for tools that test rights.
const ScopeExtension = "x-scope"

// InsteadExtension names a scope that is enough for an operation instead of those of ScopeExtension.
const InsteadExtension = "x-scope-instead"

// AnyScope is the scope in the document of operations that any key may call: what it may see depends on its scopes.
const AnyScope = "any"

// Scope demands a scope of the caller, or several with blanks between: 403 without one. Admin demands an admin key; AdminRead
// one over all tenants. Admin keys hold every scope. An empty name demands a known caller and no scope.
func Scope(name string) func(*huma.Operation) {
	return func(op *huma.Operation) { setMetadata(op, scopeKey, name) }
}

// Instead lets a caller in who holds another scope than the operation's.
func Instead(name string) func(*huma.Operation) {
	return func(op *huma.Operation) { setMetadata(op, insteadKey, name) }
}

// ofInstallation says whether an operation is about the installation, not about a tenant. It takes ?tenant= only where it says so.
func ofInstallation(op *huma.Operation) bool {
	return op.Metadata[scopeKey] == Admin || op.Metadata[scopeKey] == AdminRead
}

// Public lets anybody call the operation, without a key.
func Public() func(*huma.Operation) {
	return func(op *huma.Operation) { setMetadata(op, publicKey, true) }
}

func setMetadata(op *huma.Operation, key string, value any) {
	if op.Metadata == nil {
		op.Metadata = map[string]any{}
	}
	op.Metadata[key] = value
}

func securitySchemes() map[string]*huma.SecurityScheme {
	return map[string]*huma.SecurityScheme{
		"bearer": {Type: "http", Scheme: "bearer", Description: "A key, or a token of the configured identity provider."},
		"apiKey": {Type: "apiKey", In: "header", Name: "X-API-Key", Description: "A key."},
	}
}

// document adds to an operation what follows from the guard: security, scope, ?tenant=, and the errors.
func (a *adapter) document(op *huma.Operation) {
	scope, protected := op.Metadata[scopeKey].(string)
	errs := []int{http.StatusBadRequest, http.StatusInternalServerError, http.StatusServiceUnavailable}
	if protected {
		// For schemes that are not OAuth, OpenAPI 3.1 reads these as role names.
		op.Security = []map[string][]string{{"bearer": strings.Fields(scope)}, {"apiKey": strings.Fields(scope)}}
		if op.Extensions == nil {
			op.Extensions = map[string]any{}
		}
		op.Extensions[ScopeExtension] = cmp.Or(scope, AnyScope)
		if instead, ok := op.Metadata[insteadKey].(string); ok {
			op.Security = append(op.Security, map[string][]string{"bearer": {instead}}, map[string][]string{"apiKey": {instead}})
			op.Extensions[InsteadExtension] = instead
		}
		errs = append(errs, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests)
		documentTenant(op)
	} else {
		op.Security = []map[string][]string{{}} // none is needed
	}
	if strings.Contains(op.Path, "{") {
		errs = append(errs, http.StatusNotFound)
	}
	if op.RequestBody != nil {
		errs = append(errs, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	if op.RequestBody != nil || len(op.Parameters) > 0 {
		errs = append(errs, http.StatusUnprocessableEntity)
	}
	if slices.ContainsFunc(op.Parameters, func(p *huma.Param) bool { return p.Name == "If-Match" }) {
		errs = append(errs, http.StatusPreconditionFailed)
	}
	if op.Method != http.MethodGet && protected {
		errs = append(errs, http.StatusConflict)
	}
	if op.Method == http.MethodPatch {
		documentMergePatch(op)
	}
	documentNotModified(op)
	documentIDs(op)
	a.documentTags(op)
	a.documentExamples(op)
	a.documentErrors(op, errs)
}

// documentTenant adds ?tenant= to operations that do not spell it out.
func documentTenant(op *huma.Operation) {
	if ofInstallation(op) ||
		slices.ContainsFunc(op.Parameters, func(p *huma.Param) bool { return p.Name == "tenant" }) {
		return
	}
	length := 64
	op.Parameters = append(op.Parameters, &huma.Param{
		Name: "tenant", In: "query",
		Description: "The tenant to act for. Only keys over all tenants need it, to write or to read of one tenant alone; the tenant of any other key is its own.",
		Schema:      &huma.Schema{Type: huma.TypeString, Pattern: "^[A-Za-z0-9_-]+$", MaxLength: &length},
	})
}

// documentIDs says of each parameter of the path whose example is a UUID that it is one. huma is not told: it would answer a
// malformed id with 422, where ParseID makes it the 404 of an id that does not exist.
func documentIDs(op *huma.Operation) {
	for _, p := range op.Parameters {
		if p.In != "path" || p.Schema == nil {
			continue
		}
		example := fmt.Sprint(p.Example)
		if len(p.Schema.Examples) > 0 {
			example = fmt.Sprint(p.Schema.Examples[0])
		}
		if _, err := uuid.Parse(example); err == nil {
			said := *p.Schema
			said.Format = "uuid"
			p.Schema = &said
		}
	}
}

// documentTags declares the tags of an operation.
func (a *adapter) documentTags(op *huma.Operation) {
	for _, name := range op.Tags {
		if !slices.ContainsFunc(a.doc.Tags, func(t *huma.Tag) bool { return t.Name == name }) {
			a.doc.Tags = append(a.doc.Tags, &huma.Tag{Name: name, Description: a.cfg.Tags[name]})
		}
	}
}

// documentMergePatch gives a PATCH its proper media type beside application/json.
func documentMergePatch(op *huma.Operation) {
	if op.RequestBody == nil {
		return
	}
	if media, ok := op.RequestBody.Content["application/json"]; ok {
		op.RequestBody.Content["application/merge-patch+json"] = media
	}
}

// Register adds an operation that demands a scope; see Scope.
func Register[I, O any](to huma.API, handler func(context.Context, *I) (*O, error), scope string, op huma.Operation) {
	Scope(scope)(&op)
	if !slices.Contains(op.Errors, http.StatusUnprocessableEntity) {
		op.Errors = append(slices.Clone(op.Errors), http.StatusUnprocessableEntity) // of an unknown query parameter
	}
	huma.Register(to, op, handler)
}
