package throttle

import (
	"time"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// By what a worker tells an outage of its own network from receivers that are away.
const (
	// outageHosts that answered lately and cannot be reached, with an answer from none since the first, make an outage.
	outageHosts = 5
	// maxSilent is how many of them are remembered.
	maxSilent = 64
	// evidenceTime is how long a failure to connect waits for what tells: an answer from anybody, or others that fail too.
	evidenceTime = time.Second
	// outageProbe is how often one delivery is tried while there is an outage.
	outageProbe = time.Second
	// Others come back after a time between outageLeast and twice outageMost, the later the longer it lasts.
	outageLeast = 5 * time.Second
	outageMost  = 30 * time.Second
	// maxExcused is how often a delivery's attempt is excused at most. Each later one costs its step of the schedule.
	maxExcused = 10
)

// outage knows whether the worker is cut off. A failure to connect is the receiver's only if others can be
// reached: in an outage of our own it costs no attempt, opens no breaker and disables no subscription.
//
// What a tenant can make must not stop other tenants. So a host is evidence only if it answered lately; what
// the hosts of one tenant prove holds for that tenant alone; a host whose last connection worked is sent
// to as always, and its next answer ends the outage. The mutex of the gate guards it.
type outage struct {
	random func() float64

	silent  map[*host]string // that answered lately and then could not be reached, since any answered, and by whom
	first   time.Time        // when the first of them was found
	down    bool
	wide    bool   // it holds for all tenants
	tenant  string // or for this one
	since   time.Time
	probes  map[string]*probes            // of the tenants that ask while it lasts
	changed chan struct{}                 // closed when any host answers or the outage is noticed
	held    []*subscriptions.Subscription // that hosts had held up when it began
}

// probes are those of one tenant, and when each host of it was probed last.
type probes struct {
	last  time.Time
	hosts map[*host]time.Time
}

func newOutage(random func() float64) outage {
	return outage{random: random, silent: make(map[*host]string), probes: make(map[string]*probes), changed: make(chan struct{})}
}

// holds reports whether there is an outage for a tenant.
func (o *outage) holds(tenant string) bool { return o.down && (o.wide || o.tenant == tenant) }

// answered notes that a host answered, and reports whether that ended an outage.
func (o *outage) answered() (ended bool) {
	if len(o.silent) == 0 {
		return false
	}
	ended = o.down
	clear(o.silent)
	clear(o.probes)
	o.down = false
	o.wake()
	return ended
}

func (o *outage) wake() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// missed notes that a tenant could not connect to a host, and reports whether that began an outage or
// extended it to all tenants.
func (o *outage) missed(tenant string, h *host, now time.Time) (began bool) {
	if h.answered.IsZero() || now.Sub(h.answered) > lately {
		return false // It may never have been there.
	}
	if len(o.silent) == 0 {
		o.first = now
	}
	if _, known := o.silent[h]; !known && len(o.silent) < maxSilent {
		o.silent[h] = tenant
	}
	names, wide := o.evidence()
	if names < outageHosts || o.down && (o.wide || !wide) {
		return false
	}
	if !o.down && now.Sub(o.first) > outageMost {
		// They failed one now and then, which proves nothing; only what fails together does.
		clear(o.silent)
		o.silent[h], o.first = tenant, now
		return false
	}
	if !o.down {
		o.since = now
	}
	o.down, o.wide, o.tenant = true, wide, tenant
	o.wake()
	return true
}

// evidence counts the machines that are silent, and reports whether several tenants found them so.
func (o *outage) evidence() (names int, wide bool) {
	seen := make(map[string]bool, len(o.silent))
	var first string
	for h, tenant := range o.silent {
		seen[h.name] = true
		if first == "" {
			first = tenant
		}
		wide = wide || tenant != first
	}
	return len(seen), wide
}

// admit lets a delivery be tried if there is no outage, or its host was reached last, or it is its turn to
// probe. The error is a Refusal.
func (o *outage) admit(tenant string, h *host, now time.Time) error {
	if !o.holds(tenant) || !h.missed && now.Sub(h.answered) <= lately || o.mayProbe(tenant, h, now) {
		return nil
	}
	return Refusal{Wait: o.pause(now), Reason: Connect}
}

// mayProbe spreads one probe every outageProbe over the tenants that ask, and those of a tenant over its
// hosts. So each has its turn however many deliveries another has.
func (o *outage) mayProbe(tenant string, h *host, now time.Time) bool {
	p := o.probes[tenant]
	if p == nil {
		p = &probes{hosts: make(map[*host]time.Time)}
		o.probes[tenant] = p
	}
	last, known := p.hosts[h]
	if !known {
		p.hosts[h] = time.Time{}
	}
	every := outageProbe * time.Duration(len(o.probes))
	if now.Sub(p.last) < every || now.Sub(last) < every*time.Duration(len(p.hosts)) {
		return false
	}
	p.last, p.hosts[h] = now, now
	return true
}

// pause is after how long to come back while there is an outage.
func (o *outage) pause(now time.Time) time.Duration {
	base := min(max(now.Sub(o.since)/2, outageLeast), outageMost)
	return base + time.Duration(o.random()*float64(base))
}
