package fanout

import (
	"iter"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver"
)

// wire is an event as the broker has it.
type wire struct {
	subject string
	seq     uint64
	at      time.Time // when the stream took it
	msgID   string    // Nats-Msg-Id, where it is not among the headers
	headers iter.Seq2[string, string]
	data    []byte
}

// decode reads an event from the stream. It judges what the headers say, not the data: see Rules. With a
// refusal, the event is returned as far as it could be read.
func decode(w wire) (*Event, *Refusal) {
	e := &Event{Data: w.data, Seq: w.seq, AcceptedAt: w.at, Time: w.at}
	var ok bool
	if e.Tenant, e.Type, ok = splitSubject(w.subject); !ok {
		return e, refuse(BadSubject, "subject", "must be events.<tenant>.<type>")
	}
	if r := join(CheckTenant(e.Tenant), CheckType(e.Type)); r != nil {
		r.Reason = BadSubject
		return e, r
	}
	h := headers{msgID: w.msgID}
	for name, value := range w.headers {
		if !h.read(name, value) {
			h.read(textproto.CanonicalMIMEHeaderKey(name), value)
		}
	}
	if r := h.into(e); r != nil {
		return e, r
	}
	if e.ID == "" {
		// The stream's own number is unique only as long as the stream lives; with the time it is for ever.
		e.ID = deliver.EventUID(e.Tenant, "#"+strconv.FormatUint(w.seq, 10), w.at).String()
		e.Made = true
	}
	return e, checkShape(e)
}

// splitSubject takes a subject apart; more is left to the checks of tenant and type.
func splitSubject(subject string) (tenant, name string, ok bool) {
	rest, ok := strings.CutPrefix(subject, subjectPrefix)
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
	if h.contentType != "" {
		if strings.HasPrefix(strings.ToLower(h.contentType), "application/cloudevents") {
			return refuse(BadMode, "Content-Type", "must be that of the data: send CloudEvents in binary mode, with ce- headers")
		}
		if !jsonMedia(h.contentType) {
			return refuse(BadMode, "Content-Type", "must be JSON")
		}
	}
	if h.ce.Type != "" && h.ce.Type != e.Type {
		return refuse(BadSubject, "ce-type", "must be the type that the subject names")
	}
	if h.ce.Tenant != "" && h.ce.Tenant != e.Tenant {
		return refuse(BadSubject, "ce-tenant", "must be the tenant that the subject names")
	}
	if id, ok := strings.CutPrefix(h.msgID, e.Tenant+"."); ok && CheckID(id) == nil {
		e.ID = id
	}
	r := join(h.ce.Into(e), h.own.Into(e))
	e.Made, e.Checked, e.Test = h.made && makes(e.ID), h.checked, h.test
	return r
}

// makes reports whether an id is of the kind that Fanfare makes, which nobody can guess: a UUID of version 7.
func makes(id string) bool {
	made, err := uuid.Parse(id)
	return err == nil && made.Version() == 7 && len(id) == len("00000000-0000-7000-8000-000000000000")
}

// Delivery is what deliver needs to know of the event.
func (e *Event) Delivery() deliver.Event {
	var d deliver.Event
	e.describe(&d)
	return d
}

// describe is Delivery for a place that is there already: events are large to copy.
func (e *Event) describe(d *deliver.Event) {
	d.UID, d.ID, d.Tenant, d.Type, d.Time, d.Data = e.UID(), e.ID, e.Tenant, e.Type, e.Time, e.Data
	d.ObjectID, d.ResourceIDs, d.Changed, d.TraceParent = e.ObjectID, e.ResourceIDs, e.Changed, e.TraceParent
	d.Seq, d.AcceptedAt, d.Test = e.Seq, e.AcceptedAt, e.Test
}
