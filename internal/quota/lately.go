package quota

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"
)

const (
	// lately is over how long a rate is shown, and latelyMost how many rows are counted for it.
	lately     = 10 * time.Second
	latelyMost = 1_000_000
)

// Rows are those of a table whose column Key has, from First of a time on, what began at that time or later.
type Rows struct {
	Table, Key string
	First      func(time.Time) uuid.UUID
}

// PerSecond is how many rows of a tenant came per second lately.
func PerSecond(ctx context.Context, db *sql.DB, of Rows, tenant string) (int64, error) {
	var n int64
	err := db.QueryRowContext(ctx, fmt.Sprintf(`SELECT count(*) FROM (SELECT FROM %s WHERE tenant = $1 AND %s >= $2 LIMIT $3) lately`, of.Table, of.Key),
		tenant, of.First(time.Now().Add(-lately)), latelyMost).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count %s of tenant %s: %w", of.Table, tenant, err)
	}
	seconds := int64(lately / time.Second)
	return (n + seconds - 1) / seconds, nil
}
