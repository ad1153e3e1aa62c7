package subscriptions

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/changes"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/quota"
	"github.com/fanfarehq/fanfare/internal/seal"
)

// Errors of the Store, beside *Invalid, *ScopeError and what Postgres says.
var (
	// ErrNotFound says that there is no such subscription or event type, or that it is another tenant's.
	ErrNotFound = errors.New("not found")
	// ErrChanged says that somebody else changed it since it was read.
	ErrChanged = errors.New("changed meanwhile")
	// ErrExists says that an event type of that name is there already.
	ErrExists = errors.New("exists already")
	// ErrDisabled says that a subscription cannot be paused or resumed because it is disabled.
	ErrDisabled = errors.New("the subscription is disabled")
	// ErrSealed says that new secrets cannot be kept beside secrets that do not open.
	ErrSealed = errors.New("the secrets of the subscription cannot be opened; rotate the secret first")
)

// Store keeps subscriptions and event types in Postgres. Every change takes the next revision in the statement
// that makes it, so revisions become visible in order: see Directory.
type Store struct {
	db     *sql.DB
	ring   *seal.Ring
	policy egress.Policy
	now    func() time.Time
	birth  Backfill
	quotas *quota.Quotas
}

// New makes a Store. Policy judges URLs.
func New(db *sql.DB, ring *seal.Ring, policy egress.Policy) *Store {
	return &Store{db: db, ring: ring, policy: policy, now: func() time.Time {
		return time.Now().UTC().Truncate(time.Microsecond) // what Postgres keeps
	}}
}

// nextRevision begins every statement that changes something. The row's lock is taken here and kept until
// the statement has committed; where a transaction is open around it, it is the last statement.
const nextRevision = `WITH r AS (UPDATE revision SET value = value + 1 RETURNING value) `

// Create saves a new subscription and fills in its ID, Number, times, Revision and what it left open. The
// errors are *Invalid, *ScopeError, *api.LimitError or Postgres's.
func (s *Store) Create(ctx context.Context, sub *Subscription) error {
	args, err := s.birthArgs(ctx, sub)
	if err != nil {
		return err
	}
	err = s.within(ctx, func(ctx context.Context, tx *sql.Tx) error { return s.insert(ctx, tx, sub, args) })
	if err != nil {
		return fmt.Errorf("create subscription: %w", err)
	}
	return nil
}

// insert writes a new subscription, if its tenant may have it.
func (s *Store) insert(ctx context.Context, tx *sql.Tx, sub *Subscription, args []any) error {
	if err := s.room(ctx, tx, sub.Tenant, args[sizeArg].(int64)); err != nil {
		return err
	}
	return tx.QueryRowContext(ctx, insertSubscription, args...).Scan(&sub.Number, &sub.Revision)
}

// sizeArg is the place of a new subscription's size among the arguments of insertSubscription.
const sizeArg = 27

// birthArgs judges a new subscription, fills in what it left open and returns the arguments of insertSubscription.
func (s *Store) birthArgs(ctx context.Context, sub *Subscription) ([]any, error) {
	if err := s.prepare(sub); err != nil {
		return nil, err
	}
	if err := s.checkTypes(ctx, sub, sub.EventTypes); err != nil {
		return nil, err
	}
	sealed, err := sealSecrets(s.ring, sub)
	if err != nil {
		return nil, err
	}
	change, err := changeOf(nil, sub, changes.Create).Args(ctx)
	if err != nil {
		return nil, err
	}
	return append(append(writtenArgs(sub, sealed), sub.Dialect, sub.CreatedAt, sub.size(sealed)+int64(len(sealed))), change...), nil
}

// prepare judges a new subscription and fills in what it left open.
func (s *Store) prepare(sub *Subscription) error {
	sub.fill()
	if err := s.validate(sub); err != nil {
		return err
	}
	if err := s.checkDates(sub, nil); err != nil {
		return err
	}
	if len(sub.Secrets) == 0 && sub.Dialect == Native {
		sub.Secrets = []Secret{NewSecret(sub.Signing)}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make an id: %w", err)
	}
	sub.ID, sub.CreatedAt = id, s.now()
	sub.UpdatedAt = sub.CreatedAt
	return nil
}

// Get returns a subscription with its secrets. An empty tenant means any.
func (s *Store) Get(ctx context.Context, tenant string, id uuid.UUID) (*Subscription, error) {
	return s.one(ctx, `WHERE id = $1 AND ($2 = '' OR tenant = $2) AND NOT deleted`, id, tenant)
}

// GetByNumber returns a dialect's subscription by its number, with its secrets.
func (s *Store) GetByNumber(ctx context.Context, tenant, dialect string, number int32) (*Subscription, error) {
	return s.one(ctx, `WHERE number = $1 AND tenant = $2 AND dialect = $3 AND NOT deleted`, number, tenant, dialect)
}

func (s *Store) one(ctx context.Context, where string, args ...any) (*Subscription, error) {
	var found *Subscription
	err := readRows(ctx, s.db, func(r *row) (err error) {
		found, err = s.open(r)
		return err
	}, where, args...)
	if err == nil && found == nil {
		err = ErrNotFound
	}
	return found, err
}

// open makes the Subscription of a row, secrets included; if they do not open, its Err says so.
func (s *Store) open(r *row) (*Subscription, error) {
	d, err := r.settings.decode()
	if err != nil {
		return nil, fmt.Errorf("subscription %s: %w", r.id, err)
	}
	sub := r.subscription(d)
	opened, err := openSecrets(s.ring, r.sealed, r.tenant, r.id)
	opened.into(sub)
	sub.Err = err
	return sub, nil
}

// Update saves a subscription that was read before; its Revision must still be the current one, else the error
// is ErrChanged. Where nothing differs, nothing is written: the revision and the history stay. Tenant, Dialect, Number and CreatedAt stay what they are. Scopes that newly added event types
// demand must be among sub.Scopes. Secrets that could not be opened stay as they are.
func (s *Store) Update(ctx context.Context, sub *Subscription) error { return s.update(ctx, sub, "") }

// update saves a subscription; its history names the action, which follows from the fields if it is empty.
func (s *Store) update(ctx context.Context, sub *Subscription, action string) error {
	sub.fill()
	if err := s.validate(sub); err != nil {
		return err
	}
	before, err := s.Get(ctx, sub.Tenant, sub.ID)
	if err != nil {
		return err
	}
	if before.Revision != sub.Revision {
		return ErrChanged
	}
	if err := s.checkDates(sub, before); err != nil {
		return err
	}
	if err := s.checkTypes(ctx, sub, added(before.EventTypes, sub.EventTypes)); err != nil {
		return err
	}
	var sealed []byte // NULL keeps the stored one
	switch {
	case sub.Err == nil:
		if sealed, err = sealSecrets(s.ring, sub); err != nil {
			return err
		}
	case sub.Auth != nil, sub.Certificate != nil, sub.URL != before.URL && maskURL(sub.URL) != sub.URL, !maps.Equal(sub.Headers, before.Headers):
		return ErrSealed
	}
	if sub.UpdatedAt = before.UpdatedAt; stored(before, sub) {
		return nil
	}
	sub.UpdatedAt = s.now()
	size := sub.size(sealed)
	change, err := changeOf(before, sub, action).Args(ctx)
	if err != nil {
		return err
	}
	args := append(append(writtenArgs(sub, sealed), sub.Revision, size), change...)
	err = s.within(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.grow(ctx, tx, sub, size+int64(len(sealed))); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, updateSubscription, args...).Scan(&sub.Revision)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return ErrChanged
	}
	if err != nil {
		return fmt.Errorf("update subscription %s: %w", sub.ID, err)
	}
	return nil
}

// Delete removes a subscription; what remains is a tombstone without its contents, by which every Directory
// learns of it. Deleting a missing subscription is ErrNotFound and changes nothing.
func (s *Store) Delete(ctx context.Context, tenant string, id uuid.UUID) error {
	return s.again(ctx, tenant, id, func(sub *Subscription) error {
		return s.touch(ctx, changeOf(sub, nil, changes.Delete), `UPDATE subscriptions SET `+wiped+` FROM r
WHERE id = $2 AND subscriptions.revision = $3 AND NOT deleted`, id, sub.Revision)
	})
}

// again reads a subscription and changes it, and does so again if it was changed in between.
func (s *Store) again(ctx context.Context, tenant string, id uuid.UUID, change func(*Subscription) error) error {
	for try := 1; ; try++ {
		sub, err := s.Get(ctx, tenant, id)
		if err != nil {
			return err
		}
		if err = change(sub); !errors.Is(err, ErrNotFound) {
			return err
		}
		if try == patchTries {
			return ErrChanged
		}
	}
}

// wiped are the columns set on deletion; $1 is now.
const wiped = `deleted = true, name = '', description = '', url = '', filter = '', headers = '{}', metadata = '{}',
	secrets = '', settings = '{}', resource_id = '', changed = '{}', event_types = '{}', scopes = '{}',
	updated_at = $1, revision = r.value`

// touch runs an UPDATE that must change one row, and records the change. The first argument is the time of the change: a deletion's
// is now, as no definition after it has one.
func (s *Store) touch(ctx context.Context, c *changes.Change, update string, args ...any) error {
	if c.After == nil {
		c.At = s.now()
	}
	recorded, err := c.Args(ctx)
	if err != nil {
		return err
	}
	args = append([]any{c.At}, args...)
	statement := nextRevision + `, u AS (` + update + ` RETURNING r.value AS revision), c AS (` + changes.Insert(len(args)+1, "") + `) SELECT count(*) FROM u`
	var n int
	if err := s.db.QueryRowContext(ctx, statement, append(args, recorded...)...).Scan(&n); err != nil {
		return fmt.Errorf("change %s: %w", c.Resource, err)
	}
	if n == 0 {
		return ErrNotFound
	}
	return nil
}
