package subscriptions

import "github.com/fanfarehq/fanfare/internal/event"

// Candidate is a subscription, stored or not, prepared to be matched against many events.
type Candidate struct {
	entry     *entry
	directory *Directory
}

// Candidate prepares a subscription once for many events.
func (d *Directory) Candidate(s *Subscription) *Candidate {
	return &Candidate{entry: entryOf(s), directory: d}
}

// Would reports whether an event would match, as Match would: by its tenant, status, event types, scopes, resource id, changed
// attributes and filter.
func (c *Candidate) Would(e *event.Event) bool {
	j := c.directory.judgement(e)
	for _, step := range allSteps {
		if j.bypasses(step) {
			continue
		}
		if asked, pass := step.judge(j, c.entry); asked && !pass {
			return false
		}
	}
	return true
}

// typeSteps are the steps for which an event's tenant and type are enough, if it names no targets.
var typeSteps = []step{stepTenant, stepStatus, stepType, stepScopes}

// WouldByType judges an event without targets by its tenant and type alone. May reports whether such an event can match;
// does reports whether every such event matches, because the subscription sets no other condition.
func (c *Candidate) WouldByType(tenant, eventType string) (may, does bool) {
	j := c.directory.judgement(&event.Event{Tenant: tenant, Type: eventType})
	for _, step := range typeSteps {
		if asked, pass := step.judge(j, c.entry); asked && !pass {
			return false, false
		}
	}
	return true, !c.entry.selective()
}
