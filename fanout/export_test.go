package fanout

import (
	"context"
	"iter"

	"github.com/fanfarehq/fanfare/internal/event"
)

// Between reads the events of a tenant between two places. A sieve reads one by one what this leaves out, so that outside only the
// time would show a fault.
func Between(ctx context.Context, r *Reader, tenant string, low, high uint64) iter.Seq2[*event.Event, error] {
	return r.between(ctx, tenant, low, high)
}
