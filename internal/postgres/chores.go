package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/survive"
)

// Chore is work that one process at a time does for all, again and again.
type Chore struct {
	Name  string
	Every time.Duration
	// Do does the work that is due. Place is up to where it was done before, zero at the first time; the place that
	// Do returns is kept, also when it fails. A panic counts as a failure.
	Do func(ctx context.Context, place time.Time) (time.Time, error)
}

// choreLease is how long a process that died keeps others from its chores, beside the time between two turns.
const choreLease = 2 * time.Minute

// RunChore does a chore until ctx ends, whenever this process has its turn. What fails is logged, once for each trouble,
// and done again at the next turn.
func RunChore(ctx context.Context, db *sql.DB, logger *slog.Logger, c Chore) error {
	me := uuid.NewString()
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	for trouble := false; ; {
		err := turn(ctx, db, me, c)
		if err != nil && !trouble && ctx.Err() == nil {
			logger.WarnContext(ctx, "a chore waits", "chore", c.Name, "error", err)
		}
		trouble = err != nil
		select {
		case <-ctx.Done():
			return giveUp(ctx, db, me, c)
		case <-tick.C:
		}
	}
}

// turn does the chore once, if no other process has it.
func turn(ctx context.Context, db *sql.DB, me string, c Chore) error {
	var place sql.NullTime
	err := db.QueryRowContext(ctx, `
INSERT INTO chores AS c (name, worker, until) VALUES ($1, $2, now() + $3 * interval '1 millisecond')
ON CONFLICT (name) DO UPDATE SET worker = excluded.worker, until = excluded.until WHERE c.until <= now() OR c.worker = excluded.worker
RETURNING place`, c.Name, me, (c.Every + choreLease).Milliseconds()).Scan(&place)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("take the chore %s: %w", c.Name, err)
	}
	at := place.Time
	err = survive.Do(func() (err error) {
		at, err = c.Do(ctx, place.Time)
		return err
	})
	if at.IsZero() || at.Equal(place.Time) {
		return err
	}
	if _, keep := db.ExecContext(ctx, `UPDATE chores SET place = $3 WHERE name = $1 AND worker = $2`, c.Name, me, at); keep != nil {
		err = errors.Join(err, fmt.Errorf("keep the place of the chore %s: %w", c.Name, keep))
	}
	return err
}

// giveUp leaves the chore to others.
func giveUp(ctx context.Context, db *sql.DB, me string, c Chore) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	// If it fails the lease ends by itself.
	_, _ = db.ExecContext(ctx, `UPDATE chores SET until = now() WHERE name = $1 AND worker = $2`, c.Name, me)
	return nil
}
