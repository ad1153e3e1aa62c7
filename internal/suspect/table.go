package suspect

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfarehq/fanfare/internal/group"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

const (
	// countTimeout bounds a commit. Messages wait for it.
	countTimeout = 10 * time.Second
	// restAfterFailure is for how long nothing is counted after a commit failed.
	restAfterFailure = 5 * time.Second
	// leftoverAge is after how long a count is removed whose message did not come again. No stream keeps messages longer
	// without handing them out.
	leftoverAge = 30 * 24 * time.Hour
	// maxLeftovers bounds one removal.
	maxLeftovers = 10_000
)

// count is how often the handling of a message was begun and did not end.
type count struct {
	stream   string
	seq      uint64
	storedAt time.Time // tells messages apart of a stream that was deleted and made again
	tries    int       // this time included
}

// table is where Postgres keeps the counts.
type table struct {
	db        *sql.DB
	beginning *group.Committer[*count]
	ending    *group.Committer[*count]
	resting   atomic.Int64 // until when nothing is counted, in Unix nanoseconds
	sweep     sync.Once
}

func newTable(db *sql.DB) *table {
	t := &table{db: db}
	limits := group.Limits{Count: 1000, Timeout: countTimeout}
	t.beginning = group.New(limits, nil, t.beginAll)
	t.ending = group.New(limits, nil, t.endAll)
	return t
}

// begin counts one more, up to MaxTries. A message that had so many already gets MaxTries+1, and is counted by beginAlone.
func (t *table) begin(c *count) error {
	if until := t.resting.Load(); until > time.Now().UnixNano() {
		return fmt.Errorf("count suspect message: %w", postgres.ErrUnavailable)
	}
	err := t.beginning.Do(context.Background(), c)
	if err != nil {
		t.resting.Store(time.Now().Add(restAfterFailure).UnixNano())
	}
	return err
}

func (t *table) beginAll(ctx context.Context, list []*count) error {
	t.sweep.Do(func() { t.dropLeftovers(ctx) })
	byKey := make(map[string]*count, len(list))
	for _, c := range list {
		c.tries = MaxTries + 1
		byKey[c.key()] = c
	}
	rows, err := t.db.QueryContext(ctx, `
INSERT INTO suspects AS s (stream, seq, stored_at)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::timestamptz[])
ON CONFLICT (stream, seq, stored_at) DO UPDATE SET tries = s.tries + 1, begun_at = now() WHERE s.tries < $4
RETURNING stream, seq, stored_at, tries`, append(columns(list), MaxTries)...)
	if err != nil {
		return fmt.Errorf("count suspect messages: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var got count
		if err := rows.Scan(&got.stream, &got.seq, &got.storedAt, &got.tries); err != nil {
			return fmt.Errorf("read count of suspect message: %w", err)
		}
		if c := byKey[got.key()]; c != nil {
			c.tries = got.tries
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read counts of suspect messages: %w", err)
	}
	return nil
}

// beginAlone counts one more of a message that is handled alone.
func (t *table) beginAlone(ctx context.Context, c *count) error {
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	args := append(columns([]*count{c}), MaxTries+1)
	err := t.db.QueryRowContext(ctx, `
INSERT INTO suspects AS s (stream, seq, stored_at, tries)
SELECT o.*, $4::smallint FROM unnest($1::text[], $2::bigint[], $3::timestamptz[]) AS o
ON CONFLICT (stream, seq, stored_at) DO UPDATE SET tries = s.tries + 1, begun_at = now()
RETURNING tries`, args...).Scan(&c.tries)
	if err != nil {
		return fmt.Errorf("count suspect message %d of %s: %w", c.seq, c.stream, err)
	}
	return nil
}

// end forgets a message whose handling ended. If Postgres is away the count stays, and is removed with the leftovers.
func (t *table) end(c *count) { _ = t.ending.Do(context.Background(), c) }

func (t *table) endAll(ctx context.Context, list []*count) error {
	_, err := t.db.ExecContext(ctx, `
DELETE FROM suspects s USING unnest($1::text[], $2::bigint[], $3::timestamptz[]) AS o (stream, seq, stored_at)
WHERE s.stream = o.stream AND s.seq = o.seq AND s.stored_at = o.stored_at`, columns(list)...)
	if err != nil {
		return fmt.Errorf("forget suspect messages: %w", err)
	}
	return nil
}

// dropLeftovers removes counts of long ago.
func (t *table) dropLeftovers(ctx context.Context) {
	_, _ = t.db.ExecContext(ctx, `
DELETE FROM suspects WHERE (stream, seq, stored_at) IN (
    SELECT stream, seq, stored_at FROM suspects WHERE begun_at < now() - $1 * interval '1 second' ORDER BY begun_at LIMIT $2)`,
		int64(leftoverAge.Seconds()), maxLeftovers)
}

// key tells messages apart, by the microseconds that Postgres keeps.
func (c *count) key() string { return fmt.Sprint(c.stream, "/", c.seq, "/", c.storedAt.UnixMicro()) }

func columns(list []*count) []any {
	c := postgres.Columns(3, len(list))
	for _, item := range list {
		c[0].Text(item.stream)
		c[1].Int64(int64(item.seq))
		c[2].Time(time.UnixMicro(item.storedAt.UnixMicro()))
	}
	return postgres.Args(c)
}
