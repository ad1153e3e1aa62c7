package fanout

import (
	"context"
	"database/sql"
	"fmt"
	"sync/atomic"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/group"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// insertEvents unnests in the select list, where arrays are read in place; in FROM, each would first be copied into a table.
const insertEvents = `
INSERT INTO events (uid, tenant, id, type, time, accepted_at, seq, matched, hash, targeted, revision, schema_valid)
SELECT unnest($1::uuid[]), unnest($2::text[]), unnest($3::text[]), unnest($4::text[]), unnest($5::timestamptz[]),
    unnest($6::timestamptz[]), unnest($7::bigint[]), unnest($8::integer[]), unnest($9::bytea[]), unnest($10::boolean[]), unnest($11::bigint[]),
    unnest($12::boolean[])`

// inserts are the statements that write events. Rows come again after a crash, then many in a row, and hardly ever
// otherwise: bearing them costs every row a second look at the key. So a group is inserted as if it was all new, unless the
// one before had a repeat or nothing is known yet.
type inserts struct {
	fresh, once *postgres.Statement
	allNew      atomic.Bool
}

func newInserts(db *sql.DB) inserts {
	return inserts{
		fresh: postgres.NewStatement(db, insertEvents),
		once:  postgres.NewStatement(db, insertEvents+` ON CONFLICT DO NOTHING`),
	}
}

// insert writes rows that are not there yet, and returns how many those were.
func (s *inserts) insert(ctx context.Context, columns []postgres.Column) (int64, error) {
	if s.allNew.Load() {
		result, err := s.fresh.Exec(ctx, postgres.Args(columns)...)
		if err == nil {
			return result.RowsAffected()
		}
		if pq.As(err, pqerror.UniqueViolation) == nil {
			return 0, err
		}
	}
	result, err := s.once.Exec(ctx, postgres.Args(columns)...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// insertRows writes a group. Should one row be at fault, it alone fails.
func (l *Ledger) insertRows(ctx context.Context, rows []*row) error {
	return group.Apart(rows, func(list []*row) error { return l.insert(ctx, list) }, refusedBy(ctx), func(r *row, err error) error {
		r.err = err
		return nil
	})
}

// refusedBy reports whether an error is the fault of the rows or keys themselves, so that others can go on without them.
func refusedBy(ctx context.Context) func(error) bool {
	return func(err error) bool { return !postgres.IsUnavailable(err) && ctx.Err() == nil }
}

func (l *Ledger) insert(ctx context.Context, rows []*row) error {
	// Refs come first: a row of an event that is there is not written again after a crash. A ref without an event does no harm.
	if err := l.insertRefs(ctx, rows); err != nil {
		return fmt.Errorf("insert refs of events: %w", err)
	}
	n, err := l.inserts.insert(ctx, eventColumns(rows))
	if err != nil {
		return fmt.Errorf("insert events: %w", err)
	}
	all := n == int64(len(rows))
	l.inserts.allNew.Store(all)
	if all {
		return nil
	}
	return l.markOthers(ctx, rows)
}

// insertRefs writes the objects and resources that events name. Most events name none, and then it does nothing.
func (l *Ledger) insertRefs(ctx context.Context, rows []*row) error {
	var columns []postgres.Column
	for _, r := range rows {
		refs := r.event.Refs()
		if len(refs) > 0 && columns == nil {
			columns = postgres.Columns(2, len(rows))
		}
		for _, ref := range refs {
			columns[0].UUID(r.uid)
			columns[1].UUID(ref)
		}
	}
	if columns == nil {
		return nil
	}
	_, err := l.db.ExecContext(ctx, `
INSERT INTO event_refs (uid, ref) SELECT * FROM unnest($1::uuid[], $2::uuid[]) ON CONFLICT DO NOTHING`, postgres.Args(columns)...)
	return err
}

func eventColumns(rows []*row) []postgres.Column {
	c := postgres.Columns(12, len(rows))
	for _, r := range rows {
		e := r.event
		hash := e.Hash()
		c[0].UUID(r.uid)
		c[1].Text(e.Tenant)
		c[2].Text(e.ID)
		c[3].Text(e.Type)
		// Postgres has microseconds and would round: up into the next millisecond, which is not that of the uid, or
		// into a year that no answer can hold.
		c[4].Time(api.Instant(e.Time))
		c[5].Time(api.Instant(e.AcceptedAt))
		c[6].Int64(int64(e.Seq))
		c[7].Int32(r.matched)
		c[8].Bytes(hash[:])
		c[9].Bool(e.Targeted())
		c[10].Int64(r.revision)
		c[11].NullBool(e.Fit.Valid())
	}
	return c
}
