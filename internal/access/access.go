package access

import (
	"context"
	"database/sql"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/internal/api"
)

// Config is who may call.
type Config struct {
	AdminKey    string `envconfig:"ADMIN_KEY"`
	JWKSURL     string `envconfig:"JWKS_URL"`
	JWTIssuer   string `envconfig:"JWT_ISSUER"`
	JWTAudience string `envconfig:"JWT_AUDIENCE"`
}

func DefaultConfig() Config      { return Config{} }
func (c Config) Validate() error { return nil }

// Pepper keys the hashes of API keys; ParsePeppers derives them from FANFARE_SECRET_KEYS: the first hashes, all verify.
type Pepper struct {
	ID  string
	Key []byte
}

func ParsePeppers(secretKeys string) ([]Pepper, error) { return nil, nil }

// Eraser removes what a stage holds of a tenant. It is called until it returns nil, possibly by several processes.
type Eraser interface {
	EraseTenant(ctx context.Context, tenant string) error
}

// Deps of Access.
type Deps struct {
	DB      *sql.DB
	Peppers []Pepper
	Client  *http.Client // for the JWKS; a guarded one
	Erasers []Eraser
	Logger  *slog.Logger
	Now     func() time.Time
}

type Access struct{}

func New(cfg Config, deps Deps) (*Access, error) { return &Access{}, nil }
func (a *Access) Authenticate(ctx context.Context, credential string) (api.Caller, error) {
	return api.Caller{}, nil
}
func (a *Access) Run(ctx context.Context) error { return nil }
func (a *Access) Routes(to huma.API)            {}
