package subscriptions

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/fanfarehq/fanfare/internal/event"
)

// MatchEvent is what matching looks at. It is for one goroutine: data is decoded when a filter first asks
// for it, and then kept.
type MatchEvent struct {
	Tenant      string
	ID          string
	Type        string
	Time        time.Time
	Data        []byte // JSON
	ResourceIDs []string
	Changed     []string
	// Targets, where not empty, are the only subscriptions that receive the event, whatever else they ask for. They must
	// hold the scopes that its type demands.
	Targets []uuid.UUID
	// Test sends it to targets that are disabled as well.
	Test bool

	decoded     value
	undecodable error
	fields      [6]value // what filters have read so far
	resources   []string // ResourceIDs, each once; see distinctResources
}

// errNotJSON is why nothing can be asked of the data of an event.
var errNotJSON = errors.New("the data is not JSON")

// Matching is what matching looks at of an event.
func Matching(e *event.Event) *MatchEvent {
	m := &MatchEvent{
		Tenant: e.Tenant, ID: e.ID, Type: e.Type, Time: e.Time, Data: e.Data,
		ResourceIDs: e.ResourceIDs, Changed: e.Changed, Targets: e.Targets, Test: e.Test,
	}
	if !e.JSON() {
		m.Data, m.undecodable = nil, errNotJSON
	}
	return m
}

// step is one thing that a subscription asks of an event.
type step struct {
	name string
	// judge says whether the event passes. Asked is false where the subscription does not care.
	judge func(*judgement, *entry) (asked, pass bool)
	// detail says in words what was compared; only explain asks for it.
	detail func(*judgement, *entry) string
}

// judgement is an event while it is held against subscriptions.
type judgement struct {
	event    *MatchEvent
	demanded []string // scopes that the event's type demands
	filters  *filterCache
	// failure is the error of the last filter that could not be evaluated, failures how many there were.
	failure  error
	failures uint64
	values   bool // details may show the event's values
}

// The steps in their order. Match takes the first five from the index and the others from here; explain takes
// all of them from here.
var (
	stepTenant   = step{"tenant", judgeTenant, tenantDetail}
	stepStatus   = step{"status", judgeStatus, statusDetail}
	stepTargets  = step{"targets", judgeTargets, targetsDetail}
	stepType     = step{"event_type", judgeType, typeDetail}
	stepScopes   = step{"scopes", judgeScopes, scopesDetail}
	stepResource = step{"resource_id", judgeResource, resourceDetail}
	stepChanged  = step{"changed", judgeChanged, changedDetail}
	stepFilter   = step{"filter", judgeFilter, filterDetail}
)

// afterIndex are the steps that candidates of the index have yet to pass.
var afterIndex = []step{stepScopes, stepChanged, stepFilter}

// passes says whether a candidate of the index receives the event.
func (j *judgement) passes(e *entry) bool {
	for _, s := range afterIndex {
		if asked, pass := s.judge(j, e); asked && !pass {
			return false
		}
	}
	return true
}

func judgeTenant(j *judgement, e *entry) (asked, pass bool) {
	return true, e.tenant.name == j.event.Tenant
}

func judgeStatus(j *judgement, e *entry) (asked, pass bool) { return true, takesNow(j.event, e) }

// takesNow says whether the status lets the event through: a disabled subscription takes nothing but a test of it.
func takesNow(event *MatchEvent, e *entry) bool {
	return e.status() != Disabled || event.Test && len(event.Targets) > 0
}

func judgeTargets(j *judgement, e *entry) (asked, pass bool) {
	return len(j.event.Targets) > 0, slices.Contains(j.event.Targets, e.id)
}

func judgeType(j *judgement, e *entry) (asked, pass bool) {
	return true, slices.ContainsFunc(e.patterns(), func(p string) bool { return patternTakes(p, j.event.Type) })
}

func judgeScopes(j *judgement, e *entry) (asked, pass bool) {
	if j.event.Test { // Its data is the tester's own, or the type's sample.
		return false, false
	}
	return len(j.demanded) > 0, len(j.demanded) > 0 && hold(list(e.settings.Value().scopes), j.demanded)
}

func judgeResource(j *judgement, e *entry) (asked, pass bool) {
	id := e.resource()
	return id != "", slices.Contains(j.event.ResourceIDs, id)
}

func judgeChanged(j *judgement, e *entry) (asked, pass bool) {
	if e.rule == nil || len(e.rule.changed) == 0 {
		return false, false
	}
	for _, attribute := range j.event.Changed {
		if slices.Contains(e.rule.changed, attribute) {
			return true, true
		}
	}
	return true, false
}

func judgeFilter(j *judgement, e *entry) (asked, pass bool) {
	if e.rule == nil || e.rule.filter == "" {
		return false, false
	}
	f, err := j.filter(e.rule.filter)
	if err == nil {
		pass, err = f.Matches(j.event)
	}
	if err != nil {
		j.failure = err
		j.failures++
	}
	return true, pass
}

// hold says whether scopes cover all that are demanded.
func hold(scopes, demanded []string) bool {
	if slices.Contains(scopes, AllScopes) {
		return true
	}
	for _, d := range demanded {
		if !slices.Contains(scopes, d) {
			return false
		}
	}
	return true
}

// dedupe removes entries that several patterns of theirs brought here.
func dedupe(matched []*entry) []*entry {
	if !slices.ContainsFunc(matched, (*entry).several) {
		return matched
	}
	slices.SortFunc(matched, func(a, b *entry) int { return bytes.Compare(a.id[:], b.id[:]) })
	return slices.Compact(matched)
}

// keptFilters is how many compiled filters a Directory keeps; about 2 KiB each. Compiling one takes some 100
// microseconds, so it is done when an event first needs it and not on loading.
const keptFilters = 100_000

// filterCache holds compiled filters by their source: many subscriptions have the same one.
type filterCache = lru.Cache[string, compiled]

type compiled struct {
	filter *Filter
	err    error
}

// filter compiles a filter, or finds it compiled.
func (j *judgement) filter(source string) (*Filter, error) {
	if c, ok := j.filters.Get(source); ok {
		return c.filter, c.err
	}
	filter, err := CompileFilter(source)
	j.filters.Add(source, compiled{filter, err})
	return filter, err
}
