package subscriptions

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/group"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/seal"
	"github.com/fanfarehq/fanfare/subscriptions/filter"
)

// Directory is all subscriptions and event types in memory, as new as its callers ask for. It is safe for
// concurrent use and starts no goroutine.
type Directory struct {
	db *sql.DB
	// revision is asked for each batch of events.
	revision *postgres.Statement
	ring     *seal.Ring
	log      *slog.Logger
	refresh  *group.Committer[*asked]
	filters  *filterCache
	keys     *keyCache
	decoded  *settingsCache
	wholes   wholes

	failures atomic.Uint64 // filters that could not be evaluated

	mu    sync.RWMutex
	known *known // nil until the first use
}

// known is what the Directory knows at a revision.
type known struct {
	revision int64
	byID     map[uuid.UUID]*entry
	tenants  map[string]*tenant
	types    map[typeKey]*EventType
}

func newKnown() *known {
	return &known{byID: map[uuid.UUID]*entry{}, tenants: map[string]*tenant{}, types: map[typeKey]*EventType{}}
}

// tenant is one tenant's index.
type tenant struct {
	name  string
	count int // entries, disabled ones too
	index index
}

// asked is one call of Fresh.
type asked struct{ revision int64 }

// loadTimeout bounds the first load and later ones; beside that, only a few rows are ever read at once.
const loadTimeout = 10 * time.Minute

// NewDirectory makes a Directory. It reads nothing until it is asked something.
func NewDirectory(db *sql.DB, ring *seal.Ring, log *slog.Logger) *Directory {
	d := &Directory{db: db, revision: postgres.NewStatement(db, selectRevision), ring: ring, log: log}
	d.filters = newCache[string, compiled](keptFilters)
	d.keys = newCache[string, compiledKey](keptKeys)
	d.decoded = newCache[unique.Handle[settings], *decoded](keptSettings)
	d.refresh = group.New(group.Limits{Count: 1 << 20, Timeout: loadTimeout}, nil, d.catchUp)
	return d
}

func newCache[K comparable, V any](size int) *lru.Cache[K, V] {
	cache, err := lru.New[K, V](size)
	if err != nil { // Only for a size that is not positive.
		panic(err)
	}
	return cache
}

// Fresh makes the Directory know every change that had been committed when Fresh was called, and returns the
// revision that it knows then. Concurrent callers share one query, which begins after all of them asked. If
// Postgres is unavailable, the error says so, and the Directory may be stale.
func (d *Directory) Fresh(ctx context.Context) (revision int64, err error) {
	a := &asked{}
	if err := d.refresh.Do(ctx, a); err != nil {
		return 0, fmt.Errorf("refresh subscriptions: %w", err)
	}
	return a.revision, nil
}

// AtLeast makes the Directory know a revision; it is nil at once if it does already.
func (d *Directory) AtLeast(ctx context.Context, revision int64) error {
	if known, ok := d.Revision(); ok && known >= revision {
		return nil
	}
	// A database that was set back to a backup is behind what others have seen of it. What it holds is then
	// all there is to know, so that is no error.
	_, err := d.Fresh(ctx)
	return err
}

// Revision returns the revision that is known, without asking whether there is a newer one; false before the first load.
func (d *Directory) Revision() (int64, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.known == nil {
		return 0, false
	}
	return d.known.revision, true
}

// Get returns a subscription with its secrets, be it active, paused or disabled; false where there is none
// or it was deleted. It is for reading only, and the same pointer comes again as long as it did not change
// (or was not asked for in a long time).
func (d *Directory) Get(id uuid.UUID) (*Subscription, bool) {
	e := d.entry(id)
	if e == nil {
		return nil, false
	}
	if s := e.whole.Load(); s != nil {
		return s, true
	}
	s := e.subscription(d.decoded)
	if s.Err == nil {
		var opened confidential
		opened, s.Err = openSecrets(d.ring, e.sealed(), e.tenant.name, e.id)
		opened.into(s)
		if s.Err != nil {
			return s, true // Tried again by the next caller, so that the ring reports that it lacks a key for as long as it does.
		}
	}
	return d.wholes.keep(e, s), true
}

func (d *Directory) entry(id uuid.UUID) *entry {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.known == nil {
		return nil
	}
	return d.known.byID[id]
}

// EventType returns a tenant's event type, or the one of that name that is every tenant's. It is for
// reading only.
func (d *Directory) EventType(tenant, name string) (*EventType, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.known == nil {
		return nil, false
	}
	return d.known.eventType(tenant, name)
}

// MayReceive reports whether a subscription holds the scopes that an event type demands now. It is asked before each
// attempt, since the subscription may have been given another destination, and the type other scopes, after the match.
func (d *Directory) MayReceive(s *Subscription, eventType string) bool {
	return d.Covers(s.Scopes, s.Tenant, eventType)
}

// Covers reports whether scopes are all that a tenant's event type demands.
func (d *Directory) Covers(scopes []string, tenant, eventType string) bool {
	t, ok := d.EventType(tenant, eventType)
	return !ok || hold(scopes, t.Scopes)
}

func (k *known) eventType(tenant, name string) (*EventType, bool) {
	if len(k.types) == 0 {
		return nil, false
	}
	if t, ok := k.types[typeKey{tenant, name}]; ok {
		return t, true
	}
	t, ok := k.types[typeKey{"", name}]
	return t, ok
}

// Match returns the subscriptions that receive an event, without their secrets and in no particular order: also
// paused ones, whose deliveries are to be held, but not disabled ones. It asks nobody; call Fresh before. The
// revision is the one that was matched against: every later reader of the result must know at least that one.
func (d *Directory) Match(e *event.Event) (matched []*Subscription, revision int64) {
	found, revision := d.receivers(&filter.Input{Event: e})
	if len(found) == 0 {
		return nil, revision
	}
	matched = make([]*Subscription, len(found))
	for i, r := range found {
		if matched[i] = r.whole.Load(); matched[i] == nil {
			matched[i] = r.subscription(d.decoded)
		}
	}
	return matched, revision
}

// Received are the subscriptions that receive an event.
type Received struct {
	IDs     []uuid.UUID // in no order
	Ordered []InOrder   // those that ask for an order and have a key for the event
	Unkeyed int         // how many of IDs ask for an order, but have no key for the event
	// Revision is the one that was matched against: every later reader of the result must know at least that one.
	Revision int64
}

// InOrder is a subscription that receives an event in the order of its key.
type InOrder struct {
	ID  uuid.UUID
	Key string
}

// MatchIDs is Match for callers who need to know which subscriptions receive an event and nothing else of them:
// nothing is decoded for it.
func (d *Directory) MatchIDs(e *event.Event) Received {
	in := &filter.Input{Event: e}
	found, revision := d.receivers(in)
	to := Received{Revision: revision}
	if len(found) == 0 {
		return to
	}
	to.IDs = make([]uuid.UUID, 0, len(found))
	for _, r := range found {
		if source := r.ordering(); source != "" {
			if key, ok := d.keyOf(in, source); ok {
				to.Ordered = append(to.Ordered, InOrder{r.id, key})
				continue
			}
			to.Unkeyed++
		}
		to.IDs = append(to.IDs, r.id)
	}
	return to
}

// receivers returns the entries that receive an event, each once.
func (d *Directory) receivers(in *filter.Input) (found []*entry, revision int64) {
	e := in.Event
	candidates, demanded, revision := d.candidates(e)
	if len(candidates) == 0 {
		return candidates, revision
	}
	// Filters are evaluated outside of the lock: entries never change.
	j := &judgement{event: e, input: in, demanded: demanded, filters: d.filters}
	found = candidates[:0]
	if len(e.Targets) > 0 {
		for _, c := range candidates {
			if asked, pass := judgeScopes(j, c); !asked || pass {
				found = append(found, c)
			}
		}
		return found, revision
	}
	for _, c := range dedupe(candidates) {
		if j.passes(c) {
			found = append(found, c)
		}
	}
	if j.failures > 0 {
		d.failures.Add(j.failures)
	}
	return found, revision
}

// candidates returns the subscriptions whose type and resource match, or the event's targets.
func (d *Directory) candidates(e *event.Event) (found []*entry, demanded []string, revision int64) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.known == nil {
		return nil, nil, 0
	}
	revision = d.known.revision
	if et, ok := d.known.eventType(e.Tenant, e.Type); ok {
		demanded = et.Scopes
	}
	if len(e.Targets) > 0 {
		return d.known.targets(e), demanded, revision
	}
	t, ok := d.known.tenants[e.Tenant]
	if !ok {
		return nil, nil, revision
	}
	return t.index.candidates(&lookup{event: e}, make([]*entry, 0, 16)), demanded, revision
}

// targets returns the event's targets that belong to its tenant and accept it now, each once.
func (k *known) targets(e *event.Event) []*entry {
	var found []*entry
	for i, id := range e.Targets {
		t, ok := k.byID[id]
		if ok && t.tenant.name == e.Tenant && takesNow(e, t) && !containsID(e.Targets[:i], id) {
			found = append(found, t)
		}
	}
	return found
}

func containsID(ids []uuid.UUID, id uuid.UUID) bool {
	for _, other := range ids {
		if other == id {
			return true
		}
	}
	return false
}

// Explain takes an event through the steps of matching against the present definition of a subscription, up to the first
// step that fails. ExplainAs does so against a former definition. ok is false if the subscription does not exist.
func (d *Directory) Explain(e *event.Event, id uuid.UUID, view View) (matched bool, steps []Step, ok bool) {
	entry := d.entry(id)
	if entry == nil {
		return false, nil, false
	}
	matched, steps = d.judgement(e).explain(entry, view)
	return matched, steps, true
}

func (d *Directory) judgement(e *event.Event) *judgement {
	j := &judgement{event: e, input: &filter.Input{Event: e}, filters: d.filters}
	if et, ok := d.EventType(e.Tenant, e.Type); ok {
		j.demanded = et.Scopes
	}
	return j
}

// Stats are numbers about a Directory, for metrics.
type Stats struct {
	Subscriptions, Tenants, EventTypes int
	Revision                           int64
	// FilterErrors counts filters that could not be evaluated for an event, which therefore did not match.
	FilterErrors uint64
}

// Stats returns them as of now.
func (d *Directory) Stats() Stats {
	d.mu.RLock()
	defer d.mu.RUnlock()
	s := Stats{FilterErrors: d.failures.Load()}
	if d.known != nil {
		s.Subscriptions, s.Tenants, s.EventTypes = len(d.known.byID), len(d.known.tenants), len(d.known.types)
		s.Revision = d.known.revision
	}
	return s
}
