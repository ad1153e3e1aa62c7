package deliver

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/trouble"
)

// deadLogEvery is the least time between two lines about dead deliveries.
const deadLogEvery = time.Second

// complaints are the log lines of which there may be many: one of each kind is written in a while.
type complaints struct {
	trouble   *trouble.Log
	dead      deadLog
	keyLogged atomic.Int64 // when it was last logged that secrets do not open
}

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
