package deliver

import (
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/internal/group"
)

// leasing is what a worker writes of the leases that it holds, many in one transaction: deliveries of a task that become
// deferrals of its own, leases that it gives back, and those that it renews.
type leasing struct {
	handing   *group.Committer[*handOffs]
	returning *group.Committer[ledger.Returned]
	renewing  *group.Committer[ledger.Returned]
	pulse     *pulse // tells whether this process was stopped for longer than a lease
}

func newLeasing(l *ledger.Ledger, as ledger.Lease) leasing {
	return leasing{handing: newHandOffs(l, as), returning: newGiveBacks(l, as.Worker), renewing: newRenewals(l, as)}
}
