package quota

import "context"

// Share is what Run does with rates.
func (q *Quotas) Share(ctx context.Context) error { return q.share(ctx) }
