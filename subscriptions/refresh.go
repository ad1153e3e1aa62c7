package subscriptions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

// catchUp is the commit of a group of callers of Fresh: it begins after all of them asked.
func (d *Directory) catchUp(ctx context.Context, group []*asked) error {
	revision, err := d.update(ctx)
	if err != nil {
		if postgres.IsUnavailable(err) {
			return fmt.Errorf("%w: %w", postgres.ErrUnavailable, err)
		}
		return err
	}
	for _, a := range group {
		a.revision = revision
	}
	return nil
}

// update asks for the revision and learns what changed since the one that is known. Only one update runs at
// a time, so nothing but it writes to known.
func (d *Directory) update(ctx context.Context) (int64, error) {
	var value, horizon int64
	if err := d.revision.Scan(ctx, &value, &horizon); err != nil {
		return 0, fmt.Errorf("read revision: %w", err)
	}
	k := d.known
	switch {
	case k == nil:
		return d.load(ctx, value)
	case k.revision == value:
		return value, nil
	case k.revision < horizon:
		d.log.WarnContext(ctx, "reloading subscriptions: deletions since the known revision were cleaned up",
			"known", k.revision, "horizon", horizon)
		return d.load(ctx, value)
	case k.revision > value:
		d.log.WarnContext(ctx, "reloading subscriptions: the database is older than the cache",
			"known", k.revision, "database", value)
		return d.load(ctx, value)
	}
	return d.learn(ctx, k)
}

// maxLearn is how many rows are applied to what others read; more are loaded aside, which takes longer and
// more memory but stops nobody.
const maxLearn = 50_000

var errTooMany = errors.New("too many changes")

// learn reads what changed since the known revision, and applies it at once, so that whoever reads sees
// either revision.
func (d *Directory) learn(ctx context.Context, k *known) (int64, error) {
	var rows []row
	changed, err := readChanges(ctx, d.db, k.revision, func(r *row) error {
		if len(rows) == maxLearn {
			return errTooMany
		}
		rows = append(rows, *r)
		return nil
	})
	switch {
	case errors.Is(err, errTooMany):
		return d.load(ctx, k.revision)
	case err != nil:
		return 0, err
	case k.revision < changed.horizon: // Cleaned up between the two questions.
		return d.load(ctx, changed.revision)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range rows {
		k.apply(&rows[i])
	}
	k.applyTypes(changed)
	return k.revision, nil
}

// load reads everything, and then what changed after the revision that was current before: rows that are newer
// may have been among those read, and the cache must be the state of one revision.
func (d *Directory) load(ctx context.Context, value int64) (int64, error) {
	start := time.Now()
	k := newKnown()
	take := func(r *row) error {
		k.apply(r)
		return nil
	}
	if err := readAll(ctx, d.db, take); err != nil {
		return 0, err
	}
	types, err := readEventTypes(ctx, d.db, "NOT deleted")
	if err != nil {
		return 0, err
	}
	k.applyTypes(&delta{types: types})
	changed, err := readChanges(ctx, d.db, value, take)
	if err != nil {
		return 0, err
	}
	k.applyTypes(changed)
	d.mu.Lock()
	d.known = k
	d.mu.Unlock()
	d.log.InfoContext(ctx, "subscriptions loaded", "subscriptions", len(k.byID), "tenants", len(k.tenants),
		"event_types", len(k.types), "revision", k.revision, "took", time.Since(start).Round(time.Millisecond))
	return k.revision, nil
}

// apply takes over one row.
func (k *known) apply(r *row) {
	t := k.tenants[r.tenant]
	if old := k.byID[r.id]; old != nil {
		t.remove(old)
		delete(k.byID, r.id)
	}
	if r.deleted {
		if t != nil && t.count == 0 {
			delete(k.tenants, r.tenant)
		}
		return
	}
	if t == nil {
		t = &tenant{name: r.tenant}
		k.tenants[r.tenant] = t
	}
	e := newEntry(r, t)
	k.byID[e.id] = e
	t.add(e)
}

// applyTypes takes over event types, and with them the revision that is known from now on.
func (k *known) applyTypes(c *delta) {
	for _, t := range c.types {
		if t.Deleted {
			delete(k.types, typeKey{t.Tenant, t.Name})
		} else {
			k.types[typeKey{t.Tenant, t.Name}] = t
		}
	}
	k.revision = c.revision
}

func (t *tenant) add(e *entry) {
	t.count++
	if e.status() != Disabled {
		t.index.add(e)
	}
}

func (t *tenant) remove(e *entry) {
	t.count--
	if e.status() != Disabled {
		t.index.remove(e)
	}
}

// Run keeps the Directory warm until ctx ends, so that the first event after a quiet time need not wait for what
// changed in it. Nothing depends on it. While Postgres is away, it says so once.
func (d *Directory) Run(ctx context.Context) error {
	const pause = time.Second
	tick := time.NewTicker(pause)
	defer tick.Stop()
	var away bool
	for {
		_, err := d.Fresh(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !away:
			d.log.WarnContext(ctx, "subscriptions cannot be refreshed", "error", err)
		case err == nil && away:
			d.log.InfoContext(ctx, "subscriptions are fresh again")
		}
		away = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
