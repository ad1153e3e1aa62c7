package history

import (
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// Filter says which deliveries a list shows. Zero fields filter nothing.
type Filter struct {
	Tenant       string
	Subscription uuid.UUID
	event        string      // its id, within the tenant
	uids         []uuid.UUID // the events that list found for event, Objects and Resources
	Types        []string
	State        string
	States       []string // one of these, besides State
	Reasons      []outcome.Reason
	Statuses     []HTTPStatus // of the last attempt
	Objects      []string     // of the event, within the tenant
	Resources    []string     // of the event, within the tenant
	Open         bool         // of dead letters: neither delivered since nor superseded
	Since, Until time.Time    // of acceptance: since included, until not
	After        uuid.UUID
	Asc          bool
	Limit        int
}

// conditions returns the conditions of the filter for either table, and their arguments.
func (f Filter) conditions() (text string, args []any) {
	w := &postgres.Where{}
	f.place(w)
	f.Properties(w)
	return w.String(), w.Args()
}

// place adds the conditions that an index in the order of ids answers.
func (f Filter) place(w *postgres.Where) {
	if f.Tenant != "" {
		w.And("tenant = ?", f.Tenant)
	}
	if f.Subscription != uuid.Nil {
		w.And("subscription_id = ?", f.Subscription)
	}
	if len(f.uids) > 0 {
		w.And("event_uid = ANY (?::uuid[]) AND id >= ?", ledger.Uuids(f.uids), outcome.Oldest(f.uids[0]))
		first := "generation > 0"
		for _, uid := range f.uids {
			first += " OR id >= " + w.Arg(outcome.Oldest(uid)) + " AND id < " + w.Arg(outcome.FirstID(outcome.TimeOf(uid).Add(time.Millisecond)))
		}
		w.And("(" + first + ")")
	}
	if f.State != "" && f.State != outcome.Pending {
		w.And("state = ?", f.State)
	}
	// The ids have the milliseconds of acceptance; the tables are ordered and divided by them.
	if !f.Since.IsZero() {
		w.And("id >= ? AND created_at >= ?", outcome.FirstID(f.Since), f.Since)
	}
	if !f.Until.IsZero() {
		w.And("id < ? AND created_at < ?", outcome.FirstID(f.Until.Add(time.Millisecond)), f.Until)
	}
	if _, beyond := postgres.Direction(f.Asc); f.After != uuid.Nil {
		w.And("id "+beyond+" ?", f.After)
	}
}

// Properties adds the conditions that are checked row by row.
func (f Filter) Properties(w *postgres.Where) {
	if len(f.Types) > 0 {
		w.And("event_type = ANY (?::text[])", pq.StringArray(f.Types))
	}
	if len(f.States) > 0 {
		w.And("state = ANY (?::text[])", pq.StringArray(f.States))
	}
	if len(f.Reasons) > 0 {
		words := make(pq.StringArray, len(f.Reasons))
		for i, r := range f.Reasons {
			words[i] = string(r)
		}
		w.And("reason = ANY (?::text[])", words)
	}
	if len(f.Statuses) > 0 {
		exact, classes := split(f.Statuses)
		w.And("(status = ANY (?::int[]) OR status / 100 = ANY (?::int[]))", exact, classes)
	}
	if f.Open {
		w.And("resolved_at IS NULL AND superseded_by IS NULL")
	}
	for _, refs := range f.refs() {
		w.And("EXISTS (SELECT FROM event_refs r WHERE r.uid = event_uid AND r.ref = ANY (?::uuid[]))", ledger.Uuids(refs))
	}
}

// refs are the keys of the objects and resources that the event must name: one of each list.
func (f Filter) refs() [][]uuid.UUID { return event.Refs(f.Tenant, f.Objects, f.Resources) }

// byRow reports whether the filter has conditions that no index answers.
func (f Filter) byRow() bool {
	return len(f.Types)+len(f.States)+len(f.Reasons)+len(f.Statuses)+len(f.Objects)+len(f.Resources) > 0 || f.Open
}

// divided divides a filter: an index in the order of ids walks the rows of near, and each of them is checked for the
// conditions asked. The rows of one subscription all have its tenant.
func (f Filter) divided() (near, asked string, args []any) {
	walked := f
	if !f.byState() {
		walked.State = ""
	}
	if f.Subscription != uuid.Nil {
		walked.Tenant = ""
	}
	w := &postgres.Where{}
	walked.place(w)
	check := w.After()
	if walked.State != f.State {
		check.And("state = ?", f.State)
	}
	f.Properties(check)
	return w.String(), check.String(), check.Args()
}
