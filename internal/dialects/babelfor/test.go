package babelfor

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/dialects"
	published "github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// What is sent where a test names no payload, and where the subscription has no exact event type.
const (
	testPayload = `{"test":true}`
	testType    = "fanfare.test"
)

// testPatience is how long a test waits for its event to have a number. An event that takes longer is delivered
// all the same.
const testPatience = 5 * time.Second

// test sends an event to one subscription, active or not, by the same way as any other.
func (b *babelfor) test(c *dialects.Call) error {
	if err := c.Require(dialects.WriteSubscriptions); err != nil {
		return err
	}
	s, err := b.one(c)
	if err != nil {
		return err
	}
	in, err := c.Input()
	if err != nil {
		return err
	}
	data, err := payloadOf(in)
	if err != nil {
		return err
	}
	ctx := c.R.Context()
	result := b.deps.Ingest.Publish(ctx, published.Event{
		Tenant: s.Tenant, Type: exactType(s), Data: data, Targets: []uuid.UUID{s.ID}, Test: true,
	})[0]
	if result.Err != nil {
		return refused(result.Err)
	}
	number, err := b.begun(ctx, result.Seq, s.ID)
	if err != nil {
		return err
	}
	reply(c, testAnswer{done, idOf(number)})
	return nil
}

// payloadOf is the payload that a test names.
func payloadOf(in dialects.Input) ([]byte, error) {
	if !in.Gives("payload") {
		return []byte(testPayload), nil
	}
	return encode(in["payload"])
}

// exactType is the subscription's first event type that is no pattern.
func exactType(s *subscriptions.Subscription) string {
	for _, t := range s.EventTypes {
		if !strings.ContainsAny(t, "*>") {
			return t
		}
	}
	return testType
}

// refused is a problem of publishing in the vendor's words: a bad payload is the client's fault.
func refused(err error) error {
	problem, ok := errors.AsType[*api.Problem](err)
	if !ok {
		return err
	}
	switch problem.Status {
	case http.StatusServiceUnavailable:
		return api.Unavailable(err)
	case http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
		message := "The payload is not accepted: " + problem.Detail + "."
		if len(problem.Errors) > 0 {
			message = "The payload is not accepted: " + problem.Errors[0].Location + " " + problem.Errors[0].Message + "."
		}
		return dialects.BadRequest("%s", message)
	}
	return err
}

// begun waits until the ledger has a delivery of an event that was just stored, and returns its number. A delivery
// has one when its first attempt is over, or after a second.
func (b *babelfor) begun(ctx context.Context, seq uint64, subscription uuid.UUID) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, testPatience)
	defer cancel()
	var delivery uuid.UUID
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		number, err := b.look(ctx, seq, subscription, &delivery)
		if number > 0 {
			return number, nil
		}
		if err != nil && ctx.Err() == nil {
			return 0, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return 0, &dialects.Failure{
				Status:  http.StatusServiceUnavailable,
				Message: "The test event was accepted and will be sent; it has no id yet.",
				Header:  http.Header{"Retry-After": {"5"}},
			}
		}
	}
}

// look asks once: for the event, which a replica or a new leader of the broker may learn of a moment later, then for its delivery.
func (b *babelfor) look(ctx context.Context, seq uint64, subscription uuid.UUID, delivery *uuid.UUID) (int64, error) {
	if *delivery == uuid.Nil {
		stored, err := b.deps.Reader.Read(ctx, seq)
		if errors.Is(err, fanout.ErrGone) || errors.Is(err, jetstream.ErrUnavailable) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		*delivery = outcome.ID(stored.UID, subscription, 0, stored.AcceptedAt)
	}
	number, _, err := b.deps.Deliveries.Number(ctx, *delivery)
	return number, err
}
