package subscriptions

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/fanfarehq/fanfare/internal/api"
)

// Step is one step of matching an event against a subscription, explained.
type Step struct {
	Step    string `json:"step" enum:"tenant,status,targets,event_type,scopes,resource_id,changed,filter"`
	Verdict string `json:"verdict" enum:"pass,fail,skipped"`
	Detail  string `json:"detail"`
}

// The verdicts of a Step.
const (
	Pass    = "pass"
	Fail    = "fail"
	Skipped = "skipped"
)

var allSteps = []step{stepTenant, stepStatus, stepTargets, stepType, stepScopes, stepResource, stepChanged, stepFilter}

// View is what the reader of an explanation may see.
type View struct {
	// Scopes are those of the reader; AllScopes for all.
	Scopes []string
	// Data says that the reader may read events' data, of types whose scopes it holds.
	Data bool
	// Also are the scopes that the event's type demanded at another time. The reader needs them too.
	Also []string
	// Gone says that the event's data is gone: the steps that need it are skipped.
	Gone bool
}

// DataGone is the detail of a step that is skipped because the event's data is gone.
const DataGone = "the event's data is gone"

// ViewOf is what the caller of a request may see of events.
func ViewOf(ctx context.Context) View {
	caller := api.CallerFrom(ctx)
	if caller.Admin {
		return View{Scopes: []string{AllScopes}, Data: true}
	}
	return View{Scopes: caller.Scopes, Data: caller.Has("events:read")}
}

// explain takes an event through the steps, up to the first one that fails. Values of the event are in the details only for
// readers allowed to read its data; a filter's verdict only for readers that hold the scopes of its type.
func (j *judgement) explain(e *entry, view View) (matched bool, steps []Step) {
	matched = true
	needed := slices.Compact(slices.Sorted(slices.Values(slices.Concat(j.demanded, view.Also))))
	within := hold(view.Scopes, needed)
	j.values = within && view.Data
	for _, s := range allSteps {
		verdict, detail := Skipped, ""
		switch {
		case !matched:
			detail = "a step before it failed"
		case j.bypasses(s):
			detail = "the event names its targets"
		case view.Gone && j.needsData(s, e):
			detail = DataGone
		case s.name == stepFilter.name && e.rule != nil && e.rule.filter != "" && !within:
			detail = "what it says of the event's data is shown to keys with " + some(needed)
		default:
			verdict, detail = j.verdict(s, e)
			matched = verdict != Fail
		}
		steps = append(steps, Step{s.name, verdict, detail})
		if s.name == stepTenant.name && !matched {
			return false, steps // Nothing more is said about another tenant's subscription.
		}
	}
	return matched, steps
}

// verdict judges one step.
func (j *judgement) verdict(s step, e *entry) (verdict, detail string) {
	asked, pass := s.judge(j, e)
	switch {
	case !asked:
		return Skipped, s.unasked(j)
	case pass:
		return Pass, s.detail(j, e)
	}
	return Fail, s.detail(j, e)
}

// bypasses reports whether an event skips a step because it names its targets.
func (j *judgement) bypasses(s step) bool {
	switch s.name {
	case stepType.name, stepResource.name, stepChanged.name, stepFilter.name:
		return len(j.event.Targets) > 0
	}
	return false
}

// needsData reports whether a step's verdict depends on fields that are lost with an event's data.
func (j *judgement) needsData(s step, e *entry) bool {
	switch s.name {
	case stepTargets.name:
		return len(j.event.Targets) > 0
	case stepResource.name:
		return e.resource() != ""
	case stepChanged.name:
		return e.rule != nil && len(e.rule.changed) > 0
	case stepFilter.name:
		return e.rule != nil && e.rule.filter != ""
	}
	return false
}

func (s step) unasked(j *judgement) string {
	switch s.name {
	case stepTargets.name:
		return "the event names no targets"
	case stepScopes.name:
		if len(j.demanded) > 0 {
			return "the event is a test"
		}
		return "the event type demands none"
	case stepResource.name:
		return "any resource"
	case stepChanged.name:
		return "any change"
	case stepFilter.name:
		return "no filter"
	}
	return ""
}

func tenantDetail(j *judgement, e *entry) string {
	if e.tenant.name != j.event.Tenant {
		return "the subscription is another tenant's"
	}
	return "both are " + e.tenant.name + "'s"
}

func statusDetail(_ *judgement, e *entry) string {
	switch e.status() {
	case Paused:
		return "paused: its deliveries are held"
	case Disabled:
		if reason := e.settings.Value().disabledReason; reason != "" {
			return "disabled: " + reason
		}
	}
	return string(e.status())
}

func targetsDetail(j *judgement, e *entry) string {
	if _, pass := judgeTargets(j, e); pass {
		return "the event names this subscription"
	}
	return fmt.Sprintf("the event goes to %s only", plural(len(j.event.Targets), "other subscription"))
}

func typeDetail(j *judgement, e *entry) string {
	for _, p := range e.patterns() {
		if p == j.event.Type {
			return p
		}
		if patternTakes(p, j.event.Type) {
			return p + " takes " + j.event.Type
		}
	}
	if len(e.patterns()) == 0 {
		return "the subscription has no event types: it receives what names it as a target"
	}
	return j.event.Type + " is not among " + some(e.patterns())
}

func scopesDetail(j *judgement, e *entry) string {
	if _, pass := judgeScopes(j, e); pass {
		return "the subscription holds " + some(j.demanded)
	}
	return fmt.Sprintf("%s demands %s, which the key that made the subscription lacked", j.event.Type, some(j.demanded))
}

func resourceDetail(j *judgement, e *entry) string {
	if _, pass := judgeResource(j, e); pass {
		return "the event is about " + e.resource()
	}
	if !j.values {
		return fmt.Sprintf("%s is wanted, and the event is not about it", e.resource())
	}
	if len(j.event.ResourceIDs) == 0 {
		return fmt.Sprintf("%s is wanted, and the event names no resource", e.resource())
	}
	return fmt.Sprintf("%s is wanted, and the event is about %s", e.resource(), some(j.event.ResourceIDs))
}

func changedDetail(j *judgement, e *entry) string {
	if j.values && len(j.event.Changed) == 0 {
		return fmt.Sprintf("a change of %s is wanted, and the event names none", some(e.rule.changed))
	}
	if !j.values {
		return fmt.Sprintf("a change of %s is wanted", some(e.rule.changed))
	}
	return fmt.Sprintf("a change of %s is wanted; changed was %s", some(e.rule.changed), some(j.event.Changed))
}

func filterDetail(j *judgement, e *entry) string {
	switch {
	case !j.values && j.failure != nil:
		return "the filter cannot be evaluated for the event: " + e.rule.filter
	case !j.values:
		return e.rule.filter
	}
	seen := ""
	if f, err := j.filter(e.rule.filter); err == nil {
		seen = f.Seen(j.input)
	}
	if j.failure != nil {
		if seen != "" {
			seen = "; " + seen
		}
		return j.failure.Error() + seen
	}
	if seen == "" {
		return e.rule.filter
	}
	return seen
}

// some writes the first few of a list.
func some(list []string) string {
	const shown = 10
	if len(list) > shown {
		return strings.Join(list[:shown], ", ") + fmt.Sprintf(" and %d more", len(list)-shown)
	}
	return strings.Join(list, ", ")
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
