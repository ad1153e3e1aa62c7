package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fanfarehq/fanfare/internal/postgres"
)

// Eraser removes what a stage holds of a deleted tenant. It is called again until it returns nil, so it must be safe to repeat
// and go on where it was stopped.
type Eraser interface {
	EraseTenant(ctx context.Context, tenant string) error
}

// Counter is an Eraser that reports how much it holds of a tenant, for the progress that GET /v1/tenants/{tenant} shows.
type Counter interface {
	CountTenant(ctx context.Context, tenant string) (int64, error)
}

// OnErase names the erasers that a deleted tenant needs before it counts as erased. Call it before Run. A process that names
// none leaves the erasing to others.
func (a *Access) OnErase(erasers ...Eraser) { a.erasers = append(a.erasers, erasers...) }

const (
	// erasing is how long one tenant is worked on before the next has its turn.
	erasing = 20 * time.Second
	// erasingAll is how long one turn of the chore lasts; its lease is longer.
	erasingAll = time.Minute
)

// eraseTenants erases deleted tenants until ctx ends: one process at a time, beside the rounds that keep keys fresh.
func (a *Access) eraseTenants(ctx context.Context) {
	// RunChore returns nil when ctx ends, and nothing else.
	_ = postgres.RunChore(ctx, a.store.db, a.log, postgres.Chore{
		Name: "erase tenants", Every: a.every,
		Do: func(ctx context.Context, place time.Time) (time.Time, error) { return place, a.erase(ctx) },
	})
}

// erase does the job that DELETE of a tenant promised, for a while. A tenant that has to wait keeps no other waiting.
func (a *Access) erase(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, erasingAll)
	defer cancel()
	tenants, err := a.store.unerased(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range tenants {
		err := a.eraseOne(ctx, t)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("erase tenant %s: %w", t.tenant, err))
		case t.again:
		default:
			a.log.InfoContext(ctx, "tenant erased", "tenant", t.tenant)
		}
	}
	return errors.Join(errs...)
}

// eraseOne erases a tenant, or some of it. What is left is counted in either case.
func (a *Access) eraseOne(ctx context.Context, t toErase) error {
	if t.total == nil {
		left, err := a.left(ctx, t.tenant)
		if err != nil {
			return err
		}
		if err := a.store.beginErasing(ctx, t.tenant, left); err != nil {
			return err
		}
	}
	slice, cancel := context.WithTimeout(ctx, erasing)
	defer cancel()
	for _, eraser := range a.erasers {
		err := eraser.EraseTenant(slice, t.tenant)
		if err == nil {
			continue
		}
		left, countErr := a.left(ctx, t.tenant)
		if countErr == nil {
			countErr = a.store.noteErasing(ctx, t.tenant, left)
		}
		if slice.Err() != nil && ctx.Err() == nil {
			err = nil // It goes on at the next turn.
			if countErr == nil {
				return errMoreToErase
			}
		}
		return errors.Join(err, countErr)
	}
	return a.store.eraseTenant(ctx, t.tenant)
}

var errMoreToErase = errors.New("there is more to erase than fits into one turn")

// left counts what the erasers hold of a tenant.
func (a *Access) left(ctx context.Context, tenant string) (total int64, err error) {
	for _, eraser := range a.erasers {
		counter, ok := eraser.(Counter)
		if !ok {
			continue
		}
		n, err := counter.CountTenant(ctx, tenant)
		if err != nil {
			return 0, fmt.Errorf("count the remaining rows: %w", err)
		}
		total += n
	}
	return total, nil
}
