package subscriptions

// Candidate is a subscription, which need not exist, that events are held against.
type Candidate struct {
	entry     *entry
	directory *Directory
}

// Candidate prepares a subscription once for many events.
func (d *Directory) Candidate(s *Subscription) *Candidate {
	return &Candidate{entry: entryOf(s), directory: d}
}

// Would says whether an event would match, as Match would: by its tenant, status, event types, scopes, resource id, changed
// attributes and filter.
func (c *Candidate) Would(e *MatchEvent) bool {
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

// WouldByType says what is known of an event that names no targets by its tenant and type alone: whether it may match, and if
// so, whether it does for sure, since the subscription asks nothing else.
func (c *Candidate) WouldByType(tenant, eventType string) (may, does bool) {
	j := c.directory.judgement(&MatchEvent{Tenant: tenant, Type: eventType})
	for _, step := range typeSteps {
		if asked, pass := step.judge(j, c.entry); asked && !pass {
			return false, false
		}
	}
	return true, !c.entry.selective()
}
