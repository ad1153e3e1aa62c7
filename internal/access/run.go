package access

import (
	"context"
	"sync"
	"time"

	"github.com/fanfarehq/fanfare/internal/survive"
)

// flushTimeout bounds the last writing after the end of Run's context.
const flushTimeout = 3 * time.Second

// Run refreshes the cached keys until ctx ends. Call Check before it.
func (a *Access) Run(ctx context.Context) error {
	var background sync.WaitGroup
	defer background.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // Also when this loop panics: it is run again, with them.
	loop := func(name string, run func(context.Context)) {
		background.Go(func() {
			_ = survive.Loop(ctx, a.log, name, func(ctx context.Context) error {
				run(ctx)
				return nil
			})
		})
	}
	if a.tokens != nil {
		loop("fetch key set", a.tokens.run)
	}
	loop("watch requests", a.watch)
	if len(a.erasers) > 0 {
		loop("erase tenants", a.eraseTenants)
	}
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
	return a.keys.flush(ctx)
}

func (a *Access) lastFlush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	if err := a.keys.flush(ctx); err != nil {
		a.log.WarnContext(ctx, "when keys were last used is lost for the last second", "error", err)
	}
	return nil
}
