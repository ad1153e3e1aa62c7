package throttle

import (
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/subscriptions"
)

const (
	// othersShare is which part of a worker's places the endpoints of one host must leave to others: one in so many.
	othersShare = 4
	// maxDelayed is how many subscriptions of one tenant a host that is away remembers to hurry when it is
	// back. Those of more come back at the times that they were given.
	maxDelayed = 10_000
	// lately is for how long an answer of a host is evidence that it can be reached.
	lately = 15 * time.Minute
)

// reach knows to which hosts the worker can connect. A host is a scheme, a name and a port: the server behind
// another port may be somebody else's. Its endpoints, which may be thousands and belong to many tenants,
// share a part of the worker's places and one breaker that goes by connections alone: what one endpoint
// answers is not its neighbours' fault. The mutex of the gate guards it.
type reach struct {
	breakers *health[string]
	lane     int // places of the worker that the endpoints of one host may hold together
	hosts    map[string]*host
	outage   outage
}

// host is one that deliveries are sent to.
type host struct {
	key      string
	name     string    // without scheme and port: many ports of one machine prove no more than one
	answered time.Time // when it answered last
	missed   bool      // it could not be connected to since
	lane     pool
	visitors map[string]*visitor
	used     time.Time
}

// visitor is a tenant at a host.
type visitor struct {
	// connected says that the tenant's last connection to the host worked. Then the verdict of others does
	// not stop it before a probe of its own has failed.
	connected bool
	delayed   map[uuid.UUID]*subscriptions.Subscription
	users     int // tickets that point here
	used      time.Time
}

// way is what a delivery may do at a host.
type way struct {
	admission
	own bool // a probe of the tenant's own, although the host's breaker is open
}

func newReach(cfg Config, now func() time.Time, random func() float64) *reach {
	return &reach{
		breakers: newHealth[string](cfg.BreakerAfter, now, random), lane: max(cfg.InFlight-cfg.InFlight/othersShare, 1),
		hosts: make(map[string]*host), outage: newOutage(random),
	}
}

// find finds the host of a ticket, which must leave it again.
func (r *reach) find(t *Ticket, now time.Time) {
	key := hostOf(t.Subscription.URL)
	h := r.hosts[key]
	if h == nil {
		h = &host{key: key, name: nameOf(key), lane: newPool(r.lane), visitors: make(map[string]*visitor)}
		r.hosts[key] = h
	}
	tenant := t.Subscription.Tenant
	v := h.visitors[tenant]
	if v == nil {
		v = &visitor{}
		h.visitors[tenant] = v
	}
	v.users++
	h.used, v.used = now, now
	t.host, t.visitor, t.lane = h, v, h.lane.of(tenant, now)
}

// leave ends what find began.
func (r *reach) leave(t *Ticket) {
	t.visitor.users--
	t.lane.users--
}

// admit asks the breaker of the host.
func (r *reach) admit(t *Ticket) error {
	a, err := r.breakers.admit(t.host.key, r.lane)
	if err == nil {
		t.way = way{admission: a}
		return nil
	}
	v := t.visitor
	if v.connected {
		v.connected = false // until the probe succeeds
		t.way = way{admission: admission{limit: r.lane}, own: true}
		return nil
	}
	if v.delayed == nil {
		v.delayed = make(map[uuid.UUID]*subscriptions.Subscription)
	}
	if len(v.delayed) < maxDelayed {
		v.delayed[t.Subscription.ID] = t.Subscription
	}
	return err
}

// admitAgain asks once more after a ticket has waited: the host may have become unreachable since.
func (r *reach) admitAgain(t *Ticket) error {
	if t.way.probe || t.way.own {
		return nil
	}
	return r.admit(t)
}

// forgo gives back what a ticket was let do, as it was not done.
func (r *reach) forgo(t *Ticket) {
	r.breakers.forgo(t.host.key, t.way.admission)
	if t.way.own {
		t.visitor.connected = true
	}
	t.way = way{}
}

// report learns from a result whether the host can be connected to.
func (r *reach) report(t *Ticket, result Result, now time.Time) change {
	if result.Connection == Untried || result.Elsewhere != "" {
		r.forgo(t)
		return change{}
	}
	h := t.host
	said := Result{Endpoint: Works}
	if result.Connection == Missed {
		said.Endpoint = Fails
	}
	if result.Connection != Silent {
		h.missed = result.Connection == Missed
		t.visitor.connected = !h.missed
	}
	if result.Connection == Reached {
		h.answered = now
	}
	a := t.way.admission
	t.way = way{}
	if result.Connection != Reached && r.outage.holds(t.Subscription.Tenant) {
		r.breakers.forgo(h.key, a)
		return change{}
	}
	return r.breakers.report(h.key, a, said, r.lane)
}

// release returns the subscriptions that a host held up and forgets them.
func (h *host) release() (list []*subscriptions.Subscription) {
	for _, v := range h.visitors {
		list = slices.AppendSeq(list, maps.Values(v.delayed))
		v.delayed = nil
	}
	return list
}

// sweep forgets hosts and tenants that were quiet, and returns how many hosts cannot be connected to.
func (r *reach) sweep(now time.Time) int {
	away := r.breakers.sweep()
	for key, h := range r.hosts {
		known := r.breakers.knows(key)
		for tenant, v := range h.visitors {
			if !known {
				v.delayed = nil
			}
			if v.users == 0 && len(v.delayed) == 0 && now.Sub(v.used) > lately {
				delete(h.visitors, tenant)
			}
		}
		h.lane.sweep(now)
		if len(h.visitors) == 0 && !known && now.Sub(h.used) > lately {
			delete(r.hosts, key)
		}
	}
	return away
}

// hostOf is the host of a URL: scheme, name and port, if that is not the scheme's own. Most URLs are written
// so that it is a part of them.
func hostOf(url string) string {
	scheme, rest, _ := strings.Cut(url, "://")
	end := len(rest)
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		end = i
	}
	authority := rest[:end]
	name := authority[strings.LastIndexByte(authority, '@')+1:]
	switch strings.ToLower(scheme) {
	case "https":
		name = strings.TrimSuffix(name, ":443")
	case "http":
		name = strings.TrimSuffix(name, ":80")
	}
	if whole := url[:len(url)-len(rest)+len(name)]; len(name) > 0 && strings.HasPrefix(authority, name) && whole == strings.ToLower(whole) {
		return whole
	}
	return strings.ToLower(scheme + "://" + name)
}

// nameOf is the name of a host without scheme and port.
func nameOf(key string) string {
	_, name, _ := strings.Cut(key, "://")
	if host, _, err := net.SplitHostPort(name); err == nil {
		return host
	}
	return name
}
