package access

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/quota"
)

// Deps are what Access works with.
type Deps struct {
	DB      *sql.DB
	Peppers []Pepper
	// Client fetches the key set of the identity provider. Nil makes one that reaches private addresses too, since the URL is
	// the operator's own, but no cloud's metadata.
	Client *http.Client
	Quotas *quota.Quotas    // nil bounds nothing
	Logger *slog.Logger     // nil discards
	Now    func() time.Time // nil is time.Now
}

// Access judges credentials and keeps keys and tenants.
type Access struct {
	store   store
	hasher  hasher
	admin   *secretEqual // nil without an admin key in the environment
	keys    *keyCache
	tokens  *tokens // nil without an identity provider
	tenants *tenants
	guesses *guesses
	watches *watches
	erasers []Eraser
	usage   []Usage
	log     *slog.Logger
	now     func() time.Time
	every   time.Duration // between two rounds of Run

	afterRound func() // tests wait for it
}

var _ api.Authenticator = (*Access)(nil)

// New starts nothing.
func New(cfg Config, deps Deps) (*Access, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Client == nil {
		everywhere := egress.Policy{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
		deps.Client = egress.NewClient(everywhere, egress.DefaultConfig())
	}
	h, err := newHasher(deps.Peppers)
	if err != nil {
		return nil, err
	}
	a := &Access{
		store: store{db: deps.DB, quotas: deps.Quotas}, hasher: h, guesses: newGuesses(deps.Now), watches: newWatches(deps.Now),
		log: deps.Logger, now: deps.Now, every: time.Second,
		afterRound: func() {},
	}
	a.keys = newKeyCache(a.store, deps.Now)
	a.tenants = newTenants(a.store)
	if cfg.AdminKey != "" {
		a.admin = newSecretEqual(cfg.AdminKey)
	}
	if cfg.JWKSURL != "" {
		a.tokens = newTokens(cfg, deps)
		if cfg.JWTIssuer == "" || cfg.JWTAudience == "" {
			deps.Logger.Warn("tokens are accepted without a check of iss or aud: set FANFARE_JWT_ISSUER and FANFARE_JWT_AUDIENCE")
		}
	}
	return a, nil
}

// ErrMissingPepper says that keys exist which this process cannot judge.
var ErrMissingPepper = errors.New("API keys were hashed with secret keys that FANFARE_SECRET_KEYS no longer holds: " +
	"give them back, and run fanfare rekey before they are removed, or revoke the API keys")

// Check is ErrMissingPepper, with the ids of the secret keys, if keys exist that no pepper of this process can judge.
func (a *Access) Check(ctx context.Context) error {
	ids, err := a.store.pepperIDs(ctx)
	if err != nil {
		return away(fmt.Errorf("read the keys' peppers: %w", err))
	}
	known := map[string]bool{}
	for _, p := range a.hasher.peppers {
		known[p.id] = true
	}
	var missing []string
	for _, id := range ids {
		if !known[id] {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %s", ErrMissingPepper, strings.Join(missing, ", "))
	}
	return nil
}

// Authenticate says who holds the credential: the admin key of the environment, a key, or a token.
func (a *Access) Authenticate(ctx context.Context, credential string) (api.Caller, error) {
	remote := api.RemoteAddr(ctx)
	id, keyShaped := idOf(credential)
	if a.admin != nil && a.admin.keyShaped == keyShaped && a.admin.equal(credential) {
		return api.Caller{Admin: true}, nil
	}
	if keyShaped {
		return a.byKey(ctx, remote, id, credential)
	}
	if a.tokens != nil && strings.Count(credential, ".") == 2 {
		return a.byToken(ctx, remote, credential)
	}
	return api.Caller{}, a.refuse(ctx, remote, "")
}

func (a *Access) byKey(ctx context.Context, remote, id, credential string) (api.Caller, error) {
	k, known := a.keys.cached(id)
	if !known {
		var err error
		if k, err = a.keys.load(ctx, id); err != nil {
			return api.Caller{}, away(fmt.Errorf("look up key %s: %w", id, err))
		}
	}
	if k == nil {
		a.hasher.idle(credential)
		return api.Caller{}, a.refuse(ctx, remote, "")
	}
	ok, stale, err := a.hasher.matches(k.hash, credential)
	if err != nil {
		return api.Caller{}, api.Unavailable(fmt.Errorf("judge key %s: %w", id, err))
	}
	if !ok {
		return api.Caller{}, a.refuse(ctx, remote, id)
	}
	if k.ended(a.now()) || a.tenants.isErased(k.Tenant) {
		return api.Caller{}, api.ErrUnauthenticated
	}
	a.keys.used(k, a.now())
	if stale {
		a.keys.rehash(k, a.hasher.hash(credential))
	}
	return k.caller(), nil
}

func (a *Access) byToken(ctx context.Context, remote, credential string) (api.Caller, error) {
	c, err := a.tokens.verify(ctx, credential)
	if errors.Is(err, api.ErrUnauthenticated) {
		return api.Caller{}, errors.Join(a.refuse(ctx, remote, ""), err)
	}
	if err != nil {
		return api.Caller{}, err
	}
	if a.tenants.isErased(c.Tenant) {
		return api.Caller{}, api.ErrUnauthenticated
	}
	return c, nil
}

// refuse is ErrUnauthenticated. It notes the guess by its address and, if it named a key that exists, by the key.
func (a *Access) refuse(ctx context.Context, remote, id string) error {
	if a.guesses.count(remote) {
		a.log.WarnContext(ctx, "many wrong credentials from one address", "address", remote)
	}
	if id != "" && a.guesses.count("key "+id) {
		a.log.WarnContext(ctx, "many wrong secrets for one key", "key", id)
	}
	return api.ErrUnauthenticated
}

// UseTenant makes the tenant exist, at its first use. An erased one is NotFound: its name is not given again.
func (a *Access) UseTenant(ctx context.Context, tenant string) error {
	err := a.tenants.use(ctx, tenant)
	if errors.Is(err, errErased) {
		return api.NotFound()
	}
	return away(err)
}

// away marks errors that mean that Postgres is.
func away(err error) error {
	if postgres.IsUnavailable(err) {
		return api.Unavailable(err)
	}
	return err
}
