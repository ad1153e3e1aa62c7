package deliver

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// The types of operational events: what a tenant is told of its own subscriptions and deliveries.
const (
	TypeDisabled   = "fanfare.subscription.disabled"
	TypeRecovering = "fanfare.subscription.recovering"
	TypeDead       = "fanfare.delivery.dead"

	operationalPrefix = "fanfare."
)

// Notice is an operational event, to be published like any other event of its tenant.
type Notice struct {
	ID           string // the same whenever the same thing is told, so that it is told once
	Tenant       string
	Type         string
	Time         time.Time
	Subscription uuid.UUID // that it is about; it is no use to send it there
	Data         []byte    // JSON
}

// Announcer publishes operational events.
type Announcer interface {
	// Announce returns once the event is on disk. One that was announced before is not published again.
	Announce(ctx context.Context, n Notice) error
}

// The bounds of telling. What is told is known by the API as well, so it must not hold anything up.
const (
	maxNotices    = 4096 // that wait; more are dropped
	noticeTimeout = 5 * time.Second
)

// isOperational says whether a delivery is of an operational event. Nothing is told of those, so that telling never
// leads to more to tell.
func isOperational(eventType string) bool { return strings.HasPrefix(eventType, operationalPrefix) }

// tellDead tells of a delivery that was given up.
func (w *Worker) tellDead(r *outcome.Record) {
	if r.Outcome != outcome.Dead || isOperational(r.EventType) {
		return
	}
	w.tell(Notice{Type: TypeDead, ID: "dead_" + r.Delivery.String(), Tenant: r.Tenant, Subscription: r.Subscription}, map[string]any{
		"delivery_id": r.Delivery, "event_id": r.EventID, "event_type": r.EventType, "subscription_id": r.Subscription,
		"generation": r.Generation, "attempts": r.Attempts, "reason": r.Reason, "ended_at": r.At.UTC(),
	})
}

// tellDisabled tells of a subscription that was disabled. Sub is as it was before: its revision tells this time from
// another.
func (w *Worker) tellDisabled(sub *subscriptions.Subscription, reason outcome.Reason) {
	w.tell(Notice{Type: TypeDisabled, ID: noticeID("disabled", sub, sub.Revision), Tenant: sub.Tenant, Subscription: sub.ID}, map[string]any{
		"subscription_id": sub.ID, "name": sub.Name, "reason": reason, "disabled_at": w.now().UTC(),
	})
}

// tellRecovering tells of a subscription whose endpoint works again.
func (w *Worker) tellRecovering(sub *subscriptions.Subscription, s *streak) {
	n := Notice{Type: TypeRecovering, ID: noticeID("recovering", sub, s.since.UnixMilli()), Tenant: sub.Tenant, Subscription: sub.ID}
	w.tell(n, map[string]any{
		"subscription_id": sub.ID, "name": sub.Name, "failing_since": s.since.UTC(), "failures": s.failures,
	})
}

func noticeID(what string, sub *subscriptions.Subscription, which int64) string {
	return what + "_" + sub.ID.String() + "_" + strconv.FormatInt(which, 10)
}

// tell puts a notice into the queue of those to be published.
func (w *Worker) tell(n Notice, data map[string]any) {
	if w.announcer == nil {
		return
	}
	raw, err := json.Marshal(data)
	if err != nil {
		w.log.Error("operational event not made", "type", n.Type, "error", err)
		return
	}
	n.Time, n.Data = w.now().UTC(), raw
	select {
	case w.notices <- n:
	default:
		w.metrics.limits.untold.Inc()
	}
}

// announce publishes notices until ctx ends, and the queued ones then if that can be done at once.
func (w *Worker) announce(ctx context.Context) {
	for {
		select {
		case n := <-w.notices:
			w.publish(ctx, n)
			continue
		case <-ctx.Done():
		}
		break
	}
	for w.abandoned.Err() == nil {
		select {
		case n := <-w.notices:
			w.publish(w.abandoned, n)
		default:
			return
		}
	}
}

// publish tries to publish a notice, for a while.
func (w *Worker) publish(ctx context.Context, n Notice) {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		try, cancel := context.WithTimeout(ctx, noticeTimeout)
		err := w.announcer.Announce(try, n)
		cancel()
		if err == nil {
			w.metrics.limits.told.WithLabelValues(n.Type).Inc()
			return
		}
		w.trouble.Note("operational events wait to be published", err)
		if wait >= 5*time.Second || ctx.Err() != nil {
			break
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	w.metrics.limits.untold.Inc()
}
