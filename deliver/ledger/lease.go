package ledger

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// A lease is a row of the deferrals whose worker is named and whose claim_at is the lease's end. All its times are
// by Postgres' clock. Each new lease takes the next step, so that a late word of the one before is void.

// HandOff gives deliveries that are slow or wait a row and a lease, so that their task may be
// acknowledged. It returns those that it took; the others ended, or somebody else has them. It may be repeated by
// the same worker, which may not have heard that it succeeded.
var handOff = intoDeferrals + `, worker, lapses)
SELECT ` + DeliveryNames + `, 'busy', 0, 1, test, false, created_at, now(), now() + $11 * interval '1 millisecond', $12, $13::smallint
FROM ` + (deliveryColumns + ", test bool, created_at timestamptz").rows() + `
WHERE NOT EXISTS (SELECT FROM deliveries e WHERE e.id = o.id)
ON CONFLICT (id) DO UPDATE SET claim_at = excluded.claim_at WHERE deferrals.worker = excluded.worker AND deferrals.step = 1
RETURNING id`

// Claim leases deferrals that became due within the last $5 ms, or will within $6. Rows of workers that lost their lease
// are taken only if it ended before $2: up to there every outcome that was written is in the ledger. A row whose delivery
// ended is a leftover of a race between two workers; it is claimed like any, and dropped. Deferrals of the subscriptions $7 are left to other workers. Without the OFFSET all of the
// deliveries might be read to look for a few.
const claim = `
WITH due AS (
    SELECT id, claim_at, worker FROM deferrals
    WHERE NOT held AND claim_at > now() - $5 * interval '1 millisecond' AND claim_at <= now() + $6 * interval '1 millisecond'
        AND (worker = '' OR claim_at <= $2) AND subscription_id <> ALL ($7::uuid[])
        AND (replay_id IS NULL OR attempts > 0 OR NOT EXISTS (
            SELECT FROM replays p WHERE p.id = replay_id AND p.state IN ('paused', 'cancelled')))
    ORDER BY claim_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE deferrals d SET claim_at = now() + $3 * interval '1 millisecond', worker = $4, step = d.step + 1,
    lapses = least(d.lapses + (due.worker <> '')::int, 1000)
FROM due WHERE d.id = due.id
RETURNING d.id, d.tenant, d.event_uid, d.event_id, d.event_type, d.seq, d.subscription_id, d.generation, d.attempts, d.step,
    d.test, d.created_at, due.claim_at, greatest(extract(epoch FROM now() - d.due_at) * 1000, 0)::bigint,
    greatest(ceil(extract(epoch FROM due.claim_at - now()) * 1000000), 0)::bigint,
    EXISTS (SELECT FROM deliveries e WHERE e.id = d.id OFFSET 0), d.reason = 'rate_limited', d.order_key IS NOT NULL, d.by_hand,
    d.lapses, d.excused`

// DropLeftovers removes rows whose deliveries ended. A delivery that was made twice at once may have ended by its first attempt
// after a later one was recorded: it counts that as well.
const dropLeftovers = `
WITH gone AS (
    DELETE FROM deferrals d USING unnest($1::uuid[]) AS o (id)
    WHERE d.id = o.id AND EXISTS (SELECT FROM deliveries e WHERE e.id = d.id)
    RETURNING d.id, d.attempts
)
UPDATE deliveries e SET attempts = g.attempts FROM gone g WHERE e.id = g.id AND e.attempts < g.attempts`

// GiveBack ends leases early. Each says after how many milliseconds the delivery is due again.
const giveBack = `
UPDATE deferrals d SET claim_at = now() + o.wait * interval '1 millisecond', due_at = now() + o.wait * interval '1 millisecond',
    reason = coalesce(nullif(o.reason, ''), d.reason), worker = ''
FROM unnest($1::uuid[], $2::int[], $3::bigint[], $4::text[]) AS o (id, step, wait, reason)
WHERE d.id = o.id AND d.step = o.step AND d.worker = $5`

// Renew makes leases last longer whose outcome cannot be written yet.
const renew = `
UPDATE deferrals d SET claim_at = now() + $4 * interval '1 millisecond'
FROM unnest($1::uuid[], $2::int[]) AS o (id, step)
WHERE d.id = o.id AND d.step = o.step AND d.worker = $3`

// Deferral is a delivery as its row among the deferrals has it.
type Deferral struct {
	Delivery     uuid.UUID
	Tenant       string
	EventUID     uuid.UUID
	EventID      string
	EventType    string
	Seq          uint64
	Subscription uuid.UUID
	Generation   int
	Attempts     int // made so far
	Excused      int // of those made, not counted among Attempts
	Step         int // grows with each lease and each outcome
	Test         bool
	ByHand       bool // its retry was asked for: it is attempted although the subscription is paused
	Limited      bool // it has waited for the rate limit already
	Ordered      bool // others may wait for it to end
	Created      time.Time
}

// Lease says whose leases are taken and for how long.
type Lease struct {
	Worker string
	Length time.Duration
	Lapses int // of its deliveries so far
}

// HandOff writes the rows of deliveries and returns the ids of those that it took.
func (l *Ledger) HandOff(ctx context.Context, list []*Deferral, as Lease) (map[uuid.UUID]bool, error) {
	c := postgres.Columns(10, len(list))
	for _, d := range list {
		deliveryRow(c, d)
		c[8].Bool(d.Test)
		c[9].Time(d.Created)
	}
	taken := make(map[uuid.UUID]bool, len(list))
	err := postgres.Retry(ctx, l.DB, func(ctx context.Context, tx *sql.Tx) error {
		clear(taken)
		rows, err := tx.QueryContext(ctx, handOff, append(postgres.Args(c), as.Length.Milliseconds(), as.Worker, as.Lapses)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id uuid.UUID
			if err := rows.Scan(&id); err != nil {
				return err
			}
			taken[id] = true
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("hand off %d deliveries: %w", len(list), err)
	}
	return taken, nil
}

// Claimed is a lease that was taken.
type Claimed struct {
	Deferral
	Due  time.Time     // by which those that are due are ordered
	Late time.Duration // how long it was due
	Wait time.Duration // until it is due, from when it was claimed
	// Lapses is how often a worker lost its lease, without an outcome since.
	Lapses int
}

// DueSpan says which deferrals are claimed: those that became due no longer ago than back, or will be within ahead.
type DueSpan struct {
	Back, Ahead time.Duration
	Lapsed      time.Time // bounds the ends of the leases that may be taken over
	// Elsewhere holds subscriptions whose deferrals are left to other workers.
	Elsewhere []uuid.UUID
}

// Claim leases up to limit due deferrals. Those of deliveries that ended are returned apart, for DropLeftovers.
func (l *Ledger) Claim(ctx context.Context, limit int, span DueSpan, as Lease) (got []*Claimed, ended []uuid.UUID, err error) {
	elsewhere := postgres.Columns(1, len(span.Elsewhere))
	for _, id := range span.Elsewhere {
		elsewhere[0].UUID(id)
	}
	err = postgres.Retry(ctx, l.DB, func(ctx context.Context, tx *sql.Tx) error {
		got, ended = nil, nil
		rows, err := tx.QueryContext(ctx, claim, limit, span.Lapsed, as.Length.Milliseconds(), as.Worker,
			span.Back.Milliseconds(), span.Ahead.Milliseconds(), postgres.Args(elsewhere)[0])
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			c := new(Claimed)
			var late, wait int64
			var over bool
			if err := rows.Scan(&c.Delivery, &c.Tenant, &c.EventUID, &c.EventID, &c.EventType, &c.Seq, &c.Subscription,
				&c.Generation, &c.Attempts, &c.Step, &c.Test, &c.Created, &c.Due, &late, &wait, &over, &c.Limited, &c.Ordered, &c.ByHand, &c.Lapses, &c.Excused); err != nil {
				return err
			}
			c.Late, c.Wait = time.Duration(late)*time.Millisecond, time.Duration(wait)*time.Microsecond
			if over {
				ended = append(ended, c.Delivery)
			} else {
				got = append(got, c)
			}
		}
		return rows.Err()
	})
	if err != nil {
		return nil, nil, fmt.Errorf("claim deferrals: %w", err)
	}
	slices.SortFunc(got, func(a, b *Claimed) int {
		return cmp.Or(a.Due.Compare(b.Due), bytes.Compare(a.Delivery[:], b.Delivery[:]))
	})
	return got, ended, nil
}

// DropLeftovers removes the rows of deliveries that ended.
func (l *Ledger) DropLeftovers(ctx context.Context, ended []uuid.UUID) error {
	if len(ended) == 0 {
		return nil
	}
	c := postgres.Columns(1, len(ended))
	for _, id := range ended {
		c[0].UUID(id)
	}
	if _, err := l.DB.ExecContext(ctx, dropLeftovers, postgres.Args(c)...); err != nil {
		return fmt.Errorf("drop ended deferrals: %w", err)
	}
	return nil
}

// Returned is a lease that is given back.
type Returned struct {
	Delivery uuid.UUID
	Step     int
	Until    time.Time // the end of the lease
	Wait     time.Duration
	Reason   outcome.Reason // empty: as it was
}

// GiveBack ends leases of a worker early. Leases that it no longer has stay as they are.
func (l *Ledger) GiveBack(ctx context.Context, leases []Returned, worker string) error {
	c := postgres.Columns(4, len(leases))
	for _, r := range leases {
		c[0].UUID(r.Delivery)
		c[1].Int32(r.Step)
		c[2].Int64(r.Wait.Milliseconds())
		c[3].Text(string(r.Reason))
	}
	return postgres.Retry(ctx, l.DB, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, giveBack, append(postgres.Args(c), worker)...); err != nil {
			return fmt.Errorf("give back %d leases: %w", len(leases), err)
		}
		return nil
	})
}

// Renew extends leases of a worker. Leases that it no longer has stay as they are.
func (l *Ledger) Renew(ctx context.Context, leases []Returned, as Lease) error {
	c := postgres.Columns(2, len(leases))
	for _, r := range leases {
		c[0].UUID(r.Delivery)
		c[1].Int32(r.Step)
	}
	if _, err := l.DB.ExecContext(ctx, renew, append(postgres.Args(c), as.Worker, as.Length.Milliseconds())...); err != nil {
		return fmt.Errorf("renew %d leases: %w", len(leases), err)
	}
	return nil
}

// NextDue returns in how long the next deferral is due; false if none waits for a time.
func (l *Ledger) NextDue(ctx context.Context) (time.Duration, bool, error) {
	var ms float64
	err := l.DB.QueryRowContext(ctx, `
SELECT extract(epoch FROM claim_at - now()) * 1000 FROM deferrals
WHERE NOT held AND claim_at > now() ORDER BY claim_at LIMIT 1`).Scan(&ms)
	switch err {
	case nil:
		return time.Duration(ms * float64(time.Millisecond)), true, nil
	case sql.ErrNoRows:
		return 0, false, nil
	default:
		return 0, false, fmt.Errorf("look for the next deferral: %w", err)
	}
}

// Overdue returns for how long the oldest due deferral has been due, and whether a lease has lapsed since a time.
func (l *Ledger) Overdue(ctx context.Context, since time.Time) (age time.Duration, lapsed bool, err error) {
	var ms float64
	err = l.DB.QueryRowContext(ctx, `
SELECT coalesce(extract(epoch FROM now() - (SELECT min(claim_at) FROM deferrals WHERE NOT held AND claim_at <= now())) * 1000, 0),
    EXISTS (SELECT FROM deferrals WHERE NOT held AND claim_at <= now() AND claim_at > $1 AND worker <> '')`, since).Scan(&ms, &lapsed)
	if err != nil {
		return 0, false, fmt.Errorf("look for overdue deferrals: %w", err)
	}
	return time.Duration(ms * float64(time.Millisecond)), lapsed, nil
}
