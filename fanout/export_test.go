package fanout

import (
	"context"
	"iter"

	"github.com/fanfarehq/fanfare/internal/event"
)

// Between reads the events of a tenant between two places.
func Between(ctx context.Context, r *Reader, tenant string, low, high uint64) iter.Seq2[*event.Event, error] {
	return r.between(ctx, tenant, low, high)
}

// List returns the last events of a tenant.
func List(ctx context.Context, l *Ledger, tenant string, n int) ([]Recorded, error) {
	list, _, err := l.list(ctx, filter{tenant: tenant, limit: n})
	return list, err
}
