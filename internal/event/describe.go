package event

import "github.com/danielgtaylor/huma/v2"

// Unreadable is a message of a later stage that is not one of its own.
const Unreadable Reason = "unreadable"

// Described is a reason in plain words.
type Described struct {
	Reason      Reason
	Description string
	Advice      string
}

// Describe describes every reason of quarantine.
func Describe() []Described {
	return []Described{
		{BadSubject, "The subject is not events.<tenant>.<type>, or a header contradicts it.", "Publish to events.<tenant>.<type>."},
		{BadTenant, "The tenant's name is not valid.", "Use 1 to 64 of A-Z, a-z, 0-9, _ and -."},
		{BadType, "The type is not valid.", "Use 1 to 128 of A-Z, a-z, 0-9 and _, with dots between."},
		{BadID, "The event's id is not valid.", "Use 1 to 128 of A-Z, a-z, 0-9, _ and -."},
		{BadTime, "The event's time is not valid.", "Use RFC 3339."},
		{BadAttribute, "Resource ids, object id or changed attributes are out of their bounds.", "Send fewer or shorter ones."},
		{BadTarget, "A target is not a subscription of the tenant.", "Check the ids in targets."},
		{BadData, "The data is not valid JSON.", "Publish JSON in UTF-8 without duplicate names, or name its content type."},
		{TooDeep, "The data is nested too deeply.", "Nest at most 64 levels."},
		{TooLarge, "The event is too large.", "Publish less data, or raise the limit."},
		{UnknownType, "Only declared event types are accepted, and this one is not declared.", "Create the event type."},
		{ArchivedType, "The event type is archived.", "Restore the event type, or publish another one."},
		{SchemaViolation, "The data does not fit the JSON Schema of its type.", "Correct the data or the schema."},
		{TooCostly, "Judging the data by its type's JSON Schema takes more steps than its size allows.", "Simplify the schema."},
		{MessageID, "The Nats-Msg-Id does not begin with the tenant, so that it could make another tenant's event a duplicate.", "Use <tenant>.<id>, or the header Fanfare-Id."},
		{ReservedType, "Only Fanfare publishes types that begin with fanfare.", "Use another type."},
		{Conflict, "The id was used for another event.", "Use an id of its own for each event."},
		{BadMode, "The CloudEvent's mode is not read.", "Use the structured or the binary mode."},
		{Internal, "Handling the message failed repeatedly by a fault of Fanfare's own.", "Report it; publish the event again afterwards."},
		{Unreadable, "The message does not belong into its stream.", "Publish to subjects of events only."},
	}
}

// schemaName is the reason's name in the OpenAPI document.
const schemaName = "QuarantineReason"

// Schema documents the reason: a closed set of words.
func (Reason) Schema(r huma.Registry) *huma.Schema {
	if _, ok := r.Map()[schemaName]; !ok {
		s := &huma.Schema{Type: huma.TypeString, Description: "Why a message was put into quarantine:\n"}
		for _, d := range Describe() {
			s.Enum = append(s.Enum, string(d.Reason))
			s.Description += "- `" + string(d.Reason) + "`: " + d.Description + "\n"
		}
		s.PrecomputeMessages()
		r.Map()[schemaName] = s
	}
	return &huma.Schema{Ref: "#/components/schemas/" + schemaName}
}
