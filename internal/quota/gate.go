package quota

import (
	"time"

	"github.com/fanfarehq/fanfare/internal/api"
)

// Enter counts one more of what a tenant has open in this process, and returns the function that ends it. The error is an
// *api.LimitError.
func (q *Quotas) Enter(tenant string, name Name) (leave func(), err error) {
	if q == nil || tenant == "" {
		return func() {}, nil
	}
	bounds, at := q.Of(tenant), place{tenant, name}
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := bounds.Check(name, q.inside[at], 1); err != nil {
		return nil, err
	}
	q.inside[at]++
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.inside[at]--; q.inside[at] == 0 {
			delete(q.inside, at)
		}
	}, nil
}

// EnterSoon is Enter for short work: the error says when to retry.
func (q *Quotas) EnterSoon(tenant string, name Name) (leave func(), err error) {
	leave, err = q.Enter(tenant, name)
	if limit, ok := err.(*api.LimitError); ok { //nolint:errorlint // Enter wraps nothing
		limit.RetryAfter = time.Second
	}
	return leave, err
}

// Inside is how many of it a tenant has open in this process.
func (q *Quotas) Inside(tenant string, name Name) int64 {
	if q == nil {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.inside[place{tenant, name}]
}
