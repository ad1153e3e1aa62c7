package audit

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// auditStore is the SQL of audits.
type auditStore struct {
	db *sql.DB
}

// window returns the rows of a span that must be in the stream, and counts those that need not be any more:
// events older than the stream, and erased ones.
func (s *auditStore) window(ctx context.Context, span ledger.Span, first uint64) (map[uuid.UUID]fanout.Recorded, int64, error) {
	low, high := event.FirstUID(span.Since), event.FirstUID(span.Until)
	var aged int64
	err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM events WHERE uid >= $1 AND uid < $2 AND (seq < $3 OR erased_at IS NOT NULL)
    AND ($4 = '' OR tenant = $4)`, low, high, int64(first), span.Tenant).Scan(&aged)
	if err != nil {
		return nil, 0, fmt.Errorf("count events: %w", err)
	}
	rows, err := s.db.QueryContext(ctx, `SELECT `+fanout.RecordedColumns+` FROM events
WHERE uid >= $1 AND uid < $2 AND seq >= $3 AND erased_at IS NULL AND ($4 = '' OR tenant = $4)`, low, high, int64(first), span.Tenant)
	found := map[uuid.UUID]fanout.Recorded{}
	err = postgres.Each(rows, err, func() error {
		r, err := fanout.ScanRecorded(rows)
		if err != nil {
			return err
		}
		found[r.UID] = r
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list events: %w", err)
	}
	return found, aged, nil
}

// deletedTenants returns the tenants of messages and rows that were deleted. Their data is being erased.
func (s *auditStore) deletedTenants(ctx context.Context, messages []seen, events map[uuid.UUID]fanout.Recorded) (map[string]bool, error) {
	deleted := map[string]bool{}
	tenants := map[string]bool{}
	for _, m := range messages {
		if m.event != nil {
			tenants[m.event.Tenant] = true
		}
	}
	for _, row := range events {
		tenants[row.Tenant] = true
	}
	if len(tenants) == 0 {
		return deleted, nil
	}
	rows, err := s.db.QueryContext(ctx, `SELECT tenant FROM tenants WHERE tenant = ANY($1) AND deleted_at IS NOT NULL`,
		pq.StringArray(slices.Collect(maps.Keys(tenants))))
	names, err := postgres.Collect(rows, err, postgres.ScanOne[string])
	if err != nil {
		return nil, fmt.Errorf("look for deleted tenants: %w", err)
	}
	for _, name := range names {
		deleted[name] = true
	}
	return deleted, nil
}

// row returns the row of an event.
func (s *auditStore) row(ctx context.Context, uid uuid.UUID) (fanout.Recorded, error) {
	r, err := fanout.ScanRecorded(s.db.QueryRowContext(ctx, `SELECT `+fanout.RecordedColumns+` FROM events WHERE uid = $1`, uid))
	if err != nil {
		return r, fmt.Errorf("read event %s: %w", uid, err)
	}
	return r, nil
}

// quarantined returns which of the messages are in quarantine.
func (s *auditStore) quarantined(ctx context.Context, messages []seen) (map[uint64]bool, error) {
	ids := make([]string, len(messages))
	for i, m := range messages {
		id, _ := fanout.QuarantineKey(m.wire)
		ids[i] = id.String()
	}
	rows, err := s.db.QueryContext(ctx, `SELECT stream_seq FROM quarantine WHERE id = ANY ($1::uuid[])`, pq.StringArray(ids))
	if err != nil {
		return nil, fmt.Errorf("look into quarantine: %w", err)
	}
	return sequences(rows)
}

// trimmed returns which of the messages may have been removed from quarantine: they are as old as those that were.
func (s *auditStore) trimmed(ctx context.Context, messages []seen) (map[uint64]bool, error) {
	tenants, ids, seqs := make([]string, len(messages)), make([]string, len(messages)), make([]int64, len(messages))
	for i, m := range messages {
		id, tenant := fanout.QuarantineKey(m.wire)
		tenants[i], ids[i], seqs[i] = tenant, id.String(), int64(m.wire.Seq)
	}
	rows, err := s.db.QueryContext(ctx, `
		SELECT m.seq FROM unnest($1::text[], $2::uuid[], $3::bigint[]) AS m(tenant, id, seq)
		JOIN quarantine_trims t ON t.tenant = m.tenant AND m.id <= t.upto`,
		pq.StringArray(tenants), pq.StringArray(ids), pq.Int64Array(seqs))
	if err != nil {
		return nil, fmt.Errorf("look for trims of quarantine: %w", err)
	}
	return sequences(rows)
}

// sequences reads a column of places in the stream.
func sequences(rows *sql.Rows) (map[uint64]bool, error) {
	defer rows.Close()
	found := map[uint64]bool{}
	for rows.Next() {
		var seq int64
		if err := rows.Scan(&seq); err != nil {
			return nil, fmt.Errorf("read places in the stream: %w", err)
		}
		found[uint64(seq)] = true
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read places in the stream: %w", err)
	}
	return found, nil
}

// matched is how many subscriptions the events of a span matched.
func (s *auditStore) matched(ctx context.Context, span ledger.Span) (n int64, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT coalesce(sum(matched), 0) FROM events WHERE uid >= $1 AND uid < $2 AND ($3 = '' OR tenant = $3)`,
		event.FirstUID(span.Since), event.FirstUID(span.Until), span.Tenant).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count matches: %w", err)
	}
	return n, nil
}

// setMatched corrects how many subscriptions an event matched, where more deliveries were made.
func (s *auditStore) setMatched(ctx context.Context, uid uuid.UUID, n int) error {
	if _, err := s.db.ExecContext(ctx, `UPDATE events SET matched = $2 WHERE uid = $1`, uid, n); err != nil {
		return fmt.Errorf("correct event %s: %w", uid, err)
	}
	return nil
}

// alone does something while no other process repairs gaps: of two that found the same gap, each would send.
func (s *auditStore) alone(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back; else the connection is lost
	// An audit takes its time, and the transaction is idle meanwhile. The lock ends with the process.
	if _, err := tx.ExecContext(ctx, `SET LOCAL idle_in_transaction_session_timeout = 0`); err != nil {
		return fmt.Errorf("allow a long transaction: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('repair', 0))`); err != nil {
		return fmt.Errorf("wait for another process that repairs: %w", err)
	}
	if err := do(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit transaction: %w", err)
	}
	return nil
}
