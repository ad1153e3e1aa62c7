package chaos_test

import (
	"strings"
	"sync"
	"time"
)

// history is everything that a run recorded: outside of the system while it ran, inside of it at the end.
type history struct {
	subscriptions []subscription
	requests      []request  // of the producers, one for each event and try
	arrivals      []arrival  // at the receivers
	faults        []fault    // of the nemesis
	samples       []sample   // of the processes
	canary        int        // connections that an address got which no worker may reach
	leaks         []string   // secrets that were found where none may be, with the place
	synced        []string   // what each process says of the durability of NATS
	calm          []interval // when nothing was broken or recovering

	endedAt    time.Time
	events     []eventRow
	deliveries []deliveryRow
	attempts   []attemptRow
	reported   map[string]map[string]int // what the API reports: deliveries of a tenant by state
}

type interval struct{ from, to time.Time }

func (i interval) holds(at time.Time) bool { return !at.Before(i.from) && !at.After(i.to) }

// subscription is one that the run made.
type subscription struct {
	id, tenant, path, eventType, secret string
	kind                                string        // how its receiver behaves
	retry                               time.Duration // between its attempts
}

// receives is the checker's own matching.
func (s subscription) receives(tenant, eventType string) bool {
	if s.tenant != tenant {
		return false
	}
	prefix, pattern := strings.CutSuffix(s.eventType, "*")
	return s.eventType == eventType || pattern && strings.HasPrefix(eventType, prefix)
}

// prompt says whether the receiver takes each event at the first request.
func (s subscription) prompt() bool { return s.kind == "fast" || s.kind == "slow" }

// request is one event in one request of a producer.
type request struct {
	tenant, id, eventType string
	data                  string // its hash
	sent, answered        time.Time
	status                int    // 0: none came
	answer                string // the id that was answered
	retryAfter            string
}

func (r request) accepted() bool { return r.status/100 == 2 }

// arrival is one request at a receiver.
type arrival struct {
	path, id, eventType string
	body, data          string // their hashes
	at                  time.Time
	timestamp           time.Time // as the header says
	signed              bool      // the signature verifies
	status              int       // that was answered, 0 for none
}

// fault is one that the nemesis brought about.
type fault struct {
	name          string
	injected      time.Time
	healed        time.Time
	recovered     time.Time     // zero: not in time
	bound         time.Duration // of the time from healed to recovered
	mayDuplicate  bool
	forgotten     int // attempts of one delivery that the ledger may have lost
	worksInFlight int // deliveries that were in flight at most where it struck
}

type eventRow struct {
	tenant, id string
	matched    int
}

type deliveryRow struct {
	id, event, subscription string
	generation              int
	state                   string // delivered, dead, cancelled, pending
	attempts, excused       int
	status                  int
	overdue                 time.Duration // how long a pending one has been due without a lease
}

type attemptRow struct {
	delivery string
	number   int
}

// sample is the resources of a process.
type sample struct {
	process                    string
	phase                      string // before, during or after the faults
	megabytes, files, routines int
}

// recorder collects what happens while the run goes on.
type recorder struct {
	mu      sync.Mutex
	h       history
	taken   map[string]bool    // paths and ids that were answered with 2xx
	known   map[string]bool    // accepted events, by tenant and id
	waiting map[string]waiting // accepted, not taken, by path and id
}

// waiting is a delivery that has not arrived.
type waiting struct {
	since  time.Time
	prompt bool
}

func newRecorder() *recorder {
	return &recorder{taken: map[string]bool{}, known: map[string]bool{}, waiting: map[string]waiting{}}
}

// do changes the history.
func (r *recorder) do(change func(h *history)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.h)
}

// asked records what a producer sent.
func (r *recorder) asked(q request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.requests = append(r.h.requests, q)
	if !q.accepted() || r.known[q.tenant+" "+q.id] {
		return
	}
	r.known[q.tenant+" "+q.id] = true
	for _, s := range r.h.subscriptions {
		if key := s.path + " " + q.id; s.receives(q.tenant, q.eventType) && !r.taken[key] {
			r.waiting[key] = waiting{q.answered, s.prompt()}
		}
	}
}

// arrived records what a receiver got.
func (r *recorder) arrived(a arrival) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.arrivals = append(r.h.arrivals, a)
	if a.status/100 == 2 {
		r.taken[a.path+" "+a.id] = true
		delete(r.waiting, a.path+" "+a.id)
	}
}

// missing counts the events accepted until a time that have not arrived, and names one. If promptly, only receivers count
// that take each event at the first request.
func (r *recorder) missing(promptly bool, until time.Time) (n int, one string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, w := range r.waiting {
		if (w.prompt || !promptly) && !w.since.After(until) {
			n++
			one = key
		}
	}
	return n, one
}
