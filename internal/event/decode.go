package event

import (
	"cmp"
	"iter"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// Wire is an event as the broker has it.
type Wire struct {
	Subject string
	Seq     uint64
	At      time.Time // when the stream took it
	MsgID   string    // Nats-Msg-Id, where it is not among the headers
	Headers iter.Seq2[string, string]
	Data    []byte
}

// Decode reads an event from the stream. It judges what the headers say, not the data: see Rules. With a
// refusal, the event is returned as far as it could be read.
func Decode(w Wire) (*Event, *Refusal) {
	e := &Event{Data: w.Data, Seq: w.Seq, AcceptedAt: w.At, Time: w.At}
	var ok bool
	if e.Tenant, e.Type, ok = SplitSubject(w.Subject); !ok {
		return e, Refuse(BadSubject, "subject", "must be events.<tenant>.<type>")
	}
	if r := Join(CheckTenant(e.Tenant), CheckType(e.Type)); r != nil {
		r.Reason = BadSubject
		return e, r
	}
	h := headers{msgID: w.MsgID}
	for name, value := range w.Headers {
		if !h.read(name, value) {
			h.read(textproto.CanonicalMIMEHeaderKey(name), value)
		}
	}
	if r := h.into(e); r != nil {
		return e, r
	}
	if e.ID == "" {
		// The stream's own number is unique only as long as the stream lives; with the time it is for ever.
		e.ID = UID(e.Tenant, "#"+strconv.FormatUint(w.Seq, 10), w.At).String()
		e.Made = true
	}
	e.UID = UID(e.Tenant, e.ID, e.AcceptedAt)
	return e, CheckShape(e)
}

// SplitSubject takes a subject apart; more is left to the checks of tenant and type.
func SplitSubject(subject string) (tenant, name string, ok bool) {
	rest, ok := strings.CutPrefix(subject, SubjectPrefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ".")
}

// headers are those of a message that say something of its event.
type headers struct {
	own         Attributes // Fanfare-*
	ce          Attributes // ce-*
	msgID       string
	contentType string
	made        bool
	checked     bool
	test        bool
	mark        string
	fit         Fit
}

// Untrust removes the headers that say which checks ingest has made.
func Untrust(meta message.Metadata) {
	for name := range meta {
		switch textproto.CanonicalMIMEHeaderKey(name) {
		case HeaderMade, HeaderChecked, HeaderTest, HeaderSchemaValid:
			delete(meta, name)
		}
	}
}

// read takes one header and reports whether it knows the name, spelled like this.
func (h *headers) read(name, value string) bool {
	switch name {
	case HeaderID:
		h.own.ID = value
	case HeaderTime:
		h.own.Time = value
	case HeaderResourceIDs:
		h.own.ResourceIDs = value
	case HeaderObjectID:
		h.own.ObjectID = value
	case HeaderChanged:
		h.own.Changed = value
	case HeaderTargets:
		h.own.Targets = value
	case HeaderTraceParent, "Traceparent":
		h.own.TraceParent = value
	case HeaderMade:
		h.made = value == "1"
	case HeaderChecked:
		h.checked = value == "1"
	case HeaderTest:
		h.test = value == "1"
	case HeaderSchemaValid:
		h.fit = fitOf(value)
	case HeaderMark:
		h.mark = value
	case HeaderLiterals:
		h.ce.Literals = value
	case natsjs.MsgIDHeader:
		h.msgID = value
	case "Content-Type":
		h.contentType = value
	default:
		return h.ce.Header(name, value)
	}
	return true
}

// into writes the headers into the event: our own before those of CloudEvents, the message id last.
func (h *headers) into(e *Event) *Refusal {
	if r := h.mode(); r != nil {
		return r
	}
	if h.ce.Type != "" && h.ce.Type != e.Type {
		return Refuse(BadSubject, "ce-type", "must be the type that the subject names")
	}
	if h.ce.Tenant != "" && h.ce.Tenant != e.Tenant {
		return Refuse(BadSubject, "ce-tenant", "must be the tenant that the subject names")
	}
	if id, ok := strings.CutPrefix(h.msgID, e.Tenant+"."); ok && CheckID(id) == nil {
		e.ID = id
	}
	r := Join(h.ce.Into(e), h.own.Into(e))
	e.Made, e.Checked, e.Test, e.Mark = h.made && makes(e.ID), h.checked, h.test, h.mark
	if e.Checked {
		e.Fit = h.fit
	}
	return r
}

// mode judges the content type: data that is not JSON is taken of CloudEvents alone.
func (h *headers) mode() *Refusal {
	if strings.HasPrefix(strings.ToLower(h.contentType), "application/cloudevents") {
		return Refuse(BadMode, headerMedia, "must be that of the data: send CloudEvents in binary mode, with ce- headers")
	}
	if h.ce.Source == "" {
		if h.contentType != "" && !jsonMedia(h.contentType) {
			return Refuse(BadMode, headerMedia, "must be JSON, unless the event is a CloudEvent with ce-source")
		}
		return nil
	}
	if h.contentType != "" {
		h.ce.DataContentType = h.contentType
	}
	return nil
}

// renewed ends an event's id in the message id of an event that is sent with another than its own.
const renewed = "~"

// Renew gives a message of the event another message id: one that nobody has used or can guess.
func (e *Event) Renew(msg *message.Message) {
	msg.UUID = e.Tenant + "." + e.ID + renewed + uuid.NewString()
	msg.Metadata[HeaderID] = e.ID
}

// CheckMessageID judges the Nats-Msg-Id of an event that came straight from NATS. The stream takes two messages of one id for
// the same, whoever sent them, so an id must begin with its tenant; and that of a CloudEvent, with its source.
func CheckMessageID(w Wire, e *Event) *Refusal {
	rest, ok := strings.CutPrefix(w.MsgID, e.Tenant+".")
	switch {
	case w.MsgID == "":
		return nil
	case !ok || rest == "":
		return Refuse(MessageID, natsjs.MsgIDHeader, "must be the tenant, a dot and the event's id: "+e.Tenant+".<id>")
	case strings.HasPrefix(rest, e.ID+renewed):
		return nil
	case e.Cloud != nil && e.Cloud.ID != "" && rest != e.ID && rest != e.Cloud.Source+" "+e.Cloud.ID:
		return Refuse(MessageID, natsjs.MsgIDHeader, "must be "+e.Tenant+"."+e.ID+" or the tenant, a dot, ce-source, a space and ce-id")
	case e.Cloud == nil && e.Made && !makes(rest):
		return Refuse(MessageID, natsjs.MsgIDHeader, "must be the tenant, a dot and 1 to 128 characters of A-Z a-z 0-9 _ -")
	}
	return nil
}

// makes reports whether an id is of the kind that Fanfare makes, which nobody can guess: a UUID of version 7.
func makes(id string) bool {
	made, err := uuid.Parse(id)
	return err == nil && made.Version() == 7 && len(id) == len("00000000-0000-7000-8000-000000000000")
}

// headerUUID carries the message id of a message whose stream was not to look for duplicates.
const headerUUID = "Watermill-Uuid"

// Stored is a message that was read by its sequence.
func Stored(raw *natsjs.RawStreamMsg) Wire {
	return Wire{
		Subject: raw.Subject, Seq: raw.Sequence, At: raw.Time, MsgID: cmp.Or(raw.Header.Get(natsjs.MsgIDHeader), raw.Header.Get(headerUUID)),
		Headers: Lines(raw.Header), Data: raw.Data,
	}
}

// Lines are the headers of a message or a request: the values of one that stands in several lines, joined by commas.
func Lines(h map[string][]string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for name, values := range h {
			if len(values) > 0 && !yield(name, strings.Join(values, ",")) {
				return
			}
		}
	}
}
