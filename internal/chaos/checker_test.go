package chaos_test

import (
	"fmt"
	"slices"
	"time"
)

// violation is one broken invariant.
type violation struct{ invariant, text string }

func (v violation) String() string { return v.invariant + ": " + v.text }

// invariants are those of the catalogue, each with what finds its violations in a history.
var invariants = []struct {
	name, says string
	check      func(*index) []string
}{
	{"I1", "nothing accepted is lost", checkLoss},
	{"I2", "nothing arrives that was not published or does not match", checkPhantoms},
	{"I3", "duplicates are at most those in flight when something broke", checkDuplicates},
	{"I4", "all requests of an event carry the same bytes, signed and dated", checkIdentity},
	{"I5", "a delivery ends once, with attempts numbered without gap", checkStates},
	{"I6", "retries follow their schedule", checkSchedule},
	{"I7", "no tenant gets what is another's", checkIsolation},
	{"I8", "no forbidden address is connected to", checkEgress},
	{"I9", "memory, files and goroutines return to where they were", checkResources},
	{"I10", "healthy receivers are served in calm times whatever the others do", checkFairness},
	{"I11", "no secret is written down", checkSecrecy},
	{"I12", "what is acknowledged is on disk", checkDurability},
	{"I13", "an id is one event, and repeats get the same answer", checkIdempotence},
	{"I14", "service resumes by itself", checkRecovery},
	{"I15", "nothing waits for ever", checkLiveness},
}

// check returns all violations of a history.
func check(h *history) (all []violation) {
	x := newIndex(h)
	for _, i := range invariants {
		for _, text := range i.check(x) {
			all = append(all, violation{i.name, text})
		}
	}
	return all
}

// delivery is the key of what one subscription gets of one event.
type delivery struct{ subscription, event string }

// index is a history with what its checks look up.
type index struct {
	*history
	bySub     map[string]subscription
	byPath    map[string]subscription
	published map[string]request     // by tenant and id: the one that was accepted, or the last
	accepted  map[string]request     // by tenant and id: the first
	arrived   map[delivery][]arrival // in their order
	rows      map[delivery][]deliveryRow
}

func newIndex(h *history) *index {
	x := &index{
		history: h, bySub: map[string]subscription{}, byPath: map[string]subscription{}, published: map[string]request{},
		accepted: map[string]request{}, arrived: map[delivery][]arrival{}, rows: map[delivery][]deliveryRow{},
	}
	for _, s := range h.subscriptions {
		x.bySub[s.id], x.byPath[s.path] = s, s
	}
	for _, r := range h.requests {
		key := r.tenant + " " + r.id
		if _, known := x.accepted[key]; !known {
			x.published[key] = r
			if r.accepted() {
				x.accepted[key] = r
			}
		}
	}
	for _, a := range h.arrivals {
		d := delivery{x.byPath[a.path].id, a.id}
		x.arrived[d] = append(x.arrived[d], a)
	}
	for _, list := range x.arrived {
		slices.SortFunc(list, func(a, b arrival) int { return a.at.Compare(b.at) })
	}
	for _, row := range h.deliveries {
		d := delivery{row.subscription, row.event}
		x.rows[d] = append(x.rows[d], row)
	}
	return x
}

func checkLoss(x *index) (bad []string) {
	known := map[string]eventRow{}
	for _, e := range x.events {
		known[e.tenant+" "+e.id] = e
	}
	for key, r := range x.accepted {
		row, ok := known[key]
		if !ok {
			bad = append(bad, fmt.Sprintf("event %s was accepted and is not in the ledger", key))
		}
		matched := 0
		for _, s := range x.subscriptions {
			if !s.receives(r.tenant, r.eventType) {
				continue
			}
			matched++
			bad = append(bad, x.lost(s, r)...)
		}
		if ok && row.matched != matched {
			bad = append(bad, fmt.Sprintf("event %s matched %d subscriptions, the ledger says %d", key, matched, row.matched))
		}
	}
	for _, r := range x.requests {
		if r.status == 503 && r.retryAfter == "" {
			bad = append(bad, fmt.Sprintf("event %s was refused with 503 and without Retry-After", r.id))
			break
		}
	}
	return append(bad, x.misreported()...)
}

// lost judges one delivery that must have ended.
func (x *index) lost(s subscription, r request) (bad []string) {
	rows, got := x.rows[delivery{s.id, r.id}], x.arrived[delivery{s.id, r.id}]
	answered := slices.ContainsFunc(got, func(a arrival) bool { return a.status/100 == 2 })
	if len(rows) == 0 {
		return []string{fmt.Sprintf("event %s has no delivery to %s", r.id, s.path)}
	}
	for _, row := range rows {
		switch {
		case row.state == "pending":
			bad = append(bad, fmt.Sprintf("the delivery of event %s to %s has not ended", r.id, s.path))
		case row.state == "delivered" && !answered:
			bad = append(bad, fmt.Sprintf("event %s is recorded as delivered to %s, which never answered it with 2xx", r.id, s.path))
		case row.state != "delivered":
			bad = append(bad, fmt.Sprintf("the delivery of event %s to %s ended as %s", r.id, s.path, row.state))
		}
	}
	return bad
}

// misreported compares the API with the database.
func (x *index) misreported() (bad []string) {
	stored := map[string]map[string]int{}
	for _, row := range x.deliveries {
		tenant := x.bySub[row.subscription].tenant
		if stored[tenant] == nil {
			stored[tenant] = map[string]int{}
		}
		stored[tenant][row.state]++
	}
	for tenant, states := range x.reported {
		for _, state := range []string{"pending", "delivered", "dead", "cancelled"} {
			if states[state] != stored[tenant][state] {
				bad = append(bad, fmt.Sprintf("the API lists %d %s deliveries of %s, the database %d", states[state], state, tenant, stored[tenant][state]))
			}
		}
	}
	return bad
}

func checkPhantoms(x *index) (bad []string) {
	for d, list := range x.arrived {
		s, ok := x.bySub[d.subscription]
		r, known := x.published[s.tenant+" "+d.event]
		switch {
		case !ok:
			bad = append(bad, fmt.Sprintf("event %s arrived at %s, which no subscription has", d.event, list[0].path))
		case !known:
			bad = append(bad, fmt.Sprintf("event %s arrived at %s and was not published", d.event, s.path))
		case !s.receives(r.tenant, r.eventType):
			bad = append(bad, fmt.Sprintf("event %s of type %s arrived at %s, which does not match", d.event, r.eventType, s.path))
		}
	}
	return bad
}

// struck is how long before and after a fault a request may be part of what it repeats: an attempt takes some time, and
// what was in flight is repeated when an ack wait or a lease is over.
const struck = 90 * time.Second

func checkDuplicates(x *index) (bad []string) {
	total, bound := x.duplicates()
	if total > bound {
		bad = append(bad, fmt.Sprintf("%d requests beyond the recorded attempts, at most %d were in flight", total, bound))
	}
	// Repeats may come after the next fault has begun, never before their own.
	total, bound = 0, 0
	for i, list := range x.repeats() {
		if x.faults[i].mayDuplicate {
			bound += x.faults[i].worksInFlight
		}
		if total += len(list); total > bound {
			bad = append(bad, fmt.Sprintf("%d requests beyond the recorded attempts after %s, at most %d may have been repeated up to then", total, x.faults[i].name, bound))
			break
		}
	}
	for d, list := range x.arrived {
		extra := x.extra(d)
		if extra <= 0 {
			continue
		}
		allowed := 0
		for _, f := range x.faults {
			if f.mayDuplicate && list[0].at.Before(f.healed.Add(struck)) && list[len(list)-1].at.After(f.injected.Add(-time.Second)) {
				allowed += 1 + f.forgotten
			}
		}
		if extra > allowed {
			bad = append(bad, fmt.Sprintf("event %s arrived %d times at %s, %d more than recorded, with %d faults meanwhile; at %s after %s",
				d.event, len(list), x.bySub[d.subscription].path, extra, allowed, times(list), x.before(list[len(list)-1].at)))
		}
	}
	return bad
}

// before names the last fault before a time.
func (x *index) before(at time.Time) (name string) {
	for _, f := range x.faults {
		if f.injected.Before(at) {
			name = f.name + " at " + f.injected.Format("15:04:05")
		}
	}
	return name
}

// times are those of arrivals.
func times(list []arrival) (text string) {
	for _, a := range list {
		text += a.at.Format("15:04:05.000") + " "
	}
	return text
}

// extra is how many requests of a delivery arrived beyond the attempts that the ledger knows.
func (x *index) extra(d delivery) int {
	recorded := 0
	for _, row := range x.rows[d] {
		recorded += row.attempts + row.excused
	}
	return len(x.arrived[d]) - recorded
}

// duplicates counts the requests beyond the recorded attempts, and how many there may be.
func (x *index) duplicates() (total, bound int) {
	for d := range x.arrived {
		total += max(0, x.extra(d))
	}
	for _, f := range x.faults {
		if f.mayDuplicate {
			bound += f.worksInFlight
		}
	}
	return total, bound
}

// repeats returns the deliveries of the duplicates that arrived after each fault and before the next one.
func (x *index) repeats() [][]delivery {
	list := make([][]delivery, len(x.faults))
	for d, arrived := range x.arrived {
		extra := x.extra(d)
		for i := len(arrived) - 1; i > 0 && extra > 0; i, extra = i-1, extra-1 { // The last are the repeats.
			at := -1
			for n, f := range x.faults {
				if f.injected.Add(-time.Second).Before(arrived[i].at) {
					at = n
				}
			}
			if at >= 0 {
				list[at] = append(list[at], d)
			}
		}
	}
	return list
}

// late is how much later than its timestamp a request may arrive on a busy machine; a process that is stopped between the
// two adds the length of the fault.
const late = 10 * time.Second

func checkIdentity(x *index) (bad []string) {
	longest := time.Duration(0)
	for _, f := range x.faults {
		longest = max(longest, f.healed.Sub(f.injected))
	}
	for d, list := range x.arrived {
		s := x.bySub[d.subscription]
		r, known := x.published[s.tenant+" "+d.event]
		for _, a := range list {
			switch {
			case a.body != list[0].body:
				bad = append(bad, fmt.Sprintf("event %s arrived at %s with different bodies", d.event, a.path))
			case known && a.data != r.data:
				bad = append(bad, fmt.Sprintf("event %s arrived at %s with data that was not published", d.event, a.path))
			case !a.signed:
				bad = append(bad, fmt.Sprintf("a request of event %s to %s has no valid signature", d.event, a.path))
			case a.at.Sub(a.timestamp).Abs() > late+longest:
				bad = append(bad, fmt.Sprintf("a request of event %s to %s is dated %v before it arrived", d.event, a.path, a.at.Sub(a.timestamp)))
			}
		}
	}
	return bad
}

func checkStates(x *index) (bad []string) {
	numbers := map[string]map[int]int{}
	for _, a := range x.attempts {
		if numbers[a.delivery] == nil {
			numbers[a.delivery] = map[int]int{}
		}
		numbers[a.delivery][a.number]++
	}
	for d, rows := range x.rows {
		generations := map[int]bool{}
		for _, row := range rows {
			if generations[row.generation] {
				bad = append(bad, fmt.Sprintf("the delivery of event %s to %s has two states", d.event, x.bySub[d.subscription].path))
			}
			generations[row.generation] = true
			if row.state == "delivered" && row.status/100 != 2 {
				bad = append(bad, fmt.Sprintf("the delivery of event %s is recorded as delivered with status %d", d.event, row.status))
			}
			bad = append(bad, numbered(row, numbers[row.id])...)
		}
	}
	return bad
}

// numbered wants the attempts of a delivery to be 1 to n. The last one of a delivered one is in its own row.
func numbered(row deliveryRow, have map[int]int) (bad []string) {
	last := row.attempts
	if row.state == "delivered" {
		last--
	}
	for n := 1; n <= last; n++ {
		if have[n] != 1 {
			bad = append(bad, fmt.Sprintf("attempt %d of %d of the delivery of event %s is recorded %d times", n, row.attempts, row.event, have[n]))
		}
	}
	for n := range have {
		if n > row.attempts {
			bad = append(bad, fmt.Sprintf("attempt %d of the delivery of event %s is beyond its %d", n, row.event, row.attempts))
		}
	}
	return bad
}

func checkSchedule(x *index) (bad []string) {
	for d, list := range x.arrived {
		s := x.bySub[d.subscription]
		if x.extra(d) > 0 { // Some requests are repeats, not retries.
			continue
		}
		for i := 1; i < len(list); i++ {
			gap := list[i].at.Sub(list[i-1].at)
			if gap < s.retry-s.retry/10 {
				bad = append(bad, fmt.Sprintf("event %s was retried at %s after %v, its schedule says %v", d.event, s.path, gap, s.retry))
			}
			calm := slices.ContainsFunc(x.calm, func(c interval) bool { return c.holds(list[i-1].at) && c.holds(list[i].at) })
			if most := s.retry + s.retry/10 + 30*time.Second; calm && gap > most {
				bad = append(bad, fmt.Sprintf("event %s was retried at %s after %v in calm times, its schedule says %v", d.event, s.path, gap, s.retry))
			}
		}
	}
	return bad
}

func checkIsolation(x *index) (bad []string) {
	owners := map[string]string{}
	for _, r := range x.requests {
		owners[r.id] = r.tenant
	}
	for _, a := range x.arrivals {
		if s, ok := x.byPath[a.path]; ok && owners[a.id] != "" && owners[a.id] != s.tenant {
			bad = append(bad, fmt.Sprintf("event %s of %s arrived at %s of %s", a.id, owners[a.id], a.path, s.tenant))
		}
	}
	return bad
}

func checkEgress(x *index) []string {
	if x.canary > 0 {
		return []string{fmt.Sprintf("%d connections to an address that is not allowed", x.canary)}
	}
	return nil
}

// What a process may have at the end beyond twice of what it had at first, and how much memory at any time.
const (
	spareRoutines, spareFiles = 400, 100 // A worker keeps 256 idle goroutines for reuse.
	mostMegabytes             = 700
)

func checkResources(x *index) (bad []string) {
	before, after := map[string]sample{}, map[string]sample{}
	for _, s := range x.samples {
		if s.megabytes > mostMegabytes {
			bad = append(bad, fmt.Sprintf("%s took %d MB", s.process, s.megabytes))
		}
		switch s.phase {
		case "before":
			before[s.process] = s
		case "after":
			after[s.process] = s
		}
	}
	for name, first := range before {
		last, ok := after[name]
		if !ok {
			bad = append(bad, name+" could not be sampled at the end")
			continue
		}
		if last.routines > 2*first.routines+spareRoutines {
			bad = append(bad, fmt.Sprintf("%s had %d goroutines at first and %d at the end", name, first.routines, last.routines))
		}
		if last.files > 2*first.files+spareFiles {
			bad = append(bad, fmt.Sprintf("%s had %d files open at first and %d at the end", name, first.files, last.files))
		}
	}
	return bad
}

// slowest is what 99 % of events take at most to a healthy receiver while nothing is broken.
const slowest = 10 * time.Second

func checkFairness(x *index) []string {
	var took []time.Duration
	for _, r := range x.accepted {
		if !slices.ContainsFunc(x.calm, func(c interval) bool { return c.holds(r.answered) && c.holds(r.answered.Add(slowest)) }) {
			continue
		}
		for _, s := range x.subscriptions {
			if !s.prompt() || !s.receives(r.tenant, r.eventType) {
				continue
			}
			if list := x.arrived[delivery{s.id, r.id}]; len(list) > 0 {
				took = append(took, list[0].at.Sub(r.answered))
			}
		}
	}
	if len(took) == 0 {
		return nil
	}
	slices.Sort(took)
	if p99 := took[len(took)*99/100]; p99 > slowest {
		return []string{fmt.Sprintf("the 99th percentile to healthy receivers in calm times is %v", p99)}
	}
	return nil
}

func checkSecrecy(x *index) []string { return x.leaks }

func checkDurability(x *index) (bad []string) {
	for _, word := range x.synced {
		if word != "synced" {
			bad = append(bad, fmt.Sprintf("a process reports durability %q", word))
		}
	}
	return bad
}

func checkIdempotence(x *index) (bad []string) {
	rows := map[string]int{}
	for _, e := range x.events {
		rows[e.tenant+" "+e.id]++
	}
	for key, n := range rows {
		if n > 1 {
			bad = append(bad, fmt.Sprintf("event %s is %d events in the ledger", key, n))
		}
	}
	for _, r := range x.requests {
		first, ok := x.accepted[r.tenant+" "+r.id]
		switch {
		case !ok || !r.accepted():
		case r.data != first.data:
			bad = append(bad, fmt.Sprintf("event %s was accepted with two contents", r.id))
		case r.answer != r.id:
			bad = append(bad, fmt.Sprintf("event %s was answered as %s", r.id, r.answer))
		}
	}
	return bad
}

func checkRecovery(x *index) (bad []string) {
	for _, f := range x.faults {
		switch took := f.recovered.Sub(f.healed); {
		case f.recovered.IsZero():
			bad = append(bad, fmt.Sprintf("service did not resume after %s", f.name))
		case took > f.bound:
			bad = append(bad, fmt.Sprintf("service resumed %v after %s, at most %v may pass", took.Round(time.Second), f.name, f.bound))
		}
	}
	return bad
}

// overdueAtMost is how long a delivery may be due on a healthy system without being attempted.
const overdueAtMost = time.Minute

func checkLiveness(x *index) (bad []string) {
	for _, row := range x.deliveries {
		if row.state == "pending" && row.overdue > overdueAtMost {
			bad = append(bad, fmt.Sprintf("the delivery of event %s to %s has been due for %v", row.event, x.bySub[row.subscription].path, row.overdue))
		}
	}
	return bad
}
