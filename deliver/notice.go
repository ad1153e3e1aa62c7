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
	TypeFailing    = "fanfare.subscription.failing"
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
	Copy         bool      // for the operator's tenant
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

// noticeJSON is the data of every notice: all fields are there, null where there is nothing.
type noticeJSON struct {
	Subscription   noticeSubscription `json:"subscription"`
	Reason         *outcome.Reason    `json:"reason"`
	LastStatus     *int               `json:"last_status"`
	LastError      *string            `json:"last_error"`
	FailingSince   *time.Time         `json:"failing_since"`
	Failures       *int64             `json:"failures"`
	DisablesAt     *time.Time         `json:"disables_at"`
	SampleDelivery *uuid.UUID         `json:"sample_delivery_id"`
	Delivery       *noticeDelivery    `json:"delivery"`
}

type noticeSubscription struct {
	ID     uuid.UUID `json:"id"`
	Name   string    `json:"name"`
	URL    string    `json:"url"` // without credentials
	Tenant string    `json:"tenant"`
}

type noticeDelivery struct {
	ID         uuid.UUID `json:"id"`
	EventID    string    `json:"event_id"`
	EventType  string    `json:"event_type"`
	Generation int       `json:"generation"`
	Attempts   int       `json:"attempts"`
	EndedAt    time.Time `json:"ended_at"`
}

// attempted sets what an attempt says.
func (n *noticeJSON) attempted(s sample) {
	if s.status != 0 {
		n.LastStatus = &s.status
	}
	if s.err != "" {
		n.LastError = &s.err
	}
	if s.delivery != uuid.Nil {
		n.SampleDelivery = &s.delivery
	}
}

// about begins the notice of a streak.
func (w *Worker) about(s *streak, reason *outcome.Reason) *noticeJSON {
	n := &noticeJSON{
		Subscription: noticeSubscription{ID: s.sub.ID, Name: s.sub.Name, URL: s.sub.Masked().URL, Tenant: s.sub.Tenant}, Reason: reason,
	}
	n.attempted(s.last)
	if !s.since.IsZero() {
		since := s.since.UTC()
		n.FailingSince, n.Failures = &since, &s.failures
	}
	return n
}

// tellDead tells of a delivery that was given up.
func (w *Worker) tellDead(r *outcome.Record) {
	if r.Outcome != outcome.Dead || isOperational(r.EventType) {
		return
	}
	sub, ok := w.directory.Get(r.Subscription)
	if !ok {
		sub = &subscriptions.Subscription{ID: r.Subscription, Tenant: r.Tenant}
	}
	s := &streak{sub: sub, last: sample{delivery: r.Delivery}}
	if r.Attempt != nil {
		s.last.status, s.last.err = r.Attempt.Status, r.Attempt.Error
	}
	n := w.about(s, &r.Reason)
	n.Delivery = &noticeDelivery{
		ID: r.Delivery, EventID: r.EventID, EventType: r.EventType, Generation: r.Generation, Attempts: r.Attempts, EndedAt: r.At.UTC(),
	}
	w.tell(Notice{Type: TypeDead, ID: "dead_" + r.Delivery.String(), Tenant: r.Tenant, Subscription: r.Subscription}, n)
}

// tellFailing tells of a subscription that fails, while there is time to repair its endpoint.
func (w *Worker) tellFailing(s *streak) {
	n := w.about(s, &s.last.reason)
	if at, ok := w.disablesAt(s); ok {
		at = at.UTC()
		n.DisablesAt = &at
	}
	w.tell(Notice{Type: TypeFailing, ID: noticeID("failing", s.sub, s.since.UnixMilli()), Tenant: s.sub.Tenant, Subscription: s.sub.ID}, n)
}

// tellDisabled tells of a subscription that was disabled. It is as it was before: its revision tells this time from another.
func (w *Worker) tellDisabled(s *streak, reason outcome.Reason) {
	n := w.about(s, &reason)
	w.tell(Notice{Type: TypeDisabled, ID: noticeID("disabled", s.sub, s.sub.Revision), Tenant: s.sub.Tenant, Subscription: s.sub.ID}, n)
}

// tellRecovering tells of a subscription whose endpoint works again.
func (w *Worker) tellRecovering(s *streak) {
	n := w.about(s, nil)
	w.tell(Notice{Type: TypeRecovering, ID: noticeID("recovering", s.sub, s.since.UnixMilli()), Tenant: s.sub.Tenant, Subscription: s.sub.ID}, n)
}

func noticeID(what string, sub *subscriptions.Subscription, which int64) string {
	return what + "_" + sub.ID.String() + "_" + strconv.FormatInt(which, 10)
}

// tell puts a notice into the queue of those to be published, and a copy for the operator's tenant.
func (w *Worker) tell(n Notice, data *noticeJSON) {
	if w.announcer == nil {
		return
	}
	raw, err := json.Marshal(data)
	if err != nil {
		w.log.Error("operational event not made", "type", n.Type, "error", err)
		return
	}
	n.Time, n.Data = w.now().UTC(), raw
	w.queue(n)
	if to := w.cfg.OperatorTenant; to != "" && to != n.Tenant {
		n.Tenant, n.Copy = to, true
		w.queue(n)
	}
}

func (w *Worker) queue(n Notice) {
	select {
	case w.notices <- n:
	default:
		w.metrics.limits.untold.Inc()
	}
}

// announce publishes notices until ctx ends, and the queued ones then if that can be done at once, before last ends.
func (w *Worker) announce(ctx, last context.Context) {
	for {
		select {
		case n := <-w.notices:
			w.publish(ctx, n)
			continue
		case <-ctx.Done():
		}
		break
	}
	for last.Err() == nil {
		select {
		case n := <-w.notices:
			w.publish(last, n)
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
