package fanout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/fair"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Rules define a valid event. Ingest applies them before it answers; fan-out does so
// to events that come straight from NATS.
type Rules struct {
	maxData int
	strict  bool
	dir     directory
	marks   event.Marks
	small   *fair.Places // of validations at once of small data
	large   *fair.Places // and of large data
}

// largeData is how many bytes of data are large to judge by a schema. Decoding them alone takes milliseconds.
const largeData = 16 << 10

// directory is what the rules and the matching ask of the subscriptions. What it answers is as new as its last
// Fresh.
type directory interface {
	Get(id uuid.UUID) (*subscriptions.Subscription, bool)
	EventType(tenant, name string) (*subscriptions.EventType, bool)
}

// NewRules makes the rules of a configuration. Fanfare's own events are known by their marks.
func NewRules(cfg Config, dir *subscriptions.Directory, marks event.Marks) *Rules {
	return &Rules{
		maxData: cfg.MaxData, strict: cfg.EventTypes == Strict, dir: dir, marks: marks,
		small: fair.NewPlaces(runtime.GOMAXPROCS(0)), large: fair.NewPlaces(max(1, runtime.GOMAXPROCS(0)/2)),
	}
}

// Marks are the marks of Fanfare's own events.
func (r *Rules) Marks() event.Marks { return r.marks }

// Check judges all of an event but whether its data is JSON at all: its parts, its type, the type's schema, its
// targets. It notes in the event whether the data fits the schema. The caller has made the directory fresh. The error is the
// context's.
func (r *Rules) Check(ctx context.Context, e *event.Event) (*event.Refusal, error) {
	e.Fit = event.Unjudged
	if refusal := event.CheckShape(e); refusal != nil {
		return refusal, nil
	}
	if e.Test {
		return r.checkTargets(e), nil // Its type need not even be one that the subscription takes.
	}
	refusal, err := r.checkType(ctx, e)
	return event.Join(refusal, r.checkTargets(e)), err
}

// CheckSize judges how large data is.
func (r *Rules) CheckSize(data []byte) *event.Refusal { return checkSize(data, r.maxData) }

func checkSize(data []byte, most int) *event.Refusal {
	if len(data) > most {
		return event.Refuse(event.TooLarge, "data", "must be at most "+strconv.Itoa(most)+" bytes")
	}
	return nil
}

// CheckData judges whether data is one JSON text within the bounds, without duplicate names or invalid UTF-8.
func (r *Rules) CheckData(data []byte) *event.Refusal { return checkData(data, r.maxData) }

// Admit judges of a message of the stream what no header that anybody can write makes good.
func (r *Rules) Admit(w event.Wire, e *event.Event) *event.Refusal {
	if refusal := event.CheckMessageID(w, e); refusal != nil {
		return refusal
	}
	if refusal := r.marks.Check(e); refusal != nil {
		return refusal
	}
	return r.checkStored(e)
}

// checkStored judges the data of a message of the stream. What comes after fan-out relies on it to be JSON and to fit into
// a message, so a header alone is not taken for it. But ingest may have answered for more than the bound is here and now.
func (r *Rules) checkStored(e *event.Event) *event.Refusal {
	most := r.maxData
	if e.Checked {
		most = mostData
	}
	if !e.JSON() {
		return checkSize(e.Data, most)
	}
	return checkData(e.Data, most)
}

func checkData(data []byte, most int) *event.Refusal {
	if refusal := checkSize(data, most); refusal != nil {
		return refusal
	}
	if event.Nesting(data) > event.MaxNesting {
		return event.Refuse(event.TooDeep, "data", "must not nest deeper than "+strconv.Itoa(event.MaxNesting))
	}
	if jsontext.Value(data).IsValid() {
		return nil
	}
	return event.Refuse(event.BadData, "data", "must be JSON: "+syntaxError(data))
}

// syntaxError is the error of a text that is not JSON.
func syntaxError(data []byte) string {
	dec := jsontext.NewDecoder(bytes.NewReader(data))
	if _, err := dec.ReadValue(); err != nil {
		return err.Error()
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return "more than one text"
	}
	return "malformed"
}

// checkType judges whether the type may be published, and the data by the type's schema.
func (r *Rules) checkType(ctx context.Context, e *event.Event) (*event.Refusal, error) {
	declared, ok := r.dir.EventType(e.Tenant, e.Type)
	switch {
	case !ok && r.strict:
		return event.Refuse(event.UnknownType, "type", "is not declared"), nil
	case ok && declared.Archived:
		return event.Refuse(event.ArchivedType, "type", "is archived"), nil
	case !ok || !declared.Judges():
		return nil, nil
	}
	refusal, err := r.checkSchema(ctx, e, declared)
	switch {
	case err != nil:
		return nil, err
	case refusal == nil:
		e.Fit = event.Fits
	case declared.Validation != subscriptions.Warn:
		return refusal, nil
	case refusal.Reason == event.TooCostly:
		e.Fit = event.Unjudgeable
	default:
		e.Fit = event.Misfits
	}
	return nil, nil
}

// checkSchema judges data by the schema of its type. Not more small events at once than there are cores are judged, and half as many
// large ones, so that memory is bounded and a core is left to others; tenants take turns.
func (r *Rules) checkSchema(ctx context.Context, e *event.Event, declared *subscriptions.EventType) (*event.Refusal, error) {
	if !e.JSON() {
		return event.Refuse(event.SchemaViolation, "data", "must be JSON, as its type has a schema"), nil
	}
	places := r.small
	if len(e.Data) > largeData {
		places = r.large
	}
	leave, err := places.Enter(ctx, e.Tenant)
	if err != nil {
		return nil, fmt.Errorf("wait to judge event %s by its schema: %w", e.ID, err)
	}
	defer leave()
	violations, err := declared.Validate(ctx, e.Data)
	switch {
	case errors.Is(err, subscriptions.ErrTooCostly):
		return event.Refuse(event.TooCostly, "data", err.Error()), nil
	case err != nil:
		return nil, fmt.Errorf("judge event %s by its schema: %w", e.ID, err)
	case len(violations) == 0:
		return nil, nil
	}
	refusal := &event.Refusal{Reason: event.SchemaViolation}
	for _, v := range violations {
		refusal.Faults = append(refusal.Faults, event.Fault(v))
	}
	return refusal, nil
}

// checkTargets judges whether the targets are the tenant's.
func (r *Rules) checkTargets(e *event.Event) *event.Refusal {
	var refusal *event.Refusal
	if e.Test && len(e.Targets) == 0 {
		return event.Refuse(event.BadTarget, "targets", "are required of a test")
	}
	for i, id := range e.Targets {
		if s, ok := r.dir.Get(id); !ok || s.Tenant != e.Tenant {
			refusal = event.Join(refusal, event.Refuse(event.BadTarget, "targets["+strconv.Itoa(i)+"]", "is no subscription of the tenant"))
		}
	}
	return refusal
}

// MaxData is the most bytes of an event's data.
func (r *Rules) MaxData() int { return r.maxData }
