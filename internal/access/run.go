package access

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Eraser removes what a stage holds of a deleted tenant. It is called again until it returns nil, possibly by several
// processes at once, so it must be safe to repeat.
type Eraser interface {
	EraseTenant(ctx context.Context, tenant string) error
}

// OnErase names who must erase a deleted tenant before it counts as erased. Call it before Run. A process that names
// nobody leaves the erasing to others.
func (a *Access) OnErase(erasers ...Eraser) { a.erasers = append(a.erasers, erasers...) }

// flushTimeout bounds the last writing after the end of Run's context.
const flushTimeout = 3 * time.Second

// Run keeps what is known fresh until ctx ends. It returns at once if keys exist that this process cannot judge.
func (a *Access) Run(ctx context.Context) error {
	if err := a.Check(ctx); errors.Is(err, ErrMissingPepper) {
		return err
	}
	var background sync.WaitGroup
	defer background.Wait()
	if a.tokens != nil {
		background.Go(func() { a.tokens.run(ctx) })
	}
	background.Go(func() { a.watch(ctx) })
	tick := time.NewTicker(a.every)
	defer tick.Stop()
	var trouble bool
	for {
		select {
		case <-ctx.Done():
			return a.lastFlush(ctx)
		case <-tick.C:
			err := a.round(ctx)
			// Once for each trouble, not once a second.
			if err != nil && !trouble && ctx.Err() == nil {
				a.log.WarnContext(ctx, "keys and tenants cannot be refreshed", "error", err)
			}
			trouble = err != nil
			a.afterRound()
		}
	}
}

// round is one turn of Run.
func (a *Access) round(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := a.keys.refresh(ctx); err != nil {
		return err
	}
	if err := a.tenants.refresh(ctx); err != nil {
		return err
	}
	if err := a.keys.flush(ctx); err != nil {
		return err
	}
	return a.erase(ctx)
}

// erase does the job that DELETE of a tenant promised.
func (a *Access) erase(ctx context.Context) error {
	if len(a.erasers) == 0 {
		return nil
	}
	names, err := a.store.unerased(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, tenant := range names { // One that has to wait keeps no other.
		if err := a.eraseOne(ctx, tenant); err != nil {
			errs = append(errs, fmt.Errorf("erase tenant %s: %w", tenant, err))
			continue
		}
		a.log.InfoContext(ctx, "tenant erased", "tenant", tenant)
	}
	return errors.Join(errs...)
}

func (a *Access) eraseOne(ctx context.Context, tenant string) error {
	for _, eraser := range a.erasers {
		if err := eraser.EraseTenant(ctx, tenant); err != nil {
			return err
		}
	}
	return a.store.eraseTenant(ctx, tenant)
}

func (a *Access) lastFlush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	if err := a.keys.flush(ctx); err != nil {
		a.log.WarnContext(ctx, "when keys were last used is lost for the last second", "error", err)
	}
	return nil
}
