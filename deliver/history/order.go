package history

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// retryInOrder retries a delivery. One that has ended takes its place in the order of its key, as its subscription is now.
func (r *routes) retryInOrder(ctx context.Context, e ledger.Entry) (uuid.UUID, error) {
	found, err := r.events.Sendable(ctx, e.EventUID, e.Seq)
	if errors.Is(err, event.ErrGone) {
		return uuid.Nil, api.Conflict("the event's data is gone")
	}
	if err != nil {
		return uuid.Nil, api.Unavailable(err)
	}
	key, err := r.keyOf(ctx, e, found)
	if err != nil {
		return uuid.Nil, err
	}
	id, err := r.ledger.Retry(ctx, e, key, r.now())
	if err == nil && key.Valid {
		_, _, err = r.ledger.GiveTurns(ctx, []ledger.Place{{Subscription: e.Subscription, Key: key.UUID}}, ledger.Floor{})
	}
	return id, err
}

// keyOf returns the key of an event for a subscription, if it has one.
func (r *routes) keyOf(ctx context.Context, e ledger.Entry, of *event.Event) (key uuid.NullUUID, err error) {
	if e.State == outcome.Pending || of.Test {
		return key, nil
	}
	source, err := r.ledger.OrderingKey(ctx, e.Subscription)
	if err != nil || source == "" {
		return key, err
	}
	if text, ok := subscriptions.KeyOf(source, of); ok {
		key = uuid.NullUUID{UUID: ledger.OrderKey(text), Valid: true}
	}
	return key, nil
}
