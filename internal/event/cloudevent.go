package event

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"mime"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// Cloud is what a CloudEvent says of itself that no other field of the event holds. It is kept and sent on by the payload
// format cloudevents.
type Cloud struct {
	ID         string // as its producer gave it: unique within Source alone; may be empty over NATS
	Source     string // never empty
	Subject    string
	DataSchema string
	Extensions []Extension // ascending by name
}

// Extension is an attribute that CloudEvents does not define.
type Extension struct {
	Name, Value string
	// Literal says that the value was a number or a boolean, which Value holds as JSON.
	Literal bool
}

// The bounds of a CloudEvent's attributes. They keep the headers of a message below the 64 KiB that NATS takes.
const (
	MaxCloudID        = 256  // bytes of its id
	MaxCloudAttribute = 1024 // bytes of its source, its schema's URI and each extension
	MaxExtensions     = 32
	maxExtensionName  = 64
	maxExtensionBytes = 8 << 10 // names and values of all
	maxMedia          = 256     // bytes of its content type
)

// CloudID is the id that a CloudEvent has within its tenant: "ce_" and the first 32 hexadecimal digits of the SHA-256 of its
// source, a zero byte and its id. An id alone is unique only within its source, and may hold what no header of a webhook can.
func CloudID(source, id string) string {
	h := sha256.New()
	h.Write([]byte(source))
	h.Write([]byte{0})
	h.Write([]byte(id))
	return "ce_" + hex.EncodeToString(h.Sum(nil)[:16])
}

// Attributes are an event's context as text, in the words of CloudEvents 1.0: headers of a NATS message or an
// HTTP request, or members of a JSON envelope.
type Attributes struct {
	SpecVersion, ID, Source, Type, Time, Subject, DataSchema string
	// DataContentType is that of the data, whatever it is.
	DataContentType string
	// Extensions of Fanfare: the tenant, and comma lists.
	Tenant, ResourceIDs, ObjectID, Changed, Targets, TraceParent string
	// Extensions are all others, and those of Fanfare that are no address.
	Extensions []Extension
	// Literals is a comma list of the extensions whose value is no string.
	Literals string
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
	case "dataschema":
		a.DataSchema = value
	case "datacontenttype":
		a.DataContentType = value
	case "tenant":
		a.Tenant = value
	case "targets":
		a.Targets = value
	default:
		a.Extend(Extension{Name: name, Value: value})
	}
}

// Extend takes one extension.
func (a *Attributes) Extend(x Extension) {
	switch x.Name {
	case "resourceids":
		a.ResourceIDs = x.Value
	case "objectid":
		a.ObjectID = x.Value
	case "changed":
		a.Changed = x.Value
	case "traceparent":
		a.TraceParent = x.Value
	}
	a.Extensions = append(a.Extensions, x)
}

// Header takes one attribute from a header whose name begins with "ce-" in any case, and reports whether it
// does. Values may be quoted and percent-encoded, as the HTTP and NATS bindings say.
func (a *Attributes) Header(name, value string) bool {
	if len(name) < 4 || name[2] != '-' || !strings.EqualFold(name[:2], "ce") {
		return false
	}
	a.Set(strings.ToLower(name[3:]), headerText(value))
	return true
}

// headerText decodes a header's value: first the quotes, then the percent-encoding. What is malformed stays as it is.
func headerText(value string) string {
	if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
		value = unquote(value[1 : len(value)-1])
	}
	if strings.Contains(value, "%") {
		if plain, err := url.PathUnescape(value); err == nil {
			return plain
		}
	}
	return value
}

// unquote resolves the escapes of a quoted string.
func unquote(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// headerValue encodes an attribute for a header, as the bindings demand.
func headerValue(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c > '~' || c == '"' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Into writes the attributes into the event; empty ones leave the event as it is. It judges what Event
// cannot hold: the rest is left to the rules.
func (a *Attributes) Into(e *Event) *Refusal {
	var r *Refusal
	if a.SpecVersion != "" && a.SpecVersion != "1.0" {
		r = Refuse(BadMode, "specversion", `must be "1.0"`)
	}
	set := func(to *string, value string) {
		if value != "" {
			*to = value
		}
	}
	if a.Source == "" {
		set(&e.ID, a.ID)
	} else {
		a.cloud(e)
	}
	set(&e.Type, a.Type)
	set(&e.Tenant, a.Tenant)
	switch {
	case a.ObjectID != "":
		e.ObjectID = a.ObjectID
	case a.Subject != "":
		if fault := CheckAttribute("subject", a.Subject); fault != nil {
			r = Join(r, fault)
		} else {
			e.ObjectID = a.Subject
		}
	}
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

// cloud makes the event a CloudEvent.
func (a *Attributes) cloud(e *Event) {
	e.ContentType = a.DataContentType
	e.Cloud = &Cloud{ID: a.ID, Source: a.Source, Subject: a.Subject, DataSchema: a.DataSchema, Extensions: a.Extensions}
	if a.ID != "" {
		e.ID = CloudID(a.Source, a.ID)
	}
	slices.SortFunc(e.Cloud.Extensions, func(x, y Extension) int { return cmp.Compare(x.Name, y.Name) })
	for _, name := range splitList(a.Literals) {
		for i := range e.Cloud.Extensions {
			if x := &e.Cloud.Extensions[i]; x.Name == name && literal(x.Value) {
				x.Literal = true
			}
		}
	}
}

// literal reports whether a text is a JSON number or boolean.
func literal(text string) bool {
	switch jsontext.Value(text).Kind() {
	case '0', 't', 'f':
		return jsontext.Value(text).IsValid()
	}
	return false
}

// check judges the attributes of a CloudEvent.
func (c *Cloud) check() *Refusal {
	r := Join(c.text(BadID, "id", c.ID, MaxCloudID), c.text(BadAttribute, "source", c.Source, MaxCloudAttribute))
	r = Join(r, c.text(BadAttribute, "subject", c.Subject, MaxAttribute))
	r = Join(r, c.text(BadAttribute, "dataschema", c.DataSchema, MaxCloudAttribute))
	if len(c.Extensions) > MaxExtensions {
		return Join(r, Refuse(BadAttribute, "extensions", "must be at most "+strconv.Itoa(MaxExtensions)))
	}
	size := 0
	for i, x := range c.Extensions {
		size += len(x.Name) + len(x.Value)
		switch {
		case len(x.Name) > maxExtensionName || !all(x.Name, extensionCharacter):
			r = Join(r, Refuse(BadAttribute, "extensions", "must have names of 1 to "+strconv.Itoa(maxExtensionName)+" characters of a-z 0-9"))
		case i > 0 && c.Extensions[i-1].Name == x.Name:
			r = Join(r, Refuse(BadAttribute, x.Name, "must be given once"))
		default:
			r = Join(r, c.text(BadAttribute, x.Name, x.Value, MaxCloudAttribute))
		}
	}
	if size > maxExtensionBytes {
		r = Join(r, Refuse(BadAttribute, "extensions", "must be at most "+strconv.Itoa(maxExtensionBytes)+" bytes together"))
	}
	return r
}

func (c *Cloud) text(reason Reason, location, value string, most int) *Refusal {
	bad := func(r rune) bool { return unicode.IsControl(r) }
	if len(value) <= most && utf8.ValidString(value) && !strings.ContainsFunc(value, bad) {
		return nil
	}
	return Refuse(reason, location, "must be at most "+strconv.Itoa(most)+" bytes of UTF-8 without control characters")
}

func extensionCharacter(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

// checkMedia judges the content type of data.
func checkMedia(value string) *Refusal {
	if value == "" {
		return nil
	}
	_, _, err := mime.ParseMediaType(value)
	if err == nil && len(value) <= maxMedia && !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil
	}
	return Refuse(BadMode, "datacontenttype", "must be a media type such as application/json")
}

// ParseTime reads RFC 3339: also t and z in lower case, and second 60, which becomes the next minute's first.
func ParseTime(text string) (time.Time, *Refusal) {
	plain, leap := plainTime(text)
	t, err := time.Parse(time.RFC3339, plain)
	if err != nil || !strict(plain) {
		return time.Time{}, Refuse(BadTime, "time", "must be RFC 3339, such as 2026-11-20T10:00:00Z")
	}
	if leap {
		t = t.Truncate(time.Second).Add(time.Second)
	}
	return t.UTC(), CheckTime(t)
}

// plainTime writes a time the way that Go reads it, and reports whether its second is 60.
func plainTime(text string) (plain string, leap bool) {
	const date, seconds = len("2006-01-02"), len("2006-01-02T15:04:")
	b := []byte(text)
	if len(b) <= seconds+2 {
		return text, false
	}
	if b[date] == 't' {
		b[date] = 'T'
	}
	if last := len(b) - 1; b[last] == 'z' {
		b[last] = 'Z'
	}
	if leap = string(b[seconds:seconds+2]) == "60"; leap {
		copy(b[seconds:], "59")
	}
	return string(b), leap
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
