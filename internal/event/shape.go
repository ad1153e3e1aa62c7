package event

import (
	"bytes"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The bounds of an event's parts. They keep an event's headers below the 64 KiB that NATS takes.
const (
	MaxID         = 128 // characters of an event's id
	MaxType       = 128 // characters of an event type
	MaxTenant     = 64  // characters of a tenant
	MaxAttribute  = 256 // bytes of a resource id, an object id or a changed attribute
	MaxAttributes = 100 // resource ids, changed attributes and targets, each
	MaxNesting    = 64  // arrays and objects within each other in data, data itself included
)

// CheckTenant refuses malformed names of tenants.
func CheckTenant(tenant string) *Refusal {
	if len(tenant) < 1 || len(tenant) > MaxTenant || !all(tenant, idCharacter) {
		return Refuse(BadTenant, "tenant", "must be 1 to 64 characters of A-Z a-z 0-9 _ -")
	}
	return nil
}

// CheckID refuses malformed event ids. Dots are refused as the signature joins the id with dots.
func CheckID(id string) *Refusal {
	if len(id) < 1 || len(id) > MaxID || !all(id, idCharacter) {
		return Refuse(BadID, "id", "must be 1 to 128 characters of A-Z a-z 0-9 _ -")
	}
	return nil
}

// CheckType refuses malformed event types.
func CheckType(name string) *Refusal {
	ok := len(name) >= 1 && len(name) <= MaxType && all(name, typeCharacter) &&
		name[0] != '.' && name[len(name)-1] != '.' && !strings.Contains(name, "..")
	if !ok {
		return Refuse(BadType, "type", "must be 1 to 128 characters of A-Z a-z 0-9 _ with single dots between")
	}
	return nil
}

// CheckTime refuses what no database and no receiver could hold.
func CheckTime(t time.Time) *Refusal {
	if year := t.UTC().Year(); year < 1 || year > 9999 {
		return Refuse(BadTime, "time", "must be within the years 1 to 9999")
	}
	return nil
}

// CheckShape judges all but the data and what depends on subscriptions.
func CheckShape(e *Event) *Refusal {
	r := Join(CheckTenant(e.Tenant), CheckType(e.Type))
	r = Join(r, CheckID(e.ID))
	r = Join(r, CheckTime(e.Time))
	r = Join(r, checkList("resource_ids", e.ResourceIDs))
	r = Join(r, checkList("changed", e.Changed))
	if e.ObjectID != "" {
		r = Join(r, CheckAttribute("object_id", e.ObjectID))
	}
	if e.Cloud != nil {
		r = Join(Join(r, e.Cloud.check()), checkMedia(e.ContentType))
	}
	if len(e.Targets) > MaxAttributes {
		r = Join(r, Refuse(BadTarget, "targets", "must be at most 100"))
	}
	return r
}

func checkList(location string, items []string) *Refusal {
	if len(items) > MaxAttributes {
		return Refuse(BadAttribute, location, "must be at most 100")
	}
	var r *Refusal
	for i, item := range items {
		if !attribute(item) {
			r = Join(r, CheckAttribute(location+"["+strconv.Itoa(i)+"]", item))
		}
	}
	return r
}

// CheckAttribute refuses what no attribute of an event may be.
func CheckAttribute(location, value string) *Refusal {
	if attribute(value) {
		return nil
	}
	return Refuse(BadAttribute, location,
		"must be 1 to 256 bytes of UTF-8 without commas, control characters and spaces at its ends")
}

// attribute reports whether a value may stand in a comma list of a header.
func attribute(value string) bool {
	if len(value) < 1 || len(value) > MaxAttribute || !utf8.ValidString(value) {
		return false
	}
	for _, c := range value {
		if c == ',' || unicode.IsControl(c) {
			return false
		}
	}
	return strings.TrimSpace(value) == value
}

func all(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

func idCharacter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

func typeCharacter(c byte) bool {
	return c != '-' && idCharacter(c) || c == '.'
}

// Nesting returns how deep the first JSON value of data goes: 0 for a scalar, 1 for {}. It looks no further
// than one level beyond MaxNesting, takes no stack, and says nothing of whether the JSON is well formed, so
// that it can be asked before a parser is.
func Nesting(data []byte) int {
	depth, deepest := 0, 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			if i = endOfString(data, i+1); depth == 0 {
				return deepest
			}
		case '{', '[':
			depth++
			if deepest = max(deepest, depth); deepest > MaxNesting {
				return deepest
			}
		case '}', ']':
			if depth--; depth <= 0 {
				return deepest
			}
		case ',':
			if depth == 0 {
				return deepest
			}
		}
	}
	return deepest
}

// endOfString returns the index of the quote that ends the string whose text begins at i; len(data) if there is none.
func endOfString(data []byte, i int) int {
	for {
		n := bytes.IndexByte(data[i:], '"')
		if n < 0 {
			return len(data)
		}
		quote := i + n
		escapes := 0
		for escapes < n && data[quote-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return quote
		}
		i = quote + 1
	}
}
