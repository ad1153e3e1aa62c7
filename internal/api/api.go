package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
)

// Config describes the API. CursorKey signs cursors and must be the same in every process.
type Config struct {
	Title, Version, Description string
	CursorKey                   []byte
	Logger                      *slog.Logger
	// Unavailable says of an error that a dependency is away (503), beside errors with a method Unavailable() bool.
	Unavailable func(error) bool
}

// Caller is who asks.
type Caller struct {
	Tenant string
	Scopes []string
	Admin  bool
	KeyID  string
	// ExpiresAt is when the caller's key ends; zero for never.
	ExpiresAt time.Time
}

func (c Caller) Has(scope string) bool                         { return false } // admin has all
func (c Caller) Require(scope string) error                    { return nil }   // 403 problem
func CallerFrom(ctx context.Context) Caller                    { return Caller{} }
func WithCaller(ctx context.Context, c Caller) context.Context { return ctx }

// Authenticator: ErrUnauthenticated -> 401; an error that is unavailability -> 503.
type Authenticator interface {
	Authenticate(ctx context.Context, credential string) (Caller, error)
}

var ErrUnauthenticated = errors.New("unauthenticated")

// New sets /openapi.json, /docs and a catch-all "/" (problem 404, 405 with Allow) on mux.
// Every operation must carry Scope or Public: registering one without panics.
func New(mux *http.ServeMux, cfg Config, auth Authenticator) huma.API { return nil }

func Scope(name string) func(*huma.Operation) { return func(*huma.Operation) {} }
func Public() func(*huma.Operation)           { return func(*huma.Operation) {} }

// Mount puts a raw handler behind the same guards as the operations (authentication, op's scope, body limit
// op.MaxBodyBytes, read timeout op.BodyReadTimeout, panics) and adds op to the document. CallerFrom, TenantOf work in it.
func Mount(to huma.API, op huma.Operation, h http.Handler, modifiers ...func(*huma.Operation)) {}

// Authenticate is a bare middleware for handlers outside the document.
func Authenticate(auth Authenticator) func(http.Handler) http.Handler { return nil }

// TenantOf: a tenant key gets its own tenant, 403 if another is asked; an admin key the one it asks for (asked, else ?tenant=), 422 if none.
func TenantOf(ctx context.Context, asked string) (string, error) { return "", nil }

// TenantOrAny is TenantOf for reads: an admin key that names no tenant gets "", meaning every tenant.
func TenantOrAny(ctx context.Context, asked string) (string, error) { return "", nil }
func ValidTenant(name string) bool                                  { return false }

// Problem is huma's RFC 9457 error; Detail one entry of errors.
type Problem = huma.ErrorModel
type Detail = huma.ErrorDetail

// At is one entry of a problem's errors: location as `body.url`, `query.limit`, `path.id`.
func At(location, message string) error { return &Detail{Location: location, Message: message} }
func Invalid(details ...error) error    { return nil } // 422
func NotFound() error                   { return nil } // 404, the same for foreign, random and malformed ids
func Forbidden(detail string) error     { return nil } // 403
func Conflict(detail string) error      { return nil } // 409
func Unavailable(err error) error       { return nil } // 503 with Retry-After

// WriteProblem writes problem+json; ProblemOf turns any error into one (503 with Retry-After, 500 without details).
func WriteProblem(w http.ResponseWriter, status int, detail string, details ...error) {}
func WriteError(w http.ResponseWriter, r *http.Request, err error)                    {}

// ParseID: a malformed id is NotFound.
func ParseID(raw string) (uuid.UUID, error) { return uuid.UUID{}, nil }

// ListInput is embedded in the inputs of lists.
type ListInput struct {
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"500"`
	Cursor string `query:"cursor"`
	Order  string `query:"order" enum:"asc,desc" default:"desc"`
}

// List is the answer of every list.
type List[T any] struct {
	Data       []T     `json:"data"`
	NextCursor *string `json:"next_cursor"`
}

// Page is the place in a list that a request asks for. The cursor is bound to the route, the tenant and all
// other query parameters, so the route gives none of them.
type Page struct {
	After string // the position after which to go on; empty at the start
	Limit int
	Asc   bool
}

func (in *ListInput) Page(ctx context.Context) (Page, error) { return Page{}, nil }
func (p Page) AfterID() (uuid.UUID, error)                   { return uuid.UUID{}, nil } // uuid.Nil at the start
func (p Page) Fetch() int                                    { return p.Limit + 1 }      // how many rows to read

// ListOf makes the answer of up to p.Fetch() items: key is the position of an item.
func ListOf[T any](ctx context.Context, p Page, items []T, key func(T) string) List[T] {
	return List[T]{}
}

// ETag of the parts that make a version; CheckIfMatch gives 412 if If-Match is there and stale.
func ETag(parts ...any) string                { return "" }
func CheckIfMatch(ifMatch, etag string) error { return nil }

// Patch is the body of a PATCH: JSON Merge Patch onto T's JSON form; Apply merges and validates by T's schema (422 with locations).
type Patch[T any] struct{ raw []byte }

func (p Patch[T]) Apply(current T) (T, error) { return current, nil }
func (p Patch[T]) Has(field string) bool      { return false } // named at the top level, be it with null

// NewServer has the timeouts and limits of a public server.
func NewServer(h http.Handler, logger *slog.Logger) *http.Server { return nil }
