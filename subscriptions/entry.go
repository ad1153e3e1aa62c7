package subscriptions

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unique"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"
)

// entry is a subscription as the Directory holds it: 112 bytes and one text, some 300 bytes altogether, a
// third of what a Subscription takes. It never changes; a change of the subscription makes another entry.
type entry struct {
	id       uuid.UUID
	revision int64
	created  int64 // microseconds
	updated  int64
	tenant   *tenant
	types    unique.Handle[string] // joined; the texts of the index are parts of it
	rule     *rule                 // nil where nothing beyond the type is asked for
	settings unique.Handle[settings]
	// text is name, URL and sealed secrets in one.
	text          string
	number        int32
	nameEnds      uint16
	urlEnds       uint16
	statusOrdinal uint8
	// whole is the Subscription, once somebody asked for it; see wholes.
	whole atomic.Pointer[Subscription]
}

// rule is what a subscription asks of an event beyond its type.
type rule struct {
	resource string
	changed  []string
	filter   string
	ordering string // the expression of the key
}

// statuses by their ordinal. What is not known here is disabled.
var statuses = [...]Status{Disabled, Active, Paused}

// newEntry keeps a row; name and URL are bounded by validation, and cut here should they not be.
func newEntry(r *row, t *tenant) *entry {
	const most = 1 << 15
	name, url := r.name[:min(len(r.name), most)], r.url[:min(len(r.url), most-1)]
	e := &entry{
		id: r.id, number: r.number, statusOrdinal: uint8(max(0, slices.Index(statuses[:], r.status))), revision: r.revision,
		created: r.created.UnixMicro(), updated: r.updated.UnixMicro(),
		tenant: t, types: unique.Make(r.types), settings: unique.Make(r.settings),
		text: name + url + string(r.sealed), nameEnds: uint16(len(name)), urlEnds: uint16(len(name) + len(url)),
	}
	if key := r.settings.orderingKey(); r.resource != "" || r.changed != "" || r.filter != "" || key != "" {
		e.rule = &rule{resource: r.resource, changed: list(r.changed), filter: r.filter, ordering: key}
	}
	return e
}

func (e *entry) status() Status { return statuses[e.statusOrdinal] }

// sealed are the secrets.
func (e *entry) sealed() []byte { return []byte(e.text[e.urlEnds:]) }

// row is what the entry was made of, without the secrets and the settings.
func (e *entry) row() row {
	r := row{
		id: e.id, number: e.number, tenant: e.tenant.name, name: e.text[:e.nameEnds], url: e.text[e.nameEnds:e.urlEnds],
		types: e.types.Value(), status: e.status(), created: time.UnixMicro(e.created), updated: time.UnixMicro(e.updated),
		revision: e.revision,
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

// ordering is the expression of the key by which deliveries are ordered; empty where no order is asked for.
func (e *entry) ordering() string {
	if e.rule == nil {
		return ""
	}
	return e.rule.ordering
}

// selective says whether the subscription asks something of an event beyond its type.
func (e *entry) selective() bool {
	return e.rule != nil && (e.rule.resource != "" || len(e.rule.changed) > 0 || e.rule.filter != "")
}

// patterns are the subscription's event types.
func (e *entry) patterns() []string { return list(e.types.Value()) }

// several says whether an event can reach the entry in more ways than one.
func (e *entry) several() bool { return strings.Contains(e.types.Value(), listSeparator) }

// keptSettings is how many decoded settings a Directory keeps.
const keptSettings = 4096

type settingsCache = lru.Cache[unique.Handle[settings], *decoded]

// subscription makes the Subscription of an entry, without its secrets. What cannot be read is told by Err.
func (e *entry) subscription(cache *settingsCache) *Subscription {
	d, ok := cache.Get(e.settings)
	if !ok {
		c := e.settings.Value()
		var err error
		if d, err = c.decode(); err != nil {
			return &Subscription{ID: e.id, Number: e.number, Tenant: e.tenant.name, Status: e.status(), Revision: e.revision, Err: err}
		}
		cache.Add(e.settings, d)
	}
	r := e.row()
	return r.subscription(d)
}

// entryOf makes an entry of a Subscription that need not be in any Directory.
func entryOf(s *Subscription) *entry {
	return newEntry(rowOf(s), &tenant{name: s.Tenant})
}
