package event

import (
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Attributes are an event's context as text, in the words of CloudEvents 1.0: headers of a NATS message or an
// HTTP request, or members of a JSON envelope. Extensions that mean nothing to Fanfare are passed over, as the
// specification demands.
type Attributes struct {
	SpecVersion, ID, Source, Type, Time, Subject string
	// DataContentType must be JSON where given.
	DataContentType string
	// Extensions of Fanfare: the tenant, and comma lists.
	Tenant, ResourceIDs, ObjectID, Changed, Targets, TraceParent string
}

// Set takes one attribute by its name, in lower case.
func (a *Attributes) Set(name, value string) {
	switch name {
	case "specversion":
		a.SpecVersion = value
	case "id":
		a.ID = value
	case "source":
		a.Source = value
	case "type":
		a.Type = value
	case "time":
		a.Time = value
	case "subject":
		a.Subject = value
	case "datacontenttype":
		a.DataContentType = value
	case "tenant":
		a.Tenant = value
	case "resourceids":
		a.ResourceIDs = value
	case "objectid":
		a.ObjectID = value
	case "changed":
		a.Changed = value
	case "targets":
		a.Targets = value
	case "traceparent":
		a.TraceParent = value
	}
}

// Header takes one attribute from a header whose name begins with "ce-" in any case, and reports whether it
// does. Values may be percent-encoded, as the HTTP and NATS bindings say.
func (a *Attributes) Header(name, value string) bool {
	if len(name) < 4 || name[2] != '-' || !strings.EqualFold(name[:2], "ce") {
		return false
	}
	if strings.Contains(value, "%") {
		if plain, err := url.PathUnescape(value); err == nil {
			value = plain
		}
	}
	a.Set(strings.ToLower(name[3:]), value)
	return true
}

// Into writes the attributes into the event; what is empty leaves the event as it is. It judges what Event
// cannot hold: the rest is left to the rules.
func (a *Attributes) Into(e *Event) *Refusal {
	var r *Refusal
	if a.SpecVersion != "" && a.SpecVersion != "1.0" {
		r = Refuse(BadMode, "specversion", `must be "1.0"`)
	}
	if a.DataContentType != "" && !jsonMedia(a.DataContentType) {
		r = Join(r, Refuse(BadMode, "datacontenttype", "must be JSON"))
	}
	set := func(to *string, value string) {
		if value != "" {
			*to = value
		}
	}
	set(&e.ID, a.ID)
	set(&e.Type, a.Type)
	set(&e.Tenant, a.Tenant)
	set(&e.ObjectID, a.Subject)
	set(&e.ObjectID, a.ObjectID)
	if a.Time != "" {
		at, err := ParseTime(a.Time)
		e.Time, r = at, Join(r, err)
	}
	if a.ResourceIDs != "" {
		e.ResourceIDs = splitList(a.ResourceIDs)
	}
	if a.Changed != "" {
		e.Changed = splitList(a.Changed)
	}
	if a.Targets != "" {
		targets, err := ParseTargets(splitList(a.Targets))
		e.Targets, r = targets, Join(r, err)
	}
	if ValidTraceParent(a.TraceParent) {
		e.TraceParent = a.TraceParent
	}
	return r
}

// ParseTime reads RFC 3339, strictly.
func ParseTime(text string) (time.Time, *Refusal) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || !strict(text) {
		return time.Time{}, Refuse(BadTime, "time", "must be RFC 3339, such as 2026-11-20T10:00:00Z")
	}
	return t.UTC(), CheckTime(t)
}

// strict reports whether a text that Go takes for RFC 3339 is: Go also takes a comma before the fraction, an hour of
// one digit, and any offset.
func strict(text string) bool {
	if text[len("2006-01-02T15")] != ':' || strings.Contains(text, ",") {
		return false
	}
	zone := text[len(text)-len("Z"):]
	if zone == "Z" {
		return true
	}
	zone = text[len(text)-len("00:00"):]
	return zone[:2] <= "23" && zone[3:] <= "59"
}

// ParseTargets reads the ids of subscriptions.
func ParseTargets(texts []string) ([]uuid.UUID, *Refusal) {
	if len(texts) > MaxAttributes {
		return nil, Refuse(BadTarget, "targets", "must be at most 100")
	}
	ids := make([]uuid.UUID, 0, len(texts))
	for _, text := range texts {
		id, err := uuid.Parse(text)
		if err != nil || len(text) != 36 {
			return nil, Refuse(BadTarget, "targets", "must be ids of subscriptions")
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// ValidTraceParent reports whether a W3C traceparent can be handed on. A bad one is no reason to refuse an event.
func ValidTraceParent(s string) bool {
	if len(s) != 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	for i := range len(s) {
		if i == 2 || i == 35 || i == 52 {
			continue
		}
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s[:2] != "ff"
}

// splitList reads a comma list; empty items are passed over.
func splitList(text string) []string {
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = textproto.TrimString(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// jsonMedia reports whether a content type is JSON.
func jsonMedia(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(textproto.TrimString(media))
	return media == "application/json" || media == "text/json" || strings.HasSuffix(media, "+json")
}
