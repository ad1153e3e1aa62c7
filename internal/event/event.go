// Package event is the one Event of Fanfare: what upstream publishes, as ingest takes it, the stream holds it, fan-out matches
// it and deliver sends it.
//
// It reads and writes the message that an event is in the stream, and judges all of an event that needs neither the
// directory nor a setting. It asks nobody and keeps nothing.
package event

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
)

// Event is what upstream published. On the wire it is a NATS message on
// events.<tenant>.<type> whose body is Data and whose headers are the rest, so that any NATS client can
// publish one.
type Event struct {
	ID     string // 1-128 of [A-Za-z0-9_-]; unique within the tenant for 24 hours; of a CloudEvent, see CloudID
	Tenant string // 1-64 of [A-Za-z0-9_-]
	Type   string // 1-128 of [A-Za-z0-9_] with dots
	Time   time.Time
	Data   []byte // kept to the byte; JSON, unless ContentType says otherwise
	// ContentType is that of a CloudEvent's data, as it was given; empty means JSON.
	ContentType string
	Cloud       *Cloud // of a CloudEvent; nil for others

	ResourceIDs []string
	ObjectID    string
	Changed     []string
	Targets     []uuid.UUID // where not empty, only these subscriptions receive the event
	TraceParent string

	// Made says that Fanfare made the id, so that no other event can have it and the ledger need not be asked. Where the id
	// is none that it makes, the header does not count.
	Made bool
	// Checked says that ingest has judged the event and answered for it: fan-out takes it as it is, even
	// if its type was archived in between. What comes straight from NATS is judged by fan-out. That the data is JSON is
	// looked at anyway.
	Checked bool
	// Fit is the verdict of the type's schema; only that of a checked event is read from the stream.
	Fit Fit
	// Test marks the event of a subscription's test call: it reaches its target although that is paused.
	Test bool

	// Mark proves that an event of a type that only Fanfare publishes is Fanfare's own; see Marks.
	Mark string

	// UID is the event's key in the ledger and in all that is made of it; nil until it is stored. See UID.
	UID uuid.UUID
	// Seq and AcceptedAt are the event's place and time in the stream; zero until it is stored.
	Seq        uint64
	AcceptedAt time.Time
}

// The headers of an event. Those of CloudEvents (ce-id, ce-time) are read as well. The id needs none where it is in the
// Nats-Msg-Id, after the tenant and a dot.
const (
	HeaderID          = "Fanfare-Id"
	HeaderTime        = "Fanfare-Time"
	HeaderResourceIDs = "Fanfare-Resource-Ids"
	HeaderObjectID    = "Fanfare-Object-Id"
	HeaderChanged     = "Fanfare-Changed"
	HeaderTargets     = "Fanfare-Targets"
	HeaderMade        = "Fanfare-Made"
	HeaderChecked     = "Fanfare-Checked"
	HeaderSchemaValid = "Fanfare-Schema-Valid"
	HeaderTest        = "Fanfare-Test"
	HeaderMark        = "Fanfare-Mark"
	HeaderLiterals    = "Fanfare-Literals"
	HeaderTraceParent = "traceparent"
	headerMedia       = "Content-Type"
	headerVersion     = "ce-specversion"
)

// SubjectPrefix begins the subjects of events: events.<tenant>.<type>.
const SubjectPrefix = "events."

// Subject is where the event is published.
func (e *Event) Subject() string { return SubjectPrefix + e.Tenant + "." + e.Type }

// Key names an event within the idempotency window.
type Key struct{ Tenant, ID string }

// Targeted says whether something else than its type and what subscriptions ask of it decides who receives the event.
func (e *Event) Targeted() bool { return len(e.Targets) > 0 || e.Test }

// Encode writes the event as a message; its UUID becomes the Nats-Msg-Id, which tells the id.
func (e *Event) Encode() *message.Message {
	meta := make(message.Metadata, 6)
	meta[HeaderTime] = e.Time.UTC().Format(time.RFC3339Nano)
	set := func(header, value string) {
		if value != "" {
			meta[header] = value
		}
	}
	set(HeaderResourceIDs, strings.Join(e.ResourceIDs, ","))
	set(HeaderObjectID, e.ObjectID)
	set(HeaderChanged, strings.Join(e.Changed, ","))
	set(HeaderTraceParent, e.TraceParent)
	if len(e.Targets) > 0 {
		ids := make([]string, len(e.Targets))
		for i, id := range e.Targets {
			ids[i] = id.String()
		}
		set(HeaderTargets, strings.Join(ids, ","))
	}
	set(HeaderMark, e.Mark)
	set(HeaderSchemaValid, e.Fit.header())
	if e.Cloud != nil {
		e.encodeCloud(meta)
	}
	flag := func(header string, on bool) {
		if on {
			meta[header] = "1"
		}
	}
	flag(HeaderMade, e.Made)
	flag(HeaderChecked, e.Checked)
	flag(HeaderTest, e.Test)
	return &message.Message{UUID: e.Tenant + "." + e.ID, Metadata: meta, Payload: e.Data}
}

// encodeCloud writes the attributes of a CloudEvent as the NATS binding does in binary mode.
func (e *Event) encodeCloud(meta message.Metadata) {
	set := func(header, value string) {
		if value != "" {
			meta[header] = headerValue(value)
		}
	}
	c := e.Cloud
	meta[headerVersion] = "1.0"
	set("ce-id", c.ID)
	set("ce-source", c.Source)
	set("ce-subject", c.Subject)
	set("ce-dataschema", c.DataSchema)
	var literals []string
	for _, x := range c.Extensions {
		set("ce-"+x.Name, x.Value)
		if x.Literal {
			literals = append(literals, x.Name)
		}
	}
	if len(literals) > 0 {
		meta[HeaderLiterals] = strings.Join(literals, ",")
	}
	if e.ContentType != "" {
		meta[headerMedia] = e.ContentType
	}
}

// JSON reports whether the data is JSON.
func (e *Event) JSON() bool { return e.ContentType == "" || jsonMedia(e.ContentType) }

// As returns the event if uid is its key, else nil. Until the source of a CloudEvent was a part of its identity, one that
// came straight from NATS had the key of its id alone.
func (e *Event) As(uid uuid.UUID) *Event {
	if e.UID == uid {
		return e
	}
	if e.Cloud == nil || UID(e.Tenant, e.Cloud.ID, e.AcceptedAt) != uid {
		return nil
	}
	former := *e
	former.ID, former.UID = e.Cloud.ID, uid
	return &former
}

// Key names the event within the idempotency window.
func (e *Event) Key() Key { return Key{Tenant: e.Tenant, ID: e.ID} }

// Hash is that of the event's content: all that makes a repeat the same event. The time is not part of it,
// so that a caller who stamps each try anew still repeats himself.
func (e *Event) Hash() [sha256.Size]byte {
	// In three pieces, since data is long and the rest is many short parts.
	var room [256]byte
	head := appendSize(appendPart(room[:0], e.Type), len(e.Data))
	h := sha256.New()
	h.Write(head)
	h.Write(e.Data)
	tail := appendParts(appendParts(appendPart(room[:0], e.ObjectID), e.ResourceIDs), e.Changed)
	for _, id := range e.Targets {
		tail = append(tail, id[:]...)
	}
	h.Write(tail)
	return [sha256.Size]byte(h.Sum(room[:0]))
}

func appendParts(b []byte, parts []string) []byte {
	b = appendSize(b, len(parts))
	for _, part := range parts {
		b = appendPart(b, part)
	}
	return b
}

func appendPart(b []byte, part string) []byte { return append(appendSize(b, len(part)), part...) }

func appendSize(b []byte, n int) []byte { return binary.BigEndian.AppendUint64(b, uint64(n)) }
