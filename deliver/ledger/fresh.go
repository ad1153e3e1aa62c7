package ledger

import (
	"context"
	"database/sql"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// endFresh inserts deliveries that ended with their first attempt: the way of nearly all. They have no row
// among the deferrals, so one row each is written and nothing else is looked at. Arrays that are unnested in the select
// list are read where they are; in FROM, each would be copied into a table first.
var endFresh = "INSERT INTO deliveries (" + endedColumns.names() + ") SELECT " + endedColumns.unnested()

// endFreshOnce bears rows that are there already, which costs every row a second look at the key and a second record of
// the log.
var endFreshOnce = endFresh + `
ON CONFLICT DO NOTHING RETURNING id`

// written is what a group of records came to.
type written struct {
	places  []Place // keys that may go on once the group is committed
	repeats bool    // deliveries were there already
}

// writeOrdered records in one transaction of its own, and returns the keys whose delivery ended, and which may go on.
//
// Records come again after a crash, then many in a row, and hardly ever otherwise. So a group is written as if all its rows
// were new, unless the one before had a repeat or nothing is known yet; one that meets a repeat is rolled back and written
// again.
func (l *Ledger) writeOrdered(ctx context.Context, records []*outcome.Record) ([]Place, error) {
	if err := l.prepare(ctx, endFresh, endFreshOnce, endDeferred, putOff, addAttempts, writePacket); err != nil {
		return nil, err
	}
	b := sortOut(records)
	done, err := l.writeBatch(ctx, b, !l.allNew.Load())
	if pq.As(err, pqerror.UniqueViolation) != nil {
		done, err = l.writeBatch(ctx, b, true)
	}
	if err == nil && len(b.fresh) > 0 {
		l.allNew.Store(!done.repeats)
	}
	return done.places, err
}

func (l *Ledger) writeBatch(ctx context.Context, b batch, bear bool) (done written, err error) {
	err = postgres.Retry(ctx, l.DB, func(ctx context.Context, tx *sql.Tx) (err error) {
		done, err = l.record(ctx, tx, b, bear)
		return err
	})
	return done, err
}

// endFresh ends deliveries and returns those that were not there already. Unless repeats are to be borne, they violate the key.
func (l *Ledger) endFresh(ctx context.Context, tx *sql.Tx, fresh []*outcome.Record, bear bool) ([]*outcome.Record, error) {
	args := postgres.Args(endColumns(fresh, false))
	if !bear {
		_, err := l.exec(ctx, tx, endFresh, args...)
		return fresh, err
	}
	rows, err := l.query(ctx, tx, endFreshOnce, args...)
	ids, err := postgres.Collect(rows, err, postgres.ScanOne[uuid.UUID])
	if err != nil || len(ids) == len(fresh) {
		return fresh, err
	}
	added := make(map[uuid.UUID]bool, len(ids))
	for _, id := range ids {
		added[id] = true
	}
	var once []*outcome.Record
	for _, r := range fresh {
		if added[r.Delivery] {
			once = append(once, r)
			delete(added, r.Delivery) // The same delivery may come twice in a group.
		}
	}
	return once, nil
}

// endColumns are endedColumns, for endFresh, and with steps those of endDeferred.
func endColumns(records []*outcome.Record, steps bool) []postgres.Column {
	n := 21
	if steps {
		n++
	}
	c := postgres.Columns(n, len(records))
	for _, r := range records {
		recordRow(c, r)
		c[8].Text(string(r.Outcome))
		c[9].Text(string(r.Reason))
		c[10].Int32(r.Attempts)
		c[11].Time(r.CreatedAt)
		c[12].Time(r.At)
		a := r.Attempt
		if a == nil {
			a = &outcome.Made{}
		}
		c[13].TimeOrNull(a.StartedAt)
		c[14].Int64(a.Micros)
		c[15].Int16(a.Status)
		said := a.Said()
		c[16].Text(said.Err)
		c[17].Bytes(said.Response)
		c[18].Int64OrNull(a.Revision)
		c[19].Bytes(a.Exchange)
		c[20].Bytes(said.Headers)
		if steps {
			c[21].Int32(r.Step)
		}
	}
	return c
}
