package subscriptions

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/changes"
)

// Manual is the disabled_reason of a subscription that somebody disabled.
const Manual = "manual"

// Pause lets deliveries be held until Resume; a subscription that is paused already stays as it is.
func (s *Store) Pause(ctx context.Context, tenant string, id uuid.UUID) (*Subscription, error) {
	return s.switchTo(ctx, tenant, id, Paused)
}

// Resume makes a paused subscription active again; an active one stays as it is.
func (s *Store) Resume(ctx context.Context, tenant string, id uuid.UUID) (*Subscription, error) {
	return s.switchTo(ctx, tenant, id, Active)
}

// switchTo pauses or resumes. The statement changes nothing if the subscription was changed since it was read.
func (s *Store) switchTo(ctx context.Context, tenant string, id uuid.UUID, to Status) (*Subscription, error) {
	action := changes.Resume
	if to == Paused {
		action = changes.Pause
	}
	err := s.again(ctx, tenant, id, func(sub *Subscription) error {
		switch sub.Status {
		case Disabled:
			return ErrDisabled
		case to:
			return nil
		}
		after := *sub
		after.Status, after.UpdatedAt = to, s.now()
		return s.touch(ctx, changeOf(sub, &after, action), `UPDATE subscriptions SET status = $2, updated_at = $1, revision = r.value FROM r
WHERE id = $3 AND subscriptions.revision = $4 AND status <> 'disabled' AND NOT deleted`, string(to), id, sub.Revision)
	})
	if err != nil {
		return nil, err
	}
	return s.Get(ctx, tenant, id)
}

// Disable ends matching for a subscription as it was at a revision, for a reason of a delivery's, and reports whether it did.
// One that was changed since, by anybody, stays as it is: the reason may be a fault that the change has mended. Its
// callers are the stages, so the tenant does not matter.
func (s *Store) Disable(ctx context.Context, id uuid.UUID, revision int64, reason string) (bool, error) {
	sub, err := s.Get(ctx, "", id)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	after := *sub
	after.Status, after.DisabledReason, after.UpdatedAt = Disabled, reason, s.now()
	err = s.touch(changes.By(ctx, reason), changeOf(sub, &after, changes.Disable), `UPDATE subscriptions SET status = 'disabled', disabled_reason = $2,
updated_at = $1, revision = r.value
FROM r WHERE id = $3 AND subscriptions.revision = $4 AND status <> 'disabled' AND NOT deleted`, reason, id, revision)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Enable makes a disabled subscription active and forgets the reason; any other stays as it is.
func (s *Store) Enable(ctx context.Context, tenant string, id uuid.UUID) (*Subscription, error) {
	sub, err := s.Get(ctx, tenant, id)
	if err != nil || sub.Status != Disabled {
		return sub, err
	}
	sub.Status, sub.DisabledReason = Active, ""
	return sub, s.update(ctx, sub, changes.Enable)
}

// Rotate puts a new secret in front of the others; a zero fresh one is generated. The one before it signs as
// well until the overlap ends. The errors are *Invalid, ErrTooManySecrets, ErrChanged and ErrNotFound.
func (s *Store) Rotate(ctx context.Context, sub *Subscription, fresh Secret, overlap time.Duration) error {
	if fresh.Value == "" {
		fresh = NewSecret(sub.Signing)
	}
	secrets, err := rotate(sub.Secrets, fresh, overlap, s.now())
	if err != nil {
		return err
	}
	// A new secret also mends one that could not be opened. Auth and certificate are then lost, and must be given again.
	before, broken := sub.Secrets, sub.Err
	sub.Secrets, sub.Err = secrets, nil
	if err = s.update(ctx, sub, changes.RotateSecret); err != nil {
		sub.Secrets, sub.Err = before, broken
	}
	return err
}
