package subscriptions

import (
	"strings"
	"sync/atomic"
	"time"
	"unique"

	"github.com/google/uuid"
)

// entry is a subscription as the Directory holds it: about 400 bytes with its texts, a third of what a
// Subscription takes. It never changes; a change of the subscription makes another entry.
type entry struct {
	id       uuid.UUID
	number   int32
	status   Status
	revision int64
	created  int64 // microseconds
	updated  int64
	tenant   string
	name     string
	url      string
	types    unique.Handle[string] // joined; the texts of the index are parts of it
	rule     *rule                 // nil where nothing beyond the type is asked for
	settings unique.Handle[settings]
	sealed   string
	// whole is the Subscription, once somebody asked for it; see wholes.
	whole atomic.Pointer[Subscription]
}

// rule is what a subscription asks of an event beyond its type.
type rule struct {
	resource string
	changed  []string
	filter   string
}

// newEntry keeps a row. The tenant is a text that others share.
func newEntry(r *row, tenant string) *entry {
	e := &entry{
		id: r.id, number: r.number, status: interned(r.status), revision: r.revision,
		created: r.created.UnixMicro(), updated: r.updated.UnixMicro(),
		tenant: tenant, name: r.name, url: r.url, types: unique.Make(r.types),
		settings: unique.Make(r.settings), sealed: string(r.sealed),
	}
	if r.resource != "" || r.changed != "" || r.filter != "" {
		e.rule = &rule{resource: r.resource, changed: list(r.changed), filter: r.filter}
	}
	return e
}

// interned keeps one text of each status.
func interned(s Status) Status {
	switch s {
	case Active:
		return Active
	case Paused:
		return Paused
	}
	return Disabled
}

// row is what the entry was made of, without the secrets.
func (e *entry) row() *row {
	r := &row{
		id: e.id, number: e.number, tenant: e.tenant, name: e.name, url: e.url, types: e.types.Value(),
		status: e.status, created: time.UnixMicro(e.created), updated: time.UnixMicro(e.updated),
		revision: e.revision, settings: e.settings.Value(),
	}
	if e.rule != nil {
		r.resource, r.changed, r.filter = e.rule.resource, strings.Join(e.rule.changed, listSeparator), e.rule.filter
	}
	return r
}

// resource is the resource id that the subscription wants; empty for any.
func (e *entry) resource() string {
	if e.rule == nil {
		return ""
	}
	return e.rule.resource
}

// patterns are the subscription's event types.
func (e *entry) patterns() []string { return list(e.types.Value()) }

// several says whether an event can reach the entry in more ways than one.
func (e *entry) several() bool { return strings.Contains(e.types.Value(), listSeparator) }

// subscription makes the Subscription of an entry, without its secrets. What cannot be read is told by Err.
func (e *entry) subscription() *Subscription {
	s, err := e.row().subscription()
	if err != nil {
		return &Subscription{ID: e.id, Number: e.number, Tenant: e.tenant, Status: e.status, Revision: e.revision, Err: err}
	}
	return s
}

// entryOf makes an entry of a Subscription that need not be in any Directory.
func entryOf(s *Subscription) *entry {
	return newEntry(rowOf(s), s.Tenant)
}
