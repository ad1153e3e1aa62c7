package subscriptions

import (
	"context"
	"fmt"
	"iter"
)

// bulkChunk is how many subscriptions one transaction of CreateMany makes.
const bulkChunk = 5_000

// CreateMany saves many new subscriptions, some thousand in a transaction, all of which have the same revision;
// subscriptions saved before an error stay. It judges each as Create does, but for what event types demand and for limits: it is
// for those who operate Fanfare (loading, benchmarks), not for callers of an API. Numbers are not filled in.
func (s *Store) CreateMany(ctx context.Context, subs iter.Seq[*Subscription]) (n int, err error) {
	for chunk := range chunks(subs, bulkChunk) {
		if err := s.createChunk(ctx, chunk); err != nil {
			return n, fmt.Errorf("create %d subscriptions: %w", len(chunk), err)
		}
		n += len(chunk)
	}
	return n, nil
}

// chunks groups a sequence.
func chunks[T any](seq iter.Seq[T], size int) iter.Seq[[]T] {
	return func(yield func([]T) bool) {
		var chunk []T
		for item := range seq {
			if chunk = append(chunk, item); len(chunk) == size {
				if !yield(chunk) {
					return
				}
				chunk = nil
			}
		}
		if len(chunk) > 0 {
			yield(chunk)
		}
	}
}

// copySubscriptions takes the values of writtenArgs and what createChunk adds, in that order.
const copySubscriptions = `COPY subscriptions (id, tenant, ` + written + `, settings, dialect, created_at, bytes, revision) FROM STDIN`

func (s *Store) createChunk(ctx context.Context, chunk []*Subscription) error {
	rows := make([][]any, len(chunk))
	for i, sub := range chunk {
		if err := s.prepare(sub); err != nil {
			return err
		}
		sealed, err := sealSecrets(s.ring, sub)
		if err != nil {
			return err
		}
		rows[i] = append(writtenArgs(sub, sealed), sub.Dialect, sub.CreatedAt, sub.size(sealed)+int64(len(sealed)))
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	// The revision is locked while the rows are copied, some 50 ms: a second pass over them would take longer.
	var revision int64
	if err := tx.QueryRowContext(ctx, nextRevision+`SELECT value FROM r`).Scan(&revision); err != nil {
		return err
	}
	copying, err := tx.PrepareContext(ctx, copySubscriptions)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if _, err := copying.ExecContext(ctx, append(row, revision)...); err != nil {
			return err
		}
	}
	if _, err := copying.ExecContext(ctx); err != nil {
		return err
	}
	if err := copying.Close(); err != nil { // It must be closed before the commit; a rollback closes it as well.
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	for _, sub := range chunk {
		sub.Revision = revision
	}
	return nil
}
