package deliver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/tenantkeys"
)

// What customers sent is sealed wherever it is stored, with the key of its tenant and day: an event's contents in tasks
// and among kept events, responses and errors of attempts. What is routed by stays in the clear. Erased contents leave
// nothing readable in streams, free pages and logs, as they were never there.

// The words for what is sealed; see tenantkeys.Place.
const (
	contentsOfEvent  = "event"
	contentsResponse = "response"
	contentsError    = "error"
)

func eventPlace(e *Event) tenantkeys.Place {
	return tenantkeys.Place{Tenant: e.Tenant, ID: e.UID, What: contentsOfEvent}
}

// sealContents seals what is the customer's of an event: data, ids, changed attributes and what a CloudEvent says of itself. It
// returns nil without keys, and nothing but an empty slice for a tenant that was erased.
func sealContents(ctx context.Context, keys *tenantkeys.Keys, e *Event) ([]byte, error) {
	if keys == nil {
		return nil, nil
	}
	w := cborWriter{buf: make([]byte, 0, eventRoom(e))}
	fields := w.fields()
	writeContents(&w, fields, e)
	if e.Cloud != nil {
		w.field(fields, 15)
		writeCloud(&w, e.Cloud)
	}
	sealed, err := keys.Seal(ctx, eventPlace(e), w.buf)
	if errors.Is(err, tenantkeys.ErrDestroyed) {
		return []byte{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("seal event %s: %w", e.ID, err)
	}
	return sealed, nil
}

// openContents opens contents into their event. It fails with ErrEventGone if they cannot be opened any more.
func openContents(ctx context.Context, keys *tenantkeys.Keys, e *Event, sealed []byte) error {
	if !tenantkeys.Sealed(sealed) {
		return ErrEventGone
	}
	plain, err := keys.Open(ctx, eventPlace(e), sealed)
	if err != nil {
		if tenantkeys.Gone(err) {
			err = ErrEventGone
		}
		return fmt.Errorf("open event %s: %w", e.ID, err)
	}
	in := &cborReader{buf: plain, owned: true}
	readEvent(in, e, &Event{})
	if in.end() != nil {
		return ErrEventGone
	}
	return nil
}

// sealTasks returns copies of tasks with their contents sealed.
func sealTasks(ctx context.Context, keys *tenantkeys.Keys, tasks []Task) ([]Task, error) {
	if keys == nil {
		return tasks, nil
	}
	tasks = slices.Clone(tasks)
	for i := range tasks {
		t := &tasks[i]
		if i > 0 && t.Event.UID == tasks[i-1].Event.UID && t.Event.Tenant == tasks[i-1].Event.Tenant {
			t.sealed = tasks[i-1].sealed // An event for more than MaxTargets.
			continue
		}
		var err error
		if t.sealed, err = sealContents(ctx, keys, &t.Event); err != nil {
			return nil, err
		}
	}
	return tasks, nil
}

// openTasks opens the contents of tasks, and marks those as lost whose contents cannot be opened any more. It may be
// repeated after an error.
func openTasks(ctx context.Context, keys *tenantkeys.Keys, tasks []Task) error {
	for i := range tasks {
		t := &tasks[i]
		if t.sealed == nil {
			continue
		}
		err := openContents(ctx, keys, &t.Event, t.sealed)
		if t.lost = errors.Is(err, ErrEventGone); err != nil && !t.lost {
			return err
		}
		t.sealed = nil
	}
	return nil
}

// seal seals what a record holds of its event and of the receiver's answer. It may be repeated after an error.
func (r *Record) seal(ctx context.Context, keys *tenantkeys.Keys) (err error) {
	if r.keep != nil {
		sealed, err := sealContents(ctx, keys, r.keep)
		if err != nil {
			return err
		}
		if r.Event = packEvent(r.keep, sealed); sealed != nil && len(sealed) == 0 {
			r.Event = nil // The tenant was erased.
		}
		r.keep = nil
	}
	if a := r.Attempt; a != nil && keys != nil && !a.stored.sealed {
		a.stored, err = a.seal(ctx, keys, r.Tenant, r.Delivery)
	}
	return err
}

// answer is what a receiver said, in the form in which it is stored.
type answer struct {
	sealed   bool
	err      string
	response []byte
}

// said returns the answer as it is to be written.
func (m *Made) said() answer {
	if m.stored.sealed {
		return m.stored
	}
	return answer{err: m.Error, response: m.Response}
}

func (m *Made) seal(ctx context.Context, keys *tenantkeys.Keys, tenant string, delivery uuid.UUID) (s answer, err error) {
	at := tenantkeys.Place{Tenant: tenant, ID: delivery, What: contentsError}
	if s.err, err = keys.SealText(ctx, at, m.Error); err == nil {
		at.What = contentsResponse
		s.response, err = keys.Seal(ctx, at, m.Response)
	}
	if err != nil && !errors.Is(err, tenantkeys.ErrDestroyed) {
		return answer{}, fmt.Errorf("seal the answer to delivery %s: %w", delivery, err)
	}
	s.sealed = true
	if err != nil {
		s.err, s.response = "", nil // The tenant was erased.
	}
	return s, nil
}

// open opens what is stored of a receiver's answer. What cannot be opened any more is empty.
func (m *Made) open(ctx context.Context, keys *tenantkeys.Keys, tenant string, delivery uuid.UUID) (err error) {
	at := tenantkeys.Place{Tenant: tenant, ID: delivery, What: contentsError}
	if m.Error, err = keys.OpenText(ctx, at, m.Error); err != nil && !tenantkeys.Gone(err) {
		return fmt.Errorf("open the answer to delivery %s: %w", delivery, err)
	}
	at.What = contentsResponse
	if m.Response, err = keys.Open(ctx, at, m.Response); err != nil && !tenantkeys.Gone(err) {
		return fmt.Errorf("open the answer to delivery %s: %w", delivery, err)
	}
	return nil
}
