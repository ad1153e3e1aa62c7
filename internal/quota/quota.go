package quota

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/api"
)

const (
	// refreshEvery is how often limits and the rates of other processes are read.
	refreshEvery = time.Second
	// overlap is how far before the latest change is read again: a transaction that began before it may have committed
	// after.
	overlap = time.Minute
	// page is how many tenants' limits are read at once.
	page = 10_000
)

// Quotas knows what each tenant may have. A nil one bounds nothing.
type Quotas struct {
	cfg     Config
	db      *sql.DB
	log     *slog.Logger
	now     func() time.Time
	process uuid.UUID

	own  atomic.Pointer[map[string]Limits] // of tenants that have limits of their own; replaced, never changed
	seen time.Time                         // the latest change that was read

	mu      sync.Mutex
	inside  map[place]int64 // of what Enter counts
	buckets map[string]*bucket
}

// place is what Enter counts.
type place struct {
	tenant string
	name   Name
}

// Deps are what Quotas works with.
type Deps struct {
	DB     *sql.DB
	Logger *slog.Logger     // nil discards
	Now    func() time.Time // nil is time.Now
}

// New reads nothing; see Refresh.
func New(cfg Config, deps Deps) (*Quotas, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	q := &Quotas{
		cfg: cfg, db: deps.DB, log: deps.Logger, now: deps.Now, process: uuid.New(), seen: time.Unix(0, 0),
		inside: map[place]int64{}, buckets: map[string]*bucket{},
	}
	q.own.Store(&map[string]Limits{})
	return q, nil
}

// Run refreshes limits and counts until ctx ends.
func (q *Quotas) Run(ctx context.Context) error {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	var trouble bool
	for {
		err := errors.Join(q.Refresh(ctx), q.share(ctx))
		if err != nil && !trouble && ctx.Err() == nil {
			q.log.WarnContext(ctx, "cannot refresh the limits of tenants", "error", err)
		}
		trouble = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Of are the limits that hold for a tenant, as of the last refresh.
func (q *Quotas) Of(tenant string) Bounds {
	if q == nil {
		return Bounds{}
	}
	return Bounds{own: (*q.own.Load())[tenant], base: q.cfg}
}

// Refresh reads the limits that were changed since the last time. It is called by one goroutine at a time.
func (q *Quotas) Refresh(ctx context.Context) error {
	for {
		n, err := q.refresh(ctx)
		if err != nil || n < page {
			return err
		}
	}
}

func (q *Quotas) refresh(ctx context.Context) (n int, err error) {
	rows, err := q.db.QueryContext(ctx, `SELECT tenant, limits, limits_at FROM tenants WHERE limits_at > $1 ORDER BY limits_at LIMIT $2`,
		q.seen.Add(-overlap), page)
	if err != nil {
		return 0, fmt.Errorf("read limits of tenants: %w", err)
	}
	defer rows.Close()
	changed := map[string]Limits{}
	last := q.seen
	for rows.Next() {
		var tenant string
		var text []byte
		if err := rows.Scan(&tenant, &text, &last); err != nil {
			return 0, fmt.Errorf("read limits of tenants: %w", err)
		}
		limits, err := decode(text)
		if err != nil {
			return 0, fmt.Errorf("read limits of tenant %s: %w", tenant, err)
		}
		changed[tenant] = limits
		n++
	}
	if err := rows.Err(); err != nil {
		return 0, fmt.Errorf("read limits of tenants: %w", err)
	}
	if n == page && !last.After(q.seen) {
		return 0, nil // As many were changed within the overlap: new ones come with the next change.
	}
	q.note(changed)
	q.seen = last
	return n, nil
}

func decode(text []byte) (limits Limits, err error) {
	if len(text) > 0 {
		err = json.Unmarshal(text, &limits)
	}
	return limits, err
}

// Lock locks the tenant's row until tx ends, and returns the tenant's limits: rows counted in tx from here on do not
// grow meanwhile. It is api.NotFound for a tenant that was deleted.
func (q *Quotas) Lock(ctx context.Context, tx *sql.Tx, tenant string) (Bounds, error) {
	if q == nil || tenant == "" {
		return Bounds{}, nil
	}
	for range 2 {
		var text []byte
		var deleted bool
		err := tx.QueryRowContext(ctx, `SELECT limits, deleted_at IS NOT NULL FROM tenants WHERE tenant = $1 FOR NO KEY UPDATE`, tenant).
			Scan(&text, &deleted)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			if _, err := tx.ExecContext(ctx, `INSERT INTO tenants (tenant) VALUES ($1) ON CONFLICT DO NOTHING`, tenant); err != nil {
				return Bounds{}, fmt.Errorf("make tenant %s: %w", tenant, err)
			}
			continue
		case err != nil:
			return Bounds{}, fmt.Errorf("lock tenant %s: %w", tenant, err)
		case deleted:
			return Bounds{}, api.NotFound()
		}
		own, err := decode(text)
		if err != nil {
			return Bounds{}, fmt.Errorf("read limits of tenant %s: %w", tenant, err)
		}
		return Bounds{own: own, base: q.cfg}, nil
	}
	return Bounds{}, fmt.Errorf("lock tenant %s: its row is gone", tenant)
}

// Note makes limits that were just written hold in this process at once.
func (q *Quotas) Note(tenant string, limits Limits) {
	if q != nil {
		q.note(map[string]Limits{tenant: limits})
	}
}

func (q *Quotas) note(changed map[string]Limits) {
	if len(changed) == 0 {
		return
	}
	for {
		before := q.own.Load()
		next := maps.Clone(*before)
		maps.Copy(next, changed)
		if q.own.CompareAndSwap(before, &next) {
			return
		}
	}
}
