package history

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// Log reads what became of a subscription's deliveries, for APIs that show it in a form of their own: the newest
// ones, pending and ended together, each with its last attempt.
type Log struct {
	*Reader
	events eventReader
}

// NewLog makes a Log. Events may be nil if Data is not called and nothing is sealed; else their keys open answers.
func NewLog(db *sql.DB, events eventReader) *Log {
	return &Log{Reader: NewReader(db, keysOf(events)), events: events}
}

// Logged is a delivery with its last attempt.
type Logged struct {
	ID         uuid.UUID
	Number     int64
	EventUID   uuid.UUID
	EventID    string
	EventType  string
	Seq        uint64 // the event's place in its stream
	Generation int
	State      string // pending, delivered, dead, cancelled
	Reason     outcome.Reason
	Attempts   int
	CreatedAt  time.Time
	DueAt      time.Time // of a pending one that is not held; else zero
	EndedAt    time.Time // zero while it is pending
	// Last is the last attempt, without its response: see Log.Responses. Nil if there was none yet.
	Last *outcome.Made
}

// pendingLogged and endedLogged are the columns of a Logged. The attempt that ended a delivery is part of its row;
// any other stands among the attempts.
const (
	pendingLogged = `d.id, d.tenant, d.number, d.event_uid, d.event_id, d.event_type, d.seq, d.generation, 'pending' AS state, d.reason, d.attempts,
    d.created_at, CASE WHEN NOT d.held THEN d.due_at END AS due_at, NULL::timestamptz AS ended_at,
    a.number AS last, a.started_at, a.duration_us, a.status, a.error, a.reason AS last_reason`
	endedLogged = `d.id, d.tenant, d.number, d.event_uid, d.event_id, d.event_type, d.seq, d.generation, d.state, d.reason, d.attempts,
    d.created_at, NULL::timestamptz AS due_at, d.ended_at,
    coalesce(a.number, d.attempts) AS last, coalesce(a.started_at, d.started_at) AS started_at, coalesce(a.duration_us, d.duration_us) AS duration_us,
    coalesce(a.status, d.status) AS status, coalesce(a.error, d.error) AS error, coalesce(a.reason, d.reason) AS last_reason`
	lastAttempt = `LEFT JOIN LATERAL (SELECT number, started_at, duration_us, status, error, reason FROM attempts
    WHERE delivery_id = d.id ORDER BY number DESC LIMIT 1) a ON `
	shown = ` AND NOT EXISTS (SELECT FROM hidden_deliveries h WHERE h.delivery_id = d.id)`
)

// newest reads the newest deliveries of a subscription, $1, at most $2. A delivery may be in both tables for a
// moment; then it ended, and comes first.
const newest = `
SELECT * FROM (
    (SELECT ` + pendingLogged + ` FROM (
        SELECT id, tenant, number, event_uid, event_id, event_type, seq, generation, reason, attempts, created_at, held, due_at
        FROM deferrals d WHERE subscription_id = $1` + shown + ` ORDER BY id DESC LIMIT $2
    ) d ` + lastAttempt + `d.attempts > 0)
    UNION ALL
    (SELECT ` + endedLogged + ` FROM (
        SELECT id, tenant, number, event_uid, event_id, event_type, seq, generation, state, reason, attempts, created_at, ended_at, started_at,
            duration_us, status, error
        FROM deliveries d WHERE subscription_id = $1` + shown + ` ORDER BY id DESC LIMIT $2
    ) d ` + lastAttempt + `d.started_at IS NULL AND d.attempts > 0)
) log ORDER BY id DESC, ended_at LIMIT $2`

// Newest returns the newest deliveries of a subscription that are not hidden, at most limit, the newest first.
func (l *Log) Newest(ctx context.Context, subscription uuid.UUID, limit int) ([]Logged, error) {
	rows, err := l.db.QueryContext(ctx, newest, subscription, limit)
	var log []Logged
	err = postgres.Each(rows, err, func() error {
		d, err := l.scan(ctx, rows)
		if err != nil {
			return err
		}
		if n := len(log); n == 0 || log[n-1].ID != d.ID {
			log = append(log, d)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read log of %s: %w", subscription, err)
	}
	return log, nil
}

// scan reads a row of newest, and opens its answer.
func (l *Log) scan(ctx context.Context, row ledger.Scanner) (d Logged, err error) {
	var tenant string
	var due, ended, started sql.NullTime
	var number, micros, status sql.NullInt64
	var text, reason sql.NullString
	if err := row.Scan(&d.ID, &tenant, &d.Number, &d.EventUID, &d.EventID, &d.EventType, &d.Seq, &d.Generation, &d.State, &d.Reason, &d.Attempts,
		&d.CreatedAt, &due, &ended, &number, &started, &micros, &status, &text, &reason); err != nil {
		return d, err
	}
	d.DueAt, d.EndedAt = due.Time, ended.Time
	if started.Valid {
		d.Last = &outcome.Made{
			Number: int(number.Int64), StartedAt: started.Time, Micros: micros.Int64, Status: int(status.Int64),
			Error: text.String, Reason: outcome.Reason(reason.String),
		}
		err = d.Last.Open(ctx, l.keys, tenant, d.ID)
	}
	return d, err
}

// Responses returns the beginnings of the responses to the last attempts of deliveries, by delivery; those that had
// none are not among them. They are at most 16 KiB each.
func (l *Log) Responses(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID][]byte, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	// What ended a delivery came last.
	rows, err := l.db.QueryContext(ctx, `
SELECT DISTINCT ON (r.id) r.id, coalesce(d.tenant, p.tenant, ''), r.response FROM (
    SELECT delivery_id AS id, number AS number, response FROM attempts WHERE delivery_id = ANY($1::uuid[])
    UNION ALL
    SELECT id, 1000000, response FROM deliveries WHERE id = ANY($1::uuid[]) AND started_at IS NOT NULL
) r LEFT JOIN deliveries d ON d.id = r.id LEFT JOIN deferrals p ON p.id = r.id ORDER BY r.id, r.number DESC`, pq.Array(ids))
	responses := make(map[uuid.UUID][]byte, len(ids))
	err = postgres.Each(rows, err, func() error {
		var id uuid.UUID
		var tenant string
		var last outcome.Made
		if err := rows.Scan(&id, &tenant, &last.Response); err != nil {
			return err
		}
		if err := last.Open(ctx, l.keys, tenant, id); err != nil {
			return err
		}
		if len(last.Response) > 0 {
			responses[id] = last.Response
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read responses: %w", err)
	}
	return responses, nil
}

// Data returns the data of a delivery's event as JSON, in base64 if it is something else; ErrEventGone if it is nowhere any more.
func (l *Log) Data(ctx context.Context, d Logged) ([]byte, error) {
	e, err := l.events.Get(ctx, d.EventUID, d.Seq)
	if err != nil {
		return nil, err
	}
	if !e.JSON() {
		return json.Marshal(e.Data)
	}
	return e.Data, nil
}

// Number returns the number of a delivery; false while the ledger does not know it.
func (l *Log) Number(ctx context.Context, delivery uuid.UUID) (number int64, ok bool, err error) {
	e, err := l.Find(ctx, delivery, "")
	if errors.Is(err, ledger.ErrNotFound) {
		return 0, false, nil
	}
	return e.Number, err == nil, err
}

// hide takes a delivery off the log. Of those that were hidden, some of the oldest leave if the ledger has them no longer.
const hide = `
WITH gone AS (
    DELETE FROM hidden_deliveries h WHERE h.delivery_id IN (SELECT delivery_id FROM hidden_deliveries ORDER BY delivery_id LIMIT 20)
        AND NOT EXISTS (SELECT FROM deliveries d WHERE d.id = h.delivery_id) AND NOT EXISTS (SELECT FROM deferrals d WHERE d.id = h.delivery_id)
)
INSERT INTO hidden_deliveries (delivery_id) VALUES ($1) ON CONFLICT DO NOTHING`

// Hide takes a delivery off a subscription's log, and cancels it if it is pending; the ledger keeps it. It is false if
// no delivery of that number is among the newest so many (within) that the log shows.
func (l *Log) Hide(ctx context.Context, subscription uuid.UUID, number int64, within int) (found bool, err error) {
	err = postgres.Retry(ctx, l.db, func(ctx context.Context, tx *sql.Tx) error {
		var id uuid.UUID
		err := tx.QueryRowContext(ctx, `SELECT id FROM (`+newest+`) d WHERE number = $3 LIMIT 1`, subscription, within, number).Scan(&id)
		if found = err == nil; !found {
			if errors.Is(err, sql.ErrNoRows) {
				return nil
			}
			return fmt.Errorf("find delivery %d of %s: %w", number, subscription, err)
		}
		if _, err := tx.ExecContext(ctx, hide, id); err != nil {
			return fmt.Errorf("hide delivery %s: %w", id, err)
		}
		if _, err := tx.ExecContext(ctx, ledger.CancelOne, id, string(outcome.ReasonCancelled)); err != nil {
			return fmt.Errorf("cancel delivery %s: %w", id, err)
		}
		return nil
	})
	return found, err
}
