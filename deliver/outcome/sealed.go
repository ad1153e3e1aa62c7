package outcome

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/tenantkeys"
)

// These words name sealed values; see tenantkeys.Place.
const (
	contentsResponse = "response"
	contentsError    = "error"
	contentsHeaders  = "response headers"
)

// Seal seals what a record holds of its event and of the receiver's answer. It may be repeated after an error.
func (r *Record) Seal(ctx context.Context, keys *tenantkeys.Keys) (err error) {
	if r.Keep != nil {
		sealed, err := event.Seal(ctx, keys, r.Keep)
		if err != nil {
			return err
		}
		if r.Event = event.Pack(r.Keep, sealed); sealed != nil && len(sealed) == 0 {
			r.Event = nil // The tenant was erased.
		}
		r.Keep = nil
	}
	if a := r.Attempt; a != nil && keys != nil && !a.stored.sealed {
		a.stored, err = a.seal(ctx, keys, r.Tenant, r.Delivery)
	}
	return err
}

// Answer is the error and the response of an attempt, with its headers, as they are stored.
type Answer struct {
	sealed            bool
	Err               string
	Response, Headers []byte
}

// Said returns the error and the response, with its headers, as they must be written.
func (m *Made) Said() Answer {
	if m.stored.sealed {
		return m.stored
	}
	return Answer{Err: m.Error, Response: m.Response, Headers: m.Headers}
}

func (m *Made) seal(ctx context.Context, keys *tenantkeys.Keys, tenant string, delivery uuid.UUID) (s Answer, err error) {
	at := tenantkeys.Place{Tenant: tenant, ID: delivery, What: contentsError}
	if s.Err, err = keys.SealText(ctx, at, m.Error); err == nil {
		at.What = contentsResponse
		s.Response, err = keys.Seal(ctx, at, m.Response)
	}
	if err == nil {
		at.What = contentsHeaders
		s.Headers, err = keys.Seal(ctx, at, m.Headers)
	}
	if err != nil && !errors.Is(err, tenantkeys.ErrDestroyed) {
		return Answer{}, fmt.Errorf("seal the answer to delivery %s: %w", delivery, err)
	}
	s.sealed = true
	if err != nil {
		s.Err, s.Response, s.Headers = "", nil, nil // The tenant was erased.
	}
	return s, nil
}

// Open decrypts Error, Response and Headers. A value whose key was destroyed becomes empty.
func (m *Made) Open(ctx context.Context, keys *tenantkeys.Keys, tenant string, delivery uuid.UUID) (err error) {
	at := tenantkeys.Place{Tenant: tenant, ID: delivery, What: contentsError}
	if m.Error, err = keys.OpenText(ctx, at, m.Error); err != nil && !tenantkeys.Gone(err) {
		return fmt.Errorf("open the answer to delivery %s: %w", delivery, err)
	}
	at.What = contentsResponse
	if m.Response, err = keys.Open(ctx, at, m.Response); err != nil && !tenantkeys.Gone(err) {
		return fmt.Errorf("open the answer to delivery %s: %w", delivery, err)
	}
	at.What = contentsHeaders
	if m.Headers, err = keys.Open(ctx, at, m.Headers); err != nil && !tenantkeys.Gone(err) {
		return fmt.Errorf("open the answer to delivery %s: %w", delivery, err)
	}
	return nil
}

// WithoutResponse returns a copy of the record that lacks the receiver's response and its headers.
func (r *Record) WithoutResponse() *Record {
	less := *r
	if less.Attempt != nil {
		attempt := *less.Attempt
		attempt.Response, attempt.stored.Response = nil, nil
		attempt.Headers, attempt.stored.Headers = nil, nil
		less.Attempt = &attempt
	}
	return &less
}
