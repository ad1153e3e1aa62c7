package subscriptions

import (
	"bytes"
	"slices"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions/filter"
)

// step is one condition of a subscription on an event.
type step struct {
	name string
	// judge reports whether the event passes. Asked is false if the subscription does not set the condition.
	judge func(*judgement, *entry) (asked, pass bool)
	// detail describes the comparison in words; only explain calls it.
	detail func(*judgement, *entry) string
}

// judgement is an event while it is matched against subscriptions. It belongs to one goroutine.
type judgement struct {
	event    *event.Event
	input    *filter.Input // the event as filters and ordering keys read it
	demanded []string      // scopes that the event's type demands
	filters  *filterCache
	// failure is the error of the last filter that could not be evaluated; failures counts them.
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

// passes reports whether a candidate of the index receives the event.
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

// takesNow reports whether the status lets the event through: a disabled subscription receives only tests of it.
func takesNow(ev *event.Event, e *entry) bool {
	return e.status() != Disabled || ev.Test && len(ev.Targets) > 0
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
		pass, err = f.Matches(j.input)
	}
	if err != nil {
		j.failure = err
		j.failures++
	}
	return true, pass
}

// hold reports whether scopes cover all that are demanded.
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

// ValidFilter returns an error for an expression that is not a filter.
func ValidFilter(source string) error {
	_, err := filter.Compile(source)
	return err
}

// keptFilters bounds the compiled filters that a Directory keeps; each takes about 2 KiB. Compiling a filter takes about 100
// microseconds, so filters are compiled when an event first needs them, not on loading.
const keptFilters = 100_000

// filterCache holds compiled filters by their source: many subscriptions have the same one.
type filterCache = lru.Cache[string, compiled]

type compiled struct {
	filter *filter.Filter
	err    error
}

// filter returns a compiled filter, from the cache if it is there.
func (j *judgement) filter(source string) (*filter.Filter, error) {
	if c, ok := j.filters.Get(source); ok {
		return c.filter, c.err
	}
	f, err := filter.Compile(source)
	j.filters.Add(source, compiled{f, err})
	return f, err
}
