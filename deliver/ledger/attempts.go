package ledger

import (
	"context"
	"database/sql"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// addAttempts writes attempts that are not part of the row of a delivery that ended: those that did not end it, and those
// that were under way when something else ended it, so that the place for an attempt in its row is vacant. It returns those whose number is beyond the attempts that the ended
// delivery counts: it was cancelled, or another worker ended it, while they were under way. Of two attempts that each ended it, the row has the
// one that was recorded first. Nothing is kept of what an attempt brings back whose event was erased meanwhile.
const addAttempts = `
WITH o AS MATERIALIZED (
    SELECT u.*, coalesce(e.attempts < u.number, false) AS beyond, e.started_at IS NULL AS vacant,
        coalesce(e.state = 'cancelled' AND EXISTS (SELECT FROM events v WHERE v.uid = e.event_uid AND v.erased_at IS NOT NULL), false) AS erased
    FROM unnest($1::uuid[], $2::int[], $3::timestamptz[], $4::bigint[], $5::smallint[], $6::text[], $7::bytea[], $8::text[], $9::bool[], $10::bigint[],
        $11::bytea[], $12::bytea[])
        AS u (id, number, started_at, duration_us, status, error, response, reason, last, subscription_revision, exchange, response_headers)
    LEFT JOIN LATERAL (SELECT state, event_uid, attempts, started_at FROM deliveries WHERE id = u.id OFFSET 0) e ON true
), added AS (
    INSERT INTO attempts (delivery_id, number, started_at, duration_us, status, error, response, reason, last, subscription_revision,
        exchange, response_headers)
    SELECT id, number, started_at, duration_us, status, CASE WHEN erased THEN '' ELSE error END,
        CASE WHEN NOT erased THEN response END, reason, last, subscription_revision, exchange, CASE WHEN NOT erased THEN response_headers END
    FROM o WHERE NOT last OR beyond AND vacant
    ON CONFLICT DO NOTHING
)
SELECT id, number FROM o WHERE beyond`

// countLate tells a delivery of an attempt that came back after its end.
const countLate = `UPDATE deliveries SET attempts = $2 WHERE id = $1 AND attempts < $2`

// addAttempts writes the attempts of records.
func (l *Ledger) addAttempts(ctx context.Context, tx *sql.Tx, records []*outcome.Record) error {
	rows, err := l.query(ctx, tx, addAttempts, postgres.Args(attemptColumns(records))...)
	type attempt struct {
		delivery uuid.UUID
		number   int
	}
	var late []attempt
	err = postgres.Each(rows, err, func() error {
		var a attempt
		if err := rows.Scan(&a.delivery, &a.number); err != nil {
			return err
		}
		late = append(late, a)
		return nil
	})
	if err != nil {
		return err
	}
	for _, a := range late {
		if _, err := tx.ExecContext(ctx, countLate, a.delivery, a.number); err != nil {
			return err
		}
	}
	return nil
}

func attemptColumns(records []*outcome.Record) []postgres.Column {
	c := postgres.Columns(12, len(records))
	for _, r := range records {
		c[0].UUID(r.Delivery)
		c[1].Int32(r.Attempt.Number)
		c[2].Time(r.Attempt.StartedAt)
		c[3].Int64(r.Attempt.Micros)
		c[4].Int16(r.Attempt.Status)
		said := r.Attempt.Said()
		c[5].Text(said.Err)
		c[6].Bytes(said.Response)
		c[7].Text(string(r.Attempt.Reason))
		c[8].Bool(r.Ended())
		c[9].Int64OrNull(r.Attempt.Revision)
		c[10].Bytes(r.Attempt.Exchange)
		c[11].Bytes(said.Headers)
	}
	return c
}
