package subscriptions

import (
	"context"
	"encoding/json"
	"sync"
	"time"
)

// Bounds of an event type.
const (
	maxSchemaBytes = 64 << 10
	maxSampleBytes = 256 << 10
	maxTypeScopes  = 20
	maxScopeLength = 128
)

// Validation says what becomes of events whose data does not fit the schema of their type.
type Validation string

// The kinds of validation.
const (
	Off     Validation = "off"     // data is not judged
	Warn    Validation = "warn"    // the event is accepted, and marked
	Enforce Validation = "enforce" // the event is refused
)

// EventType describes a type of event: the shape of its data, and the scopes that subscribing needs.
type EventType struct {
	Tenant      string // empty: every tenant's
	Name        string
	Description string
	// Schema is a JSON Schema 2020-12 that the data of events must fit; nil means any data.
	Schema json.RawMessage
	// Sample is data as it could be; nil means none.
	Sample json.RawMessage
	// Scopes are those that a key needs to subscribe, all of them.
	Scopes []string
	// Archived types take no new subscriptions and no new events.
	Archived bool
	// Deprecated types should not be published or subscribed to any more.
	Deprecated bool
	// ReplacedBy is the event type to use instead; empty for none.
	ReplacedBy string
	// Validation of events; empty means Enforce.
	Validation Validation
	// SchemaVersion grows with each change of the schema; 0: there was none yet.
	SchemaVersion int
	// Dialect is the vendor's API that brought the type with it; empty for none.
	Dialect   string
	CreatedAt time.Time
	UpdatedAt time.Time
	Deleted   bool
	Revision  int64

	compile sync.Once
	schema  *schema
	invalid error
}

// typeKey finds an event type.
type typeKey struct{ tenant, name string }

// Judges reports whether the data of events is held against a schema.
func (t *EventType) Judges() bool { return len(t.Schema) > 0 && t.Validation != Off }

// Validate judges an event's data by the schema and returns what does not fit; where validation is Warn, that something does not.
// An event type is used by pointer, since the schema is compiled once, when it is first needed. The error is ErrTooCostly or
// the context's.
func (t *EventType) Validate(ctx context.Context, data []byte) ([]Violation, error) {
	if len(t.Schema) == 0 {
		return nil, nil
	}
	t.compile.Do(func() { t.schema, t.invalid = compileSchema(t.Schema) })
	if t.invalid != nil {
		// It was judged on save, so only another version of Fanfare can have let it through: fail closed.
		return []Violation{{"data", "the event type's schema cannot be used: " + t.invalid.Error()}}, nil
	}
	return t.schema.validate(ctx, data, t.Validation != Warn)
}
