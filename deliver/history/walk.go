package history

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// Examined is how many rows of each table a page looks at where no index answers the whole filter: some
// milliseconds of Postgres. What is rare is then found over several pages.
const Examined = 5000

// byState says whether an index finds the rows of the filter's state, in the order of ids. There is none of delivered ones,
// which is nearly all there is, nor of all tenants together.
func (f Filter) byState() bool {
	switch f.State {
	case "", outcome.Pending:
		return true
	case string(outcome.Delivered):
		return false
	}
	return f.Tenant != "" || f.Subscription != uuid.Nil
}

// Walk returns deliveries as list does, of those that it examines. Where it stopped before the end it says at which
// id: all up to there are examined.
//
// The last row that a table's walk examines is returned even if it is not asked for, and says where the walk
// stopped; one statement finds both, so that nothing comes or goes between them.
func (l *Reader) Walk(ctx context.Context, f Filter) (entries []ledger.Entry, cut uuid.UUID, err error) {
	where, asked, args := f.divided()
	order, _ := postgres.Direction(f.Asc)
	args = append(args, l.Examined, f.Limit, f.Tenant)
	rows, most, tenant := len(args)-2, len(args)-1, len(args)
	from := func(columns, table, asked string) string {
		return fmt.Sprintf(`
SELECT *, %[1]s AS asked FROM (
    SELECT %[2]s, row_number() OVER (ORDER BY id %[5]s) AS nth FROM %[3]s WHERE %[4]s ORDER BY id %[5]s LIMIT $%[6]d
) d WHERE ($%[8]d = '' OR tenant = $%[8]d) AND (nth = $%[6]d OR %[1]s) ORDER BY id %[5]s LIMIT $%[7]d`,
			asked, columns, table, where, order, rows, most, tenant)
	}
	// A delivery may be in both tables for a moment; then it ended.
	pending := from(ledger.PendingEntry, "deferrals", asked+" AND NOT EXISTS (SELECT FROM deliveries e WHERE e.id = d.id OFFSET 0)")
	ended := from(ledger.EndedEntry, "deliveries", asked)
	query := ended
	switch f.State {
	case "":
		query = fmt.Sprintf("(%s) UNION ALL (%s) ORDER BY id %s, asked DESC LIMIT $%d", pending, ended, order, most)
	case outcome.Pending:
		query = pending
	}
	found, err := l.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, uuid.Nil, fmt.Errorf("walk over deliveries: %w", err)
	}
	defer found.Close()
	for found.Next() {
		var asked bool
		var nth int
		e, err := ledger.ScanEntry(wider{found, []any{&nth, &asked}})
		if err != nil {
			return nil, uuid.Nil, fmt.Errorf("read delivery: %w", err)
		}
		if asked {
			entries = append(entries, e)
		}
		if nth == l.Examined { // Beyond it, the other table's rows would be without this one's.
			return entries, e.ID, nil
		}
	}
	if err := found.Err(); err != nil {
		return nil, uuid.Nil, fmt.Errorf("read deliveries: %w", err)
	}
	return entries, uuid.Nil, nil
}

// wider scans a row that has more columns at its end.
type wider struct {
	row  ledger.Scanner
	more []any
}

func (w wider) Scan(dest ...any) error { return w.row.Scan(append(dest, w.more...)...) }
