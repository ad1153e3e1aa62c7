package event

import (
	"slices"
	"strings"
)

// Reason is why something is no valid event: a metric label, and the word in quarantine.
type Reason string

// The reasons.
const (
	// BadSubject: the subject is not events.<tenant>.<type>, or a header contradicts it.
	BadSubject Reason = "bad_subject"
	BadTenant  Reason = "bad_tenant"
	BadType    Reason = "bad_type"
	BadID      Reason = "bad_id"
	BadTime    Reason = "bad_time"
	// BadAttribute: resource ids, object id or changed attributes are out of their bounds.
	BadAttribute Reason = "bad_attribute"
	// BadTarget: a target is no subscription of the tenant.
	BadTarget Reason = "bad_target"
	// BadData: the data is no JSON, or JSON with duplicate names or invalid UTF-8.
	BadData  Reason = "bad_data"
	TooDeep  Reason = "too_deep"
	TooLarge Reason = "too_large"
	// UnknownType: only declared types are accepted, and this one is not.
	UnknownType  Reason = "unknown_type"
	ArchivedType Reason = "archived_type"
	// SchemaViolation: the data does not fit its type's JSON Schema.
	SchemaViolation Reason = "schema"
	// MessageID: the Nats-Msg-Id does not begin with the tenant, so that it could make another tenant's event a duplicate.
	MessageID Reason = "message_id"
	// ReservedType: only Fanfare publishes types that begin with "fanfare.".
	ReservedType Reason = "reserved_type"
	// TooCostly: to judge the data by its type's JSON Schema takes more steps than its size allows.
	TooCostly Reason = "schema_too_costly"
	// Conflict: the id was used for another event.
	Conflict Reason = "id_conflict"
	// BadMode: a CloudEvent in a mode that is not read.
	BadMode Reason = "bad_mode"
	// Internal: handling the event failed again and again by a fault of Fanfare's own.
	Internal Reason = "internal"
)

// Refusal says why an event is refused and where the faults are. It is an error.
type Refusal struct {
	Reason Reason
	Faults []Fault // at least one
}

// Fault is one thing wrong with an event.
type Fault struct {
	Location string // path below the event: "type", "resource_ids[2]", "data.total"
	Message  string
}

// Refuse makes a refusal of one fault.
func Refuse(reason Reason, location, message string) *Refusal {
	return &Refusal{Reason: reason, Faults: []Fault{{Location: location, Message: message}}}
}

// Error lists the faults.
func (r *Refusal) Error() string {
	var b strings.Builder
	for i, f := range r.Faults {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(f.Location)
		b.WriteString(" ")
		b.WriteString(f.Message)
	}
	return b.String()
}

// Join puts two refusals together; the first one's reason stands.
func Join(a, b *Refusal) *Refusal {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return &Refusal{Reason: a.Reason, Faults: slices.Concat(a.Faults, b.Faults)}
}

// Reasons are all of them, so that each metric series exists before its first count.
func Reasons() []Reason {
	return []Reason{
		BadSubject, BadTenant, BadType, BadID, BadTime, BadAttribute, BadTarget, BadData, TooDeep,
		TooLarge, UnknownType, ArchivedType, SchemaViolation, MessageID, ReservedType, TooCostly, Conflict, BadMode, Internal,
	}
}
