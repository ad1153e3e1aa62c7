package subscriptions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/changes"
)

// Sent is a subscription as requests were sent by it, masked: without secrets, header values and the parts of URLs that may be a
// token.
type Sent struct {
	*Subscription
	Signed bool // there was a secret to sign with
}

// Past reads subscriptions as they were.
type Past struct {
	Changes   *changes.Log
	Directory *Directory
}

// At returns a subscription of a tenant as of one of its revisions; changes.ErrNone if that is not known any more.
func (p Past) At(ctx context.Context, tenant string, id uuid.UUID, revision int64) (Sent, error) {
	d, err := p.Changes.At(ctx, tenant, changes.Subscription, id.String(), changes.As{Revision: revision})
	if errors.Is(err, changes.ErrUnknown) {
		return p.unchanged(ctx, tenant, id, revision)
	}
	if err != nil {
		return Sent{}, err
	}
	sub, err := Restore(d)
	if err != nil {
		return Sent{}, err
	}
	var was definition
	if err := json.Unmarshal(d.JSON, &was); err != nil {
		return Sent{}, fmt.Errorf("read a former definition: %w", err)
	}
	s := Sent{Subscription: sub, Signed: sub.Dialect == Native}
	if was.Signed != nil {
		s.Signed = *was.Signed
	}
	return s, nil
}

// unchanged returns a subscription without a history, if it still is as it was.
func (p Past) unchanged(ctx context.Context, tenant string, id uuid.UUID, revision int64) (Sent, error) {
	if _, err := p.Directory.Fresh(ctx); err != nil {
		return Sent{}, err
	}
	sub, ok := p.Directory.Get(id)
	if !ok || sub.Tenant != tenant || sub.Revision != revision {
		return Sent{}, changes.ErrNone
	}
	return Sent{Subscription: sub.Masked(), Signed: len(sub.Secrets) > 0}, nil
}
