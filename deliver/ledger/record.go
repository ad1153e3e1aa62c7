package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/router"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
)

// endDeferred ends deliveries that have a row among the deferrals: the row goes and its number stays. An end
// whose step is behind the row's comes from a worker that lost its lease, and is void; but a success
// counts, whoever holds the lease. It returns those that were in the order of a key.
var endDeferred = `
WITH o AS MATERIALIZED (
    SELECT * FROM ` + (endedColumns + ", step int").rows() + `
), gone AS (
    DELETE FROM deferrals d USING o WHERE d.id = o.id AND (d.step < o.step OR o.state = 'delivered')
    RETURNING d.id, d.number, d.order_key, d.attempts, d.status, d.subscription_revision
), ended AS (
INSERT INTO deliveries (number, ` + endedColumns.names() + `)
SELECT coalesce(g.number, nextval('delivery_number')), o.id, o.tenant, o.event_uid, o.event_id, o.event_type, o.seq,
    o.subscription_id, o.generation, o.state, o.reason, greatest(o.attempts, g.attempts), o.created_at, o.ended_at, o.started_at,
    o.duration_us, CASE WHEN o.started_at IS NULL THEN coalesce(g.status, o.status) ELSE o.status END, o.error, o.response,
    coalesce(o.subscription_revision, g.subscription_revision), o.exchange, o.response_headers
FROM o LEFT JOIN gone g ON g.id = o.id LEFT JOIN deferrals d ON d.id = o.id
WHERE g.id IS NOT NULL OR d.id IS NULL
ON CONFLICT DO NOTHING
)
SELECT o.subscription_id, g.order_key, o.event_uid, o.state FROM gone g JOIN o ON o.id = g.id WHERE g.order_key IS NOT NULL`

// putOff writes deliveries that are put off. It never revives one that ended, and never goes back a step. A retry by hand has its effect until an
// attempt was made.
var putOff = intoDeferrals + `, excused, status, subscription_revision)
SELECT ` + DeliveryNames + `, reason, attempts, step, test, held, created_at, due_at, due_at, excused, status, subscription_revision
FROM ` + (deliveryColumns + ", reason text, attempts int, step int, test bool, held bool, created_at timestamptz, due_at timestamptz, " +
	"excused smallint, status smallint, subscription_revision bigint").rows() + `
WHERE NOT EXISTS (SELECT FROM deliveries e WHERE e.id = o.id)
ON CONFLICT (id) DO UPDATE SET reason = excluded.reason, attempts = excluded.attempts, step = excluded.step,
    held = excluded.held, due_at = excluded.due_at, claim_at = excluded.claim_at, worker = '', lapses = 0, excused = excluded.excused,
    status = CASE WHEN excluded.attempts + excluded.excused > deferrals.attempts + deferrals.excused THEN excluded.status ELSE deferrals.status END,
    subscription_revision = coalesce(excluded.subscription_revision, deferrals.subscription_revision),
    by_hand = deferrals.by_hand AND NOT excluded.held AND deferrals.attempts = excluded.attempts
WHERE deferrals.step < excluded.step`

const keepEvents = `
INSERT INTO event_data (uid, body) SELECT o.* FROM unnest($1::uuid[], $2::bytea[]) AS o ON CONFLICT DO NOTHING`

// stillPaused locks the subscriptions that are paused, so that a resume comes either before this transaction, and
// is seen, or after it, and finds the held deliveries.
const stillPaused = `SELECT id FROM subscriptions WHERE id = ANY($1) AND status = 'paused' AND NOT deleted FOR SHARE`

// record writes what became of deliveries. It may be repeated, in any order and by several at once, with the same
// result, if it bears repeats; else it fails where a row of a delivery's end is there already.
func (l *Ledger) record(ctx context.Context, tx *sql.Tx, b batch, bear bool) (done written, err error) {
	if len(b.deferred) > 0 {
		if done.places, err = l.endOrdered(ctx, tx, b.deferred); err != nil {
			return done, fmt.Errorf("end deferred deliveries: %w", err)
		}
		if err := resolve(ctx, tx, b.deferred); err != nil {
			return done, err
		}
		if err := l.reopen(ctx, tx, b.deferred); err != nil {
			return done, err
		}
	}
	fresh := b.fresh
	if len(b.fresh) > 0 {
		if fresh, err = l.endFresh(ctx, tx, b.fresh, bear); err != nil {
			return done, fmt.Errorf("end deliveries: %w", err)
		}
		done.repeats = len(fresh) < len(b.fresh)
	}
	if len(b.events) > 0 {
		if _, err := l.exec(ctx, tx, keepEvents, postgres.Args(eventColumns(b.events))...); err != nil {
			return done, fmt.Errorf("keep events: %w", err)
		}
	}
	if len(b.later) > 0 {
		if err := l.putOff(ctx, tx, b.later); err != nil {
			return done, fmt.Errorf("put off deliveries: %w", err)
		}
	}
	// Attempts come last: whoever cancels one of these deliveries has either been waited for, and is seen, or waits.
	if len(b.attempts) > 0 {
		if err := l.addAttempts(ctx, tx, b.attempts); err != nil {
			return done, fmt.Errorf("add attempts: %w", err)
		}
	}
	return done, l.count(ctx, tx, fresh, b.deferred, notEnding(b.attempts))
}

// notEnding are those of the attempts that did not end their delivery.
func notEnding(attempts []*outcome.Record) (list []*outcome.Record) {
	for _, r := range attempts {
		if !r.Ended() {
			list = append(list, r)
		}
	}
	return list
}

// putOff writes deliveries that are put off, held only where the subscription is paused still.
func (l *Ledger) putOff(ctx context.Context, tx *sql.Tx, later []*outcome.Record) error {
	held, err := l.holdable(ctx, tx, later)
	if err != nil {
		return err
	}
	_, err = l.exec(ctx, tx, putOff, postgres.Args(laterColumns(later, held))...)
	return err
}

// holdable returns which subscriptions are paused still; what belongs to others must not be held, as the
// resume has passed that would set it free.
func (l *Ledger) holdable(ctx context.Context, tx *sql.Tx, later []*outcome.Record) (map[uuid.UUID]bool, error) {
	var ids []string
	for _, r := range later {
		if r.Held {
			ids = append(ids, r.Subscription.String())
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	slices.Sort(ids)
	rows, err := tx.QueryContext(ctx, stillPaused, pq.Array(slices.Compact(ids)))
	paused := make(map[uuid.UUID]bool)
	err = postgres.Each(rows, err, func() error {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			return err
		}
		paused[id] = true
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read paused subscriptions: %w", err)
	}
	return paused, nil
}

// batch is a group of records by what they write.
type batch struct {
	fresh, deferred []*outcome.Record // ended
	later           []*outcome.Record // one for each delivery: the last step
	attempts        []*outcome.Record // with an attempt; not those that are fresh
	events          []*outcome.Record // with the bytes of their event, one for each event
}

// sortOut orders records by id, so that two recorders lock rows in the same order, and tells their kinds apart.
func sortOut(records []*outcome.Record) batch {
	records = slices.Clone(records)
	slices.SortFunc(records, func(a, b *outcome.Record) int {
		return cmp.Or(slices.Compare(a.Delivery[:], b.Delivery[:]), cmp.Compare(a.Step, b.Step))
	})
	b := batch{fresh: make([]*outcome.Record, 0, len(records))}
	var kept map[uuid.UUID]bool
	for _, r := range records {
		switch {
		case r.Ended() && r.Step <= 1:
			b.fresh = append(b.fresh, r)
		case r.Ended():
			b.deferred = append(b.deferred, r)
			if r.Attempt != nil {
				b.attempts = append(b.attempts, r)
			}
		default:
			if n := len(b.later); n > 0 && b.later[n-1].Delivery == r.Delivery {
				b.later[n-1] = r
			} else {
				b.later = append(b.later, r)
			}
			if r.Attempt != nil {
				b.attempts = append(b.attempts, r)
			}
		}
		if r.Event != nil && !kept[r.EventUID] {
			if kept == nil {
				kept = make(map[uuid.UUID]bool)
			}
			kept[r.EventUID] = true
			b.events = append(b.events, r)
		}
	}
	return b
}

func laterColumns(records []*outcome.Record, paused map[uuid.UUID]bool) []postgres.Column {
	c := postgres.Columns(18, len(records))
	for _, r := range records {
		recordRow(c, r)
		c[8].Text(string(r.Reason))
		c[9].Int32(r.Attempts)
		c[10].Int32(r.Step)
		c[11].Bool(r.Test)
		c[12].Bool(r.Held && paused[r.Subscription])
		c[13].Time(r.CreatedAt)
		c[14].Time(r.At)
		c[15].Int16(r.Excused)
		if r.Attempt != nil {
			c[16].Int16(r.Attempt.Status)
			c[17].Int64OrNull(r.Attempt.Revision)
		} else {
			c[16].Int16(0)
			c[17].Int64OrNull(0)
		}
	}
	return c
}

func eventColumns(records []*outcome.Record) []postgres.Column {
	c := postgres.Columns(2, len(records))
	for _, r := range records {
		c[0].UUID(r.EventUID)
		c[1].Bytes(r.Event)
	}
	return c
}

// Quarantine keeps a message that cannot be read, for a person to look at.
func (l *Ledger) Quarantine(ctx context.Context, p Poison) error {
	const keep = 4 << 10
	q := tenantkeys.Message{Tenant: p.Tenant, ID: p.id(), Detail: outcome.SanitizeText(p.Detail), Data: p.Data[:min(len(p.Data), keep)]}
	err := l.Keys.SealMessage(ctx, &q)
	if err == nil {
		_, err = l.DB.ExecContext(ctx, `
INSERT INTO quarantine (id, tenant, stream_seq, subject, received_at, reason, detail, data, sealed)
VALUES ($1, $8, $2, $3, $4, $5, $6, $7, $9) ON CONFLICT DO NOTHING`,
			q.ID, int64(p.Seq), p.Subject, p.At, p.Reason, q.Detail, q.Data, p.Tenant, q.Sealed)
	}
	if err != nil {
		return fmt.Errorf("quarantine message %d of %s: %w", p.Seq, p.Subject, err)
	}
	return nil
}

// The reasons of what deliver quarantines.
const (
	quarantineUnreadable = "unreadable" // the message is none of this stage's
	QuarantineInternal   = "internal"   // handling it failed again and again, by a fault of Fanfare's own
)

// QuarantineReason tells a message that cannot be read from one whose handling panics or kills the process.
func QuarantineReason(cause error) string {
	if _, ok := errors.AsType[middleware.RecoveredPanicError](cause); ok || errors.Is(cause, router.ErrDeadly) {
		return QuarantineInternal
	}
	return quarantineUnreadable
}

// id is the same whenever the same thing is quarantined.
func (p Poison) id() uuid.UUID {
	if p.Index == 0 {
		return event.UID(p.Subject, fmt.Sprint(p.Seq), p.At)
	}
	return event.UID(p.Subject, fmt.Sprintf("%d/%d", p.Seq, p.Index), p.At)
}

// Poison is a message that cannot be handled, or one item of it.
type Poison struct {
	Subject string
	Seq     uint64
	Index   int    // of the item, from 1; 0 is the whole message
	Tenant  string // empty where it is not known
	At      time.Time
	Reason  string
	Detail  string
	Data    []byte
}
