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

// PerSecond is how many rows of a tenant came per second lately: those of a table whose column key has, from first of a time on,
// what began at that time or later.
func PerSecond(ctx context.Context, db *sql.DB, table, key, tenant string, first func(time.Time) uuid.UUID) (int64, error) {
	var n int64
	err := db.QueryRowContext(ctx, fmt.Sprintf(`SELECT count(*) FROM (SELECT FROM %s WHERE tenant = $1 AND %s >= $2 LIMIT $3) lately`, table, key),
		tenant, first(time.Now().Add(-lately)), latelyMost).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count %s of tenant %s: %w", table, tenant, err)
	}
	seconds := int64(lately / time.Second)
	return (n + seconds - 1) / seconds, nil
}
