package replay

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// recalledColumns are what a recalled delivery keeps of its row.
var recalledColumns = ledger.DeliveryNames + ", reason, order_key, due_at"

// recall takes back what a paused or cancelled replay made and no worker has in hand: the dead letters that it was made of count
// again. A paused one keeps it for its resumption.
var recall = `
WITH back AS (
    DELETE FROM deferrals WHERE replay_id = $1 AND ` + waiting + `
    RETURNING ` + recalledColumns + `
), reopened AS (
    UPDATE deliveries d SET superseded_by = NULL FROM back
    WHERE d.superseded_by = ANY (ARRAY(SELECT id FROM back)) AND d.superseded_by = back.id RETURNING d.id AS dead, back.id
), kept AS (
    INSERT INTO recalled (replay_id, ` + recalledColumns + `, supersedes)
    SELECT $1, back.*, (SELECT dead FROM reopened r WHERE r.id = back.id LIMIT 1) FROM back WHERE $2 ON CONFLICT DO NOTHING
)
UPDATE replays SET sent = sent - (SELECT count(*) FROM back) WHERE id = $1`

// makeAgain makes recalled deliveries again, at the replay's rate from now on. Those whose event was sent otherwise meanwhile
// are dropped.
var makeAgain = `
WITH mine AS (
    DELETE FROM recalled WHERE replay_id = $1 RETURNING *
), made AS (
    ` + ledger.IntoOrder + `, replay_id)
    SELECT ` + ledger.DeliveryNames + `, reason, 0, 1,
        false, order_key IS NOT NULL, due_at, now() + place * interval '1 second' / $2, now() + place * interval '1 second' / $2,
        order_key, order_key IS NOT NULL, $1
    FROM (SELECT *, row_number() OVER (ORDER BY due_at, id) - 1 AS place FROM mine m
        WHERE NOT EXISTS (SELECT FROM deferrals p WHERE p.event_uid = m.event_uid AND p.subscription_id = m.subscription_id)
            AND NOT EXISTS (SELECT FROM deliveries d WHERE d.event_uid = m.event_uid AND d.subscription_id = m.subscription_id
                AND d.generation > 0 AND d.generation >= m.generation AND d.id >= $3)
    ) m
    RETURNING id
), superseded AS (
    UPDATE deliveries d SET superseded_by = (SELECT m.id FROM mine m WHERE m.supersedes = d.id LIMIT 1)
    WHERE d.id = ANY (ARRAY(SELECT m.supersedes FROM mine m JOIN made ON made.id = m.id WHERE m.supersedes IS NOT NULL))
)
UPDATE replays SET sent = sent + (SELECT count(*) FROM made),
    next_at = now() + (SELECT count(*) FROM made) * interval '1 second' / rate WHERE id = $1`

// recall takes back what no worker has in hand, as part of a transaction that has locked the replay.
func (s *replayStore) recall(ctx context.Context, tx *sql.Tx, id uuid.UUID, keep bool) error {
	if _, err := tx.ExecContext(ctx, recall, id, keep); err != nil {
		return fmt.Errorf("recall deliveries of replay %s: %w", id, err)
	}
	return nil
}

// makeAgain makes what was recalled again.
func (s *replayStore) makeAgain(ctx context.Context, tx *sql.Tx, p *replay) error {
	if _, err := tx.ExecContext(ctx, makeAgain, p.id, p.rate, outcome.FirstID(p.span.Since)); err != nil {
		return fmt.Errorf("make the deliveries of replay %s again: %w", p.id, err)
	}
	return nil
}

const (
	// quietMost is how long the answer to a pause waits for deliveries that workers have in hand.
	quietMost = time.Second
	quietPoll = 10 * time.Millisecond
)

// quiet waits until workers have begun, or given back, what they had in hand of a replay that was stopped: then no request
// begins any more. Requests in flight are not waited for longer than quietMost.
func (s *replayStore) quiet(ctx context.Context, id uuid.UUID) error {
	for deadline := time.Now().Add(quietMost); time.Now().Before(deadline); {
		var busy bool
		err := s.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM deferrals WHERE replay_id = $1 AND attempts = 0)`, id).Scan(&busy)
		if err != nil {
			return fmt.Errorf("look for deliveries of replay %s: %w", id, err)
		}
		if !busy {
			return nil
		}
		if err := s.sweep(ctx, id); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(quietPoll):
		}
	}
	return nil
}

// sweep recalls what workers gave back of a replay that was stopped.
func (s *replayStore) sweep(ctx context.Context, id uuid.UUID) error {
	return postgres.Retry(ctx, s.db, func(ctx context.Context, tx *sql.Tx) error {
		var state replayState
		err := tx.QueryRowContext(ctx, `SELECT state FROM replays WHERE id = $1 AND state IN ('paused', 'cancelled') FOR UPDATE`, id).Scan(&state)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("lock replay %s: %w", id, err)
		}
		return s.recall(ctx, tx, id, state == replayPaused)
	})
}

// stopped returns replays that were stopped and of which workers gave something back.
func (s *replayStore) stopped(ctx context.Context) ([]uuid.UUID, error) {
	rows, err := s.db.QueryContext(ctx, `
SELECT id FROM replays p WHERE state IN ('paused', 'cancelled') AND stopped_at > now() - interval '1 hour'
    AND EXISTS (SELECT FROM deferrals d WHERE d.replay_id = p.id AND d.attempts = 0 AND d.worker = '')`)
	ids, err := postgres.Collect(rows, err, postgres.ScanOne[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("look for stopped replays: %w", err)
	}
	return ids, nil
}
