package deliver

import (
	"log/slog"
	"sync"
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
)

// deadLogEvery is the least time between two lines about dead deliveries.
const deadLogEvery = time.Second

// deadLog logs one dead delivery a second, with how many were left out.
type deadLog struct {
	mu   sync.Mutex
	last time.Time
	more int
}

func (l *deadLog) note(log *slog.Logger, r *outcome.Record, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.last) < deadLogEvery {
		l.more++
		return
	}
	log.Info("delivery dead", "delivery", r.Delivery, "event", r.EventID, "subscription", r.Subscription, "tenant", r.Tenant,
		"reason", r.Reason, "attempts", r.Attempts, "more_before", l.more)
	l.last, l.more = now, 0
}
