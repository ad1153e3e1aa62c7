package event

import (
	"context"
	"errors"
	"fmt"

	"github.com/fanfarehq/fanfare/internal/cbor"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
)

func eventPlace(e *Event) tenantkeys.Place {
	return tenantkeys.Place{Tenant: e.Tenant, ID: e.UID, What: contentsOfEvent}
}

// Seal encrypts an event's customer contents: data, ids, changed attributes and the attributes of a CloudEvent. It
// returns nil without keys, and nothing but an empty slice for a tenant that was erased.
func Seal(ctx context.Context, keys *tenantkeys.Keys, e *Event) ([]byte, error) {
	if keys == nil {
		return nil, nil
	}
	w := cbor.Writer{Buf: make([]byte, 0, Room(e))}
	fields := w.Fields()
	writeContents(&w, fields, e)
	if e.Cloud != nil {
		w.Field(fields, 15)
		writeCloud(&w, e.Cloud)
	}
	sealed, err := keys.Seal(ctx, eventPlace(e), w.Buf)
	if errors.Is(err, tenantkeys.ErrDestroyed) {
		return []byte{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("seal event %s: %w", e.ID, err)
	}
	return sealed, nil
}

// Open opens contents into their event. It fails with ErrGone if they cannot be opened any more.
func Open(ctx context.Context, keys *tenantkeys.Keys, e *Event, sealed []byte) error {
	if !tenantkeys.Sealed(sealed) {
		return ErrGone
	}
	plain, err := keys.Open(ctx, eventPlace(e), sealed)
	if err != nil {
		if tenantkeys.Gone(err) {
			err = ErrGone
		}
		return fmt.Errorf("open event %s: %w", e.ID, err)
	}
	in := &cbor.Reader{Buf: plain, Owned: true}
	Read(in, e, &Event{})
	if in.End() != nil {
		return ErrGone
	}
	return nil
}

// ErrGone says that neither the stream nor the ledger has an event's bytes any more.
var ErrGone = errors.New("the event's bytes are gone")

// contentsOfEvent names sealed contents; see tenantkeys.Place.
const contentsOfEvent = "event"
